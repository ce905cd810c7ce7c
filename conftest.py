"""No test, and no notebook that is run as one, writes into the home of who runs it, or asks their keyring.

Without a name it is `demo` that is asked, but in a notebook: that is run as a person runs it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Give everything that is started from here, kernels too, a state folder of its own, and a keyring without keys."""
    os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"
    os.environ[DEFAULT] = "demo"
    config.stash[STATE] = os.environ["AGENT_MAGIC_STATE"] = tempfile.mkdtemp(prefix="agent_magic-state-")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Leave it to a notebook which agent is asked."""
    if item.path.suffix == ".ipynb":
        os.environ.pop(DEFAULT, None)
    try:
        return (yield)
    finally:
        os.environ[DEFAULT] = "demo"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take that folder away again."""
    shutil.rmtree(config.stash[STATE], ignore_errors=True)


DEFAULT = "AGENT_MAGIC_DEFAULT"
STATE = pytest.StashKey[str]()
