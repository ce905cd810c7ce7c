"""OpenAI Responses: ``POST {base}/responses``, and the servers that speak it.

The format is that of OpenAI's API reference, "Responses: streaming events". No field but ``type`` and ``delta`` is
relied on: servers other than OpenAI's leave out indices, ids and sequence numbers. There is no ``[DONE]``; the end is
``response.completed``, ``.incomplete`` or ``.failed``. The conversation goes along with each turn, and is not
kept there (``store``), unless a parameter says so. Nothing can be resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agent_magic._request import AgentRequest, HTTPRequest, join_url
from agent_magic.errors import AgentMagicError, ProtocolError
from agent_magic.events import (
    AgentEvent,
    Artifact,
    Failed,
    Progress,
    Reasoning,
    ServerSentEvent,
    Source,
    Started,
    Text,
    ToolCall,
    ToolResult,
    Unknown,
)
from agent_magic.protocols._asking import key_header, refuse_fields, turns_of
from agent_magic.protocols._base import HTTPFailure, Keeper
from agent_magic.protocols._ends import ending, error_of, usage_of
from agent_magic.protocols._json import integer, object_or_empty, objects, read_object, text, to_json
from agent_magic.protocols._pieces import Joiners

__all__ = ["OpenAIResponses", "OpenAIResponsesDecoder"]

OWN_FIELDS = frozenset({"input", "instructions", "model", "stream"})
# What an item is while it is made, in words; a call of a tool is named by the tool.
DOING = {"message": "writing", "reasoning": "thinking"}
# Where the kinds of calls have what a tool was given, and what it gave.
GIVEN = ("arguments", "input", "action", "queries", "code")
MADE = ("output", "outputs", "results", "result", "error")
# Calls that the one who asks is to carry out; a call of the service's own tools is over when its item is.
ASKED_OF_US = frozenset({"function_call", "custom_tool_call", "computer_call", "local_shell_call"})
ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class OpenAIResponses:
    """The Responses wire. The agent's id is the model; parameters are fields of the body."""

    name = "openai-responses"
    base_url = "https://api.openai.com/v1"
    key_env: str | None = "OPENAI_API_KEY"
    conversations: Keeper = "client"
    has_system = True

    def request(self, ask: AgentRequest) -> HTTPRequest:
        """The POST that begins a stream; a parameter that is null is left out."""
        refuse_fields(ask.parameters, OWN_FIELDS, self.name)
        system = {} if ask.system is None else {"instructions": ask.system}
        fields = {"store": False, **ask.parameters}
        return HTTPRequest(
            method="POST",
            url=join_url(ask.base_url, "responses"),
            headers={**ask.headers, **key_header(ask), "Accept": "text/event-stream"},
            body={
                "model": ask.agent,
                # OpenAI takes the type for granted; llama.cpp's server takes no answer of an earlier turn without it.
                "input": [{"type": "message", **turn} for turn in turns_of(ask)],
                "stream": True,
                **system,
                **{name: value for name, value in fields.items() if value is not None},
            },
        )

    def decoder(self, ask: AgentRequest) -> OpenAIResponsesDecoder:  # noqa: ARG002 (every wire's decoder is given it)
        """A decoder for one run."""
        return OpenAIResponsesDecoder()

    def error(self, failure: HTTPFailure) -> AgentMagicError:
        """The error of a failed reply."""
        return error_of(failure)


