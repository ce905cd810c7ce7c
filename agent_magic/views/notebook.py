"""The notebook view: the answer in segments, a bar with a Stop button, and at the end two plain outputs.

The displays and the bar are made before anything arrives, so each has its place in the cell for good.
While the answer runs only displays are updated. At the end everything is swapped in one frame:
``clear_output(wait=True)``, then the answer as Markdown and the line as HTML. Neither holds a widget,
so the saved file shows the same everywhere, and the widgets' models are closed down to their styles.
"""

from __future__ import annotations

from html import escape
from time import monotonic
from typing import Any
from uuid import uuid4

from IPython.display import clear_output, display, update_display

from agent_magic._run import Run
from agent_magic.views._base import Caption
from agent_magic.views._markdown import inert
from agent_magic.views._segments import COUNT, Budget, Segments

__all__ = ["HeadlessView", "NotebookView"]

BAR_SECONDS = 0.5
FURNISH_SECONDS = 0.15
LINE_STYLE = (
    "color: var(--jp-ui-font-color2, var(--vscode-descriptionForeground, #757575)); font-size: 0.85em; "
    "font-family: var(--jp-ui-font-family, system-ui, sans-serif); line-height: 28px; min-height: 28px; "
    "overflow-wrap: anywhere; font-variant-numeric: tabular-nums"
)
PROGRESS_STYLE = "width: 72px; height: 10px; accent-color: var(--jp-brand-color1, #1976d2)"
OUTCOME_COLOURS = {
    "done": "var(--jp-success-color1, #388e3c)",
    "failed": "var(--jp-error-color1, #d32f2f)",
    "stopped": "var(--jp-warn-color1, #b26a00)",
    "interrupted": "var(--jp-warn-color1, #b26a00)",
}
OUTCOME_SIGNS = {"done": "✓", "failed": "✗", "stopped": "■", "interrupted": "■"}


class HeadlessView:
    """For a request whose outputs nobody watches: nothing while the answer runs, the two outputs at its end."""

    def __init__(self, run: Run, caption: Caption, *, images: bool) -> None:
        self._transcript = run.transcript
        self._caption = caption
        self._images = images

    def open(self) -> None:
        """Nothing is shown before the end."""

    def show(self) -> float:
        """Nothing is shown before the end."""
        return 1.0

    def close(self) -> None:
        """Display the answer and the line."""
        text = self._transcript.text
        if text:
            display({"text/markdown": inert(text, images=self._images), "text/plain": text}, raw=True)
        line = self._caption.final()
        display({"text/html": self._line(line), "text/plain": " · ".join(line)}, raw=True)

    def _line(self, parts: list[str]) -> str:
        status = self._transcript.status
        agent, outcome, *rest = (escape(part) for part in parts)
        colour, sign = OUTCOME_COLOURS.get(status, "inherit"), OUTCOME_SIGNS.get(status, "")
        marked = f'<span style="color: {colour}">{sign} {outcome}</span>'
        return f'<div style="{LINE_STYLE}">{" · ".join([marked, agent, *rest])}</div>'


