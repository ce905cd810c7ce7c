"""Many prompts, one agent: the rows begin, somebody paints and waits, and the results are there in order.

A call that blocks draws no Stop button in a notebook, for no click could arrive; one that is awaited does.
Whatever ends the wait, what has arrived is kept: in the results, and in the agent's `last_results` where
an exception comes out instead of them.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from agent_magic._batch import Asker, Batch, LocalBatch
from agent_magic._column import Column
from agent_magic._result import AgentResult
from agent_magic._results import Results
from agent_magic._waiting import Wait, wait_plainly
from agent_magic.errors import ConfigError
from agent_magic.views._rows import RowsCaption

if TYPE_CHECKING:
    from agent_magic._cell import Clicks
    from agent_magic.views._base import View

__all__ = ["Map"]


class Keeper(Asker, Protocol):
    """An asker that keeps its last results at hand."""

    last_results: Results | None


class Map:
    """How rows are asked: everything that a retry needs again. Pickled, it has no cluster any more."""

    def __init__(
        self, agent: Keeper, parameters: dict[str, Any], concurrency: int, client: Any, *, progress: bool
    ) -> None:
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise ConfigError(f"concurrency is a whole number from 1 up; {concurrency!r} is not.")
        self._agent = agent
        self._parameters = parameters
        self._concurrency = concurrency
        self._progress = progress
        self._client = client

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_client": None}

    def ask(self, prompts: Iterable[Any]) -> Results:
        """Ask each of `prompts`; blocks."""
        return self._block(_Asked(Column.of(prompts)))

    def aask(self, prompts: Iterable[Any]) -> Coroutine[Any, Any, Results]:
        """`ask`, to be awaited."""
        return self._await(lambda: _Asked(Column.of(prompts)), _task())

    def retry(self, results: Results) -> Results:
        """`results` with those that are not done asked again; blocks."""
        return self._block(_Asked(results.column, list(results)))

    def aretry(self, results: Results) -> Coroutine[Any, Any, Results]:
        """`retry`, to be awaited."""
        return self._await(lambda: _Asked(results.column, list(results)), _task())

    def _block(self, asked: _Asked) -> Results:
        """Paint and wait. An interrupt arrives here as a KeyboardInterrupt."""
        batch = self._batch(asked.prompts())
        view = self._view(batch, stop=None)
        news = threading.Event()
        batch.listen(news.set)
        batch.start()
        try:
            view.open()
            while not batch.is_over:
                news.wait(view.show())
        except BaseException as error:
            self._interrupt(batch, error)
            raise
        finally:
            results = self._end(batch, view, asked)
        return results

    async def _await(self, rows: Callable[[], _Asked], caller: object) -> Results:
        """Paint and wait in a loop. An interrupt arrives here as a cancellation.

        `caller` is the task that called: where that is not this one, no cell may be awaiting, and must not be
        taken to: jupyter-ui-poll outside a cell keeps the kernel from its next one.
        """
        asked = rows()
        batch = self._batch(asked.prompts())
        view = self._view(batch, stop=batch.stop)
        news = asyncio.Event()
        batch.notify(news)
        batch.start()
        try:
            async with _waiting(in_cell=caller is _task()) as wait:
                view.open()
                while not batch.is_over:
                    await wait(news, view.show())
        except BaseException as error:
            self._interrupt(batch, error)
            raise
        finally:
            results = self._end(batch, view, asked)
        return results

    def _batch(self, prompts: Sequence[object]) -> Batch:
        """The rows, not begun. Raises what is wrong with the settings, and with the key if this process uses it."""
        asked = [prompt for prompt in prompts if isinstance(prompt, str)]
        ask = self._agent.prepare_all(asked, self._parameters, dry=self._client is not None)
        if self._client is None:
            return LocalBatch(self._agent, ask, prompts, self._concurrency)
        from agent_magic._spread import ClusterBatch, check_client

        check_client(self._client)
        return ClusterBatch(self._agent, ask, prompts, self._client)

    def _view(self, batch: Batch, stop: Callable[[], None] | None) -> View:
        if not self._progress:
            from agent_magic.views.plain import QuietView

            return QuietView()
        caption = RowsCaption(self._agent.name, batch.tally)
        shell = _kernel_shell()
        if shell is None:
            from agent_magic.views.rows import console_rows

            return console_rows(caption)
        from agent_magic._cell import is_watched
        from agent_magic.views.notebook_rows import HeadlessRows, NotebookRows

        return NotebookRows(caption, stop) if is_watched(shell) else HeadlessRows(caption)

    def _interrupt(self, batch: Batch, error: BaseException) -> None:
        batch.stop("interrupted")
        if not isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
            return
        error._render_traceback_ = lambda: [INTERRUPTED]  # type: ignore[union-attr]
        if (shell := _kernel_shell()) is not None:
            from agent_magic._cell import abort_queue

            abort_queue(shell)

    def _end(self, batch: Batch, view: View, asked: _Asked) -> Results:
        try:
            batch.wait()
        finally:  # also after a second Ctrl-C
            results = self._agent.last_results = Results(asked.filled(batch.results()), asked.column, self)
            view.close()
        return results


INTERRUPTED = "KeyboardInterrupt: the rows were stopped; what had arrived is in the agent's last_results"


class _Asked:
    """The rows to ask: all of a column, or those of earlier results that are not done."""

    def __init__(self, column: Column, earlier: Sequence[AgentResult] | None = None) -> None:
        self.column = column
        self._earlier = earlier
        self._places = [
            place for place in range(len(column.prompts)) if earlier is None or earlier[place].status != "done"
        ]

    def prompts(self) -> list[object]:
        """What is to be asked, in order."""
        return [self.column.prompts[place] for place in self._places]

    def filled(self, results: Sequence[AgentResult]) -> list[AgentResult]:
        """All rows, with `results` where they were asked."""
        rows = dict(enumerate(self._earlier or ())) | dict(zip(self._places, results, strict=True))
        return [rows[place] for place in range(len(self.column.prompts))]


@asynccontextmanager
async def _waiting(*, in_cell: bool) -> AsyncIterator[Wait]:
    """How to wait for news: in a cell, with a front end's clicks coming through."""
    shell = _kernel_shell() if in_cell else None
    if shell is None:
        yield wait_plainly
        return
    from agent_magic._cell import Clicks

    clicks: Clicks = Clicks(shell)
    async with clicks:
        yield clicks.wait


def _task() -> object:
    """The task that runs now, if one does."""
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None


def _kernel_shell() -> Any:
    """The shell of the kernel that this is called in, by its main thread; else None, and IPython is not imported."""
    find = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = None if find is None else find()
    in_kernel = getattr(shell, "kernel", None) is not None
    return shell if in_kernel and threading.current_thread() is threading.main_thread() else None
