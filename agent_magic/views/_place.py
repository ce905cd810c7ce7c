"""Where a notebook's outputs go: to the cell that runs, or to one that has ended."""

from __future__ import annotations

from typing import Any, Protocol

from IPython.display import clear_output, display, update_display

from agent_magic.views._markdown import inert

__all__ = ["Here", "Place", "There", "answer"]

Bundle = dict[str, Any]


def answer(text: str, *, images: bool) -> Bundle:
    """An answer as a front end shows it, made inert, and as it came."""
    return {"text/markdown": inert(text, images=images), "text/plain": text}


class Place(Protocol):
    """Some cell's outputs."""

    outlives_cell: bool

    def show(self, data: Bundle, name: str | None = None) -> None:
        """Add an output; with a `name` it can be updated."""

    def update(self, data: Bundle, name: str) -> None:
        """Put `data` in the place of the output called `name`."""

    def show_widget(self, widget: Any, name: str) -> None:
        """Add a view of an ipywidget, which something can take the place of."""

    def put_widget(self, widget: Any, name: str) -> None:
        """Put a view of an ipywidget in the place of the output called `name`."""

    def clear(self) -> None:
        """Take all outputs away when the next one comes."""


class Here:
    """The outputs of the cell that runs, as IPython's own functions find it."""

    outlives_cell = False

    def show(self, data: Bundle, name: str | None = None) -> None:
        display(data, raw=True, display_id=name)

    def update(self, data: Bundle, name: str) -> None:
        update_display(data, raw=True, display_id=name)

    def show_widget(self, widget: Any, name: str) -> None:
        display(widget, display_id=name)

    def put_widget(self, widget: Any, name: str) -> None:
        update_display(widget, display_id=name)

    def clear(self) -> None:
        clear_output(wait=True)


class There:
    """The outputs of the cell that `message` runs, also when it has ended and another one runs; from any thread.

    IPython's own functions speak to the cell whose parent header is set, which is one for the whole process up to
    ipykernel 6, and the thread's own since. So the messages are sent as ipykernel's display publisher sends them,
    with the header of that cell. (Jupyter's messaging: display_data, update_display_data, clear_output.)
    """

    outlives_cell = True

    def __init__(self, publisher: Any, message: dict[str, Any]) -> None:
        self._session = publisher.session
        self._socket = publisher.pub_socket
        self._message = message

    def show(self, data: Bundle, name: str | None = None) -> None:
        self._send("display_data", _content(data, name))

    def update(self, data: Bundle, name: str) -> None:
        self._send("update_display_data", _content(data, name))

    def show_widget(self, widget: Any, name: str) -> None:
        self._send("display_data", _content(_bundle(widget), name))

    def put_widget(self, widget: Any, name: str) -> None:
        self._send("update_display_data", _content(_bundle(widget), name))

    def clear(self) -> None:
        self._send("clear_output", {"wait": True})

    def _send(self, kind: str, content: dict[str, Any]) -> None:
        self._session.send(self._socket, kind, content, parent=self._message, ident=kind.encode())


def _bundle(widget: Any) -> Bundle:
    found = widget._repr_mimebundle_()
    data: Bundle = found[0] if isinstance(found, tuple) else found
    return data


def _content(data: Bundle, name: str | None) -> dict[str, Any]:
    return {"data": data, "metadata": {}, "transient": {} if name is None else {"display_id": name}}
