"""What every view is, and the words that all of them use."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event
from typing import Protocol

from agent_magic._run import Run
from agent_magic._steps import Step
from agent_magic._transcript import Transcript
from agent_magic.errors import visible
from agent_magic.events import Source
from agent_magic.views._sources import unique_sources

__all__ = ["AtTheEnd", "Caption", "View", "counted", "visible", "watch"]


class View(Protocol):
    """One place in which one run is shown. All calls come from the cell's own thread."""

    def open(self) -> None:
        """Make the place ready, before anything has arrived."""

    def show(self) -> float:
        """Bring the place up to date as far as its budget allows; returns the seconds until it wants to again."""

    def close(self) -> None:
        """Leave the final state: the answer and one line."""


class AtTheEnd:
    """What shows nothing while the answer runs."""

    def open(self) -> None:
        """Nothing is shown before the end."""

    def show(self) -> float:
        """Nothing is shown before the end."""
        return 1.0


def watch(run: Run, view: View) -> None:
    """Bring `view` up to date until `run` has ended; blocks."""
    news = Event()
    forget = run.listen(news.set)
    try:
        while not run.is_over:
            news.clear()
            news.wait(view.show())
    finally:
        forget()


class Caption:
    """What is said beside an answer: while it runs, and in one line at its end.

    `cuts` says what of the prompt's values was left out, `notes` where in its conversation the turn stands. With
    `says_error` the line says why the run failed, where no traceback will.
    """

    def __init__(
        self, run: Run, variable: str, cuts: Sequence[str] = (), notes: Sequence[str] = (), *, says_error: bool = False
    ) -> None:
        self.agent = run.agent
        self.variable = variable
        self._run = run
        self._cuts = cuts
        self._notes = notes
        self._says_error = says_error
        self._transcript: Transcript = run.transcript

    @property
    def doing(self) -> str:
        """What the agent is doing now, or what it waits for."""
        retry = self._transcript.retry_at
        if retry is not None:
            event, _ = retry
            left = self._transcript.retry_in
            return f"retry {event.attempt} of {event.retries} in {left:.0f} s ({_short(event.reason, 60)})"
        return self._transcript.doing

    @property
    def fraction(self) -> float | None:
        """How much of the work the agent says is done."""
        return self._transcript.fraction

    @property
    def state(self) -> str:
        """What is going on in words that change only when it does: no seconds, no figures."""
        retry = self._transcript.retry_at
        doing = self._transcript.doing
        if retry is not None:
            event, _ = retry
            doing = f"retry {event.attempt} of {event.retries}, {event.reason}"
        return f"{self.agent}: {doing}"

    def live(self) -> list[str]:
        """The agent, what it is doing, and the figures so far."""
        transcript = self._transcript
        parts = [self.agent, self.doing, f"{transcript.elapsed:.1f} s"]
        if transcript.first_text is not None:
            parts.append(f"first text {transcript.first_text:.1f} s")
            parts.append(self._speed())
        if transcript.usage.total_tokens is not None:
            parts.append(f"{transcript.usage.total_tokens:,} tokens")
        if transcript.sources:
            parts.append(counted(len(self.sources()), "source"))
        return parts

    def final(self) -> list[str]:
        """The outcome, the seconds, the usage, what must be known of the text, the session, the variable."""
        transcript = self._transcript
        parts = [self.agent, self.outcome, *filter(None, [self._run.taped]), f"{transcript.elapsed:.1f} s"]
        if self._says_error and transcript.error is not None and transcript.status == "failed":
            parts.append(str(transcript.error))
        if transcript.first_text is not None:
            parts.append(self._speed())
        parts += _tokens(transcript)
        cost = None if self._run.price is None else self._run.price.of(transcript.usage)
        if cost is not None:
            parts.append(f"cost {cost:.3g}")
        if self._cuts:
            parts.append(f"cut in the prompt: {', '.join(_short(cut, 80) for cut in self._cuts)}")
        parts += transcript.notices[:3]
        if len(transcript.notices) > 3:
            parts.append(f"and {len(transcript.notices) - 3} more notices")
        parts += self._notes
        if transcript.session_id is not None and not self._notes:
            parts.append(f"session {_short(transcript.session_id)}")
        return [*parts, f"in {self.variable}"]

    def sources(self) -> list[Source]:
        """The sources in the order in which they came, each address once."""
        return unique_sources(self._transcript.sources)

    def steps(self) -> list[Step]:
        """What the agent did on its way, in order."""
        return self._transcript.steps

    def ending(self) -> list[str]:
        """The line at the end and the sources, as lines of text."""
        rows = [
            f"{number}. {' '.join(source.title.split())} {source.url}".replace("  ", " ")
            for number, source in enumerate(self.sources(), 1)
        ]
        return [" · ".join(self.final()), *([f"{counted(len(rows), 'source')}:"] if rows else []), *rows]

    @property
    def outcome(self) -> str:
        """The status in a word, with what the server said of it."""
        if self._transcript.status == "done" and self._transcript.reason == "unfinished":
            return "done, but the server ended the answer early"
        return self._transcript.status

    def _speed(self) -> str:
        transcript = self._transcript
        writing = max(transcript.elapsed - (transcript.first_text or 0.0), 0.1)
        tokens = transcript.usage.output_tokens
        if tokens is not None:
            return f"{tokens / writing:,.0f} tokens/s"
        return f"{transcript.characters / writing:,.0f} characters/s"


def counted(number: int, noun: str) -> str:
    """How many of what, as "1 source" or "2 sources"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def _tokens(transcript: Transcript) -> list[str]:
    usage = transcript.usage
    if usage.input_tokens is not None and usage.output_tokens is not None:
        return [f"{usage.input_tokens:,} + {usage.output_tokens:,} tokens"]
    return [] if usage.total_tokens is None else [f"{usage.total_tokens:,} tokens"]


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
