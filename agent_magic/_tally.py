"""How far a map is, in figures: a plain value, made anew each time that it is looked at."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["Tally"]


class Tally(Struct, frozen=True):
    """`total` rows, of which `done`, `failed` and `left` (stopped or interrupted, some of them never sent) have ended.

    `tokens` and `cost` are None while nobody has told any. `remaining` is in seconds, None while it cannot be said;
    `held` are the seconds for which a server has asked all rows to wait. `reason` is why one of the failed rows failed.
    """

    status: Literal["running", "done", "failed", "stopped", "interrupted"]
    total: int
    done: int = 0
    failed: int = 0
    left: int = 0
    retries: int = 0
    tokens: int | None = None
    cost: float | None = None
    elapsed: float = 0.0
    remaining: float | None = None
    held: float = 0.0
    reason: str = ""

    @property
    def ended(self) -> int:
        """The rows that have ended, in whatever way."""
        return self.done + self.failed + self.left

    @property
    def fraction(self) -> float:
        """How much of the rows has ended."""
        return self.ended / self.total if self.total else 1.0
