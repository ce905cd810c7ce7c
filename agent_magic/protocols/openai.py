"""OpenAI Chat Completions, ``POST {base}/chat/completions``, and the many servers that speak it.

The format is that of OpenAI's API reference, "Chat Completions"; vLLM, llama.cpp, Ollama, LM Studio, OpenRouter and
others differ in what this room allows for: no ``[DONE]``, usage in the last chunk or in each, ``content`` null,
a first chunk with a role alone, thinking as ``reasoning_content`` or ``reasoning``, an error object in
mid-stream. The events have no names; what counts is what a chunk holds. Nothing can be resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agent_magic._request import AgentRequest, HTTPRequest, join_url
from agent_magic.errors import AgentMagicError, ProtocolError
from agent_magic.events import (
    AgentEvent,
    Failed,
    Progress,
    ServerSentEvent,
    Source,
    Started,
    Text,
    ToolCall,
    Unknown,
)
from agent_magic.protocols._asking import key_header, refuse_fields, turns_of
from agent_magic.protocols._base import HTTPFailure, Keeper
from agent_magic.protocols._ends import ending, error_of, usage_of
from agent_magic.protocols._json import integer, object_or_empty, objects, read_object, text, to_json
from agent_magic.protocols._pieces import Joiners

__all__ = ["OpenAI", "OpenAIDecoder"]

OWN_FIELDS = frozenset({"messages", "model", "stream"})
END = "[DONE]"
# The fields of a delta, and of a choice, that are read, or say nothing by themselves.
READ = frozenset(
    {"annotations", "content", "delta", "finish_reason", "index", "logprobs", "message", "native_finish_reason",
     "reasoning", "reasoning_content", "refusal", "role", "text", "tool_calls"}
)  # fmt: skip


class OpenAI:
    """The Chat Completions wire. The agent's id is the model; parameters are fields of the body."""

    name = "openai"
    base_url = "https://api.openai.com/v1"
    key_env: str | None = "OPENAI_API_KEY"
    conversations: Keeper = "client"
    has_system = True

    def request(self, ask: AgentRequest) -> HTTPRequest:
        """The POST that begins a stream; a parameter that is null is left out, `stream_options` too."""
        refuse_fields(ask.parameters, OWN_FIELDS, self.name)
        system = [] if ask.system is None else [{"role": "system", "content": ask.system}]
        fields = {"stream_options": {"include_usage": True}, **ask.parameters}
        return HTTPRequest(
            method="POST",
            url=join_url(ask.base_url, "chat", "completions"),
            headers={**ask.headers, **key_header(ask), "Accept": "text/event-stream"},
            body={
                "model": ask.agent,
                "messages": [*system, *turns_of(ask)],
                "stream": True,
                **{name: value for name, value in fields.items() if value is not None},
            },
        )

    def decoder(self, ask: AgentRequest) -> OpenAIDecoder:  # noqa: ARG002 (every wire's decoder is given it)
        """A decoder for one run."""
        return OpenAIDecoder()

    def error(self, failure: HTTPFailure) -> AgentMagicError:
        """The error of a failed reply."""
        return error_of(failure)


class _Call:
    """A tool call that comes in pieces."""

    def __init__(self, identity: str) -> None:
        self.id = identity
        self.name = ""
        self.arguments: list[str] = []
        self.told: str | None = None

    def whole(self) -> list[ToolCall]:
        """The call as it is now, where that is news."""
        arguments = "".join(self.arguments)
        if arguments == self.told:
            return []
        self.told = arguments
        return [ToolCall(id=self.id, name=self.name, arguments=arguments)]


