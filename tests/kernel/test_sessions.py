"""Conversations in a real kernel: kept here and sent with each turn, or kept by the server."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent_magic.testing import Connection, ScriptedServer, head
from tests.kernel._kernel import Cell, Kernel, running_kernel
from tests.protocols.test_openai import chunk, stream


async def numbered(connection: Connection) -> None:
    """An agent whose answers name their number; it fails where it is asked to."""
    messages = connection.body()["messages"]
    if "fail" in messages[-1]["content"]:
        await connection.send(head() + stream(chunk({"content": "half"}), {"error": {"message": "No"}}))
        return
    said = f"answer {connection.number}"
    await connection.send(head() + stream(chunk({"content": said}), chunk(reason="stop"), "[DONE]"))


class Talk(NamedTuple):
    """A kernel whose agent `mine` is at `server`."""

    kernel: Kernel
    server: ScriptedServer

    def turn(self, cell_id: str, prompt: str, options: str = "-s talk") -> Cell:
        cell = self.kernel.send(f"%%agent mine {options}\n{prompt}", cell_id=cell_id)
        self.kernel.wait_for(cell)
        return cell

    def line(self, cell: Cell) -> str:
        """What the line says of the conversation."""
        return str(cell.outputs[-1]["data"]["text/plain"]).split(" · in ")[0].rpartition(" characters/s · ")[2]

    def sent(self) -> list[str]:
        """What went along with the last question, the question itself last."""
        return [message["content"] for message in self.server.bodies()[-1]["messages"]]


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    """One kernel for all tests; each has a session of its own."""
    folder = tmp_path_factory.mktemp("talk")
    with ScriptedServer(numbered) as server:
        (folder / "agent_magic.toml").write_text(
            f'[agents.mine]\nprotocol = "openai"\nagent = "m"\nbase_url = "{server.url}/v1"\nkey_env = ""\n'
            f'[agents.other]\nprotocol = "openai"\nagent = "m"\nbase_url = "{server.url}/v1"\nkey_env = ""\n'
            'system = "Be brief."\n'
        )
        with running_kernel(Path(sys.executable), folder) as kernel:
            assert kernel.run("%load_ext agent_magic").status == "ok"
            yield Talk(kernel, server)


def test_turns_go_along(talking: Talk) -> None:
    """Each turn sends what was said before; without -s, or in another session, nothing goes along."""
    first = talking.turn("a", "One?")
    assert (talking.line(first), talking.sent()) == ("session talk, turn 1", ["One?"])
    answer = talking.kernel.evaluate("_agent.text")
    second = talking.turn("b", "Two?")
    assert (talking.line(second), talking.sent()) == ("session talk, turn 2", ["One?", answer, "Two?"])
    talking.turn("c", "Alone?", "")
    assert talking.sent() == ["Alone?"]
    talking.turn("d", "Else?", "-s else")
    assert talking.sent() == ["Else?"]


def test_a_cell_that_is_run_again(talking: Talk) -> None:
    """It takes the place of its own turn; the later turns are stale, but stay, until they are run again."""
    for cell_id, prompt in (("a", "One?"), ("b", "Two?"), ("c", "Three?")):
        talking.turn(cell_id, prompt, "-s again")
    one, two, three = talking.sent()[1], talking.sent()[3], talking.kernel.evaluate("_agent.text")
    again = talking.turn("b", "Two, changed?", "-s again")
    assert talking.line(again) == "session again, turn 2 · 1 later turn now stale"
    assert talking.sent() == ["One?", one, "Two, changed?"]
    new_two = talking.kernel.evaluate("_agent.text")
    assert new_two != two
    fourth = talking.turn("d", "Four?", "-s again")
    assert talking.line(fourth) == "session again, turn 4 · earlier turns are stale"
    assert talking.sent() == ["One?", one, "Two, changed?", new_two, "Three?", three, "Four?"]
    assert "again    mine   4      1      this kernel  Four?" in talking.kernel.evaluate(
        "get_ipython().run_line_magic('agent', 'sessions')"
    )
    third = talking.turn("c", "Three?", "-s again")
    assert talking.line(third) == "session again, turn 3 · 1 later turn now stale"


def test_a_failed_turn_is_not_said(talking: Talk) -> None:
    """What failed is no part of the conversation; run again, the cell takes its place."""
    talking.turn("a", "One?", "-s failing")
    failed = talking.turn("b", "Please fail", "-s failing")
    assert failed.status == "error"
    talking.turn("c", "Three?", "-s failing")
    assert [said for said in talking.sent() if "answer" not in said] == ["One?", "Three?"]
    talking.turn("b", "Two?", "-s failing")
    assert [said for said in talking.sent() if "answer" not in said] == ["One?", "Two?"]


def test_new(talking: Talk) -> None:
    """``--new`` forgets what was said; a mistake on the way there forgets nothing."""
    talking.turn("a", "One?", "-s new")
    assert talking.turn("b", "{{ nobody }}", "-s new --new").error["ename"] == "PromptError"
    talking.turn("b", "Two?", "-s new")
    assert talking.sent()[0] == "One?"
    talking.turn("c", "Anew?", "-s new --new")
    assert talking.sent() == ["Anew?"]


def test_a_session_is_with_one_agent(talking: Talk) -> None:
    """What was said to one agent is not sent to another one."""
    talking.turn("a", "One?", "-s one")
    cell = talking.kernel.send("%%agent other -s one\nTwo?", cell_id="b")
    talking.kernel.wait_for(cell)
    assert "The session 'one' is with 'mine' and not with 'other'" in cell.error["evalue"]


def test_the_system_text_goes_first(talking: Talk) -> None:
    """A setting `system` stands before all that was said."""
    cell = talking.kernel.send("%%agent other -s system\nTwo?", cell_id="b")
    talking.kernel.wait_for(cell)
    assert talking.server.bodies()[-1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Two?"},
    ]


def test_a_turn_waits_for_the_one_before(talking: Talk) -> None:
    """A turn in the background is waited for, as it goes along."""
    kernel = talking.kernel
    cells = [
        kernel.send("%%agent mine -s waits -b -o one\nOne?", cell_id="a"),
        kernel.send("%%agent mine -s waits -o two\nTwo?", cell_id="b"),
    ]
    kernel.wait_for(*cells)
    assert talking.sent() == ["One?", kernel.evaluate("one.text"), "Two?"]


def test_the_dry_run_shows_the_conversation(talking: Talk) -> None:
    """What would be sent, with what was said before; nothing is sent, and the conversation stays as it was."""
    talking.turn("a", "One?", "-s dry")
    asked = len(talking.server.requests)
    shown = talking.turn("b", "Two?", "-s dry --dry-run").printed
    body: dict[str, Any] = json.loads("{" + shown.partition("\n\n{")[2].rpartition("}\n\n")[0] + "}")
    assert [message["content"] for message in body["messages"]][::2] == ["One?", "Two?"]
    talking.turn("c", "Three?", "-s dry")
    assert [talking.sent()[0], talking.sent()[-1], len(talking.server.requests)] == ["One?", "Three?", asked + 1]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--new", "say which one with -s NAME"),
        ("-s ''", "cannot be a conversation's name"),
        ("--sesion a", "did you mean --session?"),
    ],
)
def test_mistakes(talking: Talk, line: str, words: str) -> None:
    """A wrong option is one sentence."""
    assert words in talking.turn("a", "One?", line).error["evalue"]


def test_run_all_again_costs_nothing(talking: Talk) -> None:
    """On tapes, also where the server keeps the conversation: each cell is replayed in the place that it had."""
    cells = [("r1", "One?"), ("r2", "Two?"), ("r1", "One?"), ("r2", "Two?"), ("r1", "One?")]
    said = []
    for cell_id, prompt in cells:
        cell = talking.kernel.send(f"%%agent demo -s taped --tape auto -p stream_delay_ms=0\n{prompt}", cell_id=cell_id)
        talking.kernel.wait_for(cell)
        parts = cell.outputs[-1]["data"]["text/plain"].split(" · ")
        said.append((parts[2], next(part for part in parts if part.startswith("session"))))
    assert said == [
        ("recorded", "session taped, turn 1"),
        ("recorded", "session taped, turn 2"),
        ("replayed", "session taped, turn 1"),
        ("replayed", "session taped, turn 2"),
        ("replayed", "session taped, turn 1"),
    ]
    changed = talking.kernel.send("%%agent demo -s taped --tape auto\nTwo, changed?", cell_id="r2")
    talking.kernel.wait_for(changed)
    assert changed.error["ename"] == "TapeMissing"
    assert "with --new and --tape record" in changed.error["evalue"]
