"""Where a map is seen outside a notebook: one line at its end, and in a terminal a bar until then. All on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from agent_magic.views._base import AtTheEnd, View, visible
from agent_magic.views._rows import RowsCaption

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["PlainRows", "TerminalRows", "console_rows"]


class PlainRows(AtTheEnd):
    """Nothing until the end, then the line. A log is no place for a bar."""

    def __init__(self, caption: RowsCaption) -> None:
        self._caption = caption

    def close(self) -> None:
        """Say how it ended."""
        sys.stderr.write(f"{visible(' · '.join(self._caption.final()))}\n")


class TerminalRows:
    """A bar by rich, which goes at the end, when the line comes."""

    def __init__(self, caption: RowsCaption, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self._caption = caption
        self._progress = Progress(
            SpinnerColumn("dots"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}", style="dim", markup=False),
            console=console or Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._task = self._progress.add_task("", total=1.0)

    def open(self) -> None:
        """Begin the live region."""
        self._progress.start()
        self.show()

    def show(self) -> float:
        """Draw the bar anew."""
        said = visible(" · ".join(self._caption.live()))
        self._progress.update(self._task, completed=self._caption.fraction, description=said)
        self._progress.refresh()
        return 0.125

    def close(self) -> None:
        """Take the bar away and print the line."""
        from rich.text import Text

        self._progress.stop()
        self._progress.console.print(Text(visible(" · ".join(self._caption.final())), style="dim"))


def console_rows(caption: RowsCaption) -> View:
    """The view for a terminal, a pipe or a log."""
    if sys.stderr.isatty():
        try:
            return TerminalRows(caption)
        except ImportError:  # rich is not installed
            pass
    return PlainRows(caption)
