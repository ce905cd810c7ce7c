"""The package as it is found: its names, what it imports, what loading it costs."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import agent_magic
from agent_magic import errors, events

ROOT = Path(__file__).parents[1]


def test_public_names_exist() -> None:
    """Every name that is offered can be had, and the list is sorted."""
    others = map(importlib.import_module, ("agent_magic.protocols", "agent_magic.testing"))
    for module in (agent_magic, errors, events, *others):
        assert list(module.__all__) == sorted(module.__all__)
        assert all(getattr(module, name) is not None for name in module.__all__)
    assert set(dir(agent_magic)) >= set(agent_magic.__all__)
    with pytest.raises(AttributeError):
        agent_magic.nothing  # noqa: B018


def test_every_error_is_offered() -> None:
    """Each error is in the list, in the tree of the docstring, and under one root."""
    defined = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert defined == set(errors.__all__)
    assert all(name in str(errors.__doc__) for name in defined)
    assert all(issubclass(getattr(errors, name), agent_magic.AgentMagicError) for name in defined)


def test_every_module_says_its_rule() -> None:
    """Each room opens with its docstring and is found by the import system."""
    for info in pkgutil.walk_packages(agent_magic.__path__, "agent_magic."):
        if not info.name.endswith("__main__"):
            assert importlib.import_module(info.name).__doc__, info.name


def test_protocols_are_registered() -> None:
    """Both wires are found by the entry point group that others use too."""
    assert {"runagent", "you"} <= {entry.name for entry in entry_points(group="agent_magic.protocols")}


def test_loading_imports_nothing_heavy() -> None:
    """`%load_ext` imports no HTTP client, widget, template, serializer or server; it prints and writes nothing."""
    heavy = (
        "httpx",
        "ipywidgets",
        "jinja2",
        "rich",
        "msgspec",
        "starlette",
        "anyio",
        "keyring",
        "markdown_it",
        "websockets",
    )
    script = (
        "import sys\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "before = set(sys.modules)\n"
        "shell.run_line_magic('load_ext', 'agent_magic')\n"
        f"print(sorted(set({heavy!r}) & (set(sys.modules) - before)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_version_is_in_the_changelog() -> None:
    """The changelog has an entry for this version."""
    assert re.search(rf"^## {re.escape(agent_magic.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
