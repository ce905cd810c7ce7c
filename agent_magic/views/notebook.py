"""The notebook view: the answer in segments, a bar with a Stop button, and at the end two plain outputs.

The displays are made with the first text, or a moment after the start: those of the answer, below them those
of the steps on the way, and the bar behind them when the page has its scripts. So each has its place in the cell for
good, and while the answer runs displays are only updated. At the end everything is swapped in one frame:
``clear_output(wait=True)``, then the answer as Markdown, and the steps, the line and the sources as HTML. Neither
holds a widget, so the saved file shows the same everywhere, and the widgets' models are closed down to their styles.
"""

from __future__ import annotations

from time import monotonic
from uuid import uuid4

from agent_magic._run import Run
from agent_magic.views import _html
from agent_magic.views._bar import Bar
from agent_magic.views._base import AtTheEnd, Caption
from agent_magic.views._markdown import inert
from agent_magic.views._place import Here, Place, answer
from agent_magic.views._segments import COUNT, Budget, Segments
from agent_magic.views._steps import SLOTS, Slots

__all__ = ["FailureView", "HeadlessView", "NotebookView"]

HERE = Here()
BAR_SECONDS = 0.5
FURNISH_SECONDS = 0.15
# Between two looks at the steps; each goes before the answer's text, which would leave them no turn.
STEPS_SECONDS = 0.5


def show_note(said: str) -> None:
    """Say something that the answer will take the place of."""
    HERE.show({"text/html": _html.words([said]), "text/plain": said})


class HeadlessView(AtTheEnd):
    """For a request whose outputs nobody watches: nothing while the answer runs, the two outputs at its end."""

    def __init__(self, run: Run, caption: Caption, place: Place = HERE, *, images: bool) -> None:
        self._place = place
        self._transcript = run.transcript
        self._caption = caption
        self._images = images

    def close(self) -> None:
        """Display the answer and the line."""
        text = self._transcript.text
        if text:
            self._place.show(answer(text, images=self._images))
        self._place.show(_html.ending(self._transcript.status, self._caption))


class FailureView(HeadlessView):
    """For a run that is to be quiet: the line, if it fails."""

    def close(self) -> None:
        """Say what went wrong, if anything did."""
        if self._transcript.status == "failed":
            self._place.show(_html.ending(self._transcript.status, self._caption))


class NotebookView(HeadlessView):
    """The live view. `button` False draws no Stop button: where the cell blocks, no click could arrive.

    Where the cell will have ended, all displays are made before: none is to come later than those of the next cell.
    """

    def __init__(self, run: Run, caption: Caption, place: Place = HERE, *, images: bool, button: bool) -> None:
        super().__init__(run, caption, place, images=images)
        self._names = [uuid4().hex for _ in range(COUNT)]
        self._segments = Segments()
        self._step_names = [uuid4().hex for _ in range(SLOTS)]
        self._slots = Slots()
        self._steps_due = 0.0
        self._budget = Budget()
        self._bar = Bar(caption, run.stop if button else None, place, name=uuid4().hex, holds=True)
        self._bar_due = 0.0
        self._painted = ""
        self._is_furnished = False
        self._furnish_at = 0.0

    def open(self) -> None:
        """Make the anchor and the first display; the others and the bar follow the first text, or after a moment.

        To make them takes some tens of milliseconds, and text that is there should not wait for that.
        """
        self._furnish_at = monotonic() + FURNISH_SECONDS
        self._place.show({"text/html": _html.ANCHOR})
        self._make(self._names[:1])
        if self._place.outlives_cell:
            self._furnish()

    def show(self) -> float:
        """Paint what has changed, as far as the budget of bytes allows."""
        now = monotonic()
        if self._is_furnished and self._budget.wait(now) <= 0 and now >= self._steps_due:
            self._paint_steps(now)
        if self._budget.wait(now) <= 0 and (text := self._transcript.text) != self._painted:
            self._budget.spend(now, self._paint(text))
        if not self._is_furnished:
            if not self._painted and now < self._furnish_at:
                return self._furnish_at - now
            self._furnish()
        if now >= self._bar_due or self._bar.is_stale():
            self._bar.show()
            self._bar_due = now + BAR_SECONDS
        due = [(self._bar.view_due or self._bar_due) - now]
        if self._budget.wait(now) > 0:
            due.append(self._budget.wait(now))
        return max(0.005, min(due))

    def close(self) -> None:
        """Swap everything for the two final outputs, in one frame, and leave no model behind."""
        self._place.clear()
        super().close()
        self._bar.close()

    def _furnish(self) -> None:
        self._make([*self._names[1:], *self._step_names])
        self._is_furnished = True

    def _make(self, names: list[str]) -> None:
        for name in names:
            self._place.show({"text/markdown": ""}, name)

    def _paint(self, text: str) -> int:
        size = 0
        for place, segment in self._segments.update(text):
            if place and not self._is_furnished:
                self._furnish()
            shown = inert(segment, images=self._images)
            self._place.update({"text/markdown": shown}, self._names[place])
            size += len(shown.encode("utf-8", "replace"))
        self._painted = text
        return size

    def _paint_steps(self, now: float) -> None:
        self._steps_due = now + STEPS_SECONDS
        size = 0
        for place, html in self._slots.update(self._caption.steps()):
            self._place.update({"text/html": html}, self._step_names[place])
            size += len(html)
        if size:
            self._budget.spend(now, size)
