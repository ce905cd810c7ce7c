"""A research task that a cell reads: stopped in its kernel, killed with it, and gone on with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_magic.testing import Connection, ScriptedServer, YouResearchService, head
from tests.kernel._kernel import Cell, running_kernel
from tests.kernel.test_recover import kill, shown

SERVICE = YouResearchService(["The sky is blue, ", "as air scatters ", "short waves more."])
TEXT = "".join(SERVICE.pieces)
TASK = SERVICE.name_of(0)
STREAM = f"/v1/research/{TASK}/stream"
GOES_ON = (
    f"Only the reading has ended: research task {TASK} goes on at the server, and is charged. "
    "%agent recover RUN --resume reads the rest."
)


async def halfway(connection: Connection) -> None:
    """A task whose first reader sees two steps; whoever comes back sees the rest, for it has gone on meanwhile."""
    target = connection.head.split(" ", 2)[1]
    if target == f"{STREAM}?from_id=2":
        await SERVICE.take_up(connection, 2, "repeats")
    elif target == STREAM:
        await connection.send(head() + b"".join(SERVICE.events[:3]))
        await connection.stall()
    else:
        said = SERVICE.begun(TASK) if target == "/v1/research" else SERVICE.finished(TASK)
        await connection.send(head("application/json", "200 OK", f"Content-Length: {len(said)}") + said)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedServer]:
    """The server, and settings in the kernels' folder in which it is the agent `it`."""
    with ScriptedServer(halfway) as server:
        said = f'[agents.it]\nprotocol = "you-research"\nbase_url = "{server.url}"\nkey_env = ""\nagent = "deep"\n'
        (tmp_path / "agent_magic.toml").write_text(said)
        yield server


def asked(server: ScriptedServer) -> list[str]:
    return [request.split(b" HTTP")[0].decode() for request in server.requests]


ONE_TASK = ["POST /v1/research", f"GET {STREAM}", f"GET {STREAM}?from_id=2", f"GET /v1/research/{TASK}"]


def is_at_step_2(cell: Cell) -> bool:
    return any("step 2" in str(content) for content in cell.contents("comm_msg"))


def test_stop_says_what_it_stops(tmp_path: Path, server: ScriptedServer) -> None:
    """The line says that only the reading has ended and how the rest is had; it is had so, and from the same task."""
    with running_kernel(Path(sys.executable), tmp_path) as kernel:
        kernel.run("%load_ext agent_magic")
        cell = kernel.send("%%agent it -o answer\nWhy?")
        kernel.read_until(lambda: cell.button and is_at_step_2(cell))
        assert cell.button is not None
        kernel.click(cell.button)
        kernel.wait_for(cell)
        assert cell.status == "ok"
        line = cell.outputs[-1]["data"]["text/plain"]
        assert line.startswith("it · stopped · ")
        assert GOES_ON in line
        assert kernel.evaluate("(answer.status, answer.notices)") == repr(("stopped", [GOES_ON]))
        assert "stopped" in shown(kernel.run("%agent history 1"))["text/plain"]
        assert kernel.evaluate("get_ipython().run_line_magic('agent', 'history')[0].notices") == repr([GOES_ON])
        assert kernel.run("get_ipython().run_line_magic('agent', f'recover {answer.run_id} --resume')").status == "ok"
        assert kernel.evaluate("(_agent.wait(60).status, _agent.text, _agent.notices)") == repr(("done", TEXT, []))
    assert asked(server) == ONE_TASK


def test_killed_and_gone_on_with(tmp_path: Path, server: ScriptedServer) -> None:
    """A kernel that is killed takes no task with it: another one reads the rest, and begins no second task."""
    python = Path(sys.executable)
    with running_kernel(python, tmp_path) as first, running_kernel(python, tmp_path) as second:
        first.run("%load_ext agent_magic")
        second.run("%load_ext agent_magic")
        cell = first.send("%%agent it\nWhy?")
        first.read_until(lambda: is_at_step_2(cell))
        kill(first)
        second.run("r = %agent recover")
        assert second.evaluate("(r.status, r.notices)") == repr(("failed", [GOES_ON]))
        assert second.run("whole = %agent recover --resume").status == "ok"
        assert second.evaluate("(whole.wait(60).status, whole.text, whole.notices)") == repr(("done", TEXT, []))
    assert asked(server) == ONE_TASK
