"""No test, and no notebook that is run as one, writes into the home of who runs it, or asks their keyring."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Give everything that is started from here, kernels too, a state folder of its own, and a keyring without keys."""
    os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"
    config.stash[STATE] = os.environ["AGENT_MAGIC_STATE"] = tempfile.mkdtemp(prefix="agent_magic-state-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take that folder away again."""
    shutil.rmtree(config.stash[STATE], ignore_errors=True)


STATE = pytest.StashKey[str]()
