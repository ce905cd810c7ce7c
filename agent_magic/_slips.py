"""Slips: what people type that IPython takes for something else, put right before it does.

- A comment above ``%%agent`` would make the cell a piece of Python; it is left out.
- A ``%%agent`` line with nothing below it would be refused by IPython before anybody could say more.
- ``%agent why?`` would be a question for the documentation of ``why``; it becomes a call like any other.

Nothing else is touched: a cell that begins with a comment and then ``%%agent``, one that has no body, and one
that is a single ``%agent …?`` have no other meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

__all__ = ["Slips", "uncommented"]

CELL = re.compile(r"[ \t]*%%agent(\s|$)")
QUESTION = re.compile(r"[ \t]*%agent[ \t]+(.*\?)\s*")


def uncommented(lines: list[str]) -> list[str]:
    """`lines` of a cell without the comments and the blank lines above its ``%%agent``."""
    for place, line in enumerate(lines):
        if line.strip() and not line.lstrip().startswith("#"):
            return lines[place:] if CELL.match(line) else lines
    return lines


def _asked(lines: list[str]) -> list[str]:
    """A cell that is ``%agent …?`` and no more, as the call that it would be without the question mark."""
    asked = QUESTION.fullmatch("".join(lines).strip("\n"))
    return lines if asked is None else [f"get_ipython().run_line_magic('agent', {asked[1]!r})\n"]


def _embodied(lines: list[str]) -> list[str]:
    """A ``%%agent`` line alone, with a blank line below it."""
    alone = len(lines) == 1 and CELL.match(lines[0])
    return [f"{lines[0].rstrip()}\n", "\n"] if alone else lines


# By this mark IPython leaves it out when it asks whether a cell is complete: one without a body is not.
_embodied.has_side_effects = True  # type: ignore[attr-defined]
TRANSFORMERS: tuple[Callable[[list[str]], list[str]], ...] = (uncommented, _asked, _embodied)


class Slips:
    """Puts slips right in a shell; `install` and `remove` are each other's reverse."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def install(self) -> None:
        """Begin to put right, before IPython's own transformers."""
        self._shell.input_transformers_cleanup[:0] = TRANSFORMERS

    def remove(self) -> None:
        """Leave the shell as it was."""
        for transformer in TRANSFORMERS:
            self._shell.input_transformers_cleanup.remove(transformer)
