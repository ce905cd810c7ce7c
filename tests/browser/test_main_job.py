"""The main job where people see it: each front end in a real browser, with real clicks and keys."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from agent_magic.testing import ScriptedServer, event_stream, head
from tests.browser._front_ends import FrontEnd, Site, cell, interrupt

LOAD = "%load_ext agent_magic"
FINAL = ["text/markdown", "text/plain", "text/html", "text/plain"]


class Endless:
    """A server that greets, says one heading and then a word at a time until its client leaves."""

    def __init__(self) -> None:
        self.left = threading.Event()

    def __call__(self, connection: socket.socket, _request: bytes, _number: int) -> None:
        connection.sendall(head() + event_stream(("start", {"session_id": "s"})))
        connection.sendall(event_stream(("chunk", {"content": "## It begins\n\n", "index": 0})))
        connection.settimeout(0.05)
        index = 0
        while True:
            index += 1
            connection.sendall(event_stream(("chunk", {"content": f"word{index} ", "index": index})))
            try:
                if not connection.recv(1):
                    break
            except TimeoutError:
                pass
            except OSError:
                break
        self.left.set()


@pytest.fixture
def endless() -> Iterator[tuple[str, Endless]]:
    script = Endless()
    with ScriptedServer(script) as server:
        yield server.url, script


def kinds(notebook: dict[str, Any]) -> list[list[str]]:
    """The kinds of output in a saved notebook, cell by cell."""
    assert "widgets" not in notebook["metadata"]
    return [
        [kind for output in cell["outputs"] for kind in sorted(output.get("data", {output["output_type"]: 0}))]
        for cell in notebook["cells"]
    ]


def test_an_answer_streams_in(site: Site, end: FrontEnd, page: Page) -> None:
    """Text appears while the cell runs, and at the end there are the answer and one line."""
    path = site.write(
        f"stream-{end.name}",
        LOAD,
        "%%agent -o answer -p stream_delay_ms=60\nWhy is the sky blue?",
        "print(answer.status)",
    )
    end.open(page, site, path)
    end.run_all(page)
    asked = cell(page, end, 1)
    expect(asked.get_by_role("heading", name="You asked")).to_be_visible()
    expect(asked.get_by_role("button", name="Stop")).to_be_visible()
    expect(asked.locator(end.prompt)).to_contain_text("[*]")
    expect(asked.get_by_text("✓ done")).to_be_visible()
    expect(asked.get_by_role("button", name="Stop")).to_have_count(0)
    expect(cell(page, end, 2).locator("pre", has_text="done").last).to_be_visible()
    assert kinds(end.save(page, path)) == [[], FINAL, ["stream"]]


@pytest.mark.parametrize("delay_ms", [2, 13])
def test_a_short_answer_on_a_fresh_page(site: Site, end: FrontEnd, page: Page, delay_ms: int) -> None:
    """An answer that is there about when the page has its widgets' scripts leaves no error on its console."""
    name = f"short-{end.name}-{delay_ms}"
    path = site.write(name, LOAD, f"%%agent -p stream_delay_ms={delay_ms}\nWhy is the sky blue?", "print('over')")
    end.open(page, site, path)
    end.run_all(page)
    expect(cell(page, end, 1).get_by_text("✓ done")).to_be_visible()
    expect(cell(page, end, 2).locator("pre", has_text="over").last).to_be_visible()
    assert kinds(end.save(page, path)) == [[], FINAL, ["stream"]]


def test_a_click_on_stop(site: Site, end: FrontEnd, page: Page, endless: tuple[str, Endless]) -> None:
    """A real click ends the cell in mid-stream, the server sees it, and the cell below it runs."""
    url, server = endless
    path = site.write(f"stop-{end.name}", LOAD, "%%agent -o answer\nGo on.", "print(answer.status)", agent=url)
    end.open(page, site, path)
    end.run_all(page)
    asked = cell(page, end, 1)
    expect(asked.get_by_text("word5")).to_be_visible()
    asked.get_by_role("button", name="Stop").click()
    expect(asked.get_by_text("■ stopped")).to_be_visible()
    assert server.left.wait(60)
    expect(asked.get_by_text("word5")).to_be_visible()
    expect(cell(page, end, 2).locator("pre", has_text="stopped").last).to_be_visible()
    assert kinds(end.save(page, path)) == [[], FINAL, ["stream"]]


