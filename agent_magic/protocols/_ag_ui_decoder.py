"""One run of AG-UI: its events, by their ``type``. The rules are in `ag_ui`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from agent_magic._request import AgentRequest
from agent_magic.errors import ProtocolError
from agent_magic.events import (
    AgentEvent,
    Artifact,
    Done,
    Failed,
    Notice,
    Progress,
    Reasoning,
    ServerSentEvent,
    Started,
    Text,
    Unknown,
)
from agent_magic.protocols._ag_ui_ends import interrupt_notice, run_usage, sentence, waits_notice
from agent_magic.protocols._ag_ui_history import camel, content_text
from agent_magic.protocols._ag_ui_snapshot import Snapshots
from agent_magic.protocols._calls import Calls
from agent_magic.protocols._json import object_or_empty, objects, read_json, read_object, text, to_json
from agent_magic.protocols._messages import Messages

__all__ = ["AGUIDecoder"]


class AGUIDecoder:
    """One run's stream of messages, calls and steps."""

    def __init__(self, ask: AgentRequest) -> None:
        self._ask = ask
        self._words = Messages(Text)
        self._thoughts = Messages(Reasoning)
        self._calls = Calls()
        self._snapshots = Snapshots(ask, self._words, self._thoughts, self._calls)
        # Messages that are streamed and are not the agent's own words: a user's, a system's.
        self._asides: set[str] = set()
        # The id that an event without one means, by what it is about.
        self._last: dict[str, str] = {}
        self._unnamed = 0
        # The call whose pieces come in chunks, which have no event for their end.
        self._chunked: str | None = None

    def decode(self, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        """What one event says, by its ``type``."""
        has_name = sent.event not in {"", "message"}
        data = camel(object_or_empty(sent.data) if has_name else read_object(sent))
        kind = text(data.get("type"))
        if kind is None:
            return [Unknown(name=sent.event or "message", data=sent.data, sent=sent)]
        return [*self._chunks_ended(kind, data), *self._said(kind, data, sent)]

    def whole(self, body: bytes) -> Iterator[AgentEvent]:
        """A reply that was not streamed: the run's events in a list, or one of them."""
        for event in _events_in(body.decode("utf-8", "replace")):
            for one in self.decode(ServerSentEvent("", to_json(event))):
                yield one
                if isinstance(one, Done | Failed):
                    return

    def closed(self) -> Iterable[AgentEvent]:
        """Nothing: this wire says itself when the run is over."""
        return []

    def flush(self) -> Iterable[AgentEvent]:
        """Halves of characters, and calls whose arguments did not end."""
        return [*self._thoughts.flush(), *self._words.flush(), *self._calls.flush()]

    def resume(self) -> AgentRequest | None:
        """None: a second request would be a second run."""
        return None

    def _said(self, kind: str, data: dict[str, Any], sent: ServerSentEvent) -> Iterable[AgentEvent]:
        if kind.startswith("TEXT_MESSAGE_"):
            return self._text(kind.removeprefix("TEXT_MESSAGE_"), data, sent)
        if kind in THOUGHTS:
            return self._thought(THOUGHTS[kind], data, sent)
        if kind.startswith("TOOL_CALL_"):
            return self._tool(kind.removeprefix("TOOL_CALL_"), data, sent)
        match kind:
            case "RUN_STARTED":
                thread = text(data.get("threadId")) or self._ask.session_id
                self._snapshots.begin(self._ask.session_id or thread)
                return [Started(session_id=thread, run_id=text(data.get("runId")), sent=sent)]
            case "RUN_FINISHED":
                return [*self.flush(), *self._finished(data, sent)]
            case "RUN_ERROR":
                failed = Failed(message=text(data.get("message")) or sent.data, code=text(data.get("code")), sent=sent)
                return [*self.flush(), *run_usage(data, sent), failed]
            case "MESSAGES_SNAPSHOT":
                return [*self._snapshots.read(data, sent)] or [Unknown(name=kind, data=sent.data, sent=sent)]
            case "SUBAGENT_ERROR":
                return [Notice(message=f"A subagent failed: {sentence(data.get('message'))}", sent=sent)]
            case "REASONING_ENCRYPTED_VALUE":  # what the model wants back; it is kept as it was sent
                return [Reasoning(text="", sent=sent)]
            case "CUSTOM" if data.get("name") == "on_interrupt":
                return [waits_notice(content_text(data.get("value")), 'command={"resume": "…"}', sent)]
            case _ if kind in PASSING:
                return [Progress(message=PASSING[kind](data), sent=sent)]
            case _:  # STATE_SNAPSHOT, STATE_DELTA, CUSTOM, RAW, and what is yet to come
                return [Unknown(name=kind, data=sent.data, sent=sent)]

    def _text(self, kind: str, data: dict[str, Any], sent: ServerSentEvent) -> Iterable[AgentEvent]:
        identity = self._named("text", "messageId", data, begins=kind == "START")
        if text(data.get("role")) not in {None, "assistant"}:
            self._asides.add(identity)
        if identity in self._asides:
            return [Unknown(name=f"TEXT_MESSAGE_{kind}", data=sent.data, sent=sent)]
        return self._streamed(self._words, kind, identity, data, sent) or [Progress(message="writing", sent=sent)]

    def _thought(self, kind: str, data: dict[str, Any], sent: ServerSentEvent) -> Iterable[AgentEvent]:
        identity = self._named("thought", "messageId", data, begins=kind == "START")
        return self._streamed(self._thoughts, kind, identity, data, sent) or [Progress(message="thinking", sent=sent)]

    def _streamed(
        self, messages: Messages, kind: str, identity: str, data: dict[str, Any], sent: ServerSentEvent
    ) -> list[AgentEvent]:
        match kind:
            case "START":
                messages.begin(identity)
                return []
            case "CONTENT" | "CHUNK":
                return [messages.piece(identity, _delta(kind, data, sent), sent)]
            case "END":
                return [*messages.end(identity), Progress(message="working", sent=sent)]
            case _:
                return [Unknown(name=text(data["type"]) or "", data=sent.data, sent=sent)]

    def _tool(self, kind: str, data: dict[str, Any], sent: ServerSentEvent) -> Iterable[AgentEvent]:
        identity = self._named("call", "toolCallId", data, begins=kind == "START")
        name = text(data.get("toolCallName")) or ""
        match kind:
            case "START":
                return [self._calls.begin(identity, name, sent)]
            case "ARGS":
                return [self._calls.piece(identity, _delta(kind, data, sent), sent)]
            case "CHUNK":
                self._chunked = identity
                begun = [] if identity in self._calls else [self._calls.begin(identity, name, sent)]
                return [*begun, self._calls.piece(identity, _delta(kind, data, sent), sent)]
            case "END":
                return self._calls.end(identity, sent) or [Progress(message="working", sent=sent)]
            case "RESULT":
                return self._calls.result(identity, content_text(data.get("content")), sent)
            case _:
                return [Unknown(name=f"TOOL_CALL_{kind}", data=sent.data, sent=sent)]

    def _chunks_ended(self, kind: str, data: Mapping[str, Any]) -> list[AgentEvent]:
        """The call that came in chunks, where this event is none of them."""
        if self._chunked is None:
            return []
        if kind == "TOOL_CALL_CHUNK" and (text(data.get("toolCallId")) or self._chunked) == self._chunked:
            return []
        ended, self._chunked = self._chunked, None
        return self._calls.end(ended)

    def _named(self, about: str, field: str, data: Mapping[str, Any], *, begins: bool) -> str:
        """The id of what an event is about. Without one it is what the event before was about, or something new."""
        identity = text(data.get(field))
        if identity is None and not begins:
            identity = self._last.get(about)
        if identity is None:
            self._unnamed += 1
            identity = f"unnamed {self._unnamed}"
        self._last[about] = identity
        return identity

    def _finished(self, data: Mapping[str, Any], sent: ServerSentEvent) -> Iterator[AgentEvent]:
        yield from run_usage(data, sent)
        result = data.get("result")
        if isinstance(result, str) and not self._words:
            yield self._words.piece("result", result, sent)
            yield from self._words.end("result")
        elif result is not None:
            yield Artifact(name="result", media_type="application/json", data=to_json(result), sent=sent)
        yield from self._snapshots.left(sent)
        found = data.get("outcome")
        outcome = camel(found) if isinstance(found, dict) else {}
        reason = text(outcome.get("type"))
        if reason == "interrupt":
            yield from (interrupt_notice(camel(one), sent) for one in objects(outcome.get("interrupts")))
        elif reason == "cancelled":
            yield Notice(message="The run was cancelled where the agent runs; the answer may be a part.", sent=sent)
        elif waiting := self._pending(outcome):
            said = "The agent waits for what a tool of yours gives, and nobody here calls it: "
            yield Notice(message=f"{said}{', '.join(waiting)}.", sent=sent)
        yield Done(reason=reason, sent=sent)

    def _pending(self, outcome: Mapping[str, Any]) -> list[str]:
        """The calls that are left to us: those that the server names, or else those of tools it was given."""
        waiting = self._calls.waiting()
        named = outcome.get("pendingToolCallIds")
        if isinstance(named, list) and named:
            return [waiting.get(one) or one for one in map(text, named) if one]
        given = {tool.get("name") for tool in objects(self._ask.parameters.get("tools"))}
        return [name for name in waiting.values() if name in given]


# The events of a message that is thought, under their names of 1.0 and of before.
THOUGHTS = {
    f"{name}_{part}": part
    for name in ("REASONING_MESSAGE", "THINKING_TEXT_MESSAGE")
    for part in ("START", "CONTENT", "CHUNK", "END")
}
Doing = Callable[[Mapping[str, Any]], str]
# Events that say what is being done, in a word or two.
PASSING: dict[str, Doing] = {
    "STEP_STARTED": lambda data: text(data.get("stepName")) or "working",
    "STEP_FINISHED": lambda _: "working",
    "SUBAGENT_STARTED": lambda data: f"asking {text(data.get('name')) or 'a subagent'}",
    "SUBAGENT_FINISHED": lambda _: "working",
    "ACTIVITY_SNAPSHOT": lambda data: (text(data.get("activityType")) or "working").lower(),
    "ACTIVITY_DELTA": lambda data: (text(data.get("activityType")) or "working").lower(),
    "REASONING_START": lambda _: "thinking",
    "REASONING_END": lambda _: "thinking",
    "THINKING_START": lambda data: text(data.get("title")) or "thinking",
    "THINKING_END": lambda _: "thinking",
}


def _delta(kind: str, data: Mapping[str, Any], sent: ServerSentEvent) -> str:
    delta = data.get("delta")
    if kind == "CHUNK" and delta is None:
        return ""
    if not isinstance(delta, str):
        raise ProtocolError("The server sent a piece without text in its delta.", sent.data)
    return delta


def _events_in(said: str) -> list[dict[str, Any]]:
    try:
        value = read_json(said)
    except ValueError:
        raise ProtocolError("The server sent a JSON reply that cannot be read.", said) from None
    if isinstance(value, dict):
        value = [value] if "type" in value else value.get("events")
    if not (events := objects(value)):
        raise ProtocolError("The server sent a JSON reply without the events of a run.", said)
    return events
