"""The rows of one map on their way, at most so many at once: in the readers' loop, beside whoever waits.

A row is a run like any other, written down as one. A row that cannot be asked is a result that says so:
what befalls one row never costs another.
"""

from __future__ import annotations

import asyncio
import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from threading import Event, Lock
from time import monotonic
from typing import Any, Literal, NamedTuple, Protocol

import anyio
import msgspec

from agent_magic import _loop
from agent_magic._column import check_prompt
from agent_magic._pace import Pace
from agent_magic._request import AgentRequest
from agent_magic._result import AgentResult
from agent_magic._run import Ending, Run
from agent_magic._tally import Tally
from agent_magic.errors import AgentMagicError, AuthError, PromptError, ProtocolError

__all__ = ["Asker", "Asking", "Batch", "LocalBatch", "unasked"]


Begin = Callable[[AgentRequest], tuple[AgentResult, Run]]


class Asker(Protocol):
    """What asks a row: an `Agent`."""

    name: str

    @property
    def wire(self) -> str:
        """The name of its protocol."""

    def prepare(self, prompt: str, parameters: dict[str, Any] | None = None, *, dry: bool = False) -> AgentRequest:
        """The request for `prompt`, checked."""

    def prepare_all(self, prompts: Sequence[str], parameters: dict[str, Any], *, dry: bool = False) -> AgentRequest:
        """The request for one of `prompts`, in whose place each can be put."""

    def asking(self, pace: Pace | None = None) -> Begin:
        """What begins to ask the requests that `prepare` gives."""


class Row(NamedTuple):
    """A question that is on its way; without a run where it could not be asked, or the server wants no more."""

    result: AgentResult
    run: Run | None


class Asking:
    """Begins the rows that share a pace: those of one map in one process."""

    def __init__(self, asker: Asker) -> None:
        self.pace = Pace()
        self._asker = asker
        self._begin = asker.asking(self.pace)

    def begin(self, ask: AgentRequest) -> Row:
        """Begin to ask."""
        error = self._not_asked()
        if error is None:
            try:
                return Row(*self._begin(ask))
            except AgentMagicError as raised:
                error = raised.with_traceback(None)
        return Row(unasked(self._asker, ask.prompt, ask.parameters, error), None)

    def note(self, result: AgentResult) -> None:
        """A row has ended: a key that is refused before any row was answered is not tried on the next."""
        if isinstance(result.error, AuthError) and self.pace.passed == 0:
            self.pace.refusal = result.error

    def _not_asked(self) -> AgentMagicError | None:
        if self.pace.refusal is None:
            return None
        error = copy.copy(self.pace.refusal)
        error.args = (f"Not sent, as an earlier row was refused: {error}",)
        return error


def unasked(asker: Asker, prompt: str, parameters: dict[str, Any], end: Ending | AgentMagicError) -> AgentResult:
    """The result of a row that is not sent."""
    return AgentResult.unasked(asker.name, asker.wire, prompt, parameters, end)


