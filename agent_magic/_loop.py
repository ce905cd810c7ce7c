"""The readers' thread: one event loop for all runs of a process, made at the first run and ended at exit.

Nobody waits for it: to begin a run, or to end one, puts a call on the loop's list and goes on. (anyio's
BlockingPortal has its caller wait for the loop's next turn, which is long where a thousand runs take turns.)
"""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock, Thread
from typing import Any, NamedTuple

import anyio
from anyio.abc import TaskGroup

__all__ = ["begin", "cancel", "readers"]


class Readers(NamedTuple):
    """The loop, and the group of its tasks."""

    loop: asyncio.AbstractEventLoop
    tasks: TaskGroup


_LOCK = Lock()
_READERS: dict[int, Readers] = {}


def begin(read: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have a task of its own run `read`, in the readers' loop."""
    loop, tasks = readers()
    asyncio.run_coroutine_threadsafe(_start(tasks, read), loop)


def cancel(scope: anyio.CancelScope) -> None:
    """Cancel `scope`, which one of the tasks has entered; a loop that has ended needs no telling."""
    with suppress(RuntimeError):
        readers().loop.call_soon_threadsafe(scope.cancel)


def readers() -> Readers:
    """The readers of this process."""
    with _LOCK:
        # Keyed by process: a forked child has the object but not the thread.
        found = _READERS.get(os.getpid())
        if found is None:
            found = _READERS[os.getpid()] = _open()
        return found


def _open() -> Readers:
    ready: Future[Readers] = Future()
    thread = Thread(target=anyio.run, args=(_serve, ready), name="agent_magic", daemon=True)
    thread.start()
    opened = ready.result()
    atexit.register(_close, opened, thread)
    return opened


async def _serve(ready: Future[Readers]) -> None:
    async with anyio.create_task_group() as tasks:
        ready.set_result(Readers(asyncio.get_running_loop(), tasks))
        await anyio.sleep_forever()


async def _start(tasks: TaskGroup, read: Callable[[], Coroutine[Any, Any, None]]) -> None:
    tasks.start_soon(read)


def _close(opened: Readers, thread: Thread) -> None:
    if _READERS.get(os.getpid()) is opened:
        del _READERS[os.getpid()]
        opened.loop.call_soon_threadsafe(opened.tasks.cancel_scope.cancel)
        thread.join()


def _forget_parent() -> None:
    """In a forked child: the lock may be held by a thread that the child does not have."""
    global _LOCK  # noqa: PLW0603
    _LOCK = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
