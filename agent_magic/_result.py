"""What lands in the variable: a run's outcome, from its first moment on."""

from __future__ import annotations

import asyncio
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
from agent_magic.errors import AgentMagicError, PromptError
from agent_magic.events import AgentEvent, Artifact, Source, ToolCall, ToolResult, Usage
from agent_magic.protocols import read_json
from agent_magic.views._markdown import fences, inert, table_rows

if TYPE_CHECKING:
    import pandas

__all__ = ["AgentResult", "Code"]


class Code(Struct, frozen=True):
    """A fenced block of an answer: what stands behind the fence's mark, and what is in it."""

    language: str
    source: str


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

    @classmethod
    def of_tape(cls, header: Header, transcript: Transcript) -> Self:
        """The result of a run that is over, or that another process reads, from its tape."""
        result = cls.__new__(cls)
        result.__dict__.update(
            _run=None,
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
        given = 0
        async with aclosing(self._changes()) as changes:
            async for _ in changes:
                events = self._transcript.events
                while given < len(events):
                    yield events[given]
                    given += 1

    async def _ended(self) -> AgentResult:
        async with aclosing(self._changes()) as changes:
            async for _ in changes:
                pass
        return self

    async def _changes(self) -> AsyncGenerator[None]:
        """One None whenever something is new, and a last one at the run's end."""
        run = self._run
        if run is None:
            yield None
            return
        news = asyncio.Event()
        forget = run.notify(news)
        try:
            over = False
            while not over:
                news.clear()
                over = run.is_over
                yield None
                if not over:
                    await news.wait()
        finally:
            forget()

    def __repr__(self) -> str:
        words = re.sub(r"\s+", " ", self.text[:80]).strip()
        return f"<AgentResult {self.agent} {self.status} {len(self.text):,} characters: {words!r}>"

    def _repr_markdown_(self) -> str:
        return inert(self.text)
