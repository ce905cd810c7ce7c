"""Whether a message from the page arrives while a cell awaits: tried, not looked up.

A click on Stop is a widget's message. A widget that counts by itself, in the page, sends one without
anybody's click; it goes the same way, and is waited for as an answer is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

from IPython.display import clear_output, display

from agent_magic._cell import Clicks

__all__ = ["message_from_page"]

TELLING = "Trying whether a message from this page arrives while a cell runs …"
# The page's view begins to count at a change that it sees, and nobody says when the view is there.
ASK_SECONDS = 0.3
# A page that did not answer may be loading its scripts still; without its model it would complain.
CLOSE_SECONDS = 5.0
LONGEST_INTERVAL = 2**31 - 1


async def message_from_page(shell: Any, seconds: float) -> float | None:
    """The seconds until the page answered; None where it did not within `seconds`. Leaves no output behind."""
    from agent_magic.views._widgets import Play

    answered = asyncio.Event()
    # It counts to one; the second time would be in 25 days.
    probe = Play(min=0, max=1, interval=LONGEST_INTERVAL)
    probe.observe(lambda _change: answered.set(), "value")
    clicks = Clicks(shell)
    begun = monotonic()
    try:
        display({"text/plain": TELLING}, raw=True)
        display(probe)
        async with clicks:
            await _ask(probe, clicks, answered, begun + seconds)
        passed = monotonic() - begun
    finally:
        clear_output(wait=True)
        _close(probe.close, 0 if answered.is_set() else CLOSE_SECONDS)
    if not answered.is_set():
        return None
    return passed


async def _ask(probe: Any, clicks: Clicks, answered: asyncio.Event, until: float) -> None:
    while not answered.is_set() and monotonic() < until:
        probe.playing = False
        probe.playing = True
        asked = monotonic()
        while not answered.is_set() and monotonic() < asked + ASK_SECONDS:
            await clicks.wait(answered, ASK_SECONDS)


def _close(close: Callable[[], None], seconds: float) -> None:
    if seconds:
        asyncio.get_running_loop().call_later(seconds, close)
    else:
        close()
