"""What lands in the variable: a run's outcome, from its first moment on."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self

import msgspec
from msgspec import Struct

from agent_magic._policy import Price
from agent_magic._run import Ending, Run
from agent_magic._tape import Header
from agent_magic._transcript import Status, Transcript
from agent_magic._waiting import waiting
from agent_magic.errors import AgentMagicError, PromptError
from agent_magic.events import AgentEvent, Artifact, Source, ToolCall, ToolResult, Usage
from agent_magic.protocols import read_json
from agent_magic.views._markdown import fences, inert, table_rows
from agent_magic.views._sources import sources_as_markdown, unique_sources

if TYPE_CHECKING:
    import pandas

__all__ = ["AgentResult", "Code", "as_cell"]

STATUS_WORDS = {"failed": "failed", "stopped": "was stopped", "interrupted": "was interrupted"}
SHELLS = frozenset({"bash", "sh", "shell", "zsh"})


class Code(Struct, frozen=True):
    """A fenced block of an answer: what stands behind the fence's mark, and what is in it."""

    language: str
    source: str


def as_cell(code: Code) -> str:
    """`code` as a cell that runs it: what is meant for a shell goes to one."""
    source = code.source.removesuffix("\n")
    return f"%%bash\n{source}" if code.language.lower() in SHELLS else source


def _parsed(text: str) -> list[Any]:
    try:
        return [read_json(text)]
    except ValueError:
        return []


