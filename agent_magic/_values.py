"""A value as a model reads it: a table in Markdown, a collection in JSON, all else as text.

What is longer than a budget is cut where a row or an item ends, and the cut is said in the text itself. The
libraries whose tables these are (pandas, polars, NumPy) are known by what their objects can do, and never imported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol, runtime_checkable

import msgspec
from msgspec import Struct

__all__ = ["Shown", "Table", "cell_value", "is_series", "shown", "simple", "table_of"]


class Shown(Struct, frozen=True):
    """A value's text, what the value was, and what of it was left out ("20 of 1,000 rows"), if anything was."""

    text: str
    what: str
    cut: str = ""


@runtime_checkable
class Answering(Protocol):
    """An answer, which may not be whole: then `lack` says why."""

    text: str

    @property
    def lack(self) -> str: ...


class Table(Struct, frozen=True):
    """The rows of a frame, whosever it is."""

    columns: list[str]
    rows: Iterable[Sequence[Any]]
    length: int


def shown(value: Any, budget: int) -> Shown:
    """`value` in at most `budget` characters, a little more where a cut is said."""
    if isinstance(value, str):
        return _text(value, f"text of length {len(value):,}", budget)
    if isinstance(value, Answering):
        return _answer(value, budget)
    if (table := table_of(value)) is not None:
        return _markdown(table, budget)
    if callable(value):
        raise TypeError(f"{getattr(value, '__name__', 'it')} is a function, and not what it returns; call it with ()")
    if _is_array(value):
        what = f"array of shape {tuple(value.shape)}, {value.dtype}"
        return _collected(value, len(value), "[]", what, budget)
    if isinstance(value, Mapping) or _has_fields(value):
        fields = value if isinstance(value, Mapping) else simple(value)
        entries = (f"{_json(str(name))}: {_json(each)}" for name, each in fields.items())
        return _bracketed(entries, len(fields), "{}", f"{type(value).__name__} of length {len(fields):,}", budget)
    if isinstance(value, Sequence | AbstractSet) and not isinstance(value, bytes | bytearray | memoryview):
        return _collected(value, len(value), "[]", f"{type(value).__name__} of length {len(value):,}", budget)
    said = str(value)
    return _text(said, type(value).__name__, budget)


def _answer(value: Answering, budget: int) -> Shown:
    said = _text(value.text, f"answer of length {len(value.text):,}", budget)
    if not value.lack:
        return said
    return Shown(f"{said.text}\n… ({value.lack})", said.what, ", ".join(filter(None, [said.cut, value.lack])))


def _text(said: str, what: str, budget: int) -> Shown:
    if len(said) <= budget:
        return Shown(said, what)
    cut = f"{budget:,} of {len(said):,} characters"
    return Shown(f"{said[:budget]}\n… ({cut})", what, cut)


def _markdown(table: Table, budget: int) -> Shown:
    """Whole rows; of a table whose very head would be too long, its first columns."""
    what = f"table of shape ({table.length}, {len(table.columns)})"
    width = len(_fitting(map(_cell, table.columns), budget // 8)) if table.columns else 0
    head = [_row(table.columns[:width]), _row(["---"] * width)]
    kept = _fitting((_row(row[:width]) for row in table.rows), budget - sum(map(len, head)))
    said = "\n".join([*head, *kept])
    if width == len(table.columns):
        return _cut(said, len(kept), table.length, "rows", what)
    cut = f"{width:,} of {len(table.columns):,} columns, {len(kept):,} of {table.length:,} rows"
    return Shown(f"{said}\n… ({cut})", what, cut)


def _collected(items: Iterable[Any], length: int, brackets: str, what: str, budget: int) -> Shown:
    return _bracketed(map(_json, items), length, brackets, what, budget)


def _bracketed(items: Iterable[str], length: int, brackets: str, what: str, budget: int) -> Shown:
    kept = _fitting(items, budget)
    return _cut(f"{brackets[0]}{', '.join(kept)}{brackets[1]}", len(kept), length, "items", what)


def _cut(said: str, kept: int, length: int, noun: str, what: str) -> Shown:
    if kept >= length:
        return Shown(said, what)
    cut = f"{kept:,} of {length:,} {noun}"
    return Shown(f"{said}\n… ({cut})", what, cut)


def _fitting(rows: Iterable[str], budget: int) -> list[str]:
    """As many whole rows as fit; of a first one that does not, what does."""
    kept: list[str] = []
    for row in rows:
        budget -= len(row) + 2
        if budget < 0:
            return kept or [f"{row[:budget]}…"]
        kept.append(row)
    return kept


def _row(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)) or str(value) in {"NaT", "<NA>"}:
        return ""
    # Twelve digits: what a person wrote, without what binary fractions add to it.
    said = f"{value:.12g}" if isinstance(value, float) else str(value)
    return " ".join(said.split()).replace("|", "\\|")


def simple(value: Any) -> Any:
    """`value` made of what JSON is made of: a table as its records, a NumPy scalar as Python's, the rest as text."""
    table = None if isinstance(value, str) else table_of(value)
    if table is not None:
        value = [dict(zip(table.columns, map(cell_value, row), strict=True)) for row in table.rows]
    return _without_nan(msgspec.to_builtins(value, enc_hook=_foreign, str_keys=True))


def _without_nan(value: Any) -> Any:
    """JSON has no word for it; a table says null, too."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {name: _without_nan(each) for name, each in value.items()}
        case list() | tuple():
            return [_without_nan(each) for each in value]
        case _:
            return value


def _foreign(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value) if table_of(value) is None else simple(value)


def _json(value: Any) -> str:
    return json.dumps(simple(value), ensure_ascii=False)


def _is_array(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("tolist", "shape", "dtype")) and len(value.shape) > 0


def _has_fields(value: Any) -> bool:
    return not isinstance(value, type) and (hasattr(value, "__dataclass_fields__") or isinstance(value, Struct))


def is_series(value: Any) -> bool:
    """Whether `value` is one column of pandas or polars; an index of pandas is an array."""
    return hasattr(value, "to_frame") and (hasattr(value, "iloc") or hasattr(value, "alias"))


def table_of(value: Any) -> Table | None:
    """`value` as a table, where it is a frame or a series of pandas or polars."""
    if isinstance(value, type):
        return None
    if is_series(value):
        name = value.name if value.name not in {None, ""} else "value"
        return table_of(value.alias(str(name)).to_frame() if hasattr(value, "alias") else value.to_frame(name=name))
    if hasattr(value, "itertuples") and hasattr(value, "columns"):
        return _pandas(value)
    if hasattr(value, "iter_rows") and hasattr(value, "columns"):
        return Table(list(map(str, value.columns)), value.iter_rows(), value.height)
    return None


def _pandas(frame: Any) -> Table:
    # An index that only counts the rows says nothing.
    counts = type(frame.index).__name__ == "RangeIndex" and frame.index.name is None
    columns = [" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in frame.columns]
    if counts:
        return Table(columns, frame.itertuples(index=False, name=None), len(frame))
    names = [str(name) if name is not None else "" for name in frame.index.names]
    return Table([*names, *columns], map(_indexed, frame.itertuples(name=None)), len(frame))


def _indexed(row: tuple[Any, ...]) -> tuple[Any, ...]:
    index, *cells = row
    return (*(index if isinstance(index, tuple) else (index,)), *cells)


def cell_value(cell: Any) -> Any:
    """None for every way in which a cell may be empty."""
    return None if _cell(cell) == "" and not isinstance(cell, str) else cell
