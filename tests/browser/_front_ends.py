"""Three front ends, driven alike: JupyterLab, Notebook 7 and nbclassic, each on one Jupyter server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from playwright.sync_api import Locator, Page

SETTINGS_OF_AGENT = '[agents.it]\nprotocol = "runagent"\nbase_url = "{url}"\nkey_env = ""\nbackoff = {backoff}\n{more}'


class Site:
    """A running Jupyter server and its folder."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder

    def write(self, name: str, *cells: str, agent: str | None = None, backoff: float = 2, more: str = "") -> Path:
        """A notebook of code cells in a folder of its own, beside the settings of an agent `it` at the URL `agent`."""
        path = self.folder / name / f"{name}.ipynb"
        path.parent.mkdir()
        if agent is not None:
            text = SETTINGS_OF_AGENT.format(url=agent, backoff=backoff, more=more)
            (path.parent / "agent_magic.toml").write_text(text)
        path.write_text(json.dumps(notebook(*cells)))
        return path

    def stop_kernels(self) -> None:
        """End the kernels of all notebooks: a hundred of them, even idle, slow down what comes after."""
        with urllib.request.urlopen(f"{self.url}/api/sessions", timeout=30) as reply:
            sessions = json.load(reply)
        for session in sessions:
            asked = urllib.request.Request(f"{self.url}/api/sessions/{session['id']}", method="DELETE")
            urllib.request.urlopen(asked, timeout=60).close()

    def set_theme(self, theme: str) -> None:
        """The theme of the pages of JupyterLab and Notebook that are opened from now on."""
        folder = self.folder.parent / "settings" / "@jupyterlab" / "apputils-extension"
        (folder / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))


