"""A run: beside the caller, stopped from any thread, gone when the process ends."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agent_magic._agent import Agent
from agent_magic._request import AgentRequest
from agent_magic._result import AgentResult
from agent_magic._run import Run, live_runs
from agent_magic._stream import Policy
from agent_magic.errors import AgentError, StreamLost
from agent_magic.events import Done, Text
from agent_magic.protocols.runagent import RunAgent, RunAgentDecoder
from agent_magic.testing import ScriptedServer, event_stream, head, says


def endless(server: Any, connection: socket.socket) -> None:
    connection.sendall(head() + event_stream(("start", {"session_id": "s"}), ("chunk", {"content": "a", "index": 0})))
    server.wait_for_disconnect(connection)


def begun(url: str) -> tuple[AgentResult, Run]:
    """A run whose first text has arrived."""
    run = Run(RunAgent(), AgentRequest("Why?", url, "demo"), Policy(timeout=20), "test")
    arrived = threading.Event()
    run.listen(lambda: arrived.set() if run.transcript.text else None)
    run.start()
    assert arrived.wait(10)
    return AgentResult(run, {}), run


def test_stop_closes_the_socket() -> None:
    """Stop ends the run with what had arrived, and the server sees the client go."""
    with ScriptedServer(lambda connection, _request, _number: endless(server, connection)) as server:
        result, run = begun(server.url)
        assert (result.status, result.text) == ("running", "a")
        run.stop()
        run.stop()
        assert result.wait(10).status == "stopped"
        assert server.disconnected.wait(10)
    assert (result.text, result.error) == ("a", None)
    assert run not in live_runs()


def test_stop_before_the_connection() -> None:
    """A run that is stopped at once ends as stopped."""
    with ScriptedServer(lambda connection, _request, _number: endless(server, connection)) as server:
        run = Run(RunAgent(), AgentRequest("Why?", server.url, "demo"), Policy(), "test")
        run.stop()
        run.start()
        assert run.wait(10)
    assert run.transcript.status == "stopped"


def test_stop_during_a_wait() -> None:
    """A stop does not wait for a retry."""
    with ScriptedServer(says(event_stream(("start", {"session_id": "s"})))) as server:
        run = Run(RunAgent(), AgentRequest("Why?", server.url, "demo"), Policy(backoff=60), "test")
        waiting = threading.Event()
        run.listen(lambda: waiting.set() if run.transcript.retry_at else None)
        run.start()
        assert waiting.wait(10)
        run.stop()
        assert run.wait(10)
    assert run.transcript.status == "stopped"


def test_stop_from_many_threads_at_once(demo_url: str) -> None:
    """Many stops, from many threads, are one."""
    for _ in range(20):
        result, run = Agent(protocol="runagent", base_url=demo_url, key_env="").begin("Why?", {"stream_delay_ms": 5})
        threads = [threading.Thread(target=run.stop) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert result.wait(10).status in {"stopped", "done"}


def test_a_failed_result_pickles_with_its_error() -> None:
    """A finished result pickles and copies, its error and its fields too."""
    failed = {"error": "No", "code": "STREAM_ERROR"}
    with ScriptedServer(says(event_stream(("chunk", {"content": "a"}), ("error", failed)))) as server:
        result, _ = Agent(protocol="runagent", base_url=server.url, key_env="").begin("Why?")
        result.wait(10)
    for twin in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert isinstance(twin.error, AgentError)
        assert (twin.error.code, str(twin.error)) == ("STREAM_ERROR", str(result.error))
        assert (twin.text, twin.status, twin.events, twin.prompt) == ("a", "failed", result.events, "Why?")
        assert twin.wait().elapsed == result.elapsed


def test_a_running_result_does_not_pickle() -> None:
    """A result that still grows says how to pickle it."""
    with ScriptedServer(lambda connection, _request, _number: endless(server, connection)) as server:
        result, run = begun(server.url)
        with pytest.raises(pickle.PicklingError, match="wait"):
            pickle.dumps(result)
        run.stop()


def test_wait_with_a_limit() -> None:
    """`wait` with a limit raises TimeoutError, and the run goes on."""
    with ScriptedServer(lambda connection, _request, _number: endless(server, connection)) as server:
        result, run = begun(server.url)
        with pytest.raises(TimeoutError):
            result.wait(0.01)
        assert result.status == "running"
        run.stop()


def test_a_result_can_be_awaited(demo_url: str) -> None:
    """`await result`, `aask` and the event stream, all in the caller's own loop."""
    agent = Agent(protocol="runagent", base_url=demo_url, key_env="")

    async def use() -> tuple[AgentResult, AgentResult, list[Any]]:
        growing, _ = agent.begin("Why?")
        return await growing, await agent.aask("Why?"), [event async for event in agent.stream("Why?")]

    first, second, events = asyncio.run(use())
    assert first.text == second.text == "".join(event.text for event in events if isinstance(event, Text))
    assert isinstance(events[-1], Done)


def test_leaving_a_stream_closes_the_connection() -> None:
    """A loop over the events that is left early ends the run."""

    async def first_text(url: str) -> None:
        events = Agent(protocol="runagent", base_url=url, key_env="").stream("Why?")
        async for event in events:
            if isinstance(event, Text):
                break
        await events.aclose()  # type: ignore[attr-defined]

    with ScriptedServer(lambda connection, _request, _number: endless(server, connection)) as server:
        asyncio.run(first_text(server.url))
        assert server.disconnected.wait(10)


def test_ask_raises_what_made_it_fail() -> None:
    """From Python a failure is an exception."""
    with ScriptedServer(says(b"")) as server, pytest.raises(StreamLost):
        Agent(protocol="runagent", base_url=server.url, key_env="", retries=0).ask("Why?")


