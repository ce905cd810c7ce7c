"""You.com agents: ``POST {base}/v1/agents/runs``.

Events as You.com's page on streaming the Advanced Agent documents them: text by `output_index`,
sources in ``response.output_content.full``, the end in ``response.done``. Two rules of this room:

- A run cannot be resumed: a second POST would be a new run, and a new bill.
- ``run_time_ms`` stays verbatim: it is documented as milliseconds, and looks like seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agent_magic._request import AgentRequest, HTTPRequest, join_url
from agent_magic.errors import AgentMagicError, ProtocolError
from agent_magic.events import (
    AgentEvent,
    Artifact,
    Done,
    Failed,
    Progress,
    ServerSentEvent,
    Source,
    Started,
    Text,
    Unknown,
)
from agent_magic.protocols._asking import key_header, refuse_fields
from agent_magic.protocols._base import HTTPFailure, Keeper
from agent_magic.protocols._ends import error_of
from agent_magic.protocols._json import integer, objects, read_json, read_object, text, to_json
from agent_magic.protocols._pieces import Joiners

__all__ = ["You", "YouDecoder"]

OWN_FIELDS = frozenset({"agent", "input", "stream"})
ANSWER = "message.answer"


class You:
    """You.com's agents (express, advanced, custom). Parameters are fields of the body: tools, verbosity, …"""

    name = "you"
    base_url = "https://api.you.com"
    key_env: str | None = "YDC_API_KEY"
    conversations: Keeper = "nobody"
    has_system = False

    def request(self, ask: AgentRequest) -> HTTPRequest:
        """The POST that begins a run."""
        refuse_fields(ask.parameters, OWN_FIELDS, self.name)
        return HTTPRequest(
            method="POST",
            url=join_url(ask.base_url, "v1", "agents", "runs"),
            headers={**ask.headers, **key_header(ask), "Accept": "text/event-stream"},
            body={"agent": ask.agent, "input": ask.prompt, "stream": True, **ask.parameters},
        )

    def decoder(self, ask: AgentRequest) -> YouDecoder:  # noqa: ARG002 (the stream says all there is)
        """A decoder for one run."""
        return YouDecoder()

    def error(self, failure: HTTPFailure) -> AgentMagicError:
        """The error of a failed reply."""
        return error_of(failure)


