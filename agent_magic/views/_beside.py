"""Runs that go on when their cell has ended: a thread that paints, or, where nobody watches, one last look."""

from __future__ import annotations

import sys
from contextvars import copy_context
from threading import Thread
from uuid import uuid4

from agent_magic._run import Run
from agent_magic.views import _html
from agent_magic.views._base import Caption, View, visible, watch
from agent_magic.views._place import Here, answer

__all__ = ["Ending", "Placeholder", "paint_beside"]


def paint_beside(run: Run, view: View) -> None:
    """Have a thread paint `view` until `run` has ended; it ends with the process."""

    def paint() -> None:
        try:
            watch(run, view)
        finally:
            view.close()

    # ipykernel 7.0 finds the message that it answers in a context variable, which a new thread does not have.
    context = copy_context()
    Thread(target=context.run, args=(paint,), name=f"agent_magic painter {run.id}", daemon=True).start()


class Ending:
    """The end of a run in a terminal, where a line may be printed only between two prompts.

    `quiet` says nothing of one that did not fail.
    """

    def __init__(self, run: Run, caption: Caption, *, quiet: bool) -> None:
        self._run = run
        self._caption = caption
        self._quiet = quiet

    def open(self) -> None:
        """Nothing: there is no answer yet."""

    def settle(self) -> bool:
        """Print the line where the run has ended; whether it has."""
        if self._run.is_over and (not self._quiet or self._run.transcript.status == "failed"):
            print(visible(" · ".join(self._caption.final())), file=sys.stderr)  # noqa: T201 (what the person waits for)
        return self._run.is_over


class Placeholder:
    """The two outputs of a run in a notebook that is executed without a front end (nbclient, papermill).

    Such an executor hears only what is said while a cell runs, as that cell. So the outputs are made while their own
    cell runs, and are updated while a later one does, once the run has ended.
    """

    def __init__(self, run: Run, caption: Caption, *, images: bool) -> None:
        self._run = run
        self._caption = caption
        self._images = images
        self._answer, self._line = uuid4().hex, uuid4().hex
        self._place = Here()

    def open(self) -> None:
        """Say that the answer is still to come."""
        said = f"{self._caption.agent} is asked in the background; the answer is not there yet"
        self._place.show({"text/markdown": "", "text/plain": ""}, self._answer)
        self._place.show({"text/html": _html.words([said]), "text/plain": said}, self._line)

    def settle(self) -> bool:
        """Update both where the run has ended; whether it has."""
        if self._run.is_over:
            transcript, caption = self._run.transcript, self._caption
            self._place.update(answer(transcript.text, images=self._images), self._answer)
            self._place.update(_html.ending(transcript.status, caption), self._line)
        return self._run.is_over
