"""The main job where people see it: JupyterLab in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Lab

LOAD = "%load_ext agent_magic"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page; an error on its console fails the test."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(60_000)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []


def run_all(page: Page, url: str) -> None:
    """Open a notebook and run all its cells, by the command behind the Run menu."""
    page.goto(url)
    page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.sessionContext")
    page.evaluate("""async () => {
        const notebook = jupyterapp.shell.currentWidget;
        await notebook.context.ready;
        await notebook.sessionContext.ready;
        await notebook.sessionContext.session.kernel.info;
        void jupyterapp.commands.execute("notebook:run-all-cells");
    }""")


def save(page: Page, name: str) -> None:
    """Save the notebook, and wait until the server has it."""
    with page.expect_response(lambda response: response.request.method == "PUT" and name in response.url):
        page.keyboard.press("Control+s")


def saved(lab: Lab, page: Page, name: str) -> list[list[str]]:
    """The kinds of output in the notebook as it is saved, cell by cell."""
    save(page, name)
    notebook = json.loads((lab.folder / name).read_text())
    assert "widgets" not in notebook["metadata"]
    return [
        [kind for output in cell["outputs"] for kind in sorted(output.get("data", {output["output_type"]: 0}))]
        for cell in notebook["cells"]
    ]


def test_an_answer_streams_in(lab: Lab, page: Page) -> None:
    """Text appears while the cell runs, and at the end there are the answer and one line."""
    url = lab.write(
        "stream.ipynb", LOAD, "%%agent -o answer -p stream_delay_ms=80\nWhy is the sky blue?", "print(answer.status)"
    )
    run_all(page, url)
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(page.get_by_role("heading", name="You asked")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(page.get_by_text("✓ done")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    expect(page.locator(".jp-OutputArea-output pre", has_text="done")).to_be_visible()
    final = ["text/markdown", "text/plain", "text/html", "text/plain"]
    assert saved(lab, page, "stream.ipynb") == [[], final, ["stream"]]


def test_a_click_on_stop(lab: Lab, page: Page) -> None:
    """A real click ends the cell in mid-stream, and the cell below it runs."""
    url = lab.write(
        "stop.ipynb", LOAD, "%%agent -o answer -p stream_delay_ms=200\nWhy is the sky blue?", "print(answer.status)"
    )
    run_all(page, url)
    expect(page.get_by_role("heading", name="You asked")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("■ stopped")).to_be_visible()
    expect(page.locator(".jp-OutputArea-output pre", has_text="stopped")).to_be_visible()
    final = ["text/markdown", "text/plain", "text/html", "text/plain"]
    assert saved(lab, page, "stop.ipynb") == [[], final, ["stream"]]


def test_what_an_agent_says_runs_no_script(lab: Lab, browser: Browser) -> None:
    """The same hostile text runs when it is shown unguarded, and does nothing as an answer."""
    page = browser.new_page()
    hostile = "<img src='data:,' onerror=\\\"window.fired = (window.fired || 0) + 1\\\">"
    server = (
        "from agent_magic.testing import ScriptedServer, says, event_stream\n"
        f'hostile = "{hostile}"\n'
        "server = ScriptedServer(says(event_stream(('chunk', {'content': 'before ' + hostile}), ('done', {})))).__enter__()\n"
        "from pathlib import Path\n"
        'Path(\'hostile.toml\').write_text(f\'[agents.h]\\nprotocol="runagent"\\nbase_url="{server.url}"\\nkey_env=""\')\n'
        "%env AGENT_MAGIC_CONFIG=hostile.toml"
    )
    guarded = lab.write("guarded.ipynb", LOAD, server, "%%agent\nSay it.", "print('at the ' + 'end')")
    run_all(page, guarded)
    expect(page.get_by_text("at the end", exact=True)).to_be_visible()
    expect(page.get_by_text("before <img src=")).to_be_visible()
    assert page.evaluate("window.fired") is None
    save(page, "guarded.ipynb")
    control = lab.write(
        "control.ipynb", f'from IPython.display import Markdown, display\ndisplay(Markdown("{hostile}"))'
    )
    run_all(page, control)
    page.wait_for_function("window.fired > 0")
    page.close()