class OpenAIResponsesDecoder:
    """One run's stream of output items."""

    def __init__(self) -> None:
        self._joiners = Joiners()
        # The output items of which a piece has come: their whole text, told once more at their end, is no news.
        self._told: set[int] = set()

    def decode(self, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        """What one event says; its ``type`` counts, or else the event's name."""
        if sent.event and sent.event != "error" and not sent.event.startswith("response."):
            return [Unknown(name=sent.event, data=sent.data, sent=sent)]
        data = read_object(sent)
        return list(self._said(text(data.get("type")) or sent.event, data, sent))

    def whole(self, body: bytes) -> Iterator[AgentEvent]:
        """A response that was not streamed."""
        sent = ServerSentEvent("", body.decode("utf-8", "replace"))
        reply = object_or_empty(sent.data)
        if not (reply.get("error") or isinstance(reply.get("output"), list)):
            raise ProtocolError("The server sent a JSON reply without output.", sent.data)
        yield Started(run_id=text(reply.get("id")), sent=sent)
        for place, item in enumerate(objects(reply.get("output"))):
            yield from self._whole_item(place, item, sent)
        yield from self._ended("response.completed", {"response": reply}, sent)

    def closed(self) -> Iterable[AgentEvent]:
        """Nothing: this wire says itself when the answer is complete."""
        return []

    def flush(self) -> Iterable[AgentEvent]:
        """Halves of characters."""
        return self._joiners.flush()

    def resume(self) -> AgentRequest | None:
        """None: a second request would be a second answer."""
        return None

    def _said(self, kind: str, data: dict[str, Any], sent: ServerSentEvent) -> Iterable[AgentEvent]:
        item = integer(data.get("output_index")) or 0
        match kind:
            case "response.output_text.delta" | "response.refusal.delta":
                self._told.add(item)
                return [self._joiners.text(_delta(data, sent), item, sent)]
            case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" | "response.reasoning.delta":
                return [self._joiners.thought(_delta(data, sent), item, sent)]
            case "response.output_text.done" if item not in self._told and isinstance(data.get("text"), str):
                self._told.add(item)
                return [self._joiners.text(data["text"], item, sent)]
            case "response.output_text.annotation.added":
                note = data.get("annotation")
                return list(_cited([note], sent)) or [Unknown(name=kind, data=sent.data, sent=sent)]
            case "response.output_item.added" | "response.output_item.done":
                made = data.get("item")
                return _item(made if isinstance(made, dict) else {}, sent, is_whole=kind.endswith("done"))
            case "response.created":
                response = data.get("response")
                return [Started(run_id=text(response.get("id")) if isinstance(response, dict) else None, sent=sent)]
            case "error":
                return [_failed(data, sent)]
            case _ if kind in ENDS:
                return [*self.flush(), *self._ended(kind, data, sent)]
            case _ if kind in PASSING or kind.startswith(TOOLS):
                return [Progress(message="working", sent=sent)]
            case _:
                return [Unknown(name=kind, data=sent.data, sent=sent)]

    def _whole_item(self, place: int, item: Mapping[str, Any], sent: ServerSentEvent) -> Iterator[AgentEvent]:
        for part in [*objects(item.get("summary")), *objects(item.get("content"))]:
            said = text(part.get("text")) or text(part.get("refusal")) or ""
            if item.get("type") == "reasoning":
                yield Reasoning(text=said, sent=sent)
            else:
                yield Text(text=said, item=place, sent=sent)
                yield from _cited(objects(part.get("annotations")), sent)
        if item.get("type") not in DOING:
            yield from _item(item, sent, is_whole=True)

    def _ended(self, kind: str, data: Mapping[str, Any], sent: ServerSentEvent) -> Iterator[AgentEvent]:
        found = data.get("response")
        response: Mapping[str, Any] = found if isinstance(found, dict) else {}
        if isinstance(usage := response.get("usage"), dict):
            yield usage_of(usage, sent)
        if kind == "response.failed" or response.get("error"):
            yield _failed(response, sent)
            return
        details = response.get("incomplete_details")
        reason = text(details.get("reason")) if isinstance(details, dict) else None
        yield from ending(reason or ("incomplete" if kind == "response.incomplete" else None), sent)


# Events of the documents that say nothing new.
PASSING = frozenset(
    {"response.in_progress", "response.queued", "response.content_part.added", "response.content_part.done",
     "response.output_text.done", "response.refusal.done", "response.reasoning_text.done",
     "response.reasoning_summary_text.done", "response.reasoning_summary_part.added",
     "response.reasoning_summary_part.done"}
)  # fmt: skip
TOOLS = (
    "response.function_call_arguments.", "response.web_search_call.", "response.file_search_call.",
    "response.code_interpreter_call", "response.mcp_", "response.image_generation_call.", "response.custom_tool_call",
)  # fmt: skip


def _delta(data: Mapping[str, Any], sent: ServerSentEvent) -> str:
    delta = data.get("delta")
    if not isinstance(delta, str):
        raise ProtocolError("The server sent a delta without text.", sent.data)
    return delta


def _item(item: Mapping[str, Any], sent: ServerSentEvent, *, is_whole: bool) -> list[AgentEvent]:
    """An output item that opens or closes: a call of a tool and what it gave, or a word on what goes on."""
    kind = text(item.get("type")) or "message"
    if kind in DOING or not (kind.endswith("_call") or "name" in item):
        return [Progress(message=DOING.get(kind, "working"), sent=sent)]
    identity = text(item.get("call_id")) or text(item.get("id")) or kind
    name = text(item.get("name")) or kind.removesuffix("_call")
    call = ToolCall(id=identity, name=name, arguments=_first(item, GIVEN) if is_whole else "", sent=sent)
    if not is_whole or kind in ASKED_OF_US:
        return [call]
    if kind == "image_generation_call":
        made = Artifact(name="image", media_type="image/png", data=_first(item, MADE), sent=sent)
        return [call, ToolResult(id=identity, result="", sent=sent), made]
    return [call, ToolResult(id=identity, result=_first(item, MADE), sent=sent)]


def _first(item: Mapping[str, Any], names: Iterable[str]) -> str:
    """The first of the fields `names` that says anything: a text as it is, all else as JSON."""
    said = next((value for name in names if (value := item.get(name)) not in (None, "", [], {})), "")
    return (text(said) or "") if isinstance(said, str) else to_json(said)


def _cited(notes: Iterable[object], sent: ServerSentEvent) -> Iterator[Source]:
    for note in notes:
        if isinstance(note, dict) and (url := text(note.get("url"))):
            yield Source(url=url, title=text(note.get("title")) or "", sent=sent)


def _failed(data: Mapping[str, Any], sent: ServerSentEvent) -> Failed:
    error = data.get("error")
    facts = error if isinstance(error, dict) else data
    return Failed(message=text(facts.get("message")) or sent.data, code=text(facts.get("code")), sent=sent)
