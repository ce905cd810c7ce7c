"""Keys in a real kernel, without a screen, and at a terminal: who is asked, where the key goes, and that nobody sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pexpect
import pytest
from nbclient import NotebookClient

from agent_magic.testing import ScriptedServer, event_stream, in_turn, refuses, says
from tests.kernel._kernel import Cell, Kernel, running_kernel
from tests.kernel._venvs import VERSIONS, kernel_python
from tests.test_secrets import KEY, WHOLE, shown

DONE = says(event_stream(("chunk", {"content": "Hi there", "index": 0}), ("done", {})))
# A keyring in a file: keyring's own class for tests is not installed with it, and the machine's own is nobody's business here.
RING = """
import json, pathlib
from keyring.backend import KeyringBackend

class Ring(KeyringBackend):
    priority = 1
    path = pathlib.Path(__file__).with_name("ring.json")

    def get_password(self, service, username):
        return json.loads(self.path.read_text()).get(username) if self.path.exists() else None

    def set_password(self, service, username, password):
        self.path.write_text(json.dumps({username: password}))

    def delete_password(self, service, username):
        self.path.unlink()
"""


def settings(folder: Path, url: str) -> None:
    agents = "".join(
        f'[agents.{name}]\nprotocol = "runagent"\nbase_url = "{url}"\nkey_env = "TEAM_KEY"\nretries = 0\n'
        for name in ("mine", "other")
    )
    (folder / "config.toml").write_text(agents)


@pytest.fixture(params=(VERSIONS[0], VERSIONS[-1]))
def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kernel]:
    """A kernel whose own settings are `config.toml`, and in which no key is set."""
    with running_kernel(kernel_python(request.param), tmp_path, AGENT_MAGIC_CONFIG="config.toml") as kernel:
        assert kernel.run("%load_ext agent_magic").outputs == []
        yield kernel


def key_of(request: bytes) -> str:
    line = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"authorization:"))
    return line.partition(b"Bearer ")[2].decode()


def everything(*cells: Cell) -> str:
    return json.dumps([cell.messages for cell in cells], default=str)


def test_a_prompt(kernel: Kernel, tmp_path: Path) -> None:
    """The first cell asks, hidden; the key goes to the server and nowhere else, and serves every agent with that variable."""
    with ScriptedServer(in_turn(DONE, says(WHOLE), refuses(f"500 {KEY}"))) as server:
        settings(tmp_path, server.url)
        kernel.run("%xmode Verbose")
        cell = kernel.send("%%agent mine -o answer\nWhy?")
        asked = kernel.prompt()
        host = server.url.removeprefix("http://")
        assert asked == {"prompt": f"Key for {host} (TEAM_KEY), kept for this session only: ", "password": True}
        kernel.client.input(KEY)
        kernel.wait_for(cell)
        cells = [cell, kernel.run("import os; print(os.environ.get('TEAM_KEY'), answer.text)")]
        cells += [kernel.run(code) for code in ("%%agent other -o answer\nWhy?", "answer.text", "%agent show mine")]
        cells += [kernel.run(code) for code in ("%%agent mine\nWhy?", "1/0", "_agent.ask('Why?')", "%agent history")]
    assert [cell.status for cell in cells] == ["ok"] * 5 + ["error"] * 3 + ["ok"]
    assert cells[1].printed == "None Hi there\n"
    assert "this session" in everything(cells[4])
    assert [key_of(request) for request in server.requests] == [KEY] * 3
    assert KEY not in shown(everything(*cells))
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.suffix == ".jsonl" for path in left) == 3
    assert [path for path in left if KEY in shown(path.read_bytes().decode("latin-1"))] == []


def test_a_prompt_that_is_not_answered(kernel: Kernel, tmp_path: Path) -> None:
    """An empty answer and an interrupt are one line each, nothing is sent, and variables stay; unloading forgets a key."""
    with ScriptedServer(in_turn(refuses("401 No"), DONE, DONE)) as server:
        settings(tmp_path, server.url)
        kernel.run("answer = 'before'")
        empty = kernel.send("%%agent mine -o answer\nWhy?")
        kernel.prompt()
        kernel.client.input("")
        kernel.wait_for(empty)
        kernel.run("pass")  # a kernel aborts what comes within a moment of a failure
        interrupted = kernel.send("%%agent mine -o answer\nWhy?")
        kernel.prompt()
        kernel.interrupt()
        kernel.wait_for(interrupted)
        assert server.requests == []
        assert [len(cell.error["traceback"]) for cell in (empty, interrupted)] == [1, 1]
        assert [cell.error["ename"] for cell in (empty, interrupted)] == ["AuthError", "KeyboardInterrupt"]
        assert kernel.evaluate("answer") == "before"
        refused = answered(kernel, "%%agent mine\nWhy?", "wrong")
        assert "The key that was typed is forgotten; the next cell asks for it again." in refused.error["traceback"][0]
        assert answered(kernel, "%%agent mine\nWhy?", KEY).status == "ok"
        kernel.run("%reload_ext agent_magic")
        assert answered(kernel, "%%agent mine\nWhy?", KEY).status == "ok"
        assert [key_of(request) for request in server.requests] == ["wrong", KEY, KEY]


def answered(kernel: Kernel, code: str, key: str) -> Cell:
    kernel.run("pass")  # see above
    cell = kernel.send(code)
    kernel.prompt()
    kernel.client.input(key)
    kernel.wait_for(cell)
    return cell


def test_nobody_is_asked(kernel: Kernel, tmp_path: Path) -> None:
    """A request that allows no stdin, a dry run and `%agent show` get no prompt; the first is one sentence."""
    with ScriptedServer(DONE) as server:
        settings(tmp_path, server.url)
        cell = kernel.run("%%agent mine\nWhy?", headless=True)
        assert cell.error["traceback"][0].startswith(
            "AuthError: There is no key: set the environment variable TEAM_KEY,"
        )
        assert len(cell.error["traceback"]) == 1
        dry = kernel.run("%%agent mine --dry-run\nWhy?")
        assert "Authorization: Bearer ***\n" in dry.printed
        assert dry.printed.endswith("There is no key yet: TEAM_KEY is not set.\n")
        assert kernel.run("%agent show mine").status == "ok"
        assert server.requests == []


def test_login(tmp_path: Path) -> None:
    """`%agent login` stores the key; a kernel that is started later has it, without a prompt, also headless."""
    (tmp_path / "ring.py").write_text(RING)
    environment = {
        "AGENT_MAGIC_CONFIG": "config.toml",
        "PYTHON_KEYRING_BACKEND": "ring.Ring",
        "PYTHONPATH": str(tmp_path),
    }
    python = Path(sys.executable)
    with ScriptedServer(DONE) as server:
        settings(tmp_path, server.url)
        host = server.url.removeprefix("http://")
        with running_kernel(python, tmp_path, **environment) as kernel:
            kernel.run("%load_ext agent_magic")
            cell = kernel.send("%agent login mine")
            assert kernel.prompt() == {
                "prompt": f"Key for {host} (TEAM_KEY), to be stored in the keyring: ",
                "password": True,
            }
            kernel.client.input(KEY)
            kernel.wait_for(cell)
            assert cell.printed == f"The key for {host} is in the keyring, as TEAM_KEY.\n"
            assert KEY not in shown(everything(cell))
            headless = kernel.run("%agent login mine", headless=True)
            assert "nobody can answer here; set the environment variable TEAM_KEY." in headless.error["traceback"][0]
        with running_kernel(python, tmp_path, **environment) as kernel:
            kernel.run("%load_ext agent_magic")
            cell = kernel.run("%%agent mine\nWhy?", headless=True)
            assert (cell.status, key_of(server.requests[0])) == ("ok", KEY)
            assert kernel.run("%agent logout mine").printed == "The keyring holds TEAM_KEY no longer.\n"
            assert not (tmp_path / "ring.json").exists()
            assert KEY not in shown(everything(*kernel.cells.values()))


def test_nbclient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook that is run without a screen ends with one sentence, and no prompt hangs it."""
    settings(tmp_path, "http://127.0.0.1:1")
    monkeypatch.setenv("AGENT_MAGIC_CONFIG", str(tmp_path / "config.toml"))
    cells = [nbformat.v4.new_code_cell(source) for source in ("%load_ext agent_magic", "%%agent mine\nWhy?")]  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=60, allow_errors=True).execute()
    (output,) = notebook.cells[1].outputs
    assert (output.ename, len(output.traceback)) == ("AuthError", 1)
    assert "set the environment variable TEAM_KEY" in output.evalue


