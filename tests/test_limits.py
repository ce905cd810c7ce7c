"""Limits of a run's cost, and what a run costs; the limits of size are in tests/faults."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from agent_magic._agent import Agent
from agent_magic._policy import Policy, Price
from agent_magic.errors import ConfigError, LimitReached
from agent_magic.events import Usage
from agent_magic.protocols.you import You
from agent_magic.testing import ScriptedServer, YouService, event_stream, run_against, says

PRICE = {"input": 3.0, "output": 15.0}


def answer(usage: dict[str, Any] | None) -> bytes:
    return event_stream(("chunk", {"content": "a"}), ("done", {} if usage is None else {"usage": usage}))


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(input_tokens=1_000_000, output_tokens=1_000_000), 18.0),
        (Usage(input_tokens=1_000_000), 3.0),
        (Usage(output_tokens=1_000_000), 15.0),
        (Usage(total_tokens=1_000_000), 15.0),
        (Usage(input_tokens=400_000, total_tokens=1_000_000), 10.2),
        (Usage(input_tokens=2, total_tokens=1), 6e-06),
        (Usage(), None),
    ],
)
def test_what_usage_costs(usage: Usage, cost: float | None) -> None:
    """Tokens that are not told apart count as output, so that the cost is rather too high than too low."""
    assert Price(**PRICE).of(usage) == pytest.approx(cost)


def test_a_result_knows_its_cost() -> None:
    """`cost` is there with a price, also after pickling, and None without one."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 2000}
    with ScriptedServer(says(answer(usage))) as server:
        priced = Agent(protocol="runagent", base_url=server.url, key_env="", price=PRICE).ask("Why?")
        free = Agent(protocol="runagent", base_url=server.url, key_env="").ask("Why?")
    assert priced.cost == pytest.approx(0.033)
    assert free.cost is None
    assert pickle.loads(pickle.dumps(priced)).cost == priced.cost


@pytest.mark.parametrize(("most", "status"), [(0.032, "failed"), (0.033, "done"), (0, "failed")])
def test_max_cost(most: float, status: str) -> None:
    """A run that costs more than max_cost fails with its whole text kept, for RunAgent tells its usage at the end."""
    with ScriptedServer(says(answer({"prompt_tokens": 1000, "completion_tokens": 2000}))) as server:
        agent = Agent(protocol="runagent", base_url=server.url, key_env="", price=PRICE, max_cost=most)
        result, _ = agent.begin("Why?")
        result.wait(20)
    assert (result.status, result.text) == (status, "a")
    assert result.cost == pytest.approx(0.033)
    if status == "failed":
        assert isinstance(result.error, LimitReached)
        assert f"has cost 0.033, more than max_cost = {most:g}" in str(result.error)
        assert server.url.removeprefix("http://") in str(result.error)


def test_a_wire_without_usage_says_so() -> None:
    """Where the server does not say what was used, max_cost cannot be kept, and that is said."""
    service = YouService(["a"])
    policy = Policy(price=Price(**PRICE), max_cost=1)
    with ScriptedServer(says(service.recorded)) as server:
        run = run_against(server.url, You(), policy)
    assert run.transcript.status == "done"
    assert "max_cost could not be kept" in run.transcript.notices[0]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_cost": 1.0}, "max_cost needs a price"),
        ({"max_cost": -1.0, "price": PRICE}, "max_cost is an amount"),
        ({"max_cost": float("nan"), "price": PRICE}, "max_cost is an amount"),
        ({"price": {"input": -1, "output": 1}}, "price.input"),
        ({"price": {"input": 1, "output": float("inf")}}, "price.output"),
        ({"price": {"input": 1}}, "output"),
        ({"price": {"input": 1, "output": 1, "cached": 1}}, "cached"),
        ({"price": 3}, "price"),
        ({"max_text": 0}, "max_text"),
        ({"max_events": -1}, "max_events"),
        ({"max_event": 0}, "max_event"),
        ({"max_data": 0}, "max_data"),
        ({"max_text": "many"}, "max_text"),
    ],
)
def test_limits_that_cannot_be(wrong: dict[str, Any], words: str) -> None:
    """Each mistake is one sentence, before anything is sent."""
    with pytest.raises(ConfigError) as caught:
        Agent(protocol="runagent", key_env="", **wrong)
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


def test_the_defaults_are_the_same_everywhere() -> None:
    """A setting that is not made is the policy's own default."""
    from agent_magic._config import AgentConfig

    config, policy = AgentConfig(), Policy()
    assert {name: getattr(config, name) for name in Policy.__struct_fields__} == {
        name: getattr(policy, name) for name in Policy.__struct_fields__
    }
