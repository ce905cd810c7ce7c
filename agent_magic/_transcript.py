"""The fold: a run's events into what is known of it. The only accumulator.

Any thread applies an event, one at a time, and any thread reads. `revision` grows when text that was there has changed,
and not when text was added behind it: a painter that only appends can tell the two apart.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import Any, Literal

import msgspec

from agent_magic._steps import Step, Steps
from agent_magic.errors import AgentError, AgentMagicError
from agent_magic.events import (
    AgentEvent,
    Artifact,
    Connected,
    Connecting,
    Done,
    Failed,
    Notice,
    Progress,
    Reasoning,
    Replace,
    Retrying,
    Source,
    Started,
    Text,
    ToolCall,
    ToolResult,
    Unknown,
    Usage,
)

__all__ = ["Status", "Transcript"]

Status = Literal["running", "done", "stopped", "interrupted", "failed"]

_FROM_CONNECTION = (Connecting, Connected, Retrying)


def _is_arrival(event: AgentEvent) -> bool:
    """Whether `event` came from the server; a notice, and that a model is loaded, may be our own."""
    if isinstance(event, Notice | Progress):
        return event.sent is not None
    return not isinstance(event, _FROM_CONNECTION)


class Transcript:
    """All that is known of one run. `began` and the like are seconds on `clock`."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._pieces: dict[int, list[str]] = {}
        self._joined: str | None = ""
        self.began = clock()
        self.first_event: float | None = None
        self.first_text: float | None = None
        self.ended: float | None = None
        self.status: Status = "running"
        self.error: AgentMagicError | None = None
        self._events: list[AgentEvent] = []
        self._packed: bytes | None = None
        self.usage = Usage()
        self.session_id: str | None = None
        self.run_id: str | None = None
        self.reason: str | None = None
        self.execution_time: float | None = None
        self.notices: list[str] = []
        self.sources: list[Source] = []
        self._steps = Steps()
        self.host = ""
        self.doing = "connecting"
        self.fraction: float | None = None
        self.retry_at: tuple[Retrying, float] | None = None
        self.retries = 0
        self.revision = 0
        self.characters = 0
        self._complete = False

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {**self.__dict__, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = Lock()

    @property
    def events(self) -> list[AgentEvent]:
        """Every event so far."""
        with self._lock:
            if self._packed is None:
                return self._events
            events: list[AgentEvent] = pickle.loads(zlib.decompress(self._packed))  # noqa: S301 (see `pack`)
            return events

    @property
    def text(self) -> str:
        """The answer so far: its items in the order of their index."""
        with self._lock:
            if self._joined is None:
                self._joined = "".join("".join(self._pieces[item]) for item in sorted(self._pieces))
            return self._joined

    @property
    def reasoning(self) -> str:
        """What the agent said of its thinking."""
        with self._lock:
            return self._steps.reasoning

    @property
    def tool_calls(self) -> list[tuple[ToolCall, ToolResult | None]]:
        """The tools used so far, each with its result once there is one."""
        with self._lock:
            return self._steps.tool_calls

    @property
    def artifacts(self) -> list[Artifact]:
        """What was made beside the text so far."""
        with self._lock:
            return self._steps.artifacts

    @property
    def steps(self) -> list[Step]:
        """What the agent did on its way, so far, in order: thoughts, tools, artifacts."""
        with self._lock:
            return self._steps.steps()

    @property
    def elapsed(self) -> float:
        """Seconds from the run's beginning to its end, or to now."""
        return (self._clock() if self.ended is None else self.ended) - self.began

    @property
    def retry_in(self) -> float:
        """Seconds until the next attempt; 0 where none is waited for."""
        return 0.0 if self.retry_at is None else max(0.0, self.retry_at[1] - self._clock())

    @property
    def is_complete(self) -> bool:
        """Whether the answer has come to its end."""
        return self._complete

    def apply(self, event: AgentEvent) -> None:
        """Take `event` in."""
        with self._lock:
            if self.ended is not None:
                return
            if (self._complete or self.error) and isinstance(event, Text | Replace):
                self.notices.append("Text that came after the end was left out.")
                return
            self._events.append(event)
            if _is_arrival(event):
                self._note_arrival()
            self._fold(event)

    def close(self, status: Status, error: AgentMagicError | None = None, elapsed: float | None = None) -> None:
        """The run is over, as `status` says, `elapsed` seconds after it began, or now.

        The first to say so is right.
        """
        with self._lock:
            if self.ended is None:
                self.ended = self._clock() if elapsed is None else self.began + elapsed
                self._steps.end(self.ended)
                self.status = status
                self.error = error
                self.retry_at = None

    def forget_sent(self) -> None:
        """Take from the events so far what the server sent; what it meant stays."""
        with self._lock:
            self._events[:] = [
                msgspec.structs.replace(event, sent=None) if event.sent is not None else event for event in self._events
            ]

    def pack(self) -> None:
        """After the end: keep the events in a fraction of their memory; they are unpacked when they are asked for.

        An event takes some 400 bytes, which is much where there are ten thousand answers. Pickle, as text that
        a server sent may hold what no other format takes (half a surrogate pair, a number without end).
        """
        text = self.text
        with self._lock:
            if self.ended is None or self._packed is not None:
                return
            self._joined, self._pieces = text, {}
            self._packed, self._events = zlib.compress(pickle.dumps(self._events), 1), []

    def _note_arrival(self) -> None:
        self.retry_at = None
        if self.first_event is None:
            self.first_event = self._clock() - self.began

    def _fold(self, event: AgentEvent) -> None:
        match event:
            case Text():
                self._add(event)
            case Replace():
                self._replace(event)
            case Usage():
                self.usage = msgspec.structs.replace(event, sent=None)
            case Started():
                self.session_id = event.session_id or self.session_id
                self.run_id = event.run_id or self.run_id
                self.doing = "waiting"
            case Progress():
                self.doing, self.fraction = event.message, event.fraction
            case Reasoning():
                self._steps.think(event.text, self._clock())
                self.doing = "thinking"
            case Source():
                self.sources.append(event)
                self.doing = "searching"
            case Artifact():
                self._steps.add(event, self._clock())
            case ToolCall():
                self._steps.call(event, self._clock())
                self.doing = f"using {event.name}"
            case ToolResult():
                self._steps.result(event, self._clock())
            case Notice():
                self.notices.append(event.message)
            case Done():
                self._complete = True
                self.reason, self.execution_time = event.reason, event.execution_time
            case Failed():
                self.error = _agent_error(self.host, event)
            case Connecting():
                self.host, self.doing, self.retry_at = event.host, "connecting", None
            case Connected():
                self.doing = "waiting"
            case Retrying():
                self.retries += 1
                self.retry_at = (event, self._clock() + event.delay)
            case Unknown():
                pass

    def _add(self, event: Text) -> None:
        if not event.text:
            return
        self.doing = "writing"
        self._steps.write(self._clock())
        self.characters += len(event.text)
        if self.first_text is None:
            self.first_text = self._clock() - self.began
        if event.item not in self._pieces:
            self._pieces[event.item] = []
        if event.item != max(self._pieces):
            self.revision += 1
        self._pieces[event.item].append(event.text)
        self._joined = None

    def _replace(self, event: Replace) -> None:
        self.revision += 1
        self._pieces[event.item] = [event.text]
        self.characters = sum(len(piece) for pieces in self._pieces.values() for piece in pieces)
        self._joined = None


def _agent_error(host: str, event: Failed) -> AgentError:
    said = " ".join(event.message.split())[:500].rstrip(".") or "no reason given"
    code = f" ({event.code[:80]})" if event.code else ""
    return AgentError(
        f"The agent at {host} failed: {said}{code}. Ask again, or ask whoever runs it.", event.code, event.message
    )
