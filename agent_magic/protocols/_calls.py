"""Calls of tools that a server names, and whose arguments come in pieces."""

from __future__ import annotations

from agent_magic.events import AgentEvent, Progress, ServerSentEvent, ToolCall, ToolResult

__all__ = ["Calls"]


class _Call:
    def __init__(self) -> None:
        self.name = ""
        self.pieces: list[str] = []
        self.is_open = True
        self.has_result = False


class Calls:
    """The calls of one run. A call is told when it begins, and once more with its arguments when they are complete."""

    def __init__(self) -> None:
        self._known: dict[str, _Call] = {}

    def __contains__(self, identity: str) -> bool:
        return identity in self._known

    def begin(self, identity: str, name: str, sent: ServerSentEvent) -> AgentEvent:
        """A call begins; one that is known goes on."""
        call = self._known.setdefault(identity, _Call())
        call.name = name or call.name
        if call.has_result:  # a call that is told anew has no result
            return self._doing(call, sent)
        return ToolCall(id=identity, name=call.name, arguments="".join(call.pieces), sent=sent)

    def piece(self, identity: str, words: str, sent: ServerSentEvent) -> AgentEvent:
        """A piece of a call's arguments."""
        call = self._known.setdefault(identity, _Call())
        call.pieces.append(words)
        call.is_open = True
        return self._doing(call, sent)

    def end(self, identity: str, sent: ServerSentEvent | None = None) -> list[AgentEvent]:
        """A call's arguments are complete."""
        call = self._known.get(identity)
        if call is None or not call.is_open or call.has_result:
            return []
        call.is_open = False
        return [ToolCall(id=identity, name=call.name, arguments="".join(call.pieces), sent=sent)]

    def result(self, identity: str, words: str, sent: ServerSentEvent) -> list[AgentEvent]:
        """What a call gave."""
        ended = self.end(identity)
        self._known.setdefault(identity, _Call()).has_result = True
        return [*ended, ToolResult(id=identity, result=words, sent=sent)]

    def flush(self) -> list[AgentEvent]:
        """The calls whose arguments did not end, as far as they have come."""
        return [event for identity in self._known for event in self.end(identity)]

    def has_result(self, identity: str) -> bool:
        """Whether it is known what a call gave."""
        return identity in self._known and self._known[identity].has_result

    def waiting(self) -> dict[str, str]:
        """The names of the calls without a result, by id."""
        return {identity: call.name for identity, call in self._known.items() if not call.has_result}

    def _doing(self, call: _Call, sent: ServerSentEvent) -> Progress:
        return Progress(message=f"using {call.name}", sent=sent)