class YouDecoder:
    """One run's You.com stream."""

    def __init__(self) -> None:
        self._joiners = Joiners()

    def decode(self, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        """What one event says."""
        match sent.event:
            case "response.output_text.delta":
                return self._delta(sent)
            case "response.created":
                return [Started(sent=sent)]
            case "response.starting":
                return [Progress(message="starting", sent=sent)]
            case "response.output_item.added":
                return [Progress(message="working", sent=sent)]
            case "response.output_item.done":
                return [Progress(message="working", sent=sent)]
            case "response.output_content.full":
                return _beside(sent)
            case "response.done":
                return [*self.flush(), _done(sent)]
            case "error" | "response.error" | "response.failed":
                return [_failed(sent)]
            case name:
                return [Unknown(name=name, data=sent.data, sent=sent)]

    def whole(self, body: bytes) -> Iterator[AgentEvent]:
        """The reply of a run that was not streamed: its ``output`` items in their order."""
        said = body.decode("utf-8", "replace")
        sent = ServerSentEvent("", said)
        try:
            reply = read_json(said)
        except ValueError:
            raise ProtocolError("The server sent a JSON reply that cannot be read.", said) from None
        output = reply.get("output") if isinstance(reply, dict) else None
        if not isinstance(output, list):
            raise ProtocolError("The server sent a JSON reply without an output.", said)
        yield Started(sent=sent)
        for place, item in enumerate(output):
            yield from _item(item, place, sent)
        yield Done(sent=sent)

    def closed(self) -> Iterable[AgentEvent]:
        """Nothing: this wire says itself when the answer is complete."""
        return []

    def flush(self) -> Iterable[AgentEvent]:
        """Half a character that an item ended in."""
        return self._joiners.flush()

    def resume(self) -> AgentRequest | None:
        """None: no documented way leads back into a run."""
        return None

    def _delta(self, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        response = _response(sent)
        delta = response.get("delta")
        if not isinstance(delta, str):
            raise ProtocolError("The server sent a delta without text.", sent.data)
        kind = response.get("type")
        if isinstance(kind, str) and kind != ANSWER:
            return [Unknown(name=sent.event, data=sent.data, sent=sent)]
        item = integer(response.get("output_index", 0))
        if item is None:
            raise ProtocolError("The server sent a delta whose output_index is no whole number from 0 up.", sent.data)
        return [self._joiners.text(delta, item, sent)]


def _response(sent: ServerSentEvent) -> dict[str, Any]:
    response = read_object(sent).get("response")
    if not isinstance(response, dict):
        raise ProtocolError(f"The server sent a {sent.event!r} event without a response object.", sent.data)
    return response


def _item(item: object, place: int, sent: ServerSentEvent) -> Iterator[AgentEvent]:
    if not isinstance(item, dict):
        raise ProtocolError(f"The server sent a JSON reply whose item {place} is no object.", sent.data)
    if item.get("type") == ANSWER:
        answer = text(item.get("text"))
        if answer is None:
            raise ProtocolError(f"The server sent a JSON reply whose item {place} has no text.", sent.data)
        yield Text(text=answer, item=place, sent=sent)
    else:
        yield from _content({**item, "full": item.get("content")}, sent)


def _beside(sent: ServerSentEvent) -> Iterable[AgentEvent]:
    """What comes beside the text. Broken, it is kept as it came: it is no reason to lose the answer."""
    try:
        return _content(_response(sent), sent)
    except ProtocolError:
        return [Unknown(name=sent.event, data=sent.data, sent=sent)]


def _content(response: Mapping[str, Any], sent: ServerSentEvent) -> Iterable[AgentEvent]:
    full = response.get("full")
    entries = [entry for entry in (full if isinstance(full, list) else [full]) if isinstance(entry, dict)]
    match response.get("type"):
        case "web_search.results":
            events: list[AgentEvent] = list(_sources(entries, sent))
        case "research.results":
            reports = [_artifact("report", "text/markdown", entry.get("report"), sent) for entry in entries]
            cited = [source for entry in entries for source in objects(entry.get("sources"))]
            events = [*reports, *_sources(cited, sent)]
        case "compute.results":
            events = [_artifact("computation", "application/json", entry, sent) for entry in entries]
        case "live_crawl.results":
            events = [
                _artifact(text(entry.get("url")) or "page", "text/plain", entry.get("content"), sent)
                for entry in entries
            ]
        case _:
            events = []
    return events or [Unknown(name=sent.event, data=sent.data, sent=sent)]


def _sources(entries: Iterable[Mapping[str, Any]], sent: ServerSentEvent) -> Iterator[Source]:
    for entry in entries:
        url = text(entry.get("url")) or text(entry.get("citation_uri"))
        if url:
            yield Source(
                url=url,
                title=text(entry.get("title")) or "",
                snippet=text(entry.get("snippet")) or "",
                provider=text(entry.get("provider")),
                thumbnail_url=text(entry.get("thumbnail_url")),
                sent=sent,
            )


def _artifact(name: str, media_type: str, value: object, sent: ServerSentEvent) -> Artifact:
    data = text(value)
    if data is None:
        data = to_json(value)
    return Artifact(name=name, media_type=media_type, data=data, sent=sent)


def _done(sent: ServerSentEvent) -> Done:
    """The end, whatever its data holds: an unreadable end is an end without figures."""
    try:
        response = _response(sent)
    except ProtocolError:
        response = {}
    run_time = response.get("run_time_ms")
    return Done(
        reason="unfinished" if response.get("finished") is False else None,
        run_time_ms=None if run_time is None else text(run_time) or str(run_time),
        sent=sent,
    )


def _failed(sent: ServerSentEvent) -> Failed:
    try:
        data = read_object(sent)
    except ProtocolError:
        data = {}
    error = data.get("error", data.get("response"))
    inner = error if isinstance(error, dict) else data
    said = text(inner.get("message")) or text(inner.get("detail")) or text(error) or sent.data
    return Failed(message=said, code=text(inner.get("code")), sent=sent)
