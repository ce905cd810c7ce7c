"""The views outside a notebook: a terminal with rich, a pipe."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
from rich.console import Console

from agent_magic.protocols.runagent import RunAgent
from agent_magic.testing import ScriptedServer, event_stream, run_against, says
from agent_magic.views._base import Caption, visible
from agent_magic.views.plain import PlainView
from agent_magic.views.terminal import TerminalView

HOSTILE = "a\x1b[2Jb\x9bc\u202ed\x07e\rf\r\ng\th\x7f"
HARMLESS = "a␛[2Jb<U+009B>c<U+202E>d␇e␍f\ng\th␡"


def test_control_characters_are_made_visible() -> None:
    """ESC, C1, bidi marks and lone carriage returns are shown and not obeyed; line ends and tabs stay."""
    assert visible(HOSTILE) == HARMLESS


@pytest.mark.parametrize("kind", ["terminal", "plain"])
def test_an_answer_cannot_steer_the_terminal(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No control character of an answer, a session or an error reaches the terminal."""
    sent = event_stream(("start", {"session_id": HOSTILE}), ("chunk", {"content": HOSTILE}), ("done", {}))
    with ScriptedServer(says(sent)) as server:
        run = run_against(server.url, RunAgent())
    screen = io.StringIO()
    caption = Caption(run, "answer")
    console = Console(file=screen, width=100, color_system=None, force_terminal=False)
    view = TerminalView(run, caption, console) if kind == "terminal" else PlainView(run, caption)
    view.open()
    view.show()
    view.close()
    printed = capsys.readouterr()
    everything = screen.getvalue() + printed.out + printed.err
    assert not set(everything) & {"\x1b", "\x9b", "\u202e", "\x07", "\r", "\x7f"}
    assert "␛[2Jb" in everything


def ipython(tmp_path: Path, *, columns: int = 100) -> pexpect.spawn:
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), "TERM": "xterm", "COLUMNS": str(columns)}
    child = pexpect.spawn(
        sys.executable,
        ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor", "--no-confirm-exit"],
        env=environment,
        dimensions=(40, columns),
        encoding="utf-8",
        timeout=60,
    )
    child.expect(r"In \[1\]: ")
    child.sendline("%load_ext agent_magic")
    child.expect(r"In \[2\]: ")
    return child


def ask(child: pexpect.spawn, line: str, prompt: str) -> None:
    code = f"get_ipython().run_cell({f'{line}' + chr(10) + prompt!r})"
    child.sendline(code)


def test_a_terminal(tmp_path: Path) -> None:
    """In a terminal IPython the answer is printed as Markdown, with the line below it."""
    child = ipython(tmp_path)
    ask(child, "%%agent -o answer", "Why is the sky blue?")
    child.expect("What a real agent would do now")
    child.expect("in answer")
    child.expect(r"In \[\d+\]: ")
    child.sendline("print(answer.status, answer.text[:12])")
    child.expect("done ## You asked")
    child.sendline("exit")
    child.expect(pexpect.EOF)


def test_ctrl_c_in_a_terminal(tmp_path: Path) -> None:
    """Ctrl-C ends the answer in one line, keeps what had arrived, and the prompt is back."""
    child = ipython(tmp_path)
    ask(child, "%%agent -o answer -p stream_delay_ms=100", "Why is the sky blue?")
    child.expect("writing")
    child.expect("embedded")
    child.sendintr()
    child.expect("interrupted")
    child.expect("KeyboardInterrupt")
    child.expect(r"In \[\d+\]: ")
    child.sendline("print(answer.status, answer.text != '')")
    child.expect("interrupted True")
    child.sendline("exit")
    child.expect(pexpect.EOF)


@pytest.mark.parametrize("rich", [True, False])
def test_a_pipe(rich: bool, tmp_path: Path) -> None:
    """Into a pipe goes the text alone; the line goes to stderr. rich is not needed."""
    (tmp_path / "ask.ipy").write_text("%load_ext agent_magic\nget_ipython().run_cell('%%agent\\nWhy?')\n")
    hide = "import sys; sys.modules['rich'] = None; " if not rich else ""
    run = f"{hide}from IPython import start_ipython; start_ipython(['--colors=NoColor', 'ask.ipy'])"
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")}
    done = subprocess.run(
        [sys.executable, "-c", run],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("## You asked: Why?")
    assert done.stdout.endswith("the same cell asks it instead.\n")
    assert done.stderr.startswith("demo · done · ")


def test_a_pipe_is_told_when_the_answer_changes(capsys: pytest.CaptureFixture[str]) -> None:
    """Text that comes before text that was written cannot be put there; the pipe gets the whole again, and is told."""
    from agent_magic._request import AgentRequest
    from agent_magic._run import Run
    from agent_magic._stream import Policy
    from agent_magic.events import Text

    run = Run(RunAgent(), AgentRequest("Why?", "http://127.0.0.1:1", "demo"), Policy(), "test")
    view = PlainView(run, Caption(run, "answer"))
    run.transcript.apply(Text(text="BBB", item=1))
    view.show()
    run.transcript.apply(Text(text="AAA", item=0))
    view.close()
    written = capsys.readouterr().out
    assert written.startswith("BBB")
    assert written.endswith("so far:]\n\nAAABBB\n")


def test_steps_outside_a_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe gets the answer alone, and stderr each thought and tool, whole, in order; a terminal has all of it."""
    from agent_magic._request import AgentRequest
    from agent_magic._run import Run
    from agent_magic._stream import Policy
    from agent_magic.events import Done, Reasoning, Text, ToolCall, ToolResult

    run = Run(RunAgent(), AgentRequest("Why?", "http://127.0.0.1:1", "demo"), Policy(), "test")
    screen = io.StringIO()
    caption = Caption(run, "answer")
    console = Console(file=screen, width=100, color_system=None, force_terminal=False)
    views = PlainView(run, caption), TerminalView(run, caption, console)
    for event in (
        Reasoning(text="Look\x1b it up."),
        ToolCall(id="a", name="search", arguments='{"q": "sky"}'),
        ToolResult(id="a", result="It scatters."),
        Text(text="Blue."),
        Reasoning(text="Is that all?"),
        Text(text=" It is."),
        ToolCall(id="b", name="look"),
        ToolResult(id="b", result="42"),
        Done(),
    ):
        run.transcript.apply(event)
        for view in views:
            view.show()
    run.transcript.close("done", elapsed=1.0)
    for view in views:
        view.close()
    printed = capsys.readouterr()
    assert printed.out == "Blue. It is.\n"
    expected = [
        "thought",
        "Look␛ it up.",
        'search(q="sky")',
        '"q": "sky"',
        "It scatters.",
        "\nthought",
        "Is that all?",
        "\nlook()",
    ]
    for everything in (printed.err, screen.getvalue()):
        places, start = [], 0
        for said in expected:
            start = everything.index(said, start) + 1
            places.append(start)
        assert places == sorted(places)
        assert "test · done" in everything[start:]
