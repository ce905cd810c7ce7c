"""The runs that were, of all kernels: listed, back as results, and gone on with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from html import escape
from pathlib import Path
from typing import Self, overload

import msgspec

from agent_magic._config import keeps_journal, load_settings
from agent_magic._deck import replay
from agent_magic._journal import is_live, journal_folder, run_of, tapes
from agent_magic._key_sources import find_key
from agent_magic._keys import Secret
from agent_magic._listing import html_table, one_line, text_table
from agent_magic._request import host_of
from agent_magic._result import AgentResult
from agent_magic._run import Run, live_runs
from agent_magic._stream import Policy
from agent_magic._tape import Header, Outcome, peek, read_tape
from agent_magic._taping import Taping
from agent_magic._writer import flush_tapes
from agent_magic.errors import ConfigError, visible
from agent_magic.protocols import get_protocol

__all__ = ["History", "Past"]

COLUMNS = ("began", "run", "agent", "status", "seconds", "prompt")
PROMPT_LENGTH = 60


class Past:
    """One run, as far as the first and the last line of its tape tell.

    Raises `ConfigError` where they cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.header: Header
        self.outcome: Outcome | None
        self.header, self.outcome = peek(path)
        self._run: Run | None = next((run for run in live_runs() if run.id == self.header.run), None)
        self.is_live = self.outcome is None and (self._run is not None or is_live(path, self.header))
        if self.outcome is None and not self.is_live:
            # It may have ended between the two looks; now nobody writes to it any more.
            self.outcome = peek(path)[1]

    @classmethod
    def find(cls, run: str) -> Self:
        """The run whose id is, or begins with, `run`. Raises `ConfigError` with the nearest."""
        flush_tapes()
        paths = {run_of(path): path for path in tapes(journal_folder())}
        found = [name for name in paths if name.startswith(run)] if run not in paths else [run]
        if len(found) == 1:
            return cls(paths[found[0]])
        if found:
            raise ConfigError(f"Runs {', '.join(found[:5])} all begin with {run!r}; write one of them in full.")
        near = get_close_matches(run, paths, n=1)
        hint = f"did you mean {near[0]}?" if near else "%agent history lists the runs."
        raise ConfigError(f"There is no run {run!r}; {hint}")

    @classmethod
    def newest_cut_off(cls) -> Self | None:
        """The newest run that ended without an outcome, as its process did; None where there is none."""
        flush_tapes()
        for path in tapes(journal_folder()):
            try:
                past = cls(path)
            except ConfigError:  # no tape, or of another version
                continue
            if past.outcome is None and not past.is_live:
                return past
        return None

    def result(self) -> AgentResult:
        """The run's result: what its tape holds; of a run of this process that is still going, the growing one."""
        if self._run is not None:
            return AgentResult(self._run, self._run.ask.parameters)
        tape = read_tape(self._path)
        return AgentResult.of_tape(tape.header, replay(tape, live=self.is_live))

    def resumed(self) -> AgentResult:
        """The growing result of a run that goes on where this one ended.

        Raises `ConfigError` where the wire cannot, or there is nothing left, and `AuthError` without a key.
        """
        if self.is_live:
            raise ConfigError(f"Run {self.header.run} is still going; there is nothing to take up yet.")
        tape = read_tape(self._path)
        question = tape.header.question
        key = find_key(question.key_env, host_of(question.base_url)) if question.key_env else None
        ask = question.request(_headers(tape.header), key)
        protocol = get_protocol(tape.header.protocol)
        policy = msgspec.convert(tape.header.policy, Policy)
        run = Run(protocol, ask, policy, tape.header.agent, Taping(journal_folder() if keeps_journal() else None))
        run.take_up(tape)
        result = AgentResult(run, ask.parameters)
        run.start()
        return result

    @property
    def status(self) -> str:
        """The outcome in a word or two."""
        if self.outcome is not None:
            return self.outcome.status
        return "running" if self.is_live else "cut off"

    def row(self) -> tuple[str, ...]:
        """What stands under `COLUMNS`."""
        began = self.header.started.astimezone()
        seconds = "" if self.outcome is None else f"{self.outcome.at:.1f}"
        prompt = one_line(self.header.question.prompt, PROMPT_LENGTH)
        return (f"{began:%Y-%m-%d %H:%M:%S}", self.header.run, self.header.agent, self.status, seconds, prompt)


def _headers(header: Header) -> dict[str, str | Secret]:
    """The headers that a run was asked with. Their values are not on the tape, but in the agent's settings."""
    from agent_magic._agent import Agent

    if not header.question.headers:
        return {}
    known: dict[str, str | Secret] = {}
    if header.agent in load_settings().agents:
        agent = Agent(header.agent)
        # Another agent of the same name, of other settings, has headers that this run's server is not to see.
        if agent.asks(header.protocol, header.question.agent, header.question.base_url):
            known = agent.headers()
    missing = [name for name in header.question.headers if name not in known]
    if missing:
        raise ConfigError(
            f"Run {header.run} was asked with the header {missing[0]}, whose value is not written down; "
            f"name it in the settings of the agent {header.agent!r} to go on."
        )
    return {name: known[name] for name in header.question.headers}


class _Unreadable:
    """A tape that cannot be read: its row says so, and its result raises why."""

    def __init__(self, path: Path, error: ConfigError) -> None:
        self._path = path
        self._error = error

    def result(self) -> AgentResult:
        raise self._error

    def row(self) -> tuple[str, ...]:
        return ("", run_of(self._path), "", "unreadable", "", str(self._error))


class History(Sequence[AgentResult]):
    """Runs, the newest first: a list of results, each read from its tape when it is asked for."""

    def __init__(self, pasts: Sequence[Past | _Unreadable]) -> None:
        self._pasts = pasts
        self._results: dict[int, AgentResult] = {}

    @classmethod
    def newest(cls, number: int) -> Self:
        """The last `number` runs that were written down."""
        flush_tapes()
        return cls([_past(path) for path in tapes(journal_folder())[:number]])

    def __len__(self) -> int:
        return len(self._pasts)

    @overload
    def __getitem__(self, place: int) -> AgentResult: ...
    @overload
    def __getitem__(self, place: slice) -> History: ...
    def __getitem__(self, place: int | slice) -> AgentResult | History:
        if isinstance(place, slice):
            return History(self._pasts[place])
        place = range(len(self))[place]
        if place not in self._results:
            self._results[place] = self._pasts[place].result()
        return self._results[place]

    def __repr__(self) -> str:
        return text_table(COLUMNS, self._rows()) if self._pasts else _nothing()

    def _repr_html_(self) -> str:
        return html_table(COLUMNS, self._rows()) if self._pasts else f"<p>{escape(_nothing())}</p>"

    def _rows(self) -> Iterator[tuple[str, ...]]:
        return (past.row() for past in self._pasts)


def _past(path: Path) -> Past | _Unreadable:
    try:
        return Past(path)
    except ConfigError as error:
        return _Unreadable(path, error)


def _nothing() -> str:
    off = "" if keeps_journal() else " The journal is off (AGENT_MAGIC_JOURNAL, or journal in the settings)."
    return f"No runs are written down in {visible(str(journal_folder()))}.{off}"
