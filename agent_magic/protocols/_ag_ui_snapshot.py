"""Snapshots of the messages of AG-UI: which part of a conversation is this run's, and what it says that is new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent_magic._request import AgentRequest
from agent_magic.events import AgentEvent, Notice, ServerSentEvent
from agent_magic.protocols._ag_ui_conversation import conversation
from agent_magic.protocols._ag_ui_history import camel, content_text
from agent_magic.protocols._calls import Calls
from agent_magic.protocols._json import objects, text
from agent_magic.protocols._messages import Messages

__all__ = ["Snapshots"]

LOST = (
    "The server told no answer of its own to this question: its copy of the conversation ends with what was said "
    "before. Ask again in a new session if the answer is missing."
)
Listed = Sequence[dict[str, Any]]


class Snapshots:
    """The snapshots of one run."""

    def __init__(self, ask: AgentRequest, words: Messages, thoughts: Messages, calls: Calls) -> None:
        self._ask = ask
        self._words, self._thoughts, self._calls = words, thoughts, calls
        # What stands behind the last question of a snapshot, where that is not known to be this run's.
        self._unclear: Listed = []
        self.begin(ask.session_id)

    def begin(self, thread: str | None) -> None:
        """The run is in `thread`: the ids that went along follow from it."""
        *earlier, question = conversation(self._ask, thread or "")
        self._question = question["id"]
        self._earlier_ids = {identity for message in earlier if (identity := text(message.get("id")))}
        said = {*map(_words_of, earlier), *(turn.answer.strip() for turn in self._ask.said)}
        self._earlier_words = said - {""}

    def read(self, data: Mapping[str, Any], sent: ServerSentEvent) -> Iterator[AgentEvent]:
        """What a snapshot of the conversation says of this run: corrections, and what was not streamed."""
        messages = [camel(message) for message in objects(data.get("messages"))]
        last = max((place for place, one in enumerate(messages) if one.get("role") == "user"), default=-1)
        begin = self._place(messages, last)
        start = last + 1 if begin is None else begin
        behind, before = messages[start:], [one for one in messages[:start] if self._knows(one)]
        if begin is None:
            is_own = any(map(self._knows, behind))
            self._unclear = [] if is_own else behind
            behind = [one for one in behind if self._knows(one) or (is_own and not self._is_earlier(one))]
        else:
            self._unclear = []
        yield from self._said([*before, *behind], sent)

    def left(self, sent: ServerSentEvent) -> Iterator[AgentEvent]:
        """The answer that stands only in a snapshot whose question was not found; else that there is none."""
        if self._words or not any(map(_words_of, self._unclear)):
            return
        new = [one for one in self._unclear if not self._is_earlier(one)]
        if any(map(_words_of, new)):
            yield from self._said(new, sent)
        else:
            yield Notice(message=LOST, sent=sent)

    def _place(self, messages: Listed, last: int) -> int | None:
        """Where this run begins: behind its question, found by the id that went along or by its words."""
        for place, message in enumerate(messages):
            if message.get("role") == "user" and message.get("id") == self._question:
                return place + 1
        asked = sum(one.get("role") == "user" for one in messages)
        is_asked = last >= 0 and _said_by(messages[last]).strip() == self._ask.prompt.strip()
        return last + 1 if is_asked and self._is_new(messages[last:], asked) else None

    def _is_new(self, part: Listed, asked: int) -> bool:
        """Whether a question and what follows is no earlier turn: a server that cuts those off has fewer of them."""
        if text(part[0].get("id")) in self._earlier_ids:
            return False
        words = [one for one in part if _words_of(one)]
        return asked > len(self._ask.said) or not words or not all(map(self._is_earlier, words))

    def _is_earlier(self, message: Mapping[str, Any]) -> bool:
        return text(message.get("id")) in self._earlier_ids or _words_of(message) in self._earlier_words

    def _knows(self, message: Mapping[str, Any]) -> bool:
        """Whether this run has told the message, or of the call that it is about."""
        calls = {text(call.get("id")) for call in objects(message.get("toolCalls"))} | {text(message.get("toolCallId"))}
        identity = text(message.get("id")) or ""
        return identity in self._words or identity in self._thoughts or any(one in self._calls for one in calls if one)

    def _said(self, messages: Listed, sent: ServerSentEvent) -> Iterator[AgentEvent]:
        named = [(text(one.get("id")) or f"in a snapshot {place}", one) for place, one in enumerate(messages)]
        told = {
            role: known.told({name: text(one.get("content")) or "" for name, one in named if one.get("role") == role})
            for role, known in (("assistant", self._words), ("reasoning", self._thoughts))
        }
        for identity, message in named:
            words = text(message.get("content"))
            is_new = words is not None and identity not in told.get(str(message.get("role")), ())
            yield from self._in_snapshot(identity, message, words if is_new else None, sent)

    def _in_snapshot(
        self, identity: str, message: dict[str, Any], words: str | None, sent: ServerSentEvent
    ) -> Iterator[AgentEvent]:
        match message.get("role"):
            case "assistant":
                if words is not None:
                    yield from self._words.whole(identity, words, sent)
                for call in map(camel, objects(message.get("toolCalls"))):
                    yield from self._called(call, sent)
            case "reasoning" if words is not None:
                yield from self._thoughts.whole(identity, words, sent)
            case "tool" if (call_id := text(message.get("toolCallId"))) and not self._calls.has_result(call_id):
                yield from self._calls.result(call_id, content_text(message.get("content")), sent)

    def _called(self, call: Mapping[str, Any], sent: ServerSentEvent) -> Iterator[AgentEvent]:
        identity, function = text(call.get("id")), call.get("function")
        if identity is None or identity in self._calls or not isinstance(function, dict):
            return
        self._calls.begin(identity, text(function.get("name")) or "", sent)
        self._calls.piece(identity, text(function.get("arguments")) or "", sent)
        yield from self._calls.end(identity, sent)


def _said_by(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return content_text(content) if isinstance(content, str | list) else ""


def _words_of(message: Mapping[str, Any]) -> str:
    """What the agent says in a message; nothing where it is another's."""
    return (text(message.get("content")) or "").strip() if message.get("role") == "assistant" else ""
