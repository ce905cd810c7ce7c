"""How it looks and feels, measured in the page: nothing jumps, the bar stays in sight, keys and ears are served."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, expect

from agent_magic.testing import ScriptedServer, event_stream, head
from tests.browser._front_ends import FRONT_ENDS, FrontEnd, Site, cell
from tests.browser._sampling import begin, finish, numbered_markdown

LOAD = "%load_ext agent_magic"


@contextmanager
def answering(
    text: str, *, size: int = 200, seconds: float = 0.02, hold: bool = False
) -> Iterator[tuple[str, threading.Event]]:
    """A server that says `text`, a piece at a time; with `hold` it ends only when the event that it gives is set."""
    over = threading.Event()

    def script(connection: socket.socket, _request: bytes, _number: int) -> None:
        connection.sendall(head() + event_stream(("start", {"session_id": "s"})))
        pace = threading.Event()
        for index, place in enumerate(range(0, len(text), size)):
            connection.sendall(event_stream(("chunk", {"content": text[place : place + size], "index": index})))
            pace.wait(seconds)
        if hold:
            over.wait(60)
        connection.sendall(event_stream(("done", {})))

    with ScriptedServer(script) as server:
        yield server.url, over
        over.set()


def test_nothing_flashes_or_jumps(site: Site, end: FrontEnd, page: Page) -> None:
    """In no frame is text gone or doubled, the outputs never shrink by a line, and the bar is always in sight."""
    # An output of more than a hundred lines is put into a box by Notebook 7 and nbclassic. And nbclassic empties
    # whatever has a fence in it before it draws it anew, by itself.
    text = numbered_markdown(
        {"lab": 25_000, "notebook": 1_500, "nbclassic": 800}[end.name], fences=end.name != "nbclassic"
    )
    with answering(text, size=200 if end.name == "lab" else 20) as (url, _):
        path = site.write(f"frames-{end.name}", LOAD, "%%agent\nGo on.", "'below'", agent=url)
        end.open(page, site, path)
        end.run_cell(page, 0)
        begin(page, end, 1)
        end.run_cell(page, 1)
        expect(cell(page, end, 1).get_by_text("✓ done")).to_be_attached()
        page.wait_for_function(
            "() => { const f = sampled.frames; return new Promise(go => setTimeout(() => go(sampled.frames > f), 500)); }"
        )
    seen = finish(page)
    assert (seen.vanished, seen.doubled) == (0, 0)
    assert seen.words == text.count("w0")
    assert seen.drop <= 30
    assert seen.next_rise <= 30
    assert seen.moved <= 1
    assert seen.scrolled == 0
    assert seen.bar_hidden <= 3, "while the page lays out a new segment, and no longer"


@pytest.mark.parametrize("size", [2_200, 20_000])
def test_a_reader_who_scrolled_is_left_alone(site: Site, end: FrontEnd, page: Page, size: int) -> None:
    """Text that is being read stays where it is on the screen, while the answer grows and when it ends."""
    if end.name == "nbclassic":
        size = 800  # what is longer is put into a box at its end, scrolled to the top, by nbclassic itself
    page.set_viewport_size({"width": 1000, "height": 500})
    text = numbered_markdown(size, fences=False)
    with answering(text, hold=True) as (url, over):
        path = site.write(f"scrolled-{end.name}-{uuid4().hex}", LOAD, "%%agent\nGo on.", "'below'", agent=url)
        end.open(page, site, path)
        end.run_cell(page, 0)
        end.run_cell(page, 1)
        asked = cell(page, end, 1)
        read = asked.get_by_text("w00012")
        expect(read).to_be_attached()
        expect(asked.get_by_role("button", name="Stop")).to_be_visible()
        read.evaluate("read => read.scrollIntoView({block: 'center'})")
        expect(asked.get_by_text(text.split()[-1].strip(":"))).to_be_attached()
        before = read.bounding_box()
        begin(page, end, 1)
        over.set()
        expect(asked.get_by_text("✓ done")).to_be_attached()
        page.wait_for_function("() => sampled.frames > 20")
    after, seen = read.bounding_box(), finish(page)
    assert before is not None
    assert after is not None
    assert 0 < before["y"] < 500
    assert abs(before["y"] - after["y"]) <= 8, "less than half a line: margins between segments"
    assert (seen.scrolled, seen.vanished, seen.doubled) == (0, 0, 0)


@pytest.mark.parametrize("width", [1400, 600])
def test_the_line_takes_the_bar_s_place(site: Site, end: FrontEnd, page: Page, width: int) -> None:
    """The line stands where the bar stood, and what is below it stays."""
    page.set_viewport_size({"width": width, "height": 900})
    with answering("A short answer.", hold=True) as (url, over):
        path = site.write(f"place-{end.name}-{width}", LOAD, "%%agent\nGo on.", "'below'", agent=url)
        end.open(page, site, path)
        end.run_cell(page, 0)
        end.run_cell(page, 1)
        asked, below = cell(page, end, 1), cell(page, end, 2)
        bar = asked.locator(".agent-magic-bar")
        expect(asked.get_by_text("A short answer.")).to_be_visible()
        expect(bar.get_by_text("writing").first).to_be_visible()
        bar_box, below_box = bar.bounding_box(), below.bounding_box()
        over.set()
        expect(asked.get_by_text("✓ done")).to_be_visible()
        line_box, after_box = asked.get_by_text("✓ done").locator("..").bounding_box(), below.bounding_box()
    assert bar_box is not None
    assert below_box is not None
    assert line_box is not None
    assert after_box is not None
    assert abs(bar_box["y"] - line_box["y"]) <= 3
    assert abs(below_box["y"] - after_box["y"]) <= 6
    assert line_box["x"] + line_box["width"] <= width


# In nbclassic each editor keeps the Tab for itself; there the keys I I end a cell.
@pytest.mark.parametrize("end", [FRONT_ENDS["lab"], FRONT_ENDS["notebook"]], ids=["lab", "notebook"])
def test_stop_by_keyboard_alone(site: Site, end: FrontEnd, page: Page) -> None:
    """From the cell, Tab reaches a button that is called Stop, and a key presses it."""
    with answering("It goes on.", hold=True) as (url, _over):
        path = site.write(f"keys-{end.name}", LOAD, "%%agent\nGo on.", "'below'", agent=url)
        end.open(page, site, path)
        end.run_cell(page, 0)
        asked = cell(page, end, 1)
        asked.locator(end.prompt).click()
        page.keyboard.press("Control+Enter")
        expect(asked.get_by_role("button", name="Stop")).to_be_visible()
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.closest('.agent-magic-bar') !== null"):
                break
        focused = page.locator(":focus")
        expect(focused).to_have_accessible_name("Stop")
        expect(focused).to_have_accessible_description("Stop it; what has arrived is kept")
        assert page.evaluate("document.activeElement.matches(':focus-visible')")
        page.keyboard.press("Space")
        expect(asked.get_by_text("■ stopped")).to_be_visible()


def test_what_a_screen_reader_says(site: Site, end: FrontEnd, page: Page) -> None:
    """Live regions say the state when it changes and the outcome at the end: not the tokens, not the seconds."""
    with answering(numbered_markdown(3000), hold=True) as (url, over):
        path = site.write(f"ears-{end.name}", LOAD, "%%agent -o answer\nGo on.", "'below'", agent=url)
        end.open(page, site, path)
        end.run_cell(page, 0)
        page.evaluate(
            """([cell]) => {
                window.said = [];
                const live = '[role=status], [role=alert], [role=log], [aria-live]:not([aria-live=off])';
                const box = document.querySelectorAll(cell)[1];
                new MutationObserver(() => {
                    for (const region of box.querySelectorAll(live)) {
                        const text = region.textContent.trim();
                        if (text && said.at(-1) !== text) said.push(text);
                    }
                }).observe(box, {subtree: true, childList: true, characterData: true});
            }""",
            [end.code_cell],
        )
        end.run_cell(page, 1)
        asked = cell(page, end, 1)
        expect(asked.get_by_role("status")).to_have_text("it: writing")
        expect(asked.get_by_text("w00020")).to_be_attached()
        page.wait_for_function("() => new Promise(go => setTimeout(() => go(true), 1200))")
        over.set()
        expect(asked.get_by_role("status")).to_have_text("✓ done")
    said = page.evaluate("window.said")
    assert said[-2:] == ["it: writing", "✓ done"]
    assert set(said) <= {"it: connecting", "it: waiting", "it: writing", "✓ done"}
    assert asked.get_by_role("status").count() == 1


def test_no_motion_where_none_is_wanted(site: Site, end: FrontEnd, browser: Browser) -> None:
    """With prefers-reduced-motion the bar that moves by itself is not shown, and nothing is animated."""
    page = browser.new_page(reduced_motion="reduce")
    page.set_default_timeout(60_000)
    with answering("It goes on.", hold=True) as (url, over):
        path = site.write(f"still-{end.name}", LOAD, "%%agent\nGo on.", agent=url)
        end.open(page, site, path)
        end.run_all(page)
        asked = cell(page, end, 1)
        expect(asked.get_by_role("button", name="Stop")).to_be_visible()
        expect(asked.get_by_role("progressbar")).to_be_hidden()
        running = "bar => bar.getAnimations({subtree: true}).filter(each => each.playState == 'running').length"
        assert asked.locator(".agent-magic-bar").evaluate(running) == 0
        over.set()
        expect(asked.get_by_text("✓ done")).to_be_visible()
    page.close()


def test_a_moving_bar_where_motion_is_welcome(site: Site, browser: Browser) -> None:
    """The positive control of the test before: without that wish the progress bar is there."""
    page = browser.new_page(reduced_motion="no-preference")
    page.set_default_timeout(60_000)
    end = FRONT_ENDS["lab"]
    with answering("It goes on.", hold=True) as (url, over):
        end.open(page, site, site.write("moving", LOAD, "%%agent\nGo on.", agent=url))
        end.run_all(page)
        expect(cell(page, end, 1).get_by_role("progressbar", name="Progress")).to_be_visible()
        over.set()
        expect(cell(page, end, 1).get_by_text("✓ done")).to_be_visible()
    page.close()
