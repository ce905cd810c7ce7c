"""The terminal view, by rich: a live tail while the answer runs, the whole of it at the end."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment, Segments
from rich.spinner import Spinner
from rich.text import Text

from agent_magic._run import Run
from agent_magic._steps import Step
from agent_magic.views._base import Caption, visible
from agent_magic.views._segments import settled
from agent_magic.views._steps import Ended, step_lines

__all__ = ["TerminalView"]

# The tail is rendered from this much of the answer's end: more than a screen, whatever its size.
TAIL_CHARACTERS = 6_000


class TerminalView:
    """The last lines of the answer and what the agent is doing; its steps, and the answer as Markdown, stay."""

    def __init__(self, run: Run, caption: Caption, console: Console | None = None) -> None:
        self._transcript = run.transcript
        self._caption = caption
        self._console = console or Console()
        self._spinner = Spinner("dots")
        self._steps = Ended()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def open(self) -> None:
        """Begin the live region."""
        self._live.start()
        self.show()

    def show(self) -> float:
        """Print the steps that have ended; draw the tail and the line below it."""
        self._print_steps(self._steps.ended(self._caption.steps()))
        self._spinner.update(text=Text(visible(" · ".join(self._caption.live())), style="dim"))
        self._live.update(Group(self._tail(), self._spinner), refresh=True)
        return 0.125

    def close(self) -> None:
        """Take the live region away and print the whole answer and the line."""
        self._print_steps(self._steps.rest(self._caption.steps()))
        self._live.stop()
        text = self._transcript.text
        if text:
            self._console.print(Markdown(visible(text)))
        self._console.print(Text("\n".join(map(visible, self._caption.ending())), style="dim"))

    def _print_steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._console.print(Text("\n".join(map(visible, step_lines(step))), style="dim"))

    def _tail(self) -> Segments:
        text = visible(settled(self._transcript.text[-TAIL_CHARACTERS:]))
        rows = self._console.render_lines(Markdown(text), pad=False)[-(self._console.height - 3) :] if text else []
        return Segments([segment for row in rows for segment in [*row, Segment.line()]])
