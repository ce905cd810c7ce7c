"""What an agent can say: frozen values, one union.

Every wire is decoded into these. Each event keeps in `sent` the server-sent event that it came from,
verbatim but for a key that it echoes, so nothing a server says is lost. The last three are not the
server's words but the connection's.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

__all__ = [
    "AgentEvent",
    "Artifact",
    "Connected",
    "Connecting",
    "Done",
    "Failed",
    "Notice",
    "Progress",
    "Reasoning",
    "Replace",
    "Retrying",
    "ServerSentEvent",
    "Source",
    "Started",
    "Text",
    "ToolCall",
    "ToolResult",
    "Unknown",
    "Usage",
]


class ServerSentEvent(Struct, frozen=True, gc=False):
    """One dispatched event of a stream, as the WHATWG HTML standard defines it."""

    event: str
    data: str
    id: str = ""


class _Event(Struct, frozen=True, kw_only=True):
    sent: ServerSentEvent | None = None


class Started(_Event, frozen=True):
    """The agent began. Either id may be None where the wire has none."""

    session_id: str | None = None
    run_id: str | None = None


class Text(_Event, frozen=True):
    """A piece of the answer: of output item `item`, at place `index` where the wire counts pieces."""

    text: str
    item: int = 0
    index: int | None = None


class Replace(_Event, frozen=True):
    """The whole text of an output item, in place of all that it held."""

    text: str
    item: int = 0


class Reasoning(_Event, frozen=True):
    """A piece of what the agent thought on its way."""

    text: str


class ToolCall(_Event, frozen=True):
    """The agent called a tool; `arguments` is JSON text as far as it is known."""

    id: str
    name: str
    arguments: str = ""


class ToolResult(_Event, frozen=True):
    """What the tool call `id` gave."""

    id: str
    result: str


class Source(_Event, frozen=True):
    """A document that the answer rests on."""

    url: str
    title: str = ""
    snippet: str = ""
    provider: str | None = None
    thumbnail_url: str | None = None


class Artifact(_Event, frozen=True):
    """Something beside the text: a report, a result, a file."""

    name: str
    media_type: str
    data: str = ""
    url: str | None = None


class Progress(_Event, frozen=True):
    """What the agent is doing; `fraction` from 0 to 1 where the wire tells it."""

    message: str
    fraction: float | None = None


class Usage(_Event, frozen=True):
    """Tokens so far, cumulative; `raw` is the server's own object."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    raw: dict[str, Any] = {}


class Failed(_Event, frozen=True):
    """The agent failed. `transient`: its wire says that asking again is right, after `retry_after` seconds."""

    message: str
    code: str | None = None
    retry_after: float | None = None
    transient: bool = False


class Done(_Event, frozen=True):
    """The answer is complete. `execution_time` in seconds, `run_time_ms` verbatim (its unit is doubtful)."""

    reason: str | None = None
    execution_time: float | None = None
    run_time_ms: str | None = None


class Unknown(_Event, frozen=True):
    """An event of a kind that the wire's documents do not name."""

    name: str
    data: str


class Notice(_Event, frozen=True):
    """Something the person must know of the text: a gap, a piece that was dropped."""

    message: str


class Connecting(_Event, frozen=True):
    """A connection to `host` is being made."""

    host: str


class Connected(_Event, frozen=True):
    """The server accepted the request and has a stream open."""


class Retrying(_Event, frozen=True):
    """The connection was lost: attempt `attempt` of `retries` follows in `delay` seconds."""

    attempt: int
    retries: int
    delay: float
    reason: str


AgentEvent = (
    Started
    | Text
    | Replace
    | Reasoning
    | ToolCall
    | ToolResult
    | Source
    | Artifact
    | Progress
    | Usage
    | Failed
    | Done
    | Unknown
    | Notice
    | Connecting
    | Connected
    | Retrying
)
