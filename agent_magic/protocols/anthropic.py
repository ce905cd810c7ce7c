"""Anthropic Messages: ``POST {base}/v1/messages``, and the servers that speak it.

The format is that of Anthropic's API reference, "Streaming messages". An answer is a row of content blocks; each has
an index, and text belongs to its block. Usage is cumulative: what goes in is told at the beginning, what came out
with each ``message_delta``. ``max_tokens`` is required, so there is a default. Nothing can be resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agent_magic._keys import Secret
from agent_magic._request import AgentRequest, HTTPRequest, join_url
from agent_magic.errors import AgentMagicError, ProtocolError
from agent_magic.events import (
    AgentEvent,
    Failed,
    Progress,
    Reasoning,
    ServerSentEvent,
    Source,
    Started,
    ToolCall,
    ToolResult,
    Unknown,
    Usage,
)
from agent_magic.protocols._asking import key_header, refuse_fields, turns_of
from agent_magic.protocols._base import HTTPFailure, Keeper
from agent_magic.protocols._ends import ending, error_of
from agent_magic.protocols._json import integer, object_or_empty, objects, read_object, text, to_json
from agent_magic.protocols._pieces import Joiners

__all__ = ["Anthropic", "AnthropicDecoder"]

OWN_FIELDS = frozenset({"messages", "model", "stream", "system"})
VERSION = "2023-06-01"
MAX_TOKENS = 4096
TOOL_BLOCKS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})


class Anthropic:
    """The Messages wire. The agent's id is the model; parameters are fields of the body, `max_tokens` among them."""

    name = "anthropic"
    base_url = "https://api.anthropic.com"
    key_env: str | None = "ANTHROPIC_API_KEY"
    conversations: Keeper = "client"
    has_system = True

    def request(self, ask: AgentRequest) -> HTTPRequest:
        """The POST that begins a stream; the key travels as ``x-api-key`` unless the settings say ``bearer``."""
        refuse_fields(ask.parameters, OWN_FIELDS, self.name)
        key: dict[str, str | Secret] = key_header(ask) if ask.auth == "bearer" else {}
        if ask.key is not None and not key:
            key = {"x-api-key": ask.key}
        body: dict[str, Any] = {"model": ask.agent, "max_tokens": MAX_TOKENS, "messages": turns_of(ask), "stream": True}
        if ask.system is not None:
            body["system"] = ask.system
        return HTTPRequest(
            method="POST",
            url=join_url(ask.base_url, "v1", "messages"),
            headers={"anthropic-version": VERSION, **ask.headers, **key, "Accept": "text/event-stream"},
            body=body | ask.parameters,
        )

    def decoder(self, ask: AgentRequest) -> AnthropicDecoder:  # noqa: ARG002 (every wire's decoder is given it)
        """A decoder for one run."""
        return AnthropicDecoder()

    def error(self, failure: HTTPFailure) -> AgentMagicError:
        """The error of a failed reply."""
        return error_of(failure)