class Batch(ABC):
    """Rows that are asked by `asker`, as `ask` says; the subclasses know where."""

    def __init__(self, asker: Asker, ask: AgentRequest, prompts: Sequence[object], at_once: int) -> None:
        self._asker = asker
        self._ask = ask
        self._prompts = prompts
        self._at_once = at_once
        self._rows: list[AgentResult | None] = [None] * len(prompts)
        self._lock = Lock()
        self._over = Event()
        self._ending: Ending | None = None
        self._listeners: list[Callable[[], None]] = []
        self._counts = {"done": 0, "failed": 0, "stopped": 0, "interrupted": 0}
        self._sent = self._retries = 0
        self._tokens: int | None = None
        self._cost: float | None = None
        self._reason, self._reason_is_ours = "", False
        self._began = monotonic()
        self._last = 0.0
        self._elapsed: float | None = None
        self._places = list(self._checked())

    @abstractmethod
    def start(self) -> None:
        """Begin to ask."""

    @abstractmethod
    def stop(self, ending: Ending = "stopped") -> None:
        """End all rows and begin no other; from any thread, more than once."""

    @property
    def is_over(self) -> bool:
        """Whether every row has its result."""
        return self._over.is_set()

    def wait(self) -> bool:
        """Block until it is over."""
        return self._over.wait()

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake`, from any thread, when it is over; at once where it is already."""
        with self._lock:
            self._listeners.append(wake)
        if self.is_over:
            wake()

    def notify(self, news: asyncio.Event) -> None:
        """Set `news`, in the loop that runs now, when it is over."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop has gone
                loop.call_soon_threadsafe(news.set)

        self.listen(wake)

    def results(self) -> list[AgentResult]:
        """The rows in order; one that was not begun has ended as the rest has."""
        live, ending = self._live(), self._ending or "interrupted"
        return [row or live.get(place) or self._unasked(place, ending) for place, row in enumerate(self._rows)]

    def tally(self) -> Tally:
        """How far it is."""
        with self._lock:
            ended = sum(self._counts.values())
            elapsed = monotonic() - self._began if self._elapsed is None else self._elapsed
            live = self._live().values()
            told = [result.usage.total_tokens for result in live if result.usage.total_tokens is not None]
            return Tally(
                status=self._status(),
                total=len(self._rows),
                done=self._counts["done"],
                failed=self._counts["failed"],
                left=self._counts["stopped"] + self._counts["interrupted"],
                retries=self._retries + sum(result.retries for result in live),
                tokens=self._tokens if not told else (self._tokens or 0) + sum(told),
                cost=self._cost,
                elapsed=elapsed,
                remaining=self._remaining(elapsed, len(self._rows) - ended),
                held=self._held(),
                reason=self._reason,
            )

    def _live(self) -> dict[int, AgentResult]:
        """The rows that are being answered, by place, as far as that can be seen from here."""
        return {}

    def _held(self) -> float:
        return 0.0

    def _status(self) -> Literal["running", "done", "failed", "stopped", "interrupted"]:
        if not self.is_over:
            return "running"
        kinds: tuple[Literal["interrupted", "stopped", "failed"], ...] = ("interrupted", "stopped", "failed")
        return next((kind for kind in kinds if self._counts[kind]), "done")

    def _remaining(self, elapsed: float, rows: int) -> float | None:
        # The first rows all end together, as they began together: they say nothing of the rate before that.
        if self.is_over or self._sent < min(self._at_once, len(self._places)) or not self._sent:
            return None
        # As of the last row that ended: from then on it counts down.
        return max(0.0, self._last / self._sent * rows - (elapsed - self._last))

    def _put(self, place: int, result: AgentResult) -> None:
        """The row at `place` has ended."""
        result.settle()
        with self._lock:
            if self._rows[place] is not None:
                return
            self._rows[place] = result
            self._counts[result.status] = self._counts.get(result.status, 0) + 1
            if result.run_id:
                self._sent += 1
                self._last = monotonic() - self._began
            self._retries += result.retries
            if (tokens := result.usage.total_tokens) is not None:
                self._tokens = (self._tokens or 0) + tokens
            if (cost := result.cost) is not None:
                self._cost = (self._cost or 0.0) + cost
            if result.error is not None and (not self._reason or self._reason_is_ours):
                self._reason, self._reason_is_ours = str(result.error), isinstance(result.error, PromptError)

    def _unasked(self, place: int, end: Ending | AgentMagicError) -> AgentResult:
        return unasked(self._asker, self._prompt(place), self._ask.parameters, end)

    def _prompt(self, place: int) -> str:
        prompt = self._prompts[place]
        return str(prompt) if isinstance(prompt, str) else ""

    def _checked(self) -> Iterator[int]:
        """The places of the rows that can be asked; the others have failed."""
        for place, prompt in enumerate(self._prompts):
            error = check_prompt(prompt)
            if error is None:
                yield place
            else:
                self._put(place, self._unasked(place, error))

    def _finish(self) -> None:
        """Give the rows that were not begun their results, and say that it is over."""
        for place, row in enumerate(self._rows):
            if row is None:
                self._put(place, self._unasked(place, self._ending or "stopped"))
        with self._lock:
            if self.is_over:
                return
            self._elapsed = monotonic() - self._began
            self._over.set()
            listeners, self._listeners = self._listeners, []
        for wake in listeners:
            wake()


class LocalBatch(Batch):
    """Rows that are runs of this process."""

    def __init__(self, asker: Asker, ask: AgentRequest, prompts: Sequence[object], at_once: int) -> None:
        super().__init__(asker, ask, prompts, at_once)
        self._asking = Asking(asker)
        self._runs: dict[int, tuple[AgentResult, Run]] = {}

    def start(self) -> None:
        """Begin to ask, in the readers' loop."""
        _loop.begin(self._ask_all)

    def stop(self, ending: Ending = "stopped") -> None:
        """End the rows that are being answered with what has arrived of them, and begin no other."""
        with self._lock:
            if self._ending is None:
                self._ending = ending
            runs = [run for _, run in self._runs.values()]
        for run in runs:
            run.stop(self._ending)

    def _live(self) -> dict[int, AgentResult]:
        return {place: result for place, (result, _) in self._runs.items()}

    def _held(self) -> float:
        return self._asking.pace.held

    async def _ask_all(self) -> None:
        places = iter(self._places)
        try:
            async with anyio.create_task_group() as rows:
                for _ in range(min(self._at_once, len(self._places))):
                    rows.start_soon(self._ask_in_turn, places)
        finally:  # also when the loop is being shut down
            self._finish()

    async def _ask_in_turn(self, places: Iterator[int]) -> None:
        for place in places:
            if self._ending is not None:
                return
            try:
                await self._ask_row(place)
            except Exception as error:  # noqa: BLE001 (a defect of ours in one row must not end the others)
                said = f"agent_magic could not ask this row: {type(error).__name__}."
                self._put(place, self._unasked(place, ProtocolError(said)))

    async def _ask_row(self, place: int) -> None:
        result, run = self._asking.begin(msgspec.structs.replace(self._ask, prompt=self._prompt(place)))
        if run is not None:
            with self._lock:
                self._runs[place] = (result, run)
            if self._ending is not None:  # a stop came while the row began
                run.stop(self._ending)
            try:
                await _end_of(run)
            finally:
                with self._lock:
                    del self._runs[place]
            self._asking.note(result)
            if result.status == "stopped":  # by `%agent stop`, which means the map
                self.stop()
        self._put(place, result)


async def _end_of(run: Run) -> None:
    """Wait in the readers' loop until `run` has ended; what happens in between wakes nobody."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        if run.is_over:
            loop.call_soon_threadsafe(over.set)

    forget = run.listen(wake)
    try:
        await over.wait()
    finally:
        forget()
