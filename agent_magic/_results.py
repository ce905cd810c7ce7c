"""What a map gives back: the results in order, each an ordinary one."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Protocol, overload

from agent_magic._column import Column
from agent_magic._listing import html_table, one_line
from agent_magic._result import AgentResult
from agent_magic.errors import ConfigError

if TYPE_CHECKING:
    import pandas
    import polars

__all__ = ["Again", "Results"]

SHOWN_ROWS = 20
SHOWN_CHARACTERS = 120
COLUMNS = ("", "prompt", "status", "text or error")


class Again(Protocol):
    """What asks rows again: as they were asked, of the same agent."""

    def retry(self, results: Results) -> Results:
        """`results` with those that are not done asked again."""

    def aretry(self, results: Results) -> Coroutine[Any, Any, Results]:
        """The same, to be awaited."""


class Results(Sequence[AgentResult]):
    """The results of a map, in the order of its prompts; a slice of them is a `Results`, too. It pickles."""

    def __init__(self, rows: Sequence[AgentResult], column: Column, again: Again | None) -> None:
        self._rows = list(rows)
        self.column = column
        self._again = again

    def __getstate__(self) -> dict[str, Any]:
        """What was answered always pickles; an agent that holds a secret stays behind."""
        try:
            pickle.dumps(self._again)
        except ConfigError:
            return {**self.__dict__, "_again": None}
        return self.__dict__

    @overload
    def __getitem__(self, place: int) -> AgentResult: ...
    @overload
    def __getitem__(self, place: slice) -> Results: ...
    def __getitem__(self, place: int | slice) -> AgentResult | Results:
        if not isinstance(place, slice):
            return self._rows[place]
        return Results(self._rows[place], self.column.part(place), self._again)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[AgentResult]:
        return iter(self._rows)

    @property
    def failed(self) -> list[AgentResult]:
        """Those that failed, in order."""
        return [result for result in self if result.status == "failed"]

    def retry(self) -> Results:
        """All of the results, with those that are not done asked again: the failed, the stopped, the interrupted.

        They are asked as they were, and block as `Agent.map` does. These results stay as they are.
        """
        return self._asker().retry(self)

    def aretry(self) -> Coroutine[Any, Any, Results]:
        """`retry`, to be awaited, as `Agent.amap` is."""
        return self._asker().aretry(self)

    def _asker(self) -> Again:
        if self._again is None:
            raise ConfigError("These results were pickled without their agent, which holds a secret; ask with map().")
        return self._again

    def to_frame(self) -> pandas.DataFrame | polars.DataFrame:
        """A row for each result: a pandas frame, with the index of the column that came in; of polars a polars frame.

        Raises `ConfigError` without the library.
        """
        if self.column.kind == "polars":
            import polars

            return polars.DataFrame(self._columns(), schema_overrides=_polars_types())
        try:
            import pandas
        except ImportError:
            raise ConfigError("to_frame() makes a pandas frame: pip install pandas.") from None
        frame = pandas.DataFrame(self._columns(), index=self.column.index)
        return frame.astype(_PANDAS)

    def _columns(self) -> dict[str, list[Any]]:
        return {
            "prompt": [value if isinstance(value, str) else None for value in self.column.prompts],
            "text": [result.text for result in self],
            "status": [result.status for result in self],
            "error": [None if result.error is None else str(result.error) for result in self],
            "input_tokens": [result.usage.input_tokens for result in self],
            "output_tokens": [result.usage.output_tokens for result in self],
            "total_tokens": [result.usage.total_tokens for result in self],
            "cost": [result.cost for result in self],
            "elapsed": [result.elapsed for result in self],
            "retries": [result.retries for result in self],
            "session_id": [result.session_id for result in self],
            "run_id": [result.run_id for result in self],
        }

    def _summary(self) -> str:
        counts = Counter(result.status for result in self)
        told = ", ".join(f"{number:,} {status}" for status, number in sorted(counts.items())) or "none"
        return f"{len(self):,} results: {told}"

    def __repr__(self) -> str:
        return f"<Results {self._summary()}>"

    def _repr_html_(self) -> str:
        rows = (
            (str(place), _short(result.prompt), result.status, _short(str(result.error or result.text)))
            for place, result in enumerate(self._rows[:SHOWN_ROWS])
        )
        more = len(self) - SHOWN_ROWS
        rest = f"<p>and {more:,} more; to_frame() has them all</p>" if more > 0 else ""
        return f"<p>{escape(self._summary())}</p>{html_table(COLUMNS, rows)}{rest}"


_TEXTS = ("prompt", "text", "status", "error", "session_id", "run_id")
_NUMBERS = ("input_tokens", "output_tokens", "total_tokens", "retries")
_PANDAS = {**dict.fromkeys(_NUMBERS, "Int64"), "cost": "float64", "elapsed": "float64"}


def _polars_types() -> dict[str, Any]:
    import polars

    texts = dict.fromkeys(_TEXTS, polars.String)
    numbers = dict.fromkeys(_NUMBERS, polars.Int64)
    return {**texts, **numbers, "cost": polars.Float64, "elapsed": polars.Float64}


def _short(text: str) -> str:
    return one_line(text[: 2 * SHOWN_CHARACTERS], SHOWN_CHARACTERS)  # of a long answer, the beginning is enough to read
