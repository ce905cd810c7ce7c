"""Runs in the background, and conversations, in real kernels of each ipykernel that differs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel._kernel import Cell, Kernel, running_kernel
from tests.kernel._venvs import VERSIONS, kernel_python
from tests.kernel.test_kernels import outputs

SLOW = "-p stream_delay_ms=40"


@pytest.fixture(scope="module", params=VERSIONS)
def kernel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One kernel for each version; every test leaves it idle."""
    folder = tmp_path_factory.mktemp(f"kernel-{request.param}")
    with running_kernel(kernel_python(request.param), folder) as kernel:
        assert kernel.run("%load_ext agent_magic").status == "ok"
        yield kernel


def filled(kernel: Kernel, cell: Cell) -> None:
    """Wait until a background cell has its two final outputs."""
    kernel.read_until(
        lambda: [name for name in outputs(cell) if name] == ["text/markdown", "text/html"] and ended(cell)
    )


def ended(cell: Cell) -> bool:
    return " · in " in cell.outputs[-1]["data"].get("text/plain", "")


def writing(kernel: Kernel, cell: Cell) -> None:
    kernel.read_until(lambda: "You asked" in cell.painted)


class TestBackground:
    """``-b``."""

    def test_the_cell_ends_at_once_and_goes_on_filling(self, kernel: Kernel) -> None:
        """Its reply comes while the answer is still written; its own outputs get it, whatever runs meanwhile."""
        cell = kernel.send(f"%%agent -b -o first {SLOW}\nWhy?", cell_id="b1")
        other = kernel.send(
            "print(first.status)\nimport time\nwhile first.status == 'running': time.sleep(0.01)\nprint('over')",
            cell_id="x",
        )
        kernel.wait_for(cell, other)
        filled(kernel, cell)
        assert cell.status == "ok"
        assert other.printed == "running\nover\n"
        assert {output["output_type"] for output in other.outputs} == {"stream"}
        answer, line = cell.outputs
        assert answer["data"]["text/plain"].startswith("## You asked: Why?")
        assert line["data"]["text/plain"].startswith("demo · done · ")
        assert kernel.evaluate("(first.status, first is _agent)") == "('done', True)"

    @pytest.mark.parametrize("how", ["free", "asking", "awaiting"])
    def test_stop(self, kernel: Kernel, how: str) -> None:
        """Its Stop works while the kernel is free, while another agent is asked, and while a cell awaits its result."""
        cell = kernel.send(f"%%agent -b -o first {SLOW}\nWhy?", cell_id="b1")
        second = {"asking": f"%%agent -o second {SLOW}\nWhy not?", "awaiting": "print((await first).status)"}.get(how)
        other = None if second is None else kernel.send(second, cell_id="x")
        kernel.read_until(lambda: cell.button)
        writing(kernel, cell)
        if other is not None and how == "asking":
            writing(kernel, other)
        assert cell.button is not None
        kernel.click(cell.button)
        filled(kernel, cell)
        assert "demo · stopped" in cell.outputs[1]["data"]["text/plain"]
        if other is not None:
            kernel.wait_for(other)
            assert other.printed == ("stopped\n" if how == "awaiting" else "")
        assert kernel.evaluate("first.status") == "stopped"

    def test_a_later_cell_waits_for_it(self, kernel: Kernel) -> None:
        """A prompt that uses a running result is sent when it is complete."""
        first = kernel.send(f"%%agent -b -o first {SLOW}\nOne?", cell_id="b1")
        second = kernel.send("%%agent -o second\nShorten: {{ first }}", cell_id="b2")
        kernel.wait_for(first, second)
        filled(kernel, first)
        assert kernel.evaluate("(first.status, second.prompt == 'Shorten: ' + first.text)") == "('done', True)"
        assert any(
            "waiting for first" in content["data"].get("text/plain", "") for content in second.contents("display_data")
        )
        assert outputs(second) == ["text/markdown", "text/html"]

    def test_a_cell_that_blocks_waits_too(self, kernel: Kernel) -> None:
        """Also inside another cell, where nothing awaits."""
        first = kernel.send(f"%%agent -b -o first {SLOW}\nOne?", cell_id="b1")
        second = kernel.send("%%capture\n%%agent -o second\nShorten: {{ first.text[:10] }}", cell_id="b2")
        kernel.wait_for(first, second)
        filled(kernel, first)
        assert kernel.evaluate("second.prompt == 'Shorten: ' + first.text[:10]") == "True"

    def test_an_interrupt_while_waiting(self, kernel: Kernel) -> None:
        """An interrupt ends the waiting cell with one line, and leaves the background run alone."""
        first = kernel.send(f"%%agent -b -o first {SLOW}\nOne?", cell_id="b1")
        second = kernel.send("%%agent -o second\nShorten: {{ first }}", cell_id="b2")
        kernel.read_until(lambda: second.contents("display_data"))
        kernel.interrupt()
        kernel.wait_for(first, second)
        assert (second.status, second.error["ename"]) == ("error", "KeyboardInterrupt")
        filled(kernel, first)
        assert kernel.evaluate("first.status") == "done"

    def test_run_all_takes_as_long_as_the_slowest(self, kernel: Kernel) -> None:
        """Several run at once, and each fills its own cell."""
        cells = [
            kernel.send(f"%%agent -b -o each{number} {SLOW}\nNumber {number}?", cell_id=f"b{number}")
            for number in range(3)
        ]
        together = kernel.send("print([each.status for each in (each0, each1, each2)])", cell_id="x")
        kernel.wait_for(*cells, together)
        assert together.printed == "['running', 'running', 'running']\n"
        for number, cell in enumerate(cells):
            filled(kernel, cell)
            assert cell.outputs[0]["data"]["text/plain"].startswith(f"## You asked: Number {number}?")

    def test_running_the_cell_again_stops_the_former_run(self, kernel: Kernel) -> None:
        """A cell has one run."""
        first = kernel.send(f"%%agent -b -o first {SLOW}\nWhy?", cell_id="b1")
        kernel.wait_for(first)
        writing(kernel, first)
        kernel.run("former = first")
        again = kernel.send("%%agent -b -o first\nWhy?", cell_id="b1")
        kernel.wait_for(again)
        filled(kernel, again)
        assert kernel.evaluate("(former.wait(10).status, first.wait(10).status)") == "('stopped', 'done')"

    def test_a_failure_is_said_in_the_line(self, kernel: Kernel) -> None:
        """No traceback comes when the cell has ended, so the line has the sentence."""
        cell = kernel.send("%%agent -b -o first -p fail=STREAM_ERROR\nWhy?", cell_id="b1")
        kernel.wait_for(cell)
        kernel.read_until(lambda: cell.outputs and ended(cell))
        assert cell.status == "ok"
        line = cell.outputs[-1]["data"]["text/plain"]
        assert line.startswith("demo · failed · ")
        assert " · The agent at 127.0.0.1:" in line
        assert kernel.evaluate("type(first.error).__name__") == "AgentError"

    def test_without_a_front_end(self, kernel: Kernel) -> None:
        """nbclient hears only what is said while a cell runs: there the answer comes with the cell that waits for it."""
        cell = kernel.send(f"%%agent -b -o first {SLOW}\nWhy?", headless=True)
        waits = kernel.send("print(first.wait(30).status)", headless=True)
        kernel.wait_for(cell, waits)
        assert (waits.printed, cell.contents("comm_open")) == ("done\n", [])
        assert outputs(cell) == ["text/markdown", "text/html"]
        names = [content["transient"]["display_id"] for content in cell.contents("display_data")]
        updates = {content["transient"]["display_id"]: content for content in waits.contents("update_display_data")}
        assert list(updates) == names
        assert updates[names[0]]["data"]["text/plain"].startswith("## You asked: Why?")

    def test_await(self, kernel: Kernel) -> None:
        """`await answer` and `answer.stop()` are for every cell."""
        cell = kernel.send(f"%%agent -b -o first {SLOW}\nWhy?", cell_id="b1")
        awaits = kernel.send("print((await first).status)", cell_id="x")
        kernel.wait_for(cell, awaits)
        assert awaits.printed == "done\n"
        filled(kernel, cell)
        cell = kernel.send(f"%%agent -b -o first {SLOW}\nWhy?", cell_id="b1")
        kernel.wait_for(cell)
        writing(kernel, cell)
        assert kernel.evaluate("first.stop() or first.wait(10).status") == "stopped"
        filled(kernel, cell)