# In dev mode asyncio tells of each step that took 0.1 s, as some do on a busy machine. All else it says counts.
QUICK_ENOUGH = """\
import logging
logging.getLogger("asyncio").addFilter(lambda record: record.msg != "Executing %s took %.3f seconds")
"""


@pytest.mark.parametrize("busy", [False, True])
def test_a_plain_script_exits(busy: bool, tmp_path: Path) -> None:
    """A script that used an agent exits, also while an answer is still on its way."""
    script = tmp_path / "script.py"
    script.write_text(
        QUICK_ENOUGH + "from agent_magic import Agent\n"
        f"result, run = Agent('demo').begin('Why?', {{'stream_delay_ms': {10_000 if busy else 0}}})\n"
        + ("" if busy else "result.wait()\n")
        + "print(result.status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "running\n" if busy else "done\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("asks", [False, True])
def test_a_forked_child_exits(asks: bool, tmp_path: Path) -> None:
    """A child that was forked after a run exits as any script does, also when it has asked by itself."""
    script = tmp_path / "script.py"
    script.write_text(
        QUICK_ENOUGH + "import os, sys\n"
        "from agent_magic import Agent\n"
        "from agent_magic._run import live_runs\n"
        "agent = Agent('demo')\n"
        "agent.ask('Why?', stream_delay_ms=0)\n"
        "_, run = agent.begin('Why?', {'stream_delay_ms': 1_000})\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    print('child', live_runs())\n"
        + ("    print(agent.ask('Why?', stream_delay_ms=0).status)\n" if asks else "")
        + "    sys.exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), live_runs() == [run])\n"
    )
    # From 3.12 on Python warns of every fork beside a thread.
    options = ["-W", "error", "-W", "ignore:This process:DeprecationWarning", "-X", "dev"]
    done = subprocess.run([sys.executable, *options, script], capture_output=True, text=True, timeout=60, check=False)
    said = "child []\n" + ("done\n" if asks else "") + "7 True\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


def test_the_result_of_an_answer(demo_url: str) -> None:
    """What the wire said is in the result, and the result knows what is in its text."""
    result = Agent(protocol="runagent", base_url=demo_url, key_env="").ask("Why is the sky blue?")
    assert (result.status, result.error, result.agent, result.protocol) == ("done", None, "runagent", "runagent")
    assert str(result) == result.text
    assert (result.usage.input_tokens, result.usage.raw["prompt_tokens"]) == (5, 5)
    assert result.session_id
    assert result.execution_time is not None
    assert result.first_event is not None
    assert result.first_event <= result.elapsed
    assert [(block.language, "mean" in block.source) for block in result.code] == [("python", True)]
    (table,) = result.tables
    assert list(table.columns) == ["word", "count", "letters"]
    assert "done" in repr(result)


def test_json_of_an_answer() -> None:
    """`json()` reads the answer, or the one JSON block in it; else it says so."""
    answers = {'{"a": 1}': {"a": 1}, "Here:\n```json\n[1, 2]\n```\n": [1, 2]}
    for text, value in answers.items():
        with ScriptedServer(says(event_stream(("chunk", {"content": text}), ("done", {})))) as server:
            result = Agent(protocol="runagent", base_url=server.url, key_env="").ask("Why?")
        assert result.json() == value
    with ScriptedServer(says(event_stream(("chunk", {"content": "no"}), ("done", {})))) as server:
        result = Agent(protocol="runagent", base_url=server.url, key_env="").ask("Why?")
    with pytest.raises(Exception, match="not JSON"):
        result.json()


class Panicking(RunAgent):
    """A protocol whose decoder raises `error`."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def decoder(self, ask: AgentRequest) -> RunAgentDecoder:
        decoder = super().decoder(ask)

        def decode(_sent: object) -> list[Any]:
            raise self._error

        decoder.decode = decode  # type: ignore[method-assign, assignment]
        return decoder


class SpeechlessError(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize("error", [SystemExit(1), SpeechlessError(), type("Panic", (BaseException,), {})()])
def test_whatever_befalls_one_run(error: BaseException) -> None:
    """The run that it befalls has failed; the others go on, and new ones begin."""
    with ScriptedServer(lambda connection, _request, _number: endless(other, connection)) as other:
        going = Run(RunAgent(), AgentRequest("Why?", other.url, "demo"), Policy(), "test")
        going.start()
        with ScriptedServer(says(event_stream(("chunk", {"content": "a", "index": 0})))) as server:
            for _ in range(2):
                run = Run(Panicking(error), AgentRequest("Why?", server.url, "demo"), Policy(), "test")
                run.start()
                assert run.wait(30)
                assert run.transcript.status == "failed"
                assert type(error).__name__ in str(run.transcript.error)
        assert not going.is_over
        going.stop()
        assert going.wait(30)
        assert going.transcript.status == "stopped"


NO_FILES = """
import os, resource
from agent_magic import Agent
agent = Agent(protocol="runagent", base_url="http://127.0.0.1:1", key_env="", retries=0)
agent.prepare("Why?")
import agent_magic._run
held = []
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for turn in range(2):
    try:
        print(agent.begin("Why?")[0].wait(10).error)
    except Exception as error:
        print(type(error).__name__, error)
    for file in held:
        os.close(file)
    held = []
"""


@pytest.mark.skipif(os.name != "posix", reason="limits the files of a process")
def test_no_files_left() -> None:
    """Where the machine has no files left a run says so, and with files there again the next one begins."""
    environment = {**os.environ, "AGENT_MAGIC_JOURNAL": "0"}
    done = subprocess.run(
        [sys.executable, "-c", NO_FILES], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    first, second = done.stdout.splitlines()
    assert first.startswith("StreamLost The machine has nothing left to make a connection with")
    assert second.startswith("No connection to 127.0.0.1:1 could be made")