def notebook(*cells: str) -> dict[str, Any]:
    """A notebook of code cells that have not been run."""
    return {
        "cells": [
            {"cell_type": "code", "id": f"c{place}", "metadata": {}, "source": cell, "outputs": [], "execution_count": None}
            for place, cell in enumerate(cells)
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }  # fmt: skip


class FrontEnd(Protocol):
    """What a test does with a front end, whichever it is. All of it is done on a page."""

    name: str
    code_cell: str  # a selector, of a code cell
    output: str  # of one output in it
    prompt: str  # of what stands left of it: [*] while it runs
    scroller: str  # of what scrolls

    def url(self, site: Site, path: Path) -> str:
        """Where the notebook at `path` is opened."""

    def open(self, page: Page, site: Site, path: Path) -> None:
        """Open a notebook and wait until its kernel is there."""

    def run_all(self, page: Page) -> None:
        """Run all cells, by what stands behind the menu."""

    def run_cell(self, page: Page, place: int) -> None:
        """Run one cell."""

    def save(self, page: Page, path: Path) -> dict[str, Any]:
        """Save, and return the notebook as it is in the file then."""

    def decline_kernel(self, page: Page) -> None:
        """Answer the dialog about a kernel that is not there: without one."""


class Jupyter:
    """JupyterLab; Notebook 7 is made of the same parts."""

    name = "lab"
    code_cell = ".jp-Notebook .jp-CodeCell"
    output = ".jp-OutputArea-output"
    prompt = ".jp-InputPrompt"
    scroller = ".jp-WindowedPanel-outer"
    path = "doc/tree"

    def url(self, site: Site, path: Path) -> str:
        return f"{site.url}/{self.path}/{path.relative_to(site.folder)}"

    def open(self, page: Page, site: Site, path: Path) -> None:
        page.goto(self.url(site, path))
        page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.sessionContext")
        page.evaluate("""async () => {
            const panel = jupyterapp.shell.currentWidget;
            await panel.context.ready;
            await panel.sessionContext.ready;
            await panel.sessionContext.session.kernel.info;
        }""")

    def run_all(self, page: Page) -> None:
        page.evaluate("void jupyterapp.commands.execute('notebook:run-all-cells')")

    def run_cell(self, page: Page, place: int) -> None:
        page.evaluate(
            """place => {
                jupyterapp.shell.currentWidget.content.activeCellIndex = place;
                void jupyterapp.commands.execute('notebook:run-cell');
            }""",
            place,
        )

    def save(self, page: Page, path: Path) -> dict[str, Any]:
        page.evaluate("async () => { await jupyterapp.shell.currentWidget.context.save(); }")
        return _read(path)

    def decline_kernel(self, page: Page) -> None:
        page.locator(".jp-Dialog").get_by_role("button", name="No Kernel").click()


class Notebook(Jupyter):
    """Notebook 7."""

    name = "notebook"
    path = "notebooks"


class Classic:
    """nbclassic, the notebook as it was before 7."""

    name = "nbclassic"
    code_cell = ".code_cell"
    output = ".output_subarea"
    prompt = ".input_prompt"
    scroller = "#site"

    def url(self, site: Site, path: Path) -> str:
        return f"{site.url}/nbclassic/notebooks/{path.relative_to(site.folder)}"

    def open(self, page: Page, site: Site, path: Path) -> None:
        page.goto(self.url(site, path))
        # With the widgets' script, which loads by itself, as it will have for any person.
        page.wait_for_function("""() => window.Jupyter?.notebook?._fully_loaded && Jupyter.notebook.kernel?.is_connected()
            && Jupyter.notebook.kernel.info_reply.status && Jupyter.notebook.kernel.widget_manager""")

    def run_all(self, page: Page) -> None:
        page.evaluate("Jupyter.notebook.execute_all_cells()")

    def run_cell(self, page: Page, place: int) -> None:
        page.evaluate("place => Jupyter.notebook.execute_cells([place])", place)

    def save(self, page: Page, path: Path) -> dict[str, Any]:
        page.evaluate("async () => { await Jupyter.notebook.save_notebook(); }")
        return _read(path)

    def decline_kernel(self, page: Page) -> None:
        page.locator(".modal-dialog").get_by_role("button", name="Continue Without Kernel").click()


FRONT_ENDS: dict[str, FrontEnd] = {end.name: end for end in (Jupyter(), Notebook(), Classic())}


def cell(page: Page, end: FrontEnd, place: int) -> Locator:
    """The code cell at `place`, from 0."""
    return page.locator(end.code_cell).nth(place)


def interrupt(page: Page, end: FrontEnd) -> None:
    """The keys I I in command mode."""
    cell(page, end, 0).locator(end.prompt).click()
    for key in ("Escape", "i", "i"):
        page.keyboard.press(key)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@contextmanager
def jupyter_server(home: Path, *options: str) -> Iterator[Site]:
    """A server for all three on a free port, without a token, with settings of its own."""
    folder = home / "notebooks"
    folder.mkdir()
    own = home / "user" / "agent_magic"
    own.mkdir(parents=True)
    (own / "config.toml").write_text('default = "demo"\n')
    environment = {
        **os.environ,
        # The person's own file says that it is `demo` where no notebook has settings beside it.
        "AGENT_MAGIC_DEFAULT": "",
        "XDG_CONFIG_HOME": str(home / "user"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    news = home / "settings" / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True)
    (news / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0",
        "--IdentityProvider.token=", "--ServerApp.password=", "--ServerApp.disable_check_xsrf=True", "--expose-app-in-browser",
        "--JupyterNotebookApp.expose_app_in_browser=True", f"--ServerApp.root_dir={folder}", *options,
    ]  # fmt: skip
    with (home / "log").open("w") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server:
        try:
            yield Site(_url(home, server), folder)
        finally:
            server.terminate()


def _url(home: Path, server: subprocess.Popen[bytes]) -> str:
    """Where the server listens, once it does: it writes that into its runtime folder and its log."""
    while server.poll() is None:
        for found in (home / "runtime").glob("jpserver-*.json"):
            url = str(json.loads(found.read_text() or "{}").get("url", "")).rstrip("/")
            if url and _answers(f"{url}/api"):
                return url
    raise RuntimeError(f"The Jupyter server did not start:\n{(home / 'log').read_text()}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
