"""Where a map is seen in a notebook: a bar while it runs, and one line of HTML at its end, in the bar's place.

The cell around a map is the person's: nothing of it is cleared. So the bar is one display with an id, and
the line takes its place by that id; the saved file holds no widget.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from uuid import uuid4

from agent_magic.views import _html
from agent_magic.views._bar import Bar
from agent_magic.views._base import AtTheEnd
from agent_magic.views._place import Here
from agent_magic.views._rows import RowsCaption

__all__ = ["HeadlessRows", "NotebookRows"]

HERE = Here()
BAR_SECONDS = 0.5
# A map that is over before that needs no bar.
FIRST_SECONDS = 0.15


class HeadlessRows(AtTheEnd):
    """For a request whose outputs nobody watches: the line at the end."""

    def __init__(self, caption: RowsCaption) -> None:
        self._caption = caption

    def close(self) -> None:
        """Display the line."""
        HERE.show(self._line())

    def _line(self) -> dict[str, str]:
        parts = self._caption.final()
        return {"text/html": _html.line(self._caption.tally.status, parts), "text/plain": " · ".join(parts)}


class NotebookRows(HeadlessRows):
    """The live view; without `stop` the bar has no Stop button."""

    def __init__(self, caption: RowsCaption, stop: Callable[[], None] | None) -> None:
        super().__init__(caption)
        self._name = uuid4().hex
        self._bar = Bar(caption, stop, HERE, name=self._name, style=_html.BAR_STYLE)
        self._bar_due = 0.0

    def open(self) -> None:
        """The bar comes a moment later, if it still has something to say."""
        self._bar_due = monotonic() + FIRST_SECONDS

    def show(self) -> float:
        """Say what has changed, at most twice a second."""
        now = monotonic()
        if now >= self._bar_due or self._bar.is_stale():
            self._bar.show()
            self._bar_due = now + BAR_SECONDS
        return max(0.005, (self._bar.view_due or self._bar_due) - now)

    def close(self) -> None:
        """Put the line into the bar's place."""
        if self._bar.is_seen:
            HERE.update(self._line(), self._name)
        else:
            super().close()
        self._bar.close()
