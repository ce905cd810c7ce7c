"""The rows of one map on the workers of a Dask cluster that is there already. Dask does the scheduling.

A task carries the agent's settings and one prompt, never a key: the worker reads its own environment. What
comes back is the finished result. The rows that one worker process has share a pace, as all of them do at
home. The only room that knows Dask, but for the client that it is given.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock, Thread
from typing import Any
from uuid import uuid4

from agent_magic._batch import Asker, Asking, Batch, unasked
from agent_magic._request import AgentRequest
from agent_magic._result import AgentResult
from agent_magic._run import Ending, Run
from agent_magic.errors import AgentMagicError, ConfigError, StreamLost

__all__ = ["ClusterBatch", "check_client"]

# After a stop the workers give back what has arrived; a cluster that is busy otherwise is not waited for longer.
STOP_SECONDS = 5.0
# Of so many maps a worker knows how they end.
MOST_BATCHES = 100


def check_client(client: Any) -> None:
    """Raise `ConfigError` where `client` is none that `map` can use."""
    if not all(hasattr(client, name) for name in ("map", "run", "cancel", "scheduler_info")):
        raise ConfigError(f"client is a dask.distributed.Client, not a {type(client).__name__}.")
    if getattr(client, "asynchronous", False):
        raise ConfigError("This Dask client is asynchronous; give map one that is not: Client(address).")


class _Here:
    """What one worker process knows of one map."""

    def __init__(self, agent: Asker) -> None:
        self.asking = Asking(agent)
        self.ending: Ending | None = None
        self._runs: set[Run] = set()

    def wait(self, run: Run) -> None:
        """Block until `run`, which has begun, has ended."""
        self._runs.add(run)
        if self.ending is not None:  # a stop came while it began
            run.stop(self.ending)
        run.wait()
        self._runs.discard(run)

    def stop(self, ending: Ending) -> None:
        """End all runs, and have no other begin."""
        self.ending = ending
        for run in tuple(self._runs):
            run.stop(ending)


_LOCK = Lock()
_HERE: dict[str, _Here] = {}


def _here(batch: str, agent: Asker) -> _Here:
    with _LOCK:
        here = _HERE[batch] = _HERE.pop(batch) if batch in _HERE else _Here(agent)
        while len(_HERE) > MOST_BATCHES:
            del _HERE[next(iter(_HERE))]
        return here


def ask_row(prompt: str, agent: Asker, parameters: dict[str, Any], batch: str) -> AgentResult:
    """The task: ask `prompt`, in a worker, with the worker's own key."""
    here = _here(batch, agent)
    try:
        ask = agent.prepare(prompt, parameters)
    except AgentMagicError as error:
        return unasked(agent, prompt, parameters, error.with_traceback(None))
    if here.ending is not None:
        return unasked(agent, prompt, parameters, here.ending)
    result, run = here.asking.begin(ask)
    if run is not None:
        here.wait(run)
        here.asking.note(result)
    return result.settle()


def stop_rows(batch: str, agent: Asker, ending: Ending) -> None:
    """End the rows of a map in this worker, and begin no other."""
    _here(batch, agent).stop(ending)


class ClusterBatch(Batch):
    """Rows that are tasks of `client`'s cluster. How many run at once is the cluster's own affair."""

    def __init__(self, asker: Asker, ask: AgentRequest, prompts: Sequence[object], client: Any) -> None:
        super().__init__(asker, ask, prompts, max(1, sum(client.nthreads().values())))
        pickle.dumps(asker)  # says what of an agent cannot travel, before anything does
        self._client = client
        self._name = uuid4().hex[:12]
        self._futures: list[Any] = []

    def start(self) -> None:
        """Hand the rows to the cluster."""
        self._futures = self._client.map(
            ask_row,
            [self._prompt(place) for place in self._places],
            agent=self._asker,
            parameters=self._ask.parameters,
            batch=self._name,
            # A key of our own: Dask would take two equal prompts for one task.
            key=[f"agent_magic-{self._name}-{place}" for place in self._places],
            pure=False,
        )
        Thread(target=self._collect, name="agent_magic map", daemon=True).start()

    def stop(self, ending: Ending = "stopped") -> None:
        """End the rows in the workers, which give back what has arrived of them."""
        with self._lock:
            if self._ending is not None or self.is_over:
                return
            self._ending = ending
        Thread(target=self._stop, args=(ending,), name="agent_magic map", daemon=True).start()

    def _stop(self, ending: Ending) -> None:
        with suppress(Exception):  # a cluster that has gone has nothing to stop; what it had is not waited for
            self._client.run(stop_rows, self._name, self._asker, ending, on_error="ignore")
        if not self._over.wait(STOP_SECONDS):
            with suppress(Exception):
                self._client.cancel(self._futures)
            self._over.wait(STOP_SECONDS)
        self._finish()

    def _collect(self) -> None:
        """Take each row as it comes."""
        from distributed import as_completed

        places = {future.key: place for place, future in zip(self._places, self._futures, strict=True)}
        try:
            for future, outcome in as_completed(self._futures, with_results=True, raise_errors=False):
                if isinstance(outcome, AgentResult):
                    self._put(places[future.key], outcome)
                elif self._ending is None:
                    self._put(places[future.key], self._unasked(places[future.key], _error(outcome)))
                future.release()
        except Exception as error:  # noqa: BLE001 (whatever Dask says, the rows that it has not given back have failed)
            for place in self._places:
                self._put(place, self._unasked(place, self._ending or _error(error)))
        finally:
            self._finish()


def _error(outcome: Any) -> StreamLost:
    """What went wrong, of what Dask says of a task: the exception's type, itself and its traceback."""
    raised = outcome[1] if isinstance(outcome, tuple) and len(outcome) == 3 else outcome
    said = " ".join(f"{type(raised).__name__}: {raised}".split())[:300].rstrip(".")
    return StreamLost(f"The Dask cluster gave this row back unanswered ({said}); ask again with retry().")