class TestSessions:
    """``-s``, with a server that keeps the conversation."""

    def test_a_conversation(self, kernel: Kernel) -> None:
        """The second turn goes on where the first one ended; a cell that is run again is one more turn there."""
        lines = []
        for cell_id, code in (
            ("s1", "%%agent -s story --new -o one\nOne?"),
            ("s2", "%%agent -s story -o two\nTwo?"),
            ("s1", "%%agent -s story -o one\nOne?"),
        ):
            cell = kernel.send(code, cell_id=cell_id)
            kernel.wait_for(cell)
            lines.append(cell.outputs[1]["data"]["text/plain"])
        assert [line.split("session story, ")[1] for line in lines] == [
            "turn 1 · in one",
            "turn 2 · in two",
            "turn 3 · added again: the server keeps the conversation · in one",
        ]
        assert kernel.evaluate("one.session_id == two.session_id") == "True"

    def test_an_agent_without_conversations(self, kernel: Kernel) -> None:
        """You.com's agents have no place for one: one sentence, and nothing is bound."""
        kernel.run("two = None")
        cell = kernel.run("%%agent demo-you -s story -o two\nWhy?")
        assert cell.error["ename"] == "ConfigError"
        assert "'demo-you' has no conversations" in cell.error["evalue"]
        assert kernel.evaluate("two") == "None"


