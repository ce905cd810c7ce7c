"""You.com research: ``POST {base}/v1/research`` begins a task, which goes on at the server by itself.

As You.com's pages on background requests and its SDK (``youdotcom`` 3.6) document it: the POST answers with the
task's name, ``GET /v1/research/{task_id}/stream`` tells what the task does, ``GET /v1/research/{task_id}`` has its
result. Five rules of this room:

- The answer is the result. The stream tells of progress; only its terminal events are documented, and every other
  one is kept. Should text come in it, it is shown, and the result has the last word.
- ``from_id`` takes the stream up again after any cut. Whether the event of that number comes once more is said
  nowhere: what had come is dropped, so both readings are exact. An opening ``connected`` has no place in the order.
- Events that a parser never shows (a ``ping`` without data) may take numbers, so a gap after a cut is said only of a
  server whose numbers had none before.
- The server names a ``stream_url``. It is not followed: a key goes to the base_url's own origin.
- Nothing in the API ends a task. A run that ends before its task does says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from msgspec import structs

from agent_magic._request import AgentRequest, HTTPRequest, Task, join_url
from agent_magic.errors import AgentMagicError, ConfigError, ProtocolError
from agent_magic.events import (
    AgentEvent,
    Done,
    Failed,
    Notice,
    Progress,
    Replace,
    ServerSentEvent,
    Source,
    Started,
    Text,
    Unknown,
)
from agent_magic.protocols._asking import key_header, refuse_fields
from agent_magic.protocols._base import HTTPFailure, Keeper
from agent_magic.protocols._ends import error_of
from agent_magic.protocols._json import integer, number, object_or_empty, objects, read_json, text, to_json
from agent_magic.protocols._pieces import Joiner

__all__ = ["YouResearch", "YouResearchDecoder"]

OWN_FIELDS = frozenset({"input", "background"})
EFFORTS = ("lite", "standard", "deep", "exhaustive", "frontier")
# What stands in the setting `agent` where it is not set, or says no more than the protocol's name.
NO_EFFORT = frozenset({"", "demo", "research"})
COMPLETE = frozenset({"response.done", "complete", "completed"})
FAILED = frozenset({"error", "failed", "cancelled"})
# A name that is longer is none, but what somebody wants to see in a request.
LONGEST_NAME = 200
LONGEST_STEP = 80


class YouResearch:
    """You.com's research. The setting ``agent`` is the effort; parameters are fields of the body."""

    name = "you-research"
    base_url = "https://api.you.com"
    key_env: str | None = "YDC_API_KEY"
    conversations: Keeper = "nobody"
    has_system = False

    def request(self, ask: AgentRequest) -> HTTPRequest:
        """The POST that begins a task, or the GET of the stream or the result of one."""
        refuse_fields(ask.parameters, OWN_FIELDS, self.name)
        # The key travels as in the SDK, unless the settings say otherwise.
        headers = {**ask.headers, **key_header(structs.replace(ask, auth=ask.auth or "x-api-key"))}
        place = ("v1", "research")
        if ask.task is None:
            body = {"input": ask.prompt, "background": True, **_effort(ask.agent), **ask.parameters}
            return HTTPRequest("POST", join_url(ask.base_url, *place), {**headers, "Accept": "application/json"}, body)
        if ask.task.is_over:
            url = join_url(ask.base_url, *place, ask.task.id)
            return HTTPRequest("GET", url, {**headers, "Accept": "application/json"})
        url = join_url(ask.base_url, *place, ask.task.id, "stream")
        after = "" if ask.task.after is None else f"?from_id={ask.task.after}"
        return HTTPRequest("GET", url + after, {**headers, "Accept": "text/event-stream"})

    def decoder(self, ask: AgentRequest) -> YouResearchDecoder:
        """A decoder for one run."""
        return YouResearchDecoder(ask)

    def error(self, failure: HTTPFailure) -> AgentMagicError:
        """The error of a failed reply."""
        return error_of(failure)


def _effort(agent: str) -> dict[str, str]:
    if agent in NO_EFFORT:
        return {}
    if agent not in EFFORTS:
        raise ConfigError(
            f"The protocol you-research has no agent {agent!r}: agent is the effort, {', '.join(EFFORTS[:-1])} or "
            f"{EFFORTS[-1]}, or left out; any other goes as the parameter research_effort."
        )
    return {"research_effort": agent}


