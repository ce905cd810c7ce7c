"""How a coroutine waits for news, where a kernel may need help to hear clicks meanwhile.

Who knows the kernel (`_cell`) names the way; everywhere else waiting is plain.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

__all__ = ["Wait", "set_way", "wait_plainly", "waiting"]

# Waits for the event, at most so many seconds.
Wait = Callable[[asyncio.Event, float], Awaitable[None]]
Way = Callable[[], AbstractAsyncContextManager[Wait] | None]

_WAYS: list[Way] = []


def set_way(way: Way | None) -> None:
    """Have `way` be asked whenever somebody begins to wait; None takes it away."""
    _WAYS[:] = [] if way is None else [way]


@asynccontextmanager
async def waiting() -> AsyncIterator[Wait]:
    """The way to wait here, as a context manager: what it gives is awaited with an event and with seconds."""
    found = _WAYS[0]() if _WAYS else None
    if found is None:
        yield wait_plainly
    else:
        async with found as wait:
            yield wait


async def wait_plainly(news: asyncio.Event, seconds: float) -> None:
    """Wait for `news`, at most `seconds`."""
    # Not asyncio.wait_for: up to Python 3.11 it loses a cancellation that comes together with the news.
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await news.wait()
