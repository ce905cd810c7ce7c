"""Tab and the doctor where people see them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser._front_ends import FRONT_ENDS, FrontEnd, Site, cell
from tests.browser.pictures import THEMES

LOAD = "%load_ext agent_magic"
LOOKS = [(FRONT_ENDS["lab"], "light"), (FRONT_ENDS["lab"], "dark"), (FRONT_ENDS["notebook"], "light")]
# Where pictures go, for whoever wants to look at them.
PICTURES = os.environ.get("AGENT_MAGIC_PICTURES")


@pytest.fixture
def theme(site: Site, request: pytest.FixtureRequest) -> Iterator[str]:
    """The theme of pages that are opened from now on; light again at the end."""
    site.set_theme(THEMES[request.param])
    yield request.param
    site.set_theme(THEMES["light"])


def picture(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png")


@pytest.mark.parametrize(("end", "theme"), LOOKS, indirect=["theme"], ids=["lab-light", "lab-dark", "notebook"])
def test_tab_offers_the_agents(site: Site, theme: str, end: FrontEnd, page: Page) -> None:
    """In a `%%agent` cell Tab shows the agents first and then the options, no files; a choice takes the right place."""
    path = site.write(f"tab-{end.name}-{theme}", LOAD, "%%agent \nWhy?", "1", agent="http://127.0.0.1:9")
    (path.parent / "agents.csv").touch()
    end.open(page, site, path)
    end.run_cell(page, 0)
    expect(cell(page, end, 0).locator(end.prompt)).to_contain_text("[1]")
    editor = cell(page, end, 1).locator(".cm-content")
    editor.locator(".cm-line").first.click()
    page.keyboard.press("End")
    page.keyboard.press("Tab")
    offered = page.locator(".jp-Completer-match")
    expect(offered.first).to_be_visible()
    expect(offered.first).to_have_text("it")
    picture(page, f"tab-{end.name}-{theme}")
    words = [text.strip() for text in offered.all_inner_texts()]
    assert words[:6] == ["it", "local", "demo", "demo-you", "--out", "--session"]
    assert "agents.csv" not in words  # JupyterLab itself adds the cell's own words at the end
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(editor.locator(".cm-line").first).to_have_text("%%agent demo-you")


@pytest.mark.parametrize(
    ("end", "theme"),
    [*LOOKS, (FRONT_ENDS["nbclassic"], "light")],
    indirect=["theme"],
    ids=["lab-light", "lab-dark", "notebook", "nbclassic"],
)
def test_the_doctor_finds_that_stop_works(site: Site, theme: str, end: FrontEnd, page: Page) -> None:
    """It has tried: a message from the real page arrived while the cell ran. No widget is left, on page or in file."""
    path = site.write(f"doctor-{end.name}-{theme}", LOAD, "%agent doctor", agent="http://127.0.0.1:9")
    end.open(page, site, path)
    end.run_all(page)
    asked = cell(page, end, 1)
    expect(asked.locator(end.prompt)).to_contain_text("2")
    found = re.compile("^yes: a message from the page arrived after .* s, while the cell was running$")
    expect(asked.get_by_role("cell", name=found)).to_be_visible()
    expect(asked.locator(".widget-play")).to_have_count(0)
    picture(page, f"doctor-{end.name}-{theme}")
    asked.get_by_text("Text for a bug report").click()
    expect(asked.locator("details pre")).to_contain_text("agent_magic doctor")
    saved = end.save(page, path)
    assert "widgets" not in saved["metadata"]
    (output,) = saved["cells"][1]["outputs"]
    assert sorted(output["data"]) == ["text/html", "text/plain"]
