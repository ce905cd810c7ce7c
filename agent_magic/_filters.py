"""What a template can do with a value, beside Jinja2's own filters: ``{{ df | head(20) | csv }}``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from agent_magic._values import Table, cell_value, is_series, simple, table_of

__all__ = ["FILTERS"]


def head(value: Any, n: int = 10) -> Any:
    """The first rows of a table, items of a collection, lines of a text."""
    return _some(value, n, lambda each: each[:n], "head")


def tail(value: Any, n: int = 10) -> Any:
    """The last rows, items or lines."""
    return _some(value, n, lambda each: each[max(0, len(each) - n) :], "tail")


def _some(value: Any, number: int, part: Callable[[Any], Any], method: str) -> Any:
    if not isinstance(number, int) or number < 0:
        raise ValueError(f"{method} takes a whole number from 0 up, not {number!r}")
    if isinstance(value, str):
        return "\n".join(part(value.splitlines()))
    if table_of(value) is not None:
        return getattr(value, method)(number)
    if isinstance(value, Mapping):
        return dict(part(list(value.items())))
    if isinstance(value, AbstractSet):
        return part(list(value))
    return part(value)


def as_csv(value: Any) -> str:
    """A table, or a list of rows or records, as CSV with a header (RFC 4180, but for line ends of one character)."""
    table = table_of(value)
    if table is None:
        if isinstance(value, Mapping | str):
            raise ValueError(f"csv takes a table or a list of rows, not a {type(value).__name__}")
        table = _of_rows(list(value))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    if table.columns:
        writer.writerow(table.columns)
    writer.writerows([cell_value(cell) for cell in row] for row in table.rows)
    return file.getvalue()


def _of_rows(rows: list[Any]) -> Table:
    if rows and all(isinstance(row, Mapping) for row in rows):
        columns = list(dict.fromkeys(str(name) for row in rows for name in row))
        return Table(columns, [[row.get(name) for name in columns] for row in rows], len(rows))
    return Table([], [row if _is_row(row) else [row] for row in rows], len(rows))


def _is_row(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def as_json(value: Any, indent: int | None = None) -> str:
    """JSON; a table is a list of records."""
    return json.dumps(simple(value), ensure_ascii=False, indent=indent)


def schema(value: Any) -> str:
    """A table's columns with their types, one a line."""
    if table_of(value) is None:
        raise ValueError("schema takes a table")
    frame = value.to_frame() if is_series(value) else value
    return "\n".join(f"{name}: {kind}" for name, kind in zip(frame.columns, map(str, frame.dtypes), strict=True))


def code(value: Any, language: str = "") -> str:
    """A text as a fenced block of code; the fence is longer than any in the text."""
    said = str(value)
    fence = "```"
    while fence in said:
        fence += "`"
    return f"{fence}{language}\n{said.rstrip()}\n{fence}"


FILTERS: dict[str, Callable[..., Any]] = {
    "code": code,
    "csv": as_csv,
    "head": head,
    "json": as_json,
    "schema": schema,
    "tail": tail,
}
