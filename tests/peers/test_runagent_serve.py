"""The wire `runagent-ws` against the server that RunAgent ships: a peer that nobody here wrote."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_magic import Agent, AgentResult
from agent_magic._run import Run
from agent_magic.errors import AgentError
from agent_magic.events import Started
from agent_magic.testing import ScriptedServer, refuses
from tests.kernel._kernel import Kernel, running_kernel
from tests.peers._runagent import AGENT_ID, running_runagent

TAPES = Path(__file__).parents[1] / "protocols" / "tapes" / "runagent-ws"
ANSWER = "You asked: Why? 0 1 2 \N{DNA DOUBLE HELIX} “done”\n"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server, which asks nobody else for anything."""
    with ScriptedServer(refuses("503 No")) as proxy:
        with running_runagent(tmp_path_factory.mktemp("runagent"), proxy.url) as url:
            yield url
        assert proxy.requests == []


def agent(url: str, tag: str | None = None, **settings: Any) -> Agent:
    parameters = {} if tag is None else {"entrypoint_tag": tag}
    known = {"protocol": "runagent-ws", "agent": AGENT_ID, "key_env": "", "parameters": parameters}
    return Agent(**{**known, "base_url": url, "timeout": 30, "retries": 0, **settings})


def test_an_answer(url: str) -> None:
    """Each yield of the function is a piece of the answer; the server's own figures are kept."""
    result = agent(url).ask("Why?")
    assert (result.text, result.status) == (ANSWER, "done")
    assert result.execution_time is not None
    (started,) = [event for event in result.events if isinstance(event, Started)]
    assert started.run_id
    assert agent(url, "plain_stream").ask("Why?").text == "one two"


def test_arguments(url: str) -> None:
    """A parameter is an argument of the function; the prompt is its first one, or the one that is named."""
    assert agent(url).ask("Why?", times=0).text == "You asked: Why? \N{DNA DOUBLE HELIX} “done”\n"
    named = agent(url, parameters={"entrypoint_tag": "values_stream", "prompt_as": "message"}).ask("Why?")
    assert named.text == "Why?0.5"
    assert [json.loads(artifact.data) for artifact in named.artifacts] == [[1, {"a": "b"}]]
    with pytest.raises(AgentError, match="unexpected keyword argument 'nonsense'"):
        agent(url).ask("Why?", nonsense=1)


def test_an_agent_that_breaks(url: str) -> None:
    """What had arrived before the function raised is kept, and its words are told."""
    result, _ = agent(url, "breaks_stream").begin("Why?")
    result.wait(30)
    assert (result.status, result.text) == ("failed", "half an ans")
    assert isinstance(result.error, AgentError)
    assert "Streaming error: the model is gone" in str(result.error)


def listening() -> socket.socket:
    """Where the endless agent says that it was left."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(30)
    return listener


def left(listener: socket.socket) -> bytes:
    with listener, listener.accept()[0] as connection:
        return connection.recv(100)


def test_stop(url: str) -> None:
    """A stop reaches the agent itself: its function is left where it was."""
    listener = listening()
    result, run = begun(agent(url, "endless_stream"), listener)
    run.stop()
    assert left(listener) == b"left"
    assert result.wait(30).status == "stopped"
    assert result.text.startswith("a")


def begun(asked: Agent, listener: socket.socket) -> tuple[AgentResult, Run]:
    """A run of the endless agent of which a part has arrived."""
    result, run = asked.begin("Why?", {"port": listener.getsockname()[1]})
    arrived = threading.Event()
    run.listen(lambda: arrived.set() if run.transcript.text else None)
    assert arrived.wait(30)
    return result, run


def test_an_entrypoint_that_does_not_exist(url: str) -> None:
    """The server's own words, and where the names are."""
    with pytest.raises(AgentError) as caught:
        agent(url, "nope_stream").ask("Why?")
    assert "Entrypoint nope_stream not found. Name one that the agent has" in str(caught.value)
    assert f"{url}/api/v1/agents/{AGENT_ID}/architecture" in str(caught.value)


def test_an_agent_that_does_not_exist(url: str) -> None:
    """The server refuses the handshake with a status that says something else; the sentence says what it may be."""
    with pytest.raises(AgentError, match=r"answered 403.*check the agent's id"):
        agent(url, agent="nobody").ask("Why?")


def test_the_documented_wire(url: str) -> None:
    """The server has no SSE endpoint; who asks there is told which wire it has."""
    with pytest.raises(AgentError, match="the wire runagent-ws"):
        agent(url, protocol="runagent", parameters={}).ask("Why?")


def test_many(url: str) -> None:
    """Many prompts over as many sockets, in order."""
    results = agent(url).map([f"{number}?" for number in range(12)], concurrency=6, progress=False)
    assert [result.text.partition("? ")[0] for result in results] == [f"You asked: {number}" for number in range(12)]
    assert {result.status for result in results} == {"done"}


def test_the_tape_is_what_the_server_says(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tape that is kept beside the wire's tests has what the server sends today."""
    monkeypatch.setenv("AGENT_MAGIC_TAPES", str(tmp_path / "new"))
    agent(url, tape="record").ask("Why?")
    (kept,), (new,) = TAPES.glob(f"{AGENT_ID}-*.jsonl"), (tmp_path / "new").glob("*.jsonl")
    assert new.name == kept.name
    assert steady(new) == steady(kept)


def steady(tape: Path) -> list[Any]:
    """What of a tape is the same each time."""
    lines = [json.loads(line) for line in tape.read_text().splitlines()]
    frames = [json.loads(line["data"]) for line in lines if line["kind"] == "event"]
    return [lines[0]["question"]] + [
        {name: value for name, value in frame.items() if name not in {"invocation_id", "execution_time"}}
        for frame in frames
    ]


@pytest.fixture(scope="module")
def kernel(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel in a folder whose settings name an agent `mine`, and one that never ends."""
    folder = tmp_path_factory.mktemp("cells")
    named = f'protocol = "runagent-ws"\nbase_url = "{url}"\nagent = "{AGENT_ID}"\nkey_env = ""\ntimeout = 30\n'
    endless = 'parameters = { entrypoint_tag = "endless_stream" }\n'
    (folder / "agent_magic.toml").write_text(f"[agents.mine]\n{named}[agents.endless]\n{named}{endless}")
    with running_kernel(Path(sys.executable), folder, AGENT_MAGIC_STATE=str(folder / "state")) as kernel:
        assert kernel.run("%load_ext agent_magic").status == "ok"
        yield kernel


def test_a_cell(kernel: Kernel) -> None:
    """A cell streams it, and binds it."""
    cell = kernel.run("%%agent mine -o answer -p times=3\nWhy?")
    assert cell.status == "ok"
    assert "You asked: Why? 0 1 2" in cell.painted
    assert kernel.evaluate("repr((answer.text, answer.status))") == repr((ANSWER, "done"))


def test_the_button(kernel: Kernel) -> None:
    """A click on Stop ends the cell, the agent's function is left, and the next cell runs."""
    listener = listening()
    cell = kernel.send(f"%%agent endless -o answer -p port={listener.getsockname()[1]}\nWhy?")
    kernel.read_until(lambda: cell.button is not None and "ab" in cell.painted)
    assert cell.button is not None
    kernel.click(cell.button)
    kernel.wait_for(cell)
    assert cell.status == "ok"
    assert left(listener) == b"left"
    assert kernel.evaluate("answer.status, answer.text[:2]") == "('stopped', 'ab')"