def test_a_shutdown_ends_background_runs(tmp_path: Path) -> None:
    """A kernel that is shut down, or restarted, while a run goes on ends at once, and `recover` finds what had come."""
    script = textwrap.dedent("""
        from IPython.testing.globalipapp import start_ipython
        ip = start_ipython()
        ip.run_line_magic("load_ext", "agent_magic")
        ip.run_cell_magic("agent", "-b -o first -p stream_delay_ms=200", "Why?")
        first = ip.user_ns["first"]
        import threading
        begun = threading.Event()
        first._run.listen(lambda: begun.set() if first.text else None)
        assert begun.wait(30)
    """)
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "demo is asked in the background; the answer will be in first." in done.stdout
    from agent_magic._history import Past

    past = Past.newest_cut_off()
    assert past is not None
    result = past.result()
    assert (result.status, result.text != "") == ("failed", True)
    # The embedded agent has gone with its kernel: there is nothing to go on with.
    assert str(result.error) == "The kernel ended before the answer was complete; what had arrived is kept."


def test_a_cell_is_not_over_before_its_end(kernel: Kernel) -> None:
    """What a cell says after it has awaited results comes while it is busy: an executor hears it, and so does a page."""
    cells = [kernel.send(f"%%agent -b -q -o {name}\nWhy?", cell_id=name) for name in ("a", "b")]
    ends = kernel.send("for one in (a, b): await one\nimport time\ntime.sleep(0.3)\nprint('the end')", cell_id="x")
    kernel.wait_for(*cells, ends)
    kinds = [
        message["content"].get("execution_state", message["msg_type"])
        for message in ends.messages
        if message["msg_type"] in {"stream", "status"}
    ]
    assert kinds[: kinds.index("idle")] == ["busy", "stream"]


def test_a_background_cell_that_waits_comes_to_its_end(kernel: Kernel) -> None:
    """Also when what it waits for is ended by a click, which is then the cell's last message."""
    first = kernel.send(f"%%agent -b -o a {SLOW}\nWhy?", cell_id="a")
    second = kernel.send("%%agent -b -q -o b\nShorter: {{ a }}", cell_id="b")
    kernel.read_until(lambda: first.button)
    writing(kernel, first)
    assert first.button is not None
    kernel.click(first.button)
    kernel.wait_for(first, second)
    assert second.status == "ok"
    filled(kernel, first)
    assert kernel.evaluate("'not whole' in b.wait(20).prompt") == "True"


def test_a_failed_answer_is_not_built_on(kernel: Kernel) -> None:
    """A prompt that waits for a background answer is not sent where that fails; the cell says why."""
    first = kernel.send("%%agent -b -o a -p fail=STREAM_ERROR -p stream_delay_ms=20\nWhy?", cell_id="a")
    second = kernel.send("%%agent -o c\nShorter: {{ a }}", cell_id="c")
    kernel.wait_for(first, second)
    assert (second.status, second.error["ename"]) == ("error", "PromptError")
    assert second.error["evalue"].startswith("a, which this prompt uses, failed, and nothing was sent.")
    filled(kernel, first)


def test_a_mistake_leaves_the_background_run_alone(kernel: Kernel) -> None:
    """A dry run, or a wrong name, in its cell does not stop what the cell asked before."""
    cell = kernel.send(f"%%agent -b -o a {SLOW}\nWhy?", cell_id="a")
    writing(kernel, cell)
    dry = kernel.send("%%agent -b -o a --dry-run\nWhy?", cell_id="a")
    wrong = kernel.send("%%agent -b -o a\n{{ nobody }}", cell_id="a")
    kernel.wait_for(cell, dry, wrong)
    assert (dry.status, wrong.status) == ("ok", "error")
    assert kernel.evaluate("a.wait(20).status") == "done"
