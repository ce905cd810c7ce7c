"""What every test stands on: a clean environment, servers on loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_magic._key_sources import forget_keys
from agent_magic._overrides import forget_overrides
from agent_magic._prompt import ask_with
from agent_magic.demo import DemoServer


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, proxy or settings of the person who runs the tests has a say in them.

    Without a name it is `demo` that is asked: the model is for the tests that are about it.
    """
    for name in (
        "RUNAGENT_API_KEY", "YDC_API_KEY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",
        "http_proxy", "https_proxy", "all_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
        *(name for name in os.environ if name.startswith("AGENT_MAGIC_")),
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("AGENT_MAGIC_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("AGENT_MAGIC_DEFAULT", "demo")
    monkeypatch.chdir(tmp_path)
    ask_with(None)
    forget_keys()
    forget_overrides()


@pytest.fixture
def nothing_said(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says which agent is the default one, on a machine without a local model."""
    monkeypatch.delenv("AGENT_MAGIC_DEFAULT")
    monkeypatch.setattr("agent_magic._config.is_complete", lambda: False)


@pytest.fixture(scope="session")
def demo_url() -> Iterator[str]:
    """The embedded agent, without a key and without pauses."""
    server = DemoServer(delay_ms=0)
    yield server.start()
    server.stop()
