"""JupyterLab in Chromium. Without a Chromium these tests are left out, and it is said; in CI they fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
expect.set_options(timeout=60_000)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


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


class Lab:
    """A running JupyterLab and its folder."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder

    def write(self, name: str, *cells: str) -> str:
        """A notebook of code cells; returns the URL that opens it."""
        notebook = {
            "cells": [
                {"cell_type": "code", "id": f"c{place}", "metadata": {}, "source": cell, "outputs": [], "execution_count": None}
                for place, cell in enumerate(cells)
            ],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }  # fmt: skip
        (self.folder / name).write_text(json.dumps(notebook))
        return f"{self.url}/doc/tree/{name}"


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab on a free port, without a token, with settings of its own."""
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    folder.mkdir()
    environment = {
        **os.environ,
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
        "--IdentityProvider.token=", "--ServerApp.password=",
        "--expose-app-in-browser", f"--ServerApp.root_dir={folder}",
    ]  # fmt: skip
    with (home / "log").open("w") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server:
        try:
            yield Lab(_url(home, server), folder)
        finally:
            server.terminate()


def _url(home: Path, server: subprocess.Popen[bytes]) -> str:
    """Where the server listens, once it does: it writes that into its runtime folder and its log."""
    while server.poll() is None:
        for found in (home / "runtime").glob("jpserver-*.json"):
            url = str(json.loads(found.read_text() or "{}").get("url", "")).rstrip("/")
            if url and _answers(f"{url}/api"):
                return url
    raise RuntimeError(f"JupyterLab did not start:\n{(home / 'log').read_text()}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
