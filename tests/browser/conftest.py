"""A Chromium and a Jupyter server. Without a Chromium these tests are left out, and it is said; in CI they fail."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.browser._front_ends import FRONT_ENDS, FrontEnd, Site, cell, jupyter_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
expect.set_options(timeout=60_000)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PLAIN = (
    "from IPython.display import Markdown\nMarkdown('# Plain\\n\\n*a* **b** `c` $x^2$\\n\\n```python\\nx = 1\\n```')",
    "import ipywidgets; ipywidgets.Button(description='A plain button', icon='stop')",
)
# Widgets that go on, come and go while their page is loaded anew.
GOING_ON = """import ipywidgets, pathlib, threading, time
number = ipywidgets.IntText()
def count():
    others = []
    while not pathlib.Path("over").exists():
        number.value += 1
        others.append(ipywidgets.IntText())
        if len(others) > 50:
            others.pop(0).close()
        time.sleep(0.02)
threading.Thread(target=count).start()
number"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the browser tests out where there is no browser, unless this is CI."""
    if CHROMIUM is None and not os.environ.get("CI"):
        here = [item for item in items if Path(__file__).parent in item.path.parents]
        items[:] = [item for item in items if item not in here]
        config.hook.pytest_deselected(items=here)
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("The browser tests are left out: there is no Chromium (apt-get install chromium).")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless; for a module, as Playwright keeps an event loop in this thread while it lives."""
    assert CHROMIUM is not None, "CI needs a Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A Jupyter server for the front ends."""
    with jupyter_server(tmp_path_factory.mktemp("jupyter")) as site:
        yield site


@pytest.fixture(params=list(FRONT_ENDS))
def end(request: pytest.FixtureRequest) -> FrontEnd:
    """Each front end in turn."""
    return FRONT_ENDS[request.param]


def console_errors(page: Page) -> list[str]:
    """The list into which the errors on the page's console go, as they come."""
    errors: list[str] = []

    def note(said: ConsoleMessage) -> None:
        # The fonts of TeX are the front end's own: Notebook 7 refuses some of them, nbclassic leaves theirs blank.
        of_a_font = "font" in said.text or re.search(r"\.(woff2?|otf)|about:blank", said.location["url"])
        if said.type == "error" and not of_a_font:
            errors.append(re.sub("[0-9a-f]{32}", "ID", said.text))

    page.on("console", note)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return errors


@pytest.fixture(scope="module")
def own_errors(browser: Browser, site: Site) -> dict[str, set[str]]:
    """What each front end says on its console by itself, with a widget, Markdown and TeX in a plain notebook."""
    return {name: _own_errors(browser, site, end) for name, end in FRONT_ENDS.items()}


def _own_errors(browser: Browser, site: Site, end: FrontEnd) -> set[str]:
    page = browser.new_page()
    errors = console_errors(page)
    path = site.write(f"plain-{end.name}-{uuid4().hex}", *PLAIN)
    end.open(page, site, path)
    end.run_all(page)
    expect(page.get_by_role("heading", name="Plain", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="A plain button")).to_be_visible()
    page.wait_for_load_state("networkidle")
    end.save(page, path)
    page.close()
    return set(errors)


def _own_errors_when_reloaded(browser: Browser, site: Site, end: FrontEnd) -> set[str]:
    page = browser.new_page()
    errors = console_errors(page)
    path = site.write(f"reloaded-{end.name}-{uuid4().hex}", GOING_ON, "print('behind it')")
    end.open(page, site, path)
    end.run_cell(page, 0)
    expect(cell(page, end, 0).locator("input[type=number]")).to_be_visible()
    end.open(page, site, path)
    end.run_cell(page, 1)
    (path.parent / "over").touch()
    expect(cell(page, end, 1).locator("pre", has_text="behind it").last).to_be_visible()
    page.close()
    return set(errors)


@pytest.fixture
def page(
    request: pytest.FixtureRequest, browser: Browser, site: Site, end: FrontEnd, own_errors: dict[str, set[str]]
) -> Iterator[Page]:
    """A fresh page; an error on its console that is not the front end's own fails the test.

    The marker `reloads` adds what the front end says of a plain widget when its page is loaded anew.
    """
    own = own_errors[end.name]
    if request.node.get_closest_marker("reloads"):
        own = own | _own_errors_when_reloaded(browser, site, end)
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(60_000)
    errors = console_errors(page)
    yield page
    page.close()
    site.stop_kernels()
    assert [error for error in errors if error not in own] == []
