"""What a wire has been seen to carry, found by its contract's recorded stream and by a stop in the middle of it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Literal, NamedTuple

from agent_magic.events import AgentEvent, Notice, Reasoning, Replace, Source, Text, ToolCall, ToolResult, Usage
from agent_magic.protocols import Keeper
from agent_magic.testing._contract import ProtocolContract

__all__ = ["Findings", "findings"]

Stops = Literal["connection", "reading"]


class Findings(NamedTuple):
    """What was found of one wire.

    `pieces` is in how many pieces text came at the most, `stops` what a stop ends: the connection, which is all that
    a wire without a task has, or the reading alone, of what goes on at the server.
    """

    pieces: int
    usage: bool
    reasoning: bool
    tool_calls: bool
    tool_results: bool
    sources: bool
    sessions: Keeper
    resumes: bool
    stops: Stops


def findings(contracts: Iterable[type[ProtocolContract]]) -> Findings:
    """What `contracts`, all of one protocol, show together, as far as their streams are documented."""
    return reduce(_both, (_of(contract) for contract in contracts if contract.documented))


def _both(one: Findings, other: Findings) -> Findings:
    return Findings(
        max(one.pieces, other.pieces),
        one.usage or other.usage,
        one.reasoning or other.reasoning,
        one.tool_calls or other.tool_calls,
        one.tool_results or other.tool_results,
        one.sources or other.sources,
        other.sessions,
        one.resumes or other.resumes,
        "reading" if "reading" in (one.stops, other.stops) else "connection",
    )


def _of(contract: type[ProtocolContract]) -> Findings:
    made = contract()
    events = made.events()
    resumes, last_words = _cut(made)
    return Findings(
        pieces=sum(isinstance(event, Text | Replace) and bool(event.text) for event in events),
        usage=any(isinstance(event, Usage) and event.total_tokens is not None for event in events),
        reasoning=any(isinstance(event, Reasoning) and bool(event.text) for event in events),
        tool_calls=_has(events, ToolCall),
        tool_results=_has(events, ToolResult),
        sources=_has(events, Source),
        sessions=made.protocol.conversations,
        resumes=resumes,
        stops="reading" if any(isinstance(event, Notice) for event in last_words) else "connection",
    )


def _has(events: Iterable[AgentEvent], kind: type[AgentEvent]) -> bool:
    return any(isinstance(event, kind) for event in events)


def _cut(made: ProtocolContract) -> tuple[bool, list[AgentEvent]]:
    """Whether the stream could be taken up again from its middle, and what a run says that ends there."""
    decoder = made.half_heard()
    resumes = decoder.resume() is not None
    return resumes, list(decoder.flush())