def test_an_interrupt(site: Site, end: FrontEnd, page: Page, endless: tuple[str, Endless]) -> None:
    """The keys I I end the cell with one line, keep the text, and the cell below is not run."""
    url, server = endless
    path = site.write(f"interrupt-{end.name}", LOAD, "%%agent -o answer\nGo on.", "print('not run')", agent=url)
    end.open(page, site, path)
    end.run_all(page)
    asked = cell(page, end, 1)
    expect(asked.get_by_text("word5")).to_be_visible()
    interrupt(page, end)
    expect(asked.get_by_text("■ interrupted")).to_be_visible()
    expect(asked.get_by_text("KeyboardInterrupt", exact=True)).to_be_visible()
    assert server.left.wait(60)
    saved = end.save(page, path)
    assert kinds(saved) == [[], [*FINAL, "error"], []]


def test_run_all_with_a_stop_and_a_failure(site: Site, end: FrontEnd, page: Page, endless: tuple[str, Endless]) -> None:
    """Cells below a stopped one run, cells below a failed one do not, and none is left running for ever."""
    path = site.write(
        f"queue-{end.name}",
        LOAD,
        "%%agent demo -o first\nThe first.",
        "%%agent it -o second\nGo on.",
        "%%agent demo -o third\nThe third.",
        "print(first.status, second.status, third.status)",
        "%%agent demo -p fail=STREAM_ERROR\nThis fails.",
        "print('not run')",
        "%%agent demo\nNor this.",
        agent=endless[0],
    )
    end.open(page, site, path)
    end.run_all(page)
    stopped = cell(page, end, 2)
    expect(stopped.get_by_text("word5")).to_be_visible()
    stopped.get_by_role("button", name="Stop").click()
    failed = cell(page, end, 5)
    expect(failed.get_by_text("✗ failed")).to_be_attached()
    expect(cell(page, end, 7).locator(end.prompt)).not_to_contain_text("*")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0)
    saved = end.save(page, path)
    assert kinds(saved) == [[], FINAL, FINAL, FINAL, ["stream"], [*FINAL, "error"], [], []]
    assert saved["cells"][4]["outputs"][0]["text"] == ["done stopped done\n"]
    (error,) = (output for output in saved["cells"][5]["outputs"] if output["output_type"] == "error")
    assert len(error["traceback"]) == 1


def test_reopened_without_a_kernel(site: Site, end: FrontEnd, page: Page) -> None:
    """The saved notebook, on a machine that has not its kernel and does not trust it, shows answer and line."""
    path = site.write(f"reopened-{end.name}", LOAD, "%%agent demo-you\nWhy is the sky blue?")
    end.open(page, site, path)
    end.run_all(page)
    expect(cell(page, end, 1).get_by_text("✓ done")).to_be_visible()
    saved = end.save(page, path)
    saved["metadata"] = {"kernelspec": {"name": "gone", "display_name": "Gone", "language": "gone"}}
    elsewhere = path.with_name("elsewhere.ipynb")
    elsewhere.write_text(json.dumps(saved))
    page.goto(end.url(site, elsewhere))
    end.decline_kernel(page)
    reopened = cell(page, end, 1)
    expect(reopened.get_by_text("You asked: Why is the sky blue?")).to_be_visible()
    expect(reopened.get_by_text("✓ done")).to_be_visible()
    expect(reopened.get_by_text("All about blue")).to_be_visible()


@pytest.mark.reloads
def test_a_page_reloaded_in_mid_stream(site: Site, end: FrontEnd, page: Page) -> None:
    """The answer goes on without the page, and the variable has all of it."""
    path = site.write(
        f"reload-{end.name}",
        LOAD,
        "%%agent -o answer -p stream_delay_ms=60\nWhy is the sky blue?",
        "print(answer.status)",
    )
    end.open(page, site, path)
    end.run_cell(page, 0)
    end.run_cell(page, 1)
    expect(cell(page, end, 1).get_by_role("heading", name="You asked")).to_be_visible()
    expect(cell(page, end, 1).get_by_role("button", name="Stop")).to_be_visible()
    end.save(page, path)
    end.open(page, site, path)
    end.run_cell(page, 2)
    expect(cell(page, end, 2).locator("pre", has_text="done").last).to_be_visible()
