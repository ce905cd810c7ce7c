"""A map over a real Dask cluster of processes: the key is in the workers' environment, and nowhere else."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from distributed import Client, LocalCluster

from agent_magic import Agent
from agent_magic._run import live_runs
from agent_magic._spread import ClusterBatch
from agent_magic.demo import DemoServer
from agent_magic.errors import ConfigError
from agent_magic.testing import Connection, ScriptedServer, event_stream, head

KEY = "k-0123456789abcdef"
VARIABLE = "MAP_KEY_OF_WORKERS"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two worker processes of one thread each; they have the key, this process has not."""
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with LocalCluster(**options, env={VARIABLE: KEY}) as cluster, Client(cluster) as client:
        assert VARIABLE not in os.environ
        yield client


@pytest.fixture(scope="module")
def locked_url() -> Iterator[str]:
    """An agent that wants the key."""
    server = DemoServer(key=KEY, delay_ms=0)
    yield server.start()
    server.stop()


def agent_at(url: str, **settings: Any) -> Agent:
    return Agent(**{"protocol": "runagent", "base_url": url, "key_env": VARIABLE, "backoff": 0, **settings})


def heard() -> int:
    """In a worker: how many of its rows have text."""
    return sum(bool(run.transcript.text) for run in live_runs())


class Halves:
    """Says a word to each client, and then nothing; when two workers have heard it, does `then` in a thread."""

    def __init__(self, client: Client) -> None:
        self.then: Callable[[], object] = lambda: None
        self.waiting = 0
        self._client = client

    async def script(self, connection: Connection) -> None:
        await connection.send(head() + event_stream(("chunk", {"content": "half", "index": 0})))
        self.waiting += 1
        if self.waiting == 2:
            threading.Thread(target=self._when_heard).start()
        await connection.stall()

    def _when_heard(self) -> None:
        while sum(self._client.run(heard).values()) < 2:
            pass
        self.then()


def test_rows_are_spread_and_the_key_is_the_workers_own(client: Client, locked_url: str) -> None:
    """Rows run in the workers' processes with the key that is there, and come back finished and in order."""
    results = agent_at(locked_url).map(["a", None, "b", "a"], client=client, progress=False)
    assert [result.status for result in results] == ["done", "failed", "done", "done"]
    assert [result.prompt for result in results] == ["a", "", "b", "a"]
    assert "You asked: b" in results[2].text
    assert results[2].usage.total_tokens is not None
    assert results[0].run_id != results[3].run_id
    assert KEY.encode() not in pickle.dumps(results)


def test_a_key_of_this_process_does_not_travel(
    client: Client, locked_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that only this process has is of no use to the workers: it is in no task, which the scheduler shows."""
    monkeypatch.setenv("MAP_KEY_AT_HOME", KEY)
    results = agent_at(locked_url, key_env="MAP_KEY_AT_HOME").map(["a", "b"], client=client, progress=False)
    assert [str(result.error).partition(",")[0] for result in results] == [
        "There is no key: set the environment variable MAP_KEY_AT_HOME"
    ] * 2
    halves = Halves(client)
    seen: list[list[bytes]] = []
    with ScriptedServer(halves.script) as server:
        agent = agent_at(server.url)
        monkeypatch.setenv(VARIABLE, KEY)
        batch = ClusterBatch(agent, agent.prepare("?", dry=True), ["one prompt", "two"], client)
        there = threading.Event()
        halves.then = there.set
        batch.start()
        assert there.wait(60)
        seen.append(client.run_on_scheduler(tasks_of_scheduler))
        batch.stop()
        batch.wait()
    (tasks,) = seen
    assert [b"one prompt" in b"".join(tasks), KEY.encode() in b"".join(tasks)] == [True, False]


def tasks_of_scheduler(dask_scheduler: Any) -> list[bytes]:
    """Each task that the scheduler holds, as bytes."""
    return [pickle.dumps(task.run_spec) for task in dask_scheduler.tasks.values()]


def test_a_stop_reaches_the_workers(client: Client) -> None:
    """A stop ends what the workers are reading; that much comes back, and rows that wait are not begun."""
    halves = Halves(client)
    with ScriptedServer(halves.script) as server:
        agent = agent_at(server.url)
        batch = ClusterBatch(agent, agent.prepare("?", dry=True), list("abcdef"), client)
        halves.then = batch.stop
        batch.start()
        batch.wait()
        assert len(server.requests) == 2
    rows = batch.results()
    assert sorted((row.status, row.text) for row in rows) == [("stopped", "")] * 4 + [("stopped", "half")] * 2
    assert (batch.tally().status, batch.tally().left) == ("stopped", 6)


def test_an_interrupt_keeps_what_has_arrived(client: Client) -> None:
    """Ctrl-C raises KeyboardInterrupt here, ends the rows there, and what they had is in `last_results`."""
    halves = Halves(client)
    halves.then = lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    with ScriptedServer(halves.script) as server:
        agent = agent_at(server.url)
        with pytest.raises(KeyboardInterrupt):
            agent.map(["a", "b"], client=client, progress=False)
    assert agent.last_results is not None
    assert [(row.status, row.text) for row in agent.last_results] == [("interrupted", "half")] * 2


def test_the_embedded_agent_starts_in_the_worker(client: Client) -> None:
    """`demo` is the worker's own, and a retry goes to the cluster again."""
    results = Agent("demo").map(["a", ""], client=client, progress=False, chunk_size=1000)
    assert [(result.agent, result.status) for result in results] == [("demo", "done"), ("demo", "failed")]
    assert [result.status for result in results.retry()] == ["done", "failed"]


def test_a_row_that_the_cluster_loses_is_a_failed_result(client: Client) -> None:
    """A cluster that gives a task back without its result is said, and the other rows are none the worse."""
    halves = Halves(client)
    with ScriptedServer(halves.script) as server:
        agent = agent_at(server.url)
        batch = ClusterBatch(agent, agent.prepare("?", dry=True), ["a", "b"], client)
        halves.then = lambda: client.cancel(batch._futures)
        batch.start()
        batch.wait()
    assert {str(row.error).partition(" (")[0] for row in batch.results()} == {
        "The Dask cluster gave this row back unanswered"
    }


def test_nothing_that_can_be_asked(client: Client, locked_url: str) -> None:
    """Rows without a prompt cost the cluster nothing."""
    results = agent_at(locked_url).map(["", None], client=client, progress=False)
    assert [result.status for result in results] == ["failed", "failed"]


def test_what_cannot_travel_is_said_before_anything_is_sent(client: Client, locked_url: str) -> None:
    """A secret header, and a client that `map` cannot use, are a sentence."""
    with pytest.raises(ConfigError, match="X-Api-Key"):
        agent_at(locked_url, headers={"X-Api-Key": KEY}).map(["a"], client=client)
