"""The words of a map: while it runs, and in one line at its end."""

from __future__ import annotations

from collections.abc import Callable

from agent_magic._listing import one_line
from agent_magic._tally import Tally

__all__ = ["RowsCaption"]

REASON_CHARACTERS = 160


class RowsCaption:
    """What is said of the rows that `agent` is asked; `tally` gives the figures of the moment."""

    def __init__(self, agent: str, tally: Callable[[], Tally]) -> None:
        self.agent = agent
        self._tally = tally

    @property
    def tally(self) -> Tally:
        """The figures of now."""
        return self._tally()

    @property
    def fraction(self) -> float:
        """How much of the rows has ended."""
        return self.tally.fraction

    @property
    def state(self) -> str:
        """What goes on, in words that change only when it does."""
        tally = self.tally
        held = "all rows wait, as the server asks" if tally.held else f"asking {_rows(tally.total)}"
        failed = ", some have failed" if tally.failed else ""
        return f"{self.agent}: {held}{failed}"

    def live(self) -> list[str]:
        """How many have ended, and the figures so far."""
        tally = self.tally
        parts = [self.agent, f"{tally.ended:,} of {_rows(tally.total)}", *_counts(tally), *_usage(tally)]
        if tally.held:
            parts.append(f"all wait {tally.held:.0f} s, as the server asks")
        if tally.remaining is not None:
            parts.append(f"{_duration(tally.remaining)} left")
        return parts

    def final(self) -> list[str]:
        """The agent, the outcome, the figures, and why a row failed."""
        tally = self.tally
        done = (
            f"{_rows(tally.total)} done" if tally.status == "done" else f"{tally.done:,} of {_rows(tally.total)} done"
        )
        stopped = tally.status if tally.status in {"stopped", "interrupted"} else ""
        outcome = f"{stopped}, {done}" if stopped else done
        parts = [self.agent, outcome, *_counts(tally), *_usage(tally), _duration(tally.elapsed)]
        if tally.reason:
            parts.append(f"such as: {one_line(tally.reason, REASON_CHARACTERS)}")
        return parts


def _counts(tally: Tally) -> list[str]:
    parts = [f"{tally.failed:,} failed"] if tally.failed else []
    if tally.retries:
        parts.append(f"{tally.retries:,} {'retry' if tally.retries == 1 else 'retries'}")
    return parts


def _usage(tally: Tally) -> list[str]:
    parts = [] if tally.tokens is None else [f"{tally.tokens:,} tokens"]
    if tally.cost is not None:
        parts.append(f"cost {tally.cost:,.4g}")
    return parts


def _rows(number: int) -> str:
    return f"{number:,} row{'s' * (number != 1)}"


def _duration(seconds: float) -> str:
    """Seconds up to a minute, then minutes, then hours."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
