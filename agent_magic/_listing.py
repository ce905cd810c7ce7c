"""Rows under columns, as text and as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from agent_magic.errors import visible

__all__ = ["html_table", "one_line", "text_table"]

LEFT = "text-align: left"


def one_line(text: str, most: int) -> str:
    """`text` on one line, of at most so many characters."""
    said = " ".join(text.split())
    return said if len(said) <= most else f"{said[: most - 1]}…"


def text_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A line for each row, the columns aligned; control characters are shown and not obeyed."""
    lines = [[visible(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns) - 1)]
    return "\n".join("  ".join([*map(str.ljust, line[:-1], widths), line[-1]]).rstrip() for line in lines)


def html_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same as a table, each cell escaped."""
    head = "".join(f"<th style='{LEFT}'>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(said: str) -> str:
    return f"<td style='{LEFT}'>{escape(visible(said))}</td>"