class YouResearchDecoder:
    """One run: the reply with the task's name, its stream, its result."""

    def __init__(self, ask: AgentRequest) -> None:
        self._ask = ask
        self._task: str | None = None
        # The number of the last event; what had come when the stream was last taken up.
        self._last: int | None = None
        self._had: int | None = None
        self._is_gapless = True
        self._has_just_resumed = False
        self._is_over = False
        self._has_ended = False
        self._streamed: list[str] = []
        self._joiner = Joiner()
        self.leads_on = False

    def decode(self, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        """What one event says."""
        said = object_or_empty(sent.data)
        self._learn(said.get("task_id"))
        name = (text(said.get("type")) or sent.event) if sent.event in {"", "message"} else sent.event
        if name == "connected":
            return [Progress(message=text(said.get("status")) or "connected", sent=sent)]
        place = _place(said, sent)
        if name not in COMPLETE | FAILED and self._has_come(place):
            return []
        events = [*self._gap(place, sent)]
        self._pass(place)
        if name in FAILED:
            return [*events, *self._joiner.rest(), self._failed(said, name, sent)]
        if name in COMPLETE:
            return [*events, *self._complete(said, sent)]
        return [*events, *self._step(said, name, place, sent)]

    def whole(self, body: bytes) -> Iterator[AgentEvent]:
        """A task that has begun, one that goes on, or one with its result; or the answer of one that did not wait."""
        words = body.decode("utf-8", "replace")
        sent = ServerSentEvent("", words)
        if self._task is not None and not _is_json(words):
            return  # a reply of no stated length that was cut short: it can be asked for again
        reply = object_or_empty(words)
        status = text(reply.get("status"))
        if (result := _result(reply)) is not None:
            yield from self._answer(result, reply, sent)
        elif status in FAILED:
            yield from self._joiner.rest()
            yield self._failed(reply, status or "failed", sent)
        else:
            yield from self._going(reply, status, sent)

    def closed(self) -> Iterable[AgentEvent]:
        """Nothing: this wire says itself when the task is complete."""
        return []

    def flush(self) -> Iterable[AgentEvent]:
        """Half a character that the text ended in; and where the task goes on without its reader, that."""
        yield from self._joiner.rest()
        if self._task is None or self._has_ended:
            return
        if self._is_over:
            said = f"Research task {self._task} is complete, but its result was not read"
        else:
            said = f"Only the reading has ended: research task {self._task} goes on at the server, and is charged"
        yield Notice(message=f"{said}. %agent recover RUN --resume reads the rest.")

    def resume(self) -> AgentRequest | None:
        """The stream from the last event on, or the result; None without a task."""
        if self._task is None or self._has_ended:
            return None
        self.leads_on = False
        self._had = self._last
        self._has_just_resumed = True
        return structs.replace(self._ask, task=Task(self._task, self._last, self._is_over))

    def _learn(self, name: object) -> None:
        """Take note of the task's name, which becomes a part of a URL."""
        named = text(name)
        if self._task is None and named and len(named) <= LONGEST_NAME and named not in {".", ".."}:
            self._task = named

    def _has_come(self, place: int | None) -> bool:
        return place is not None and self._had is not None and place <= self._had

    def _gap(self, place: int | None, sent: ServerSentEvent) -> Iterator[Notice]:
        """A word on events that a server skipped, where its numbers say so."""
        if place is None or self._has_come(place):
            return
        due = place if self._last is None else self._last + 1
        if place > due and self._has_just_resumed and self._is_gapless:
            missing = f"Event {due} is" if place == due + 1 else f"Events {due} to {place - 1} are"
            yield Notice(message=f"{missing} missing here: the server skipped them.", sent=sent)
        elif place > due:
            self._is_gapless = False
        self._has_just_resumed = False

    def _pass(self, place: int | None) -> None:
        if place is not None and (self._last is None or place > self._last):
            self._last = place

    def _step(
        self, said: Mapping[str, Any], name: str, place: int | None, sent: ServerSentEvent
    ) -> Iterator[AgentEvent]:
        """What the task does. Names are the server's to invent; what the data has in common is documented."""
        if name == "response.output_text.delta" and (piece := _delta(said)) is not None:
            joined = self._joiner.feed(piece)
            self._streamed.append(joined)
            yield Text(text=joined, index=place, sent=sent)
            return
        yield Unknown(name=sent.event, data=sent.data, sent=sent)
        if said.keys() & {"task_id", "status", "sequence"}:
            inner = said.get("data")
            words = text(inner.get("message")) if isinstance(inner, dict) else None
            yield Progress(message=" ".join((words or name).split())[:LONGEST_STEP], sent=sent)

    def _complete(self, said: Mapping[str, Any], sent: ServerSentEvent) -> Iterable[AgentEvent]:
        """The stream's end: with the result where it has it, else the result is asked for."""
        if (result := _result(said)) is not None:
            return self._answer(result, said, sent)
        if self._task is None:
            self._has_ended = True
            return [*self._joiner.rest(), Done(sent=sent)]
        self._is_over = self.leads_on = True
        return [Progress(message="reading the result", sent=sent)]

    def _going(self, reply: Mapping[str, Any], status: str | None, sent: ServerSentEvent) -> Iterator[AgentEvent]:
        """A task without a result: one that has begun leads to its stream, one that is complete to its result."""
        is_new = self._task is None
        self._learn(reply.get("task_id") or reply.get("id"))
        if self._task is None or status is None:
            raise ProtocolError("The server sent a JSON reply that is neither a task nor its result.", sent.data)
        if status == "completed":
            if self._is_over:
                raise ProtocolError("The server says that the task is complete, and sent no result.", sent.data)
            self._is_over = True
        self.leads_on = is_new or (self._is_over and status == "completed")
        if is_new:
            yield Started(run_id=self._task, sent=sent)
        yield Progress(message=status, sent=sent)

    def _answer(
        self, result: Mapping[str, Any], task: Mapping[str, Any], sent: ServerSentEvent
    ) -> Iterator[AgentEvent]:
        """The answer, its sources, what the server warns of, and the end."""
        output = result["output"]
        content = output["content"]
        words = text(content) if isinstance(content, str) else to_json(content)
        rest = self._joiner.flush()
        if not self._streamed:
            yield Text(text=words or "", sent=sent)
        elif words != "".join(self._streamed) + rest:
            yield Replace(text=words or "", sent=sent)
        elif rest:
            yield Text(text=rest, sent=sent)
        for source in objects(output.get("sources")):
            if url := text(source.get("url")):
                yield Source(url=url, title=text(source.get("title")) or "", snippet=_snippets(source), sent=sent)
        warnings = result.get("warnings")
        for warning in warnings if isinstance(warnings, list) else ():
            if warned := text(warning):
                yield Notice(message=f"The server warns: {' '.join(warned.split())[:300]}", sent=sent)
        self._has_ended = True
        yield Done(execution_time=_seconds(task), sent=sent)

    def _failed(self, said: Mapping[str, Any], status: str, sent: ServerSentEvent) -> Failed:
        self._has_ended = True
        inner = said.get("data")
        places = [said, *([inner] if isinstance(inner, dict) else [])]
        words = next((word for at in places for key in ("error", "message") if (word := _words(at.get(key)))), None)
        code = next((code for at in places if (code := text(at.get("code")))), status)
        if words is None and status == "cancelled":
            words = "the task was cancelled"
        return Failed(message=words or sent.data, code=code, sent=sent)


def _is_json(words: str) -> bool:
    try:
        read_json(words)
    except ValueError:
        return False
    return True


def _place(said: Mapping[str, Any], sent: ServerSentEvent) -> int | None:
    """An event's number. An ``id`` outlives its event, so an event's own `sequence` goes before it."""
    sequence = integer(said.get("sequence"))
    if sequence is not None:
        return sequence
    return int(sent.id) if sent.id.isascii() and sent.id.isdigit() and len(sent.id) < 19 else None


def _result(said: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What holds the answer, wherever it stands: a task's `result`, an event's `data`, or the reply itself."""
    inner = said.get("data")
    places = [said, said.get("result"), inner, inner.get("result") if isinstance(inner, dict) else None]
    for place in places:
        output = place.get("output") if isinstance(place, dict) else None
        if isinstance(place, dict) and isinstance(output, dict) and isinstance(output.get("content"), str | dict):
            return place
    return None


def _delta(said: Mapping[str, Any]) -> str | None:
    for place in (said, said.get("data"), said.get("response")):
        if isinstance(place, dict) and isinstance(piece := place.get("delta"), str):
            return piece
    return None


def _words(error: object) -> str | None:
    return text(error.get("message")) if isinstance(error, dict) else text(error)


def _snippets(source: Mapping[str, Any]) -> str:
    snippets = source.get("snippets")
    return "\n".join(filter(None, map(text, snippets))) if isinstance(snippets, list) else ""


def _seconds(task: Mapping[str, Any]) -> float | None:
    """How long the task took, by the server's own clock."""
    try:
        began, ended = (datetime.fromisoformat(str(task.get(name))) for name in ("created_at", "completed_at"))
        return number((ended - began).total_seconds())
    except (ValueError, TypeError, OverflowError):  # a time that is none, or one of two without its zone
        return None
