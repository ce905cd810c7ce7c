"""Runs that go on when their cell has ended: which cell has which, and what is shown of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from agent_magic._run import Run
    from agent_magic.views._base import View
    from agent_magic.views._beside import Ending, Placeholder

__all__ = ["Background"]

# To stop closes a socket; a disk may take a moment to have the last of it.
STOP_SECONDS = 5.0


class Background:
    """The background runs of a shell; `install` and `remove` are each other's reverse."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._runs: dict[str, Run] = {}
        self._waiting: list[Placeholder | Ending] = []

    def install(self) -> None:
        """Begin to look at the ends of cells."""
        self._shell.events.register("post_run_cell", self._settle)

    def remove(self) -> None:
        """Look no longer."""
        self._shell.events.unregister("post_run_cell", self._settle)

    def stop_former(self, cell: str | None) -> bool:
        """A cell has one run: before the next one, end the one that still goes on. Whether one did."""
        former = self._runs.pop(cell, None) if cell is not None else None
        if former is None or former.is_over:
            return False
        former.stop()
        former.wait(STOP_SECONDS)
        return True

    def go_on(self, run: Run, view: View | Placeholder | Ending | None, cell: str | None) -> None:
        """Have `run`, of `cell`, go on when that has ended, shown by `view`."""
        from agent_magic.views._beside import Ending, Placeholder, paint_beside

        if cell is not None:
            self._runs[cell] = run
        if view is None:
            return
        view.open()
        if isinstance(view, Placeholder | Ending):
            self._waiting.append(view)
        else:
            paint_beside(run, view)

    def _settle(self, _result: object = None) -> None:
        """At a cell's end: say of the runs that have ended what could not be said before; and let go of them."""
        self._waiting = [one for one in self._waiting if not one.settle()]
        self._runs = {cell: run for cell, run in self._runs.items() if not run.is_over}
