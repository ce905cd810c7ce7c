"""A long day in one kernel: a thousand runs in a row and two hundred at once leave nothing behind."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import _kernel
from tests.kernel._kernel import Kernel, running_kernel
from tests.kernel._venvs import VERSIONS, kernel_python

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")

MEGABYTES = 10
# A bar's own models live until a page has surely loaded their scripts; here that is soon; its three texts stay. `left` waits for what
# goes by itself a moment later: those models, and the server's side of a connection.
SETUP = """
%load_ext agent_magic
import asyncio, ctypes, gc, json, os, pathlib, threading, time
import comm, ipywidgets.widgets.widget as widgets
import agent_magic.views._bar
from agent_magic import Agent
from agent_magic._loop import readers
from agent_magic._run import live_runs

agent_magic.views._bar.LOAD_SECONDS = 0.3

def names(folder="/proc/self/fd"):
    for name in os.listdir(folder):
        try:
            yield os.readlink(f"{folder}/{name}").partition(":")[0]
        except FileNotFoundError:
            pass

async def tasks():
    return len(asyncio.all_tasks())

def count():
    gc.collect()
    open_now = list(names())
    return {
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "files": len(open_now), "open": sorted(open_now), "sockets": open_now.count("socket"),
        "tasks": [len(asyncio.all_tasks()), asyncio.run_coroutine_threadsafe(tasks(), readers().loop).result()],
        "comms": len(comm.get_comm_manager().comms), "widgets": len(widgets._instances), "runs": len(live_runs()),
    }

def more(now, before):
    loose = {"files": 0, "open": []}
    return now["files"] > before["files"] or {**now, **loose} != {**before, **loose}

async def left(before=None):
    until = time.monotonic() + 20
    while (len(widgets._instances) > 3 if before is None else more(count(), before)) and time.monotonic() < until:
        await asyncio.sleep(0.2)
    return count()

def resident():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(pathlib.Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024

def in_a_row(times):
    for _ in range(times):
        assert Agent("demo").ask("Why?", stream_delay_ms=0).status == "done"

def at_once(times):
    begun = [Agent("demo").begin("Why?", {"stream_delay_ms": 0})[1] for _ in range(times)]
    assert all(run.wait(60) and run.transcript.status == "done" for run in begun)
"""


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    monkeypatch.setattr(_kernel, "PATIENCE", 120.0)
    quiet = {"AGENT_MAGIC_STATE": str(tmp_path / "state"), "PYTHONWARNINGS": "always::ResourceWarning"}
    with running_kernel(kernel_python(VERSIONS[-1]), tmp_path, **quiet) as kernel:
        succeed(kernel, SETUP)
        yield kernel


def succeed(kernel: Kernel, code: str) -> str:
    """Run a cell that must say nothing on stderr; what it printed."""
    cell = kernel.run(code)
    assert (cell.status, [said["text"] for said in cell.contents("stream") if said["name"] == "stderr"]) == ("ok", [])
    return cell.printed


def left(kernel: Kernel, before: dict[str, Any] | None = None) -> dict[str, Any]:
    counted: dict[str, Any] = json.loads(succeed(kernel, f"print(json.dumps(await left({before!r})))"))
    return counted


def assert_back(kernel: Kernel, before: dict[str, Any]) -> None:
    # The kernel closes a file of its own at times, so there may be fewer.
    after = left(kernel, before)
    opened = Counter(after["open"]) - Counter(before["open"])
    assert after["files"] <= before["files"], opened
    loose: dict[str, Any] = {"files": 0, "open": []}
    assert {**after, **loose} == {**before, **loose}


def run_in_a_row(kernel: Kernel, asked: int, cells: int) -> float:
    """So many runs from Python, so many cells; the megabytes that are resident then."""
    succeed(kernel, f"in_a_row({asked})")
    for _ in range(cells):
        succeed(kernel, "%%agent -p stream_delay_ms=0\nWhy?")
    left(kernel)
    return float(succeed(kernel, "print(resident())"))


@pytest.mark.timeout(600)
def test_a_thousand_runs_leave_nothing_behind(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    """Threads, sockets, files, tasks, comms and widgets are as before; memory does not grow with the runs."""
    run_in_a_row(kernel, 5, 3)
    before = left(kernel)
    early = run_in_a_row(kernel, 140, 57)
    late = run_in_a_row(kernel, 600, 200)
    assert_back(kernel, before)
    assert late <= early + MEGABYTES
    succeed(kernel, "at_once(200)")
    assert_back(kernel, before)
    assert capfd.readouterr().err == ""
