"""What `%agent doctor` finds outside a notebook: hosts, keys, settings, journal; and what it never tells."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbclient
import nbformat
import pytest
import trustme

from agent_magic._agent import Agent
from agent_magic._doctor import Report, examine
from agent_magic._verbs import manage
from agent_magic.testing import ScriptedServer

pytestmark = pytest.mark.usefixtures("nothing_said")

SECRET = "sk-this-must-never-be-shown-0123456789"
NO_SHELL = SimpleNamespace(user_ns={})


def answers_with(status: str) -> Any:
    """A server that notes what it is asked and answers with `status`."""
    asked: list[bytes] = []

    def script(connection: socket.socket, request: bytes, _number: int) -> None:
        asked.append(request)
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    script.asked = asked  # type: ignore[attr-defined]
    return script


def write(tmp_path: Path, **agents: str) -> None:
    """Settings of the person's own with these agents."""
    folder = tmp_path / "user" / "agent_magic"
    folder.mkdir(parents=True)
    tables = (f'[agents.{name}]\nprotocol = "runagent"\n{text}\n' for name, text in agents.items())
    (folder / "config.toml").write_text("\n".join(tables))


def looked(report: Report) -> dict[str, tuple[str, str]]:
    """By agent: its key, and whether its host answers."""
    return {one.agent: (one.key, one.answers) for one in report.agents}


def row(report: Report, wanted: str) -> str:
    (said,) = [said for rows in report.sections.values() for name, said in rows if name == wanted]
    return said


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port of this machine on which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_hosts_and_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    """Whatever status a host answers with, it is there; the key is looked for and never sent."""
    monkeypatch.setenv("RUNAGENT_API_KEY", SECRET)
    monkeypatch.setenv("SPOILT_KEY", f"{SECRET}\u00e9")
    script = answers_with("404 Not Found")
    with ScriptedServer(script) as server:
        write(
            tmp_path,
            there=f'base_url = "{server.url}"',
            keyless=f'base_url = "{server.url}"\nkey_env = ""',
            missing=f'base_url = "{server.url}"\nkey_env = "NOT_SET_KEY"',
            spoilt=f'base_url = "{server.url}"\nkey_env = "SPOILT_KEY"',
            gone=f'base_url = "http://127.0.0.1:{free_port}"',
            plain='base_url = "http://nowhere.invalid"\nkey_env = "RUNAGENT_API_KEY"\ntimeout = 1',
        )
        monkeypatch.setattr("agent_magic._doctor.HOST_SECONDS", 0.5)
        report = examine(NO_SHELL)
        assert [request.partition(b"\r\n")[0] for request in script.asked] == [b"HEAD / HTTP/1.1"]
        assert b"authorization" not in script.asked[0].lower()
        host = server.url.removeprefix("http://")
    found = looked(report)
    assert {name: key for name, (key, _) in found.items()} == {
        "local": "none wanted",
        "demo": "none wanted",
        "demo-you": "none wanted",
        "there": "RUNAGENT_API_KEY: present",
        "keyless": "none wanted",
        "missing": "NOT_SET_KEY: missing",
        "spoilt": "SPOILT_KEY: cannot be sent in a header",
        "gone": "RUNAGENT_API_KEY: present",
        "plain": found["plain"][0],
    }
    assert found["plain"][0].startswith("would not be sent: A key is sent over https only")
    answers = {name: answer for name, (_, answer) in found.items()}
    assert {answers[name] for name in ("there", "keyless", "missing", "spoilt")} == {"yes (HTTP 404)"}
    assert answers["gone"].startswith(f"no: no connection to 127.0.0.1:{free_port} could be made")
    assert answers["plain"].startswith("no: ")
    assert (answers["demo"], answers["demo-you"]) == ("yes", "yes")
    assert f"host             {host}" in report.text
    for shown in (report.text, repr(report), report._repr_html_()):
        assert SECRET not in shown


def test_a_key_that_was_written_into_the_settings(tmp_path: Path) -> None:
    """Where somebody wrote the key itself into key_env, it is not shown either."""
    write(tmp_path, a='base_url = "http://127.0.0.1:9"\nkey_env = "sk_abcdefghijkl"')
    report = examine(NO_SHELL)
    assert looked(report)["a"][0] == "the variable of key_env: missing"
    assert "sk_abc" not in report.text


@pytest.mark.parametrize(
    "text",
    [f'key_env = "{SECRET}"', f'base_url = "https://example.com?key={SECRET}"', f'base_url = "me:{SECRET}@host"'],
)
def test_a_settings_file_that_is_refused(tmp_path: Path, text: str) -> None:
    """Its mistake is the trouble that is told, without what may be a key."""
    write(tmp_path, a=text)
    report = examine(NO_SHELL)
    assert "config.toml: agents.a" in row(report, "trouble")
    for shown in (report.text, report._repr_html_()):
        assert SECRET not in shown


