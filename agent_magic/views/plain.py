"""The plain view: text as it arrives, for pipes, logs and terminals without rich; steps and the line go to stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from agent_magic._run import Run
from agent_magic._steps import Step
from agent_magic.views._base import AtTheEnd, Caption, visible
from agent_magic.views._steps import Ended, step_lines

__all__ = ["PlainView"]


class PlainView:
    """Writes each piece once, control characters made visible."""

    def __init__(self, run: Run, caption: Caption) -> None:
        self._transcript = run.transcript
        self._caption = caption
        self._written = 0
        self._revision = 0
        self._doing = ""
        self._steps = Ended()
        self._is_within_line = False

    def open(self) -> None:
        """Nothing is written before there is something to say."""

    def show(self) -> float:
        """Write what is new, and say a step that has ended, and a retry, once."""
        text = self._transcript.text
        if self._transcript.revision != self._revision:
            # A pipe cannot take back what it was given, so the text as it is now follows, and is said to.
            self._revision = self._transcript.revision
            if self._written:
                sys.stdout.write("\n\n[The answer changed; this is the whole of it so far:]\n\n")
            self._written = 0
        # A lone CR at the end may be half of a line end.
        new = text[self._written :].removesuffix("\r")
        self._written += len(new)
        sys.stdout.write(visible(new))
        self._is_within_line = not new.endswith("\n") if new else self._is_within_line
        sys.stdout.flush()
        self._say_steps(self._steps.ended(self._caption.steps()))
        self._say_retry()
        return 1.0

    def close(self) -> None:
        """Write the rest and the line."""
        self.show()
        rest = self._transcript.text[self._written :]
        sys.stdout.write(
            visible(rest) + "\n" * (not self._transcript.text.endswith("\n") and bool(self._transcript.text))
        )
        sys.stdout.flush()
        self._say_steps(self._steps.rest(self._caption.steps()))
        sys.stderr.write("".join(f"{visible(line)}\n" for line in self._caption.ending()))

    def _say_steps(self, steps: Sequence[Step]) -> None:
        if steps and self._is_within_line:
            # On a terminal both go to one place, and a step is not to be read as the answer's next words.
            sys.stderr.write("\n")
        for step in steps:
            sys.stderr.write("".join(f"{visible(line)}\n" for line in step_lines(step)))

    def _say_retry(self) -> None:
        retry = self._transcript.retry_at
        doing = "" if retry is None else f"{retry[0].reason}: retry {retry[0].attempt} of {retry[0].retries}"
        if doing and doing != self._doing:
            sys.stderr.write(f"{visible(doing)}\n")
        self._doing = doing


class QuietView(AtTheEnd):
    """Shows nothing."""

    def close(self) -> None:
        """Nothing."""
