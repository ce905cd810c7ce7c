"""A remote AI agent, native in a notebook: ``%load_ext agent_magic``, then ``%%agent``.

The public names below are loaded when they are first used, so that loading the extension costs
a few milliseconds and not the import of an HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from agent_magic._agent import Agent
    from agent_magic._result import AgentResult
    from agent_magic._results import Results
    from agent_magic.errors import AgentMagicError

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AgentMagicError",
    "AgentResult",
    "Results",
    "load_ipython_extension",
    "unload_ipython_extension",
]

_HOMES = {
    "Agent": "agent_magic._agent",
    "AgentMagicError": "agent_magic.errors",
    "AgentResult": "agent_magic._result",
    "Results": "agent_magic._results",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Put ``%%agent`` and ``%agent`` into the shell. Reads no network and writes no file."""
    from agent_magic._magic import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take out of the shell all that `load_ipython_extension` put in."""
    from agent_magic._magic import unload

    unload(shell)