class AnthropicDecoder:
    """One run's stream of content blocks."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._joiners = Joiners()
        self._calls: dict[int, tuple[str, str, list[str]]] = {}

    def decode(self, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        """What one event says."""
        if sent.event not in KINDS:
            return [Unknown(name=sent.event, data=sent.data, sent=sent)]
        data = read_object(sent)
        kind = text(data.get("type")) or sent.event
        return list(self._said(kind, data, sent))

    def whole(self, body: bytes) -> Iterator[AgentEvent]:
        """A message that was not streamed."""
        sent = ServerSentEvent("", body.decode("utf-8", "replace"))
        reply = object_or_empty(sent.data)
        if reply.get("type") == "error":
            yield _failed(reply, sent)
            return
        if not isinstance(reply.get("content"), list):
            raise ProtocolError("The server sent a JSON reply without content.", sent.data)
        yield from self._started({"message": reply}, sent)
        for index, block in enumerate(objects(reply["content"])):
            yield from self._opened(index, block, sent)
            yield from self._finished(index)
        yield from ending(text(reply.get("stop_reason")), sent)

    def closed(self) -> Iterable[AgentEvent]:
        """The end, where the reason for it had come."""
        return [] if self._reason is None else [*self.flush(), *ending(self._reason)]

    def flush(self) -> Iterable[AgentEvent]:
        """Half a character, and tool calls that were not whole."""
        blocks = sorted({*self._calls, *self._joiners.items})
        return [event for index in blocks for event in self._finished(index)]

    def resume(self) -> AgentRequest | None:
        """None: a second request would be a second answer."""
        return None

    def _said(self, kind: str, data: dict[str, Any], sent: ServerSentEvent) -> Iterable[AgentEvent]:
        index = integer(data.get("index")) or 0
        match kind:
            case "message_start":
                return self._started(data, sent)
            case "content_block_start":
                block = data.get("content_block")
                return self._opened(index, block if isinstance(block, dict) else {}, sent)
            case "content_block_delta":
                return self._delta(index, data, sent)
            case "content_block_stop":
                return [*self._finished(index), Progress(message="writing", sent=sent)]
            case "message_delta":
                return self._ending(data, sent)
            case "message_stop":
                reason, self._reason = self._reason, None
                return [*self.flush(), *ending(reason, sent)]
            case "ping":
                return [Progress(message="waiting", sent=sent)]
            case "error":
                return [_failed(data, sent)]
            case _:
                return [Unknown(name=sent.event or kind, data=sent.data, sent=sent)]

    def _started(self, data: Mapping[str, Any], sent: ServerSentEvent) -> Iterator[AgentEvent]:
        message = data.get("message")
        facts = message if isinstance(message, dict) else {}
        yield Started(run_id=text(facts.get("id")), sent=sent)
        if isinstance(usage := facts.get("usage"), dict):
            yield self._used(usage, sent)

    def _opened(self, index: int, block: Mapping[str, Any], sent: ServerSentEvent) -> Iterator[AgentEvent]:
        kind = text(block.get("type")) or "text"
        if kind in TOOL_BLOCKS:
            name, given = text(block.get("name")) or "", block.get("input")
            self._calls[index] = (text(block.get("id")) or str(index), name, [to_json(given)] if given else [])
            yield ToolCall(id=self._calls[index][0], name=name, sent=sent)
        elif kind.endswith("_tool_result"):
            yield from _result(block, sent)
        elif kind == "thinking":
            yield self._joiners.thought(text(block.get("thinking")) or "", index, sent)
        elif kind == "text":
            yield self._joiners.text(_string(block.get("text")), index, sent)
            yield from (source for cited in objects(block.get("citations")) for source in _cited(cited, sent))
        else:
            yield Unknown(name=kind, data=sent.data, sent=sent)

    def _delta(self, index: int, data: Mapping[str, Any], sent: ServerSentEvent) -> Iterable[AgentEvent]:
        delta = data.get("delta")
        facts = delta if isinstance(delta, dict) else {}
        match facts.get("type"):
            case "text_delta":
                said = facts.get("text")
                if not isinstance(said, str):
                    raise ProtocolError("The server sent a text_delta without text.", sent.data)
                return [self._joiners.text(said, index, sent)]
            case "thinking_delta":
                return [self._joiners.thought(_string(facts.get("thinking")), index, sent)]
            case "signature_delta":  # what proves the thinking to the service; it is kept as it was sent
                return [Reasoning(text="", sent=sent)]
            case "input_json_delta":
                call = self._calls.setdefault(index, (str(index), "", []))
                call[2].append(text(facts.get("partial_json")) or "")
                return [Progress(message=f"using {call[1]}", sent=sent)]
            case "citations_delta":
                cited = facts.get("citation")
                found = list(_cited(cited, sent)) if isinstance(cited, dict) else []
                return found or [Unknown(name=sent.event, data=sent.data, sent=sent)]
            case _:
                return [Unknown(name=sent.event, data=sent.data, sent=sent)]

    def _finished(self, index: int) -> Iterator[AgentEvent]:
        yield from self._joiners.flush(index)
        if index in self._calls:
            identity, name, pieces = self._calls.pop(index)
            yield ToolCall(id=identity, name=name, arguments="".join(pieces) or "{}")

    def _ending(self, data: Mapping[str, Any], sent: ServerSentEvent) -> Iterator[AgentEvent]:
        delta, usage = data.get("delta"), data.get("usage")
        if isinstance(delta, dict):
            self._reason = text(delta.get("stop_reason")) or self._reason
        if isinstance(usage, dict):
            yield self._used(usage, sent)
        else:
            yield Progress(message="writing", sent=sent)

    def _used(self, usage: Mapping[str, Any], sent: ServerSentEvent) -> Usage:
        """Cumulative: a figure that is told again takes the place of the one before."""
        self._usage |= {name: value for name, value in usage.items() if value is not None}
        read = [integer(self._usage.get(f"{part}input_tokens")) for part in ("", "cache_creation_", "cache_read_")]
        came = integer(self._usage.get("output_tokens"))
        went = None if read[0] is None else sum(figure or 0 for figure in read)
        total = None if went is None or came is None else went + came
        return Usage(input_tokens=went, output_tokens=came, total_tokens=total, raw=dict(self._usage), sent=sent)


KINDS = frozenset(
    {"", "message", "message_start", "content_block_start", "content_block_delta", "content_block_stop",
     "message_delta", "message_stop", "ping", "error"}
)  # fmt: skip


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _result(block: Mapping[str, Any], sent: ServerSentEvent) -> Iterator[AgentEvent]:
    """What a tool of the server's gave; pages that a search found are sources."""
    content = block.get("content")
    yield ToolResult(id=text(block.get("tool_use_id")) or "", result=text(content) or to_json(content), sent=sent)
    for page in objects(content):
        if url := text(page.get("url")):
            yield Source(url=url, title=text(page.get("title")) or "", sent=sent)


def _cited(cited: Mapping[str, Any], sent: ServerSentEvent) -> Iterator[Source]:
    if url := text(cited.get("url")):
        title, said = text(cited.get("title")), text(cited.get("cited_text"))
        yield Source(url=url, title=title or "", snippet=said or "", sent=sent)


def _failed(data: Mapping[str, Any], sent: ServerSentEvent) -> Failed:
    error = data.get("error")
    facts = error if isinstance(error, dict) else data
    return Failed(message=text(facts.get("message")) or sent.data, code=text(facts.get("type")), sent=sent)