class AgentResult:
    """The outcome of one question.

    It exists from the run's beginning, grows while the answer arrives and is complete at its end;
    every attribute may be read at any time, from any thread. Finished, it pickles.
    """

    def __init__(self, run: Run, parameters: dict[str, Any]) -> None:
        self._run: Run | None = run
        self._transcript: Transcript = run.transcript
        self.run_id = run.id
        self.agent = run.agent
        self.protocol = run.protocol
        self.prompt = run.ask.prompt
        self.parameters = parameters
        self._price = run.price
        self._replayed = run.taped == "replayed"

    @classmethod
    def of_tape(cls, header: Header, transcript: Transcript) -> Self:
        """The result of a run that is over, or that another process reads, from its tape."""
        result = cls.__new__(cls)
        result.__dict__.update(
            _run=None,
            _replayed=False,
            _transcript=transcript,
            run_id=header.run,
            agent=header.agent,
            protocol=header.protocol,
            prompt=header.question.prompt,
            parameters=header.question.parameters,
            _price=msgspec.convert(header.policy.get("price"), Price | None),
        )
        return result

    @classmethod
    def unasked(
        cls,
        agent: str,
        protocol: str,
        prompt: str,
        parameters: dict[str, Any],
        end: Ending | AgentMagicError,
    ) -> Self:
        """The result of a question that was not sent, and why; `run_id` is empty, as there was no run."""
        transcript = Transcript()
        if isinstance(end, AgentMagicError):
            transcript.close("failed", end, 0)
        else:
            transcript.close(end, None, 0)
        result = cls.__new__(cls)
        result.__dict__.update(
            _run=None,
            _replayed=False,
            _transcript=transcript,
            run_id="",
            agent=agent,
            protocol=protocol,
            prompt=prompt,
            parameters=parameters,
            _price=None,
        )
        return result

    def settle(self) -> AgentResult:
        """Once the run has ended: let go of all that only a run needs, and keep the events packed."""
        self._transcript.pack()
        self._run = None
        return self

    def __eq__(self, other: object) -> bool:
        """Whether both are of one run, and know the same of it: a result equals its copies and its pickles."""
        if not isinstance(other, AgentResult):
            return NotImplemented
        return self._identity() == other._identity()

    def _identity(self) -> tuple[str, ...]:
        return self.run_id, self.prompt, self.status, self.text

    def __hash__(self) -> int:
        return hash((self.run_id, self.prompt))

    def __copy__(self) -> Self:
        """Another result of the same run, which grows with it while it goes on."""
        twin = self.__class__.__new__(self.__class__)
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The same with nothing shared, but of a run that goes on, of which there is one only."""
        if self.status == "running":
            return copy.copy(self)
        twin = self.__class__.__new__(self.__class__)
        twin.__dict__.update(copy.deepcopy(self.__getstate__(), memo))
        return twin

    def __getstate__(self) -> dict[str, Any]:
        if self.status == "running":
            raise pickle.PicklingError("The run has not ended; call wait() before the result is pickled.")
        return {**self.__dict__, "_run": None}

    @property
    def text(self) -> str:
        """The answer exactly as it came, but for a key that a server echoed, which is ``***``; Markdown."""
        return self._transcript.text

    def __str__(self) -> str:
        return self.text

    @property
    def status(self) -> Status:
        """One of "running", "done", "stopped", "interrupted" and "failed"."""
        return self._transcript.status

    @property
    def error(self) -> AgentMagicError | None:
        """Why the run failed, or None."""
        return self._transcript.error if self.status == "failed" else None

    @property
    def usage(self) -> Usage:
        """Tokens, as far as the wire says."""
        return self._transcript.usage

    @property
    def cost(self) -> float | None:
        """What the run has cost by the agent's `price`; None without a price, or where no tokens were told."""
        return None if self._price is None else self._price.of(self.usage)

    @property
    def retries(self) -> int:
        """How often the connection had to be made again."""
        return self._transcript.retries

    @property
    def session_id(self) -> str | None:
        """The server's name for the conversation."""
        return self._transcript.session_id

    @property
    def elapsed(self) -> float:
        """Seconds of the whole run, so far."""
        return self._transcript.elapsed

    @property
    def first_event(self) -> float | None:
        """Seconds to the server's first event."""
        return self._transcript.first_event

    @property
    def execution_time(self) -> float | None:
        """The server's own figure, in seconds."""
        return self._transcript.execution_time

    @property
    def events(self) -> list[AgentEvent]:
        """Every event so far, in order."""
        return list(self._transcript.events)

    @property
    def sources(self) -> list[Source]:
        """The documents that the answer rests on."""
        return list(self._transcript.sources)

    @property
    def artifacts(self) -> list[Artifact]:
        """What came beside the text: reports, computations, files."""
        return list(self._transcript.artifacts)

    @property
    def tool_calls(self) -> list[tuple[ToolCall, ToolResult | None]]:
        """The tools that the agent used, each with its result once there is one."""
        return self._transcript.tool_calls

    @property
    def replayed(self) -> bool:
        """Whether a tape has answered, and nobody was asked."""
        return self._replayed

    @property
    def lack(self) -> str:
        """Why the text is not a whole answer, in a few words for whoever builds on it; mostly nothing."""
        return {"done": "", "running": "this answer is still being written"}.get(
            self.status, f"this answer is not whole: its run {STATUS_WORDS.get(self.status, self.status)}"
        )

    @property
    def reasoning(self) -> str:
        """What the agent said of its thinking."""
        return self._transcript.reasoning

    @property
    def notices(self) -> list[str]:
        """What must be known of the text: gaps, pieces left out."""
        return list(self._transcript.notices)

    @property
    def code(self) -> list[Code]:
        """The fenced blocks of the answer."""
        return [Code(language, source) for language, source in fences(self.text)]

    @property
    def tables(self) -> list[pandas.DataFrame]:
        """The Markdown tables of the answer; cells stay strings. Needs pandas."""
        import pandas

        return [pandas.DataFrame(rows[1:], columns=rows[0]) for rows in table_rows(self.text)]

    def json(self) -> Any:
        """The answer, or the one fenced JSON block in it, parsed. Raises `PromptError` where there is none."""
        named = [block.source for block in self.code if block.language.lower() == "json"]
        others = [block.source for block in self.code if not block.language]
        for candidates in ([self.text], named, others):
            values = [value for candidate in candidates for value in _parsed(candidate)]
            if len(values) == 1:
                return values[0]
        raise PromptError("The answer is not JSON, and has not just one JSON block; ask for JSON alone.")

    def stop(self) -> None:
        """End the run and keep what has arrived. Does nothing once it has ended."""
        if self._run is not None:
            self._run.stop()

    def wait(self, timeout: float | None = None) -> AgentResult:
        """Block until the run has ended, or `timeout` seconds have passed; returns this result.

        Raises TimeoutError. A failed run is not raised: see `error`.
        """
        if self._run is not None and not self._run.wait(timeout):
            raise TimeoutError(f"The run has not ended within {timeout:g} s.")
        return self

    def __await__(self) -> Generator[Any, None, AgentResult]:
        return self._ended().__await__()

    async def follow(self) -> AsyncIterator[AgentEvent]:
        """Each event, from the first, as it arrives; ends when the run has ended."""
        events, given = self._transcript.events, 0
        async with aclosing(self.changes()) as changes:
            async for news in changes:
                while given < len(events):
                    yield events[given]
                    given += 1
                await news.wait()
        for event in events[given:]:
            yield event

    async def _ended(self) -> AgentResult:
        async with waiting() as wait, aclosing(self.changes()) as changes:
            async for news in changes:
                await wait(news, 1.0)
        return self

    async def changes(self) -> AsyncGenerator[asyncio.Event]:
        """An event, to be awaited, that is set when something is new; ends when the run has ended."""
        run = self._run
        if run is None:
            return
        news = asyncio.Event()
        forget = run.notify(news)
        try:
            while not run.is_over:
                news.clear()
                yield news
        finally:
            forget()

    def __repr__(self) -> str:
        words = re.sub(r"\s+", " ", self.text[:80]).strip()
        return f"<AgentResult {self.agent} {self.status} {len(self.text):,} characters: {words!r}>"

    def _repr_markdown_(self) -> str:
        listed = sources_as_markdown(unique_sources(self._transcript.sources))
        return "\n\n".join(filter(None, [inert(self.text), listed]))
