"""Recorded streams: events to bytes and back, by the plainest reading of the standard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from agent_magic._transcript import Transcript
from agent_magic.events import AgentEvent, ServerSentEvent

__all__ = ["event_stream", "fold", "split_events"]


def split_events(recorded: bytes) -> list[ServerSentEvent]:
    """The events of a recorded stream, read by the plainest reading of the standard.

    This is a second opinion beside the library that the product uses, for recorded streams whose lines
    end in LF or CRLF.
    """
    events: list[ServerSentEvent] = []
    identity = ""
    for block in recorded.decode().replace("\r\n", "\n").split("\n\n"):
        fields = [line.partition(":")[::2] for line in block.split("\n") if line and not line.startswith(":")]
        values = [(name, value.removeprefix(" ")) for name, value in fields]
        identity = next((value for name, value in reversed(values) if name == "id"), identity)
        data = [value for name, value in values if name == "data"]
        name = next((value for name, value in reversed(values) if name == "event" and value), "message")
        if data:
            events.append(ServerSentEvent(name, "\n".join(data), identity))
    return events


def event_stream(*events: tuple[str, Any], newline: str = "\n") -> bytes:
    """Server-sent events as bytes: a name and data each; data that is no string is written as JSON."""
    blocks = []
    for name, data in events:
        said = data if isinstance(data, str) else json.dumps(data)
        lines = [f"event: {name}", *(f"data: {line}" for line in said.split("\n"))]
        blocks.append(newline.join([*lines, "", ""]))
    return "".join(blocks).encode()


def fold(events: Sequence[AgentEvent]) -> Transcript:
    """The transcript of `events`."""
    transcript = Transcript()
    for event in events:
        transcript.apply(event)
    return transcript