def test_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    """What is wrong with a TLS connection is said in one sentence."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:

        def serve() -> None:
            connection, _ = listener.accept()
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True):
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        stack.callback(thread.join)
        write(tmp_path, tls=f'base_url = "https://localhost:{listener.getsockname()[1]}"\nkey_env = ""')
        answer = looked(examine(NO_SHELL))["tls"][1]
    assert answer.startswith("no: The certificate of localhost:")


def test_settings_and_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that were read, the names of variables and no values, the journal and what it holds."""
    write(tmp_path, mine='base_url = "http://127.0.0.1:9"')
    (tmp_path / "agent_magic.toml").write_text('default = "demo"\n')
    monkeypatch.setenv("HTTPS_PROXY", "http://user:password@127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))
    before = examine(NO_SHELL)
    assert row(before, "journal") == "~/state/journal, writable, 0 runs, 0.0 MiB"
    assert not (tmp_path / "state").exists()
    Agent("demo").ask("Why?", stream_delay_ms=0)
    report = examine(NO_SHELL)
    assert row(report, "settings files") == "~/agent_magic.toml, ~/user/agent_magic/config.toml"
    assert row(report, "default agent") == "demo"
    assert row(report, "variables set") == "AGENT_MAGIC_STATE, HTTPS_PROXY"
    assert row(report, "journal").startswith("~/state/journal, writable, 1 run, 0.")
    assert "password" not in report.text
    monkeypatch.setenv("AGENT_MAGIC_JOURNAL", "0")
    assert row(examine(NO_SHELL), "journal").startswith("switched off; ")


def test_broken_settings_are_a_finding(tmp_path: Path) -> None:
    """A file that cannot be read stops everything else, but not the doctor."""
    (tmp_path / "agent_magic.toml").write_text("[agents.x]\nprotocol = 3\n")
    report = examine(NO_SHELL)
    assert "agents.x.protocol" in row(report, "trouble")
    assert report.agents == []


def test_front_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the front end it is said what was seen, and "unknown" where nothing was."""
    for name in list(os.environ):
        if name.startswith(("VSCODE_", "JPY_", "COLAB_", "KAGGLE_", "JUPYTERHUB_", "DATABRICKS_", "PYCHARM_")):
            monkeypatch.delenv(name)
    assert row(examine(NO_SHELL), "front end") == "unknown"
    monkeypatch.setenv("VSCODE_PID", "1")
    message = {"metadata": {"colab": {}}, "content": {"allow_stdin": True}}
    shell = SimpleNamespace(get_parent=lambda: message)
    assert row(examine(shell), "front end") == "the request is Colab's; VS Code (VSCODE_PID is set)"


def test_outside_a_kernel() -> None:
    """In a terminal there is no button, and it says what ends a run there; `%agent doctor` is the way to all this."""
    report = manage("doctor", NO_SHELL)
    assert isinstance(report, Report)
    assert row(report, "Stop works here") == "there is no button here: Ctrl-C ends a run"
    assert row(report, "kernel") == "none, SimpleNamespace"
    assert repr(report) == report.text


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, _attrs: Any) -> None:
        self.tags.add(tag)


def test_what_is_found_is_text(tmp_path: Path) -> None:
    """A name from a settings file is no HTML, and steers no terminal; a home of another name is not touched."""
    report = Report({"where": [("a", "<script>1</script>\x1b[2J\nb")]}, [])
    parser = _Tags()
    parser.feed(report._repr_html_())
    assert "script" not in parser.tags
    assert report.sections["where"] == [("a", "<script>1</script>␛[2J b")]


def test_in_nbclient(tmp_path: Path) -> None:
    """Run without anybody, it says so, at once, and leaves no widget in the notebook."""
    cells = [nbformat.v4.new_code_cell(code) for code in ("%load_ext agent_magic", "%agent doctor")]  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    nbclient.NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    (output,) = notebook.cells[1].outputs
    assert "nobody answers: this run is headless" in output.data["text/plain"]
    assert "widgets" not in notebook.metadata


def test_a_host_that_may_not_have_the_key_is_not_asked(tmp_path: Path) -> None:
    """A project's file cannot have the doctor call where trust refuses; and what may be a key is not quoted."""
    script = answers_with("200 OK")
    with ScriptedServer(script) as server:
        (tmp_path / "agent_magic.toml").write_text(
            f'[agents.beacon]\nprotocol = "runagent"\nbase_url = "{server.url}/beacon"\n'
            '[agents.odd]\nprotocol = "runagent"\nkey_env = "gsk_aBcDeF0123456789"\n'
        )
        report = examine(NO_SHELL)
        assert script.asked == []
    found = looked(report)
    assert found["beacon"][1].startswith("no: ")
    assert "which your own settings do not name" in found["beacon"][1]
    assert "gsk_aBcDeF" not in report.text
    assert "the variable of key_env" in found["odd"][1]
