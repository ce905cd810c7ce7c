"""What was used: runs, tokens, seconds, cost, by agent; of this kernel, and of the journal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from agent_magic._history import Past
from agent_magic._journal import journal_folder, tapes
from agent_magic._listing import html_table, text_table
from agent_magic._policy import Price
from agent_magic._run import Spent, spent
from agent_magic._writer import flush_tapes
from agent_magic.errors import ConfigError

if TYPE_CHECKING:
    import pandas

__all__ = ["Tally", "tally"]

COLUMNS = ("of", "agent", "runs", "failed", "input_tokens", "output_tokens", "total_tokens", "seconds", "cost")


class _Row(Struct):
    runs: int = 0
    failed: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    seconds: float = 0.0
    cost: float | None = None

    def add(self, run: Spent) -> None:
        """Count one more run; a figure that no server told stays None."""
        usage = run.usage
        both = _sum(usage.input_tokens, usage.output_tokens)
        self.runs += 1
        self.failed += run.status == "failed"
        self.input_tokens = _sum(self.input_tokens, usage.input_tokens)
        self.output_tokens = _sum(self.output_tokens, usage.output_tokens)
        self.total_tokens = _sum(self.total_tokens, both if usage.total_tokens is None else usage.total_tokens)
        self.seconds = round(self.seconds + run.seconds, 3)
        cost = None if run.price is None else run.price.of(usage)
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost


def _sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else other + (one or 0)


class Tally:
    """The sums where there is no pandas: `rows` holds what stands under `COLUMNS`."""

    def __init__(self, rows: list[tuple[object, ...]]) -> None:
        self.rows = rows

    def __repr__(self) -> str:
        return text_table(COLUMNS, self._cells())

    def _repr_html_(self) -> str:
        return html_table(COLUMNS, self._cells())

    def _cells(self) -> Iterable[tuple[str, ...]]:
        return (tuple("" if cell is None else f"{cell}" for cell in row) for row in self.rows)


def tally() -> pandas.DataFrame | Tally:
    """The sums as a DataFrame, ``of`` being "kernel" or "history"; a `Tally` where pandas is not installed.

    Tokens and seconds are sums; `cost` is by each run's own `price`, and missing where none had one.
    """
    sums = {("kernel", agent): row for agent, row in _sums(spent()).items()}
    sums |= {("history", agent): row for agent, row in _sums(_written_down()).items()}
    rows = [(*place, *msgspec.structs.astuple(row)) for place, row in sums.items()]
    try:
        import pandas
    except ImportError:
        return Tally(rows)
    frame = pandas.DataFrame(rows, columns=list(COLUMNS))
    counted = [name for name in ("input_tokens", "output_tokens", "total_tokens") if _fits(frame[name])]
    return frame.astype({"cost": float, **dict.fromkeys(counted, "Int64")})


def _fits(figures: Iterable[object]) -> bool:
    """Whether each is a number of 64 bits, or none: a server may tell anything."""
    return all(not isinstance(figure, int) or abs(figure) < 2**63 for figure in figures)


def _sums(runs: Iterable[Spent]) -> dict[str, _Row]:
    sums: dict[str, _Row] = {}
    for run in runs:
        sums.setdefault(run.agent, _Row()).add(run)
    return dict(sorted(sums.items()))


def _written_down() -> Iterable[Spent]:
    flush_tapes()
    for path in tapes(journal_folder()):
        try:
            past = Past(path)
        except ConfigError:  # no tape, or of another version
            continue
        if past.outcome is not None:
            try:
                price = msgspec.convert(past.header.policy.get("price"), Price | None)
            except msgspec.ValidationError:  # of another version
                price = None
            yield Spent(past.header.agent, past.outcome.status, past.outcome.usage(), past.outcome.at, price)
