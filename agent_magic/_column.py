"""What comes into a map: any iterable of prompts; a column of pandas or polars is known by its looks.

Neither library is imported for that, nor needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct

from agent_magic.errors import PromptError

__all__ = ["Column", "check_prompt"]

SHOWN = 60


class Column(Struct, frozen=True):
    """The prompts in order, whatever they are; the index that they had, and the kind of frame that they came from."""

    prompts: list[Any]
    index: Any = None
    kind: Literal["pandas", "polars"] | None = None

    @classmethod
    def of(cls, prompts: Iterable[Any]) -> Column:
        """`prompts`, read to their end. Raises `PromptError` where they are not many prompts."""
        library = type(prompts).__module__.partition(".")[0]
        name = type(prompts).__name__
        if isinstance(prompts, str | bytes | Mapping) or name in {"DataFrame", "LazyFrame"}:
            hint = "ask() takes one" if isinstance(prompts, str | bytes) else "give it one column or list of them"
            raise PromptError(f"map takes many prompts, not a {name}; {hint}.")
        if not isinstance(prompts, Iterable):
            raise PromptError(f"map takes a list, a column or another iterable of prompts, not a {name}.")
        if library == "pandas" and name == "Series":
            return cls(list(prompts), prompts.index, "pandas")  # type: ignore[attr-defined]
        return cls(list(prompts), None, "polars" if library == "polars" else None)

    def part(self, place: slice) -> Column:
        """The prompts at `place`, with their index."""
        return Column(self.prompts[place], None if self.index is None else self.index[place], self.kind)


def check_prompt(value: object) -> PromptError | None:
    """Why `value` cannot be asked, if it cannot."""
    if isinstance(value, str):
        return None if value.strip() else PromptError("The prompt is blank; it was not sent.")
    said = repr(value)
    said = said if len(said) <= SHOWN else f"{said[: SHOWN - 1]}…"
    return PromptError(f"A prompt is a string, and {said} is none; it was not sent.")
