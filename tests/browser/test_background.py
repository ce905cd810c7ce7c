"""Runs in the background where people see them: each fills its own cell, while others run."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser._front_ends import FrontEnd, Site, cell
from tests.browser.test_main_job import FINAL, LOAD, Endless, endless, kinds

__all__ = ["endless"]


def test_each_fills_its_own_cell(site: Site, end: FrontEnd, page: Page) -> None:
    """Two run at once below a cell that blocks; their answers land where they were asked, and the file is plain."""
    path = site.write(
        f"beside-{end.name}",
        LOAD,
        "%%agent -b -o one -p stream_delay_ms=30\nOne?",
        "%%agent -b -o two -p stream_delay_ms=30\nTwo?",
        "print(one.status, two.status)\nprint(one.wait().status, two.wait().status)",
    )
    end.open(page, site, path)
    end.run_all(page)
    for place, word in ((1, "One?"), (2, "Two?")):
        asked = cell(page, end, place)
        expect(asked.get_by_role("heading", name=f"You asked: {word}")).to_be_visible()
        expect(asked.get_by_role("button", name="Stop")).to_be_visible()
        expect(asked.locator(end.prompt)).not_to_contain_text("[*]")
    expect(cell(page, end, 3).locator("pre", has_text="running running").last).to_be_visible()
    for place in (1, 2):
        expect(cell(page, end, place).get_by_text("✓ done")).to_be_visible()
        expect(cell(page, end, place).get_by_role("button", name="Stop")).to_have_count(0)
    expect(cell(page, end, 3).locator("pre", has_text="done done").last).to_be_visible()
    assert kinds(end.save(page, path)) == [[], FINAL, FINAL, ["stream"]]


@pytest.mark.parametrize("meanwhile", ["print('free')", "%%agent -o other -p stream_delay_ms=60\nMeanwhile?"])
def test_a_click_on_stop(site: Site, end: FrontEnd, page: Page, endless: tuple[str, Endless], meanwhile: str) -> None:
    """A real click stops it while the kernel is free, and while another agent is asked."""
    url, server = endless
    name = f"stop-beside-{end.name}-{len(meanwhile)}"
    asks_demo = meanwhile.replace("%%agent", "%%agent demo")
    path = site.write(name, LOAD, "%%agent -b -o answer\nGo on.", asks_demo, agent=url)
    end.open(page, site, path)
    end.run_all(page)
    asked = cell(page, end, 1)
    expect(asked.get_by_text("word5")).to_be_visible()
    asked.get_by_role("button", name="Stop").click()
    expect(asked.get_by_text("■ stopped")).to_be_visible()
    assert server.left.wait(60)
    expect(asked.get_by_text("word5")).to_be_visible()
    if "Meanwhile" in meanwhile:
        expect(cell(page, end, 2).get_by_text("✓ done")).to_be_visible()
    assert kinds(end.save(page, path))[1] == FINAL
