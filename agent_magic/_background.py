"""Runs that go on when their cell has ended: which cell has which, and what is shown of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from agent_magic._run import Run
    from agent_magic.views._base import View
    from agent_magic.views._beside import Placeholder

__all__ = ["Background"]


class Background:
    """The background runs of a shell; `install` and `remove` are each other's reverse."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._runs: dict[str, Run] = {}
        self._placeholders: list[Placeholder] = []

    def install(self) -> None:
        """Begin to look at the ends of cells."""
        self._shell.events.register("post_run_cell", self._settle)

    def remove(self) -> None:
        """Look no longer."""
        self._shell.events.unregister("post_run_cell", self._settle)

    def stop_former(self, cell: str | None) -> None:
        """A cell has one run: before the next one, stop the one that still goes on."""
        former = self._runs.pop(cell, None) if cell is not None else None
        if former is not None:
            former.stop()

    def go_on(self, run: Run, view: View | Placeholder | None, cell: str | None) -> None:
        """Have `run`, of `cell`, go on when that has ended, shown by `view`."""
        from agent_magic.views._beside import Placeholder, paint_beside

        self._runs = {name: other for name, other in self._runs.items() if not other.is_over}
        if cell is not None:
            self._runs[cell] = run
        if view is None:
            return
        view.open()
        if isinstance(view, Placeholder):
            self._placeholders.append(view)
        else:
            paint_beside(run, view)

    def _settle(self, _result: object = None) -> None:
        """At a cell's end: put the answers that are there into the cells whose executor hears nothing else."""
        self._placeholders = [one for one in self._placeholders if not one.settle()]
