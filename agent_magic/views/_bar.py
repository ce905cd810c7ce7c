"""The control bar of a cell that runs: Stop, progress, what is going on. Made of ipywidgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import current_thread, main_thread
from time import monotonic, sleep
from typing import Any, ClassVar, Protocol

from agent_magic.views import _html
from agent_magic.views._place import Place

__all__ = ["Bar"]

# A page loads the widgets' scripts at its first widget's models. A view that is taken away while it is being made,
# and models that are closed then, leave errors on the page's console. So the models come first, the view when a
# page has surely loaded, which takes longest for a kernel's first bar; and the models go some time after the view.
VIEW_SECONDS = 0.35
FIRST_VIEW_SECONDS = 1.5
LOAD_SECONDS = 5.0


class Says(Protocol):
    """What a bar says: who is asked, what goes on (in words that change only when it does), how far, the figures."""

    agent: str

    @property
    def state(self) -> str: ...
    @property
    def fraction(self) -> float | None: ...
    def live(self) -> list[str]: ...


class _Texts:
    """What a bar says, in models that serve one bar after the other.

    The box and the button are made anew for each run: a late click is for the run that it was made for, and an old
    view, in a page that was loaded anew and has missed the end, goes with its box some seconds later.
    """

    def __init__(self) -> None:
        from agent_magic.views._widgets import HTML

        self.progress, self.words, self.spoken = self.models = HTML(), HTML(), HTML()
        self.words.add_class("agent-magic-words")
        self.spoken.add_class("agent-magic-spoken")

    def is_alive(self) -> bool:
        """Whether nobody has closed them, as `Widget.close_all()` does."""
        return all(model.comm is not None for model in self.models)


class Bar:
    """One bar. Without `stop` it has no Stop button: where the cell blocks, no click could arrive.

    `name` is the display's, where something is to take the view's place; `style` goes with a bar that stands
    in a cell without the anchor, which has it. With `holds` a line of words stands in the view's place until there is
    one: a page takes its time for the first widget, and a person should not look at nothing.
    """

    _was_shown: ClassVar[bool] = False
    # Several threads paint, each for a run in the background, and none may have what another one has.
    _spare: ClassVar[list[_Texts]] = []

    def __init__(  # noqa: PLR0913 (where it stands, and how, is said by who has it)
        self,
        caption: Says,
        stop: Callable[[], None] | None,
        place: Place,
        *,
        name: str = "",
        style: str = "",
        holds: bool = False,
    ) -> None:
        self._place = place
        self._caption = caption
        self._stop = stop
        self._name = name
        self._style = style
        self._holds = holds
        self._is_seen = False
        self._state = ""
        self._opened = 0.0
        self._view_due = 0.0
        self._texts: _Texts | None = None
        self._own: list[Any] = []

    def is_stale(self) -> bool:
        """Whether the agent does something else than the bar says."""
        return self._texts is not None and (self._caption.state != self._state or self._wants_view())

    @property
    def is_seen(self) -> bool:
        """Whether there is a view."""
        return self._is_seen

    @property
    def view_due(self) -> float:
        """When the view is to be made, on the monotonic clock; 0 where it has been."""
        return self._view_due

    def show(self) -> None:
        """Say what is going on now; the view itself comes a moment after the first call."""
        self._state = self._caption.state
        if self._texts is None:
            self._texts = self._open()
            if self._holds:
                self._place.show(_html.held(self._caption.live()), self._name)
            return
        self._say(self._texts)
        if self._wants_view():
            self._view_due = 0.0
            self._is_seen = True
            (self._place.put_widget if self._holds else self._place.show_widget)(self._own[0], self._name)
        elif self._holds and not self._is_seen:
            self._place.update(_html.held(self._caption.live()), self._name)

    def close(self) -> None:
        """Close the models of this run; the others serve the next one."""
        if self._texts is None:
            return
        models, self._own = self._own, []
        if Bar._spare:
            models += self._texts.models
        else:
            Bar._spare.append(self._texts)
        self._texts = None
        self._view_due = 0.0
        left = self._opened + LOAD_SECONDS - monotonic()
        if left > 0:
            _later(left, models)
        else:
            _close(models)

    def _wants_view(self) -> bool:
        return 0 < self._view_due <= monotonic()

    def _say(self, texts: _Texts) -> None:
        texts.progress.value = _html.progress(self._caption.fraction)  # a value that is the same is not sent
        texts.words.value = _html.words(self._caption.live())
        texts.spoken.value = self._style + _html.state(self._state)

    def _open(self) -> _Texts:
        from agent_magic.views._widgets import Box

        try:
            texts = Bar._spare.pop()
        except IndexError:
            texts = None
        if texts is None or not texts.is_alive():
            texts = _Texts()
        self._say(texts)
        self._own = [] if self._stop is None else [self._stop_button(self._stop)]
        box = Box([*self._own, *texts.models])
        box.add_class("agent-magic-bar")
        self._own.insert(0, box)
        self._opened = monotonic()
        self._view_due = self._opened + (VIEW_SECONDS if Bar._was_shown else FIRST_VIEW_SECONDS)
        Bar._was_shown = True
        return texts

    def _stop_button(self, stop_all: Callable[[], None]) -> Any:
        from agent_magic.views._widgets import Button

        button = Button(
            description="Stop",
            icon="stop",
            tooltip=f"Stop {self._caption.agent}; what has arrived is kept",
        )

        def stop(_button: object) -> None:
            button.disabled = True
            stop_all()

        button.on_click(stop)
        return button


def _later(seconds: float, models: list[Any]) -> None:
    """Close `models` in a while: in the kernel's loop, or, behind a run in the background, in its painter's thread."""
    try:
        asyncio.get_running_loop().call_later(seconds, _close, models)
    except RuntimeError:
        if current_thread() is not main_thread():
            sleep(seconds)
        _close(models)


def _close(models: list[Any]) -> None:
    for widget in models:
        widget.close()