class OpenAIDecoder:
    """One run's stream of chunks."""

    def __init__(self) -> None:
        self._begun = False
        self._reason: str | None = None
        # The choices that were seen, and those of which no end has come yet.
        self._items: set[int] = set()
        self._open: set[int] = set()
        self._joiners = Joiners()
        self._calls: dict[tuple[int, int], _Call] = {}

    def decode(self, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        """What one chunk says."""
        if sent.data.strip() == END:
            reason, self._reason = self._reason, None
            self._items.clear()
            return [*self._rest(), *ending(reason, sent)]
        if sent.event not in {"", "message", "error"}:
            return [Unknown(name=sent.event, data=sent.data, sent=sent)]
        return self._chunk(read_object(sent), sent)

    def whole(self, body: bytes) -> Iterator[AgentEvent]:
        """A reply that was not streamed: the same, with a `message` in the place of the `delta`."""
        sent = ServerSentEvent("", body.decode("utf-8", "replace"))
        reply = object_or_empty(sent.data)
        if not (reply.get("error") or isinstance(reply.get("choices"), list)):
            raise ProtocolError("The server sent a JSON reply without choices.", sent.data)
        ended = False
        for event in self._chunk(reply, sent):
            ended = ended or isinstance(event, Failed)
            yield event
        if not ended:
            yield from self._rest()
            yield from ending(self._reason, sent)

    def closed(self) -> Iterable[AgentEvent]:
        """The end, where a reason for it had come: many servers send no ``[DONE]``."""
        return [*self._rest(), *ending(self._reason)] if self._items and not self._open else []

    def flush(self) -> Iterable[AgentEvent]:
        """Half a character, and tool calls that were not whole."""
        return self._rest()

    def resume(self) -> AgentRequest | None:
        """None: a second request would be a second answer."""
        return None

    def _chunk(self, chunk: dict[str, Any], sent: ServerSentEvent) -> Iterator[AgentEvent]:
        error = chunk.get("error")
        if not error and chunk.get("object") == "error":  # as some servers have it, flat
            error = chunk
        if error:
            yield _failed(error, sent)
            return
        if sent.event == "error":
            yield _failed(chunk, sent)
            return
        if not self._begun:
            self._begun = True
            yield Started(run_id=text(chunk.get("id")), sent=sent)
        known = False
        for choice in objects(chunk.get("choices")):
            events = list(self._choice(choice, sent))
            known = known or bool(events) or not any(_beside(choice))
            yield from events
        cited = chunk.get("citations")
        for one in cited if isinstance(cited, list) else ():  # Perplexity's, beside the choices
            if url := text(one):
                yield Source(url=url, sent=sent)
        if isinstance(usage := chunk.get("usage"), dict):
            known = True
            yield usage_of(usage, sent)
        if not known and chunk.get("choices") != []:
            yield Unknown(name=sent.event, data=sent.data, sent=sent)

    def _choice(self, choice: Mapping[str, Any], sent: ServerSentEvent) -> Iterator[AgentEvent]:
        item = integer(choice.get("index")) or 0
        if item not in self._items:
            self._items.add(item)
            self._open.add(item)
        delta = choice.get("delta", choice.get("message"))
        if isinstance(delta, dict):
            yield from self._delta(delta, item, sent)
        elif said := text(choice.get("text")):  # of the older Completions
            yield self._joiners.text(said, item, sent)
        if reason := text(choice.get("finish_reason")):
            self._reason = reason
            self._open.discard(item)
            yield from self._rest(item)
            if reason == "error":
                yield Failed(message="the model ended with an error", code=reason, sent=sent)
            else:
                yield Text(text="", item=item, sent=sent)  # no news, but what was sent is kept

    def _delta(self, delta: Mapping[str, Any], item: int, sent: ServerSentEvent) -> Iterator[AgentEvent]:
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thought, str) and thought:
            yield self._joiners.thought(thought, item, sent)
        pieces = list(_pieces(delta))
        if any(piece for _, piece in pieces):  # text behind a call: nothing of it is to come
            yield from (told for key, call in self._calls.items() if key[0] == item for told in call.whole())
        for kind, piece in pieces:
            told = self._joiners.thought if kind == "thinking" else self._joiners.text
            yield told(piece, item, sent)
        for place, call in enumerate(objects(delta.get("tool_calls"))):
            yield from self._call(call, item, place, sent)
        for note in objects(delta.get("annotations")):
            cited = note.get("url_citation")
            if isinstance(cited, dict) and (url := text(cited.get("url"))):
                yield Source(url=url, title=text(cited.get("title")) or "", sent=sent)

    def _call(self, said: Mapping[str, Any], item: int, place: int, sent: ServerSentEvent) -> Iterator[AgentEvent]:
        number, identity = integer(said.get("index")), text(said.get("id"))
        key = (item, place if number is None else number)
        function = said.get("function")
        function = function if isinstance(function, dict) else {}
        call = self._calls.get(key)
        if call is not None and identity and call.id != identity:
            # Another id is another call: not every server counts them.
            yield from call.whole()
            call = None
        name = text(function.get("name")) or ""
        if call is None:
            call = self._calls[key] = _Call(identity or f"{key[0]}.{key[1]}")
            call.name = name
            yield ToolCall(id=call.id, name=name, sent=sent)  # what it is called with is known when it is whole
        else:
            call.name = call.name or name
            yield Progress(message=f"using {call.name}", sent=sent)
        call.arguments.append(text(function.get("arguments")) or "")

    def _rest(self, item: int | None = None) -> list[AgentEvent]:
        """What an item, or each, has left: halves of characters, the tool calls as they are now."""
        left = self._joiners.flush(item)
        for key in [key for key in self._calls if item in {None, key[0]}]:
            call = self._calls.pop(key)
            left += call.whole()
        return left


def _beside(choice: Mapping[str, Any]) -> Iterator[object]:
    """What a choice holds that this room does not read."""
    delta = choice.get("delta", choice.get("message"))
    facts = delta if isinstance(delta, dict) else choice
    return (value for name, value in facts.items() if name not in READ and value not in (None, "", []))


def _pieces(delta: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The text of a delta: a string, or, with some servers, a list of typed parts; a refusal is an answer, too."""
    for said in (delta.get("content"), delta.get("refusal")):
        if isinstance(said, str):
            yield "text", said
        for part in objects(said):
            inner = part.get("text", part.get("thinking"))
            words = "".join(filter(None, (text(one.get("text")) for one in objects(inner))))
            yield text(part.get("type")) or "text", inner if isinstance(inner, str) else words


def _failed(error: object, sent: ServerSentEvent) -> Failed:
    facts = error if isinstance(error, dict) else {}
    code = facts.get("code", facts.get("type"))
    said = text(facts.get("message")) or text(error) or to_json(error)
    return Failed(message=said, code=text(code) or (to_json(code) if code is not None else None), sent=sent)
