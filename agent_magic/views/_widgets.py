"""Widgets without models for their layout and style, which the bar's style sheet says instead.

JupyterLab's page keeps some 4 KB for every model that there ever was, closed or not, as its kernel connection holds
on to the comm; and a layout's model collects fifty listeners for every view that was drawn with it. A notebook in
which cells are run all day should not grow by that.
"""

from __future__ import annotations

import ipywidgets
from traitlets import Any, HasTraits

__all__ = ["HTML", "Box", "Button", "Play"]


class _Bare(HasTraits):
    layout = Any(None).tag(sync=True)
    style = Any(None).tag(sync=True)


class Box(_Bare, ipywidgets.HBox):
    """A row."""


class Button(_Bare, ipywidgets.Button):
    """A button."""


class HTML(_Bare, ipywidgets.HTML):
    """Some HTML."""


class Play(_Bare, ipywidgets.Play):
    """Counts by itself, in the page: a widget that answers without anybody's click."""
