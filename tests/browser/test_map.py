"""A map's bar where people see it: it stands where it was called, and its Stop works."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from agent_magic.testing import ScriptedServer, event_stream, falls_silent
from tests.browser._front_ends import FrontEnd, Site, cell
from tests.browser.test_main_job import kinds

AGENT = "from agent_magic import Agent\nagent = Agent('{}')"
LINE = ["text/html", "text/plain"]
GREETING = event_stream(("start", {"session_id": "s"}), ("chunk", {"content": "It begins", "index": 0}))


def test_a_click_on_stop(site: Site, end: FrontEnd, page: Page) -> None:
    """A real click ends an awaited map; what the cell prints before and after it stays, and the next cell runs."""
    asked = "print('before')\nresults = await agent.amap(['Go <b>on</b>.'] * 5, concurrency=2)\nprint(results)"
    with ScriptedServer(falls_silent(GREETING)) as server:
        path = site.write(f"map-{end.name}", AGENT.format("it"), asked, "print(results[0].text)", agent=server.url)
        end.open(page, site, path)
        end.run_all(page)
        shown = cell(page, end, 1)
        expect(shown.get_by_text("0 of 5 rows")).to_be_visible()
        shown.get_by_role("button", name="Stop").click()
        expect(shown.get_by_text("■ stopped, 0 of 5 rows done")).to_be_visible()
        assert server.disconnected.wait(60)
    expect(shown.get_by_role("button", name="Stop")).to_have_count(0)
    expect(shown.locator("pre", has_text="5 results: 5 stopped").last).to_be_visible()
    expect(cell(page, end, 2).locator("pre", has_text="It begins").last).to_be_visible()
    assert kinds(end.save(page, path)) == [[], ["stream", *LINE, "stream"], ["stream"]]


def test_a_map_that_blocks(site: Site, end: FrontEnd, page: Page) -> None:
    """A map that blocks shows its bar, without a Stop, and one that is over at once on a fresh page only its line."""
    path = site.write(
        f"map-blocks-{end.name}",
        AGENT.format("demo"),
        "results = agent.map(['Why?'])",
        "results = agent.map(['Why?', 'How?', 'When?'], concurrency=1, stream_delay_ms=30)",
        "print('over')",
    )
    end.open(page, site, path)
    end.run_all(page)
    expect(cell(page, end, 1).get_by_text("✓ 1 row done")).to_be_visible()
    expect(cell(page, end, 2).get_by_text("of 3 rows")).to_be_visible()
    expect(cell(page, end, 2).get_by_role("button", name="Stop")).to_have_count(0)
    expect(cell(page, end, 2).get_by_text("✓ 3 rows done")).to_be_visible()
    expect(cell(page, end, 3).locator("pre", has_text="over").last).to_be_visible()
    assert kinds(end.save(page, path)) == [[], LINE, LINE, ["stream"]]
