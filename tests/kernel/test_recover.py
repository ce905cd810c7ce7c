"""A kernel that is killed in mid-stream, and another that takes up what it left."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_magic._journal import journal_folder, tapes
from agent_magic.testing import ScriptedServer, event_stream, head
from tests.kernel._kernel import Cell, Kernel, running_kernel

FIRST, REST = [f"word {place} " for place in range(40)], [f"more {place} " for place in range(20)]


class Halfway(ScriptedServer):
    """A server that sends the first part of an answer and waits, and resumes with the rest."""

    def __init__(self) -> None:
        super().__init__(self._answer)

    def _answer(self, connection: socket.socket, _request: bytes, number: int) -> None:
        pieces = FIRST if number == 0 else REST
        begin = 0 if number == 0 else len(FIRST)
        chunks = [("chunk", {"content": piece, "index": begin + place}) for place, piece in enumerate(pieces)]
        connection.sendall(head() + event_stream(("start", {"session_id": "s"}), *chunks))
        if number == 0:
            self.wait_for_disconnect(connection)
        else:
            connection.sendall(event_stream(("done", {})))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Halfway]:
    """The server, and settings in the kernels' folder that call it `it`."""
    with Halfway() as server:
        said = f'[agents.it]\nprotocol = "runagent"\nbase_url = "{server.url}"\nkey_env = ""\n'
        (tmp_path / "agent_magic.toml").write_text(said)
        yield server


def on_disk() -> None:
    """Wait until the first part of the answer is on the tape, as its kernel left it there."""
    deadline = time.monotonic() + 60
    while not (tapes(journal_folder()) and FIRST[-1].encode() in tapes(journal_folder())[0].read_bytes()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill(kernel: Kernel) -> None:
    """As the system kills a process that takes too much memory: with nothing said."""
    pid = kernel.manager.provisioner.pid  # type: ignore[union-attr]
    os.kill(pid, signal.SIGKILL)
    while kernel.manager.provisioner.process.poll() is None:  # type: ignore[union-attr]
        time.sleep(0.01)


def shown(cell: Cell) -> dict[str, str]:
    (result,) = cell.contents("execute_result")
    return dict(result["data"])


def test_killed_and_recovered(tmp_path: Path, server: Halfway) -> None:
    """While it lives it is not taken for dead; killed, all that was on disk comes back, and it goes on from there."""
    python = Path(sys.executable)
    with running_kernel(python, tmp_path) as first, running_kernel(python, tmp_path) as second:
        first.run("%load_ext agent_magic")
        first.send("%%agent it -o answer\nWhy?")
        second.run("%load_ext agent_magic")
        on_disk()
        assert "running" in shown(second.run("%agent history"))["text/plain"]
        assert "No run was cut off" in second.run("%agent recover").printed
        partial = second.evaluate("get_ipython().run_line_magic('agent', 'history')[0].status")
        assert partial == "running"

        kill(first)
        cell = second.run("r = %agent recover\nr")
        assert cell.status == "ok"
        assert second.evaluate("r.text") == "".join(FIRST).rstrip("\n")
        assert (
            second.evaluate("r is _agent, r.status, type(r.error).__name__, r.prompt")
            == "(True, 'failed', 'StreamLost', 'Why?')"
        )
        assert (
            second.evaluate("[event.index for event in r.events if hasattr(event, 'index')] == list(range(40))")
            == "True"
        )
        assert "cut off" in shown(second.run("%agent history 1"))["text/html"]

        assert second.run("whole = %agent recover --resume").status == "ok"
        assert second.evaluate("whole.wait(60).status, whole is _agent") == "('done', True)"
        assert second.evaluate("whole.text") == "".join(FIRST + REST).rstrip("\n")
        assert server.bodies()[1]["parameters"] == {"resume_from_index": 40}
    assert len(tapes(journal_folder())) == 2


def test_two_kernels_write_at_once(tmp_path: Path) -> None:
    """Each kernel's runs are in the history of the other."""
    python = Path(sys.executable)
    ask = "for _ in range(5):\n    get_ipython().run_cell_magic('agent', 'demo -q -p stream_delay_ms=1', 'Why?')"
    with running_kernel(python, tmp_path) as first, running_kernel(python, tmp_path) as second:
        kernels = [first, second]
        for kernel in kernels:
            kernel.run("%load_ext agent_magic")
        threads = [threading.Thread(target=kernel.run, args=(ask,)) for kernel in kernels]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for kernel in kernels:
            kernel.run("runs = %agent history")
            assert (
                kernel.evaluate("len(runs), {run.status for run in runs}, len({run.text for run in runs})")
                == "(10, {'done'}, 1)"
            )


def test_mistakes(tmp_path: Path) -> None:
    """A wrong word and a wrong run are one line each, and the help names the verbs."""
    with running_kernel(Path(sys.executable), tmp_path) as kernel:
        kernel.run("%load_ext agent_magic")
        for line, words in (
            ("%agent recovr", "did you mean %agent recover"),
            ("%agent recover abc", "There is no run 'abc'"),
        ):
            cell = kernel.run(line)
            assert (cell.status, len(cell.error["traceback"])) == ("error", 1)
            assert words in cell.error["traceback"][0]
        assert "%agent history [N]" in kernel.evaluate("get_ipython().magics_manager.magics['line']['agent'].__doc__")
        assert "No runs are written down" in shown(kernel.run("%agent history"))["text/plain"]