def test_a_terminal(tmp_path: Path) -> None:
    """At a terminal the prompt is hidden too: the key is sent, and stands nowhere on the screen."""
    with ScriptedServer(DONE) as server:
        settings(tmp_path, server.url)
        child = pexpect.spawn(
            sys.executable,
            ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor", "--no-confirm-exit"],
            env={
                **os.environ,
                "IPYTHONDIR": str(tmp_path / "ipython"),
                "TERM": "dumb",
                "AGENT_MAGIC_CONFIG": "config.toml",
            },
            dimensions=(40, 200),
            encoding="utf-8",
            timeout=60,
        )
        with (tmp_path / "screen.txt").open("w") as screen:
            child.logfile_read = screen
            child.expect(r"In \[1\]: ")
            child.sendline("%load_ext agent_magic")
            child.expect(r"In \[2\]: ")
            child.sendline("get_ipython().run_cell('%%agent mine\\nWhy?')")
            child.expect(r"Key for 127\.0\.0\.1:\d+ \(TEAM_KEY\), kept for this session only: ")
            child.waitnoecho()
            child.sendline(KEY)
            child.expect("Hi there")
            child.expect(r"In \[\d+\]: ")
            child.sendline("exit")
            child.expect(pexpect.EOF)
    assert [key_of(request) for request in server.requests] == [KEY]
    assert shown((tmp_path / "screen.txt").read_text()) == []


def test_a_pipe(tmp_path: Path) -> None:
    """IPython in a pipe asks nobody."""
    settings(tmp_path, "http://127.0.0.1:1")
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--colors=NoColor", "-c", "%load_ext agent_magic\nget_ipython().run_cell('%%agent mine\\nWhy?')"],
        env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), "AGENT_MAGIC_CONFIG": "config.toml"},
        stdin=subprocess.PIPE, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "AuthError: There is no key: set the environment variable TEAM_KEY," in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
