"""A map in real kernels: its bar, its Stop, an interrupt, and nobody there to watch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent_magic._map import INTERRUPTED
from tests.kernel._kernel import Cell, Kernel, running_kernel
from tests.kernel._venvs import VERSIONS, kernel_python

ROWS = "[f'Why {number}?' for number in range(6)], concurrency=2, stream_delay_ms=40"


@pytest.fixture(scope="module", params=VERSIONS)
def kernel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One kernel for each version; every test leaves it idle."""
    version = request.param
    with running_kernel(kernel_python(version), tmp_path_factory.mktemp(f"kernel-{version}")) as kernel:
        begun = kernel.run("import asyncio; from agent_magic import Agent; agent = Agent('demo')")
        assert (begun.status, begun.outputs) == ("ok", [])
        yield kernel


def kinds(cell: Cell) -> list[list[str]]:
    return [sorted(output.get("data", {output["output_type"]: ""})) for output in cell.outputs]


def line(cell: Cell, place: int = 0) -> str:
    return str(cell.outputs[place]["data"]["text/plain"])


LINE = ["text/html", "text/plain"]


def button(kernel: Kernel, cell: Cell) -> str:
    kernel.read_until(lambda: cell.button)
    assert cell.button is not None
    return cell.button


def seen(kernel: Kernel, cell: Cell) -> None:
    """Wait until the cell shows its bar."""
    view = "application/vnd.jupyter.widget-view+json"
    kernel.read_until(lambda: any(view in output["data"] for output in cell.contents("display_data")))


def test_a_map_that_blocks(kernel: Kernel) -> None:
    """The bar has no Stop, as no click could arrive; at the end a line is in its place, and the rest of the cell stays."""
    cell = kernel.send(f"print('before')\nresults = agent.map({ROWS})\nprint('after')")
    seen(kernel, cell)
    kernel.wait_for(cell)
    assert (cell.status, cell.button, kinds(cell)) == ("ok", None, [["stream"], LINE, ["stream"]])
    assert line(cell, 1).startswith("demo · 6 rows done · ")
    assert [output.get("text") for output in cell.outputs] == ["before\n", None, "after\n"]
    assert kernel.evaluate("results, agent.last_results is results") == "(<Results 6 results: 6 done>, True)"


@pytest.mark.parametrize("subshell", [False, True], ids=["main", "subshell"])
def test_stop(kernel: Kernel, subshell: bool) -> None:
    """A click on Stop ends an awaited map well: the cell goes on, and the cells behind it run."""
    if subshell and kernel.evaluate("__import__('ipykernel').__version__").startswith("6."):
        return  # these have none, as tests/kernel/test_kernels.py shows
    cell = kernel.send(f"results = await agent.amap({ROWS})\nprint(results)")
    following = kernel.send("print(sorted({row.status for row in results}), [row.text for row in results[2:]])")
    kernel.click(button(kernel, cell), subshell=subshell)
    kernel.wait_for(cell, following)
    assert (cell.status, kinds(cell)) == ("ok", [LINE, ["stream"]])
    assert line(cell).startswith("demo · stopped, 0 of 6 rows done · ")
    assert cell.printed == "<Results 6 results: 6 stopped>\n"
    assert following.printed == "['stopped'] ['', '', '', '']\n"


def test_stop_with_nothing_behind_it(kernel: Kernel) -> None:
    """A cell that is stopped is over for the front end too, when no other message follows the click."""
    cell = kernel.send(f"results = await agent.amap({ROWS})")
    kernel.click(button(kernel, cell))
    kernel.wait_for(cell)
    assert (cell.status, kinds(cell)) == ("ok", [LINE])


@pytest.mark.parametrize("call", ["agent.map", "await agent.amap"])
def test_interrupt(kernel: Kernel, call: str) -> None:
    """An interrupt is one line that says where what has arrived is, and aborts the cells that were queued before it."""
    cell, queued = kernel.send(f"{call}({ROWS})"), kernel.send("1/0")
    seen(kernel, cell)
    kernel.interrupt()
    kernel.wait_for(cell, queued)
    assert (cell.status, cell.error["traceback"], queued.status) == ("error", [INTERRUPTED], "aborted")
    assert kinds(cell) == [LINE, ["error"]]
    assert line(cell).startswith("demo · interrupted, ")
    said = kernel.evaluate("{row.status for row in agent.last_results}, bool(agent.last_results[0].text)")
    assert said in {"({'interrupted'}, True)", "({'interrupted', 'done'}, True)", "({'done', 'interrupted'}, True)"}


def test_maps_beside_one_another(kernel: Kernel) -> None:
    """Two maps that one cell awaits each have a bar, and each ends in its line."""
    short = "['Why?'], stream_delay_ms=5"
    cell = kernel.run(f"both = await asyncio.gather(agent.amap({short}), agent.amap({short}))")
    assert (cell.status, kinds(cell)) == ("ok", [LINE, LINE])
    after = kernel.send(f"results = await agent.amap({ROWS})")
    kernel.click(button(kernel, after))
    kernel.wait_for(after)
    assert (after.status, line(after)[:15]) == ("ok", "demo · stopped,")


def test_nobody_is_there(kernel: Kernel) -> None:
    """In a request of nbclient's there are no widgets, and one line at the end; with progress=False nothing."""
    cell = kernel.run("results = agent.map(['Why?', ''])\nresults = await results.aretry()", headless=True)
    assert (cell.status, kinds(cell), cell.contents("comm_open")) == ("ok", [LINE, LINE], [])
    assert line(cell).startswith("demo · 1 of 2 rows done · 1 failed · ")
    assert "such as: The prompt is blank; it was not sent." in line(cell, 1)
    quiet = kernel.run("results = agent.map(['Why?'], progress=False)")
    assert (quiet.status, quiet.outputs) == ("ok", [])


def test_a_map_in_the_background(kernel: Kernel) -> None:
    """A map that is a task of its own goes on while other cells run, and its Stop works while they do not."""
    begun = kernel.run(f"task = asyncio.create_task(agent.amap({ROWS}))")
    stop = button(kernel, begun)
    assert kernel.evaluate("task.done()") == "False"
    kernel.click(stop)
    ended = kernel.run("results = await task\nprint({row.status for row in results})")
    assert (begun.status, ended.status, ended.printed) == ("ok", "ok", "{'stopped'}\n")