class NotebookView(HeadlessView):
    """The live view. `button` False draws no Stop button: where the cell blocks, no click could arrive."""

    def __init__(self, run: Run, caption: Caption, *, images: bool, button: bool) -> None:
        super().__init__(run, caption, images=images)
        self._names = [uuid4().hex for _ in range(COUNT)]
        self._segments = Segments()
        self._budget = Budget()
        self._bar = _Bar(run, caption, button=button)
        self._bar_due = 0.0
        self._painted = ""
        self._is_furnished = False
        self._furnish_at = 0.0

    def open(self) -> None:
        """Make the first display; the others and the bar follow, behind the first text or after a moment.

        To make them takes some tens of milliseconds, and text that is there should not wait for that.
        """
        self._furnish_at = monotonic() + FURNISH_SECONDS
        self._make(self._names[:1])

    def show(self) -> float:
        """Paint what has changed, as far as the budget of bytes allows."""
        now = monotonic()
        if self._budget.wait(now) <= 0 and (text := self._transcript.text) != self._painted:
            self._budget.spend(now, self._paint(text))
        if not self._is_furnished:
            if not self._painted and now < self._furnish_at:
                return self._furnish_at - now
            self._furnish()
        if now >= self._bar_due or self._bar.is_stale():
            self._bar.show()
            self._bar_due = now + BAR_SECONDS
        due = [self._bar_due - now]
        if self._budget.wait(now) > 0:
            due.append(self._budget.wait(now))
        return max(0.005, min(due))

    def close(self) -> None:
        """Swap everything for the two final outputs, in one frame, and leave no model behind."""
        clear_output(wait=True)
        super().close()
        self._bar.close()

    def _furnish(self) -> None:
        self._make(self._names[1:])
        self._is_furnished = True

    def _make(self, names: list[str]) -> None:
        for name in names:
            display({"text/markdown": ""}, raw=True, display_id=name)

    def _paint(self, text: str) -> int:
        size = 0
        for place, segment in self._segments.update(text):
            if place and not self._is_furnished:
                self._furnish()
            shown = inert(segment, images=self._images)
            update_display({"text/markdown": shown}, raw=True, display_id=self._names[place])
            size += len(shown.encode("utf-8", "replace"))
        self._painted = text
        return size


class _Bar:
    """The control bar: Stop, progress, what is going on."""

    def __init__(self, run: Run, caption: Caption, *, button: bool) -> None:
        self._run = run
        self._caption = caption
        self._has_button = button
        self._doing = ""
        self._models: list[Any] = []

    def _open(self) -> None:
        """Make the widgets and display them."""
        from ipywidgets import HTML, Button, HBox, Layout

        quiet = {"font_size": "0.85em"}
        self._label = HTML(self._says(), style=quiet, layout=Layout(margin="0 0 0 8px", min_width="0", flex="1 1 auto"))
        self._progress = HTML(self._moves(), layout=Layout(margin="0 0 0 8px", flex="0 0 auto"))
        children: list[Any] = [self._progress, self._label]
        if self._has_button:
            stop = Button(
                description="Stop",
                icon="stop",
                tooltip=f"Stop {self._caption.agent}; what has arrived is kept",
                layout=Layout(width="auto", flex="0 0 auto"),
            )
            stop.on_click(self._stop)
            self._button = stop
            children.insert(0, stop)
        box = HBox(children, layout=Layout(align_items="center", min_height="28px"))
        self._models = [box, *children]
        display(box)

    def is_stale(self) -> bool:
        """Whether the agent does something else than the bar says."""
        return self._state() != self._doing

    def show(self) -> None:
        """Say what is going on now."""
        self._doing = self._state()
        if not self._models:
            self._open()
            return
        self._progress.value = self._moves()  # a value that is the same is not sent
        self._label.value = self._says()

    def _says(self) -> str:
        return f'<span style="opacity: 0.75">{" · ".join(escape(part) for part in self._caption.live())}</span>'

    def _moves(self) -> str:
        """A progress bar; without a value it moves by itself, as the browser draws it."""
        fraction = self._run.transcript.fraction
        value = "" if fraction is None else f' value="{fraction:.3f}"'
        return f'<progress{value} style="{PROGRESS_STYLE}" aria-label="Progress"></progress>'

    def close(self) -> None:
        """Close every model, with the layouts and styles that closing a widget leaves behind."""
        for widget in self._models:
            for part in (getattr(widget, "style", None), widget.layout, widget):
                if part is not None:
                    part.close()
        self._models = []

    def _state(self) -> str:
        return self._run.transcript.doing if self._run.transcript.retry_at is None else "retry"

    def _stop(self, _button: object) -> None:
        self._button.disabled = True
        self._run.stop()
