"""The control bar of a cell that runs: Stop, progress, what is going on. Made of ipywidgets."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from IPython.display import display

from agent_magic._run import Run
from agent_magic.views import _html
from agent_magic.views._base import Caption

__all__ = ["Bar"]

# A page loads the widgets' scripts at its first widget's models. A view that is taken away while it is being made,
# and models that are closed then, leave errors on the page's console. So the models come first, the view when a
# page has surely loaded, which takes longest for a kernel's first bar; and the models go some time after the view.
VIEW_SECONDS = 0.35
FIRST_VIEW_SECONDS = 1.5
LOAD_SECONDS = 5.0


class Bar:
    """One bar. `button` False draws no Stop button: where the cell blocks, no click could arrive."""

    _was_shown = False

    def __init__(self, run: Run, caption: Caption, *, button: bool) -> None:
        self._run = run
        self._caption = caption
        self._has_button = button
        self._state = ""
        self._opened = 0.0
        self._view_due = 0.0
        self._models: list[Any] = []

    def is_stale(self) -> bool:
        """Whether the agent does something else than the bar says."""
        return bool(self._models) and (self._caption.state != self._state or self._wants_view())

    @property
    def view_due(self) -> float:
        """When the view is to be made, on the monotonic clock; 0 where it has been."""
        return self._view_due

    def show(self) -> None:
        """Say what is going on now; the view itself comes a moment after the first call."""
        self._state = self._caption.state
        if not self._models:
            self._open()
            return
        if self._wants_view():
            self._view_due = 0.0
            display(self._models[0])
        self._progress.value = _html.progress(self._run.transcript.fraction)  # a value that is the same is not sent
        self._words.value = _html.words(self._caption.live())
        self._spoken.value = _html.state(self._state)

    def close(self) -> None:
        """Close every model, with the layouts and styles that closing a widget leaves behind."""
        models, self._models = self._models, []
        self._view_due = 0.0
        left = self._opened + LOAD_SECONDS - monotonic()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            left = 0.0
        if models and left > 0:
            loop.call_later(left, _close, models)
        else:
            _close(models)

    def _wants_view(self) -> bool:
        return 0 < self._view_due <= monotonic()

    def _open(self) -> None:
        from ipywidgets import HTML, HBox, Layout

        beside = "0 0 0 8px"
        self._progress = HTML(_html.progress(self._run.transcript.fraction), layout=Layout(margin=beside, flex="none"))
        self._words = HTML(_html.words(self._caption.live()), layout=Layout(margin=beside, min_width="0", flex="1"))
        self._spoken = HTML(_html.state(self._state), layout=Layout(margin="0", width="0", flex="none"))
        children: list[Any] = [self._progress, self._words, self._spoken]
        if self._has_button:
            children.insert(0, self._stop_button())
        box = HBox(children, layout=Layout(align_items="center", min_height="28px"))
        box.add_class("agent-magic-bar")
        self._models = [box, *children]
        self._opened = monotonic()
        self._view_due = self._opened + (VIEW_SECONDS if Bar._was_shown else FIRST_VIEW_SECONDS)
        Bar._was_shown = True

    def _stop_button(self) -> Any:
        from ipywidgets import Button, Layout

        button = Button(
            description="Stop",
            icon="stop",
            tooltip=f"Stop {self._caption.agent}; what has arrived is kept",
            layout=Layout(width="auto", flex="none"),
        )

        def stop(_button: object) -> None:
            button.disabled = True
            self._run.stop()

        button.on_click(stop)
        return button


def _close(models: list[Any]) -> None:
    for widget in models:
        for part in (getattr(widget, "style", None), widget.layout, widget):
            if part is not None:
                part.close()
