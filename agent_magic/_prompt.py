"""The person at the keyboard: who can be asked for a hidden text, and how. The magics say so when they are loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_magic._keys import Secret

__all__ = ["ask_hidden", "ask_with"]

_ASKERS: list[Callable[[str], Secret | None]] = []


def ask_with(asker: Callable[[str], Secret | None] | None) -> None:
    """From now on `asker` asks: it gives what was typed, or None where nobody can type. None asks nobody."""
    _ASKERS[:] = [] if asker is None else [asker]


def ask_hidden(prompt: str) -> Secret | None:
    """What is typed at `prompt`; None where nobody can be asked, as in any thread but the main one."""
    if not _ASKERS or threading.current_thread() is not threading.main_thread():
        return None
    return _ASKERS[0](prompt)
