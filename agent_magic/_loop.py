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
from logging import getLogger
from threading import Lock, Thread
from typing import Any, NamedTuple

import anyio
from anyio.abc import TaskGroup

from agent_magic.errors import StreamLost

__all__ = ["begin", "cancel", "readers"]


class Readers(NamedTuple):
    """The loop, and the group of its tasks."""

    loop: asyncio.AbstractEventLoop
    tasks: TaskGroup


_LOG = getLogger("agent_magic")
_LOCK = Lock()
_READERS: dict[int, Readers] = {}


def begin(read: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have a task of its own run `read`, in the readers' loop. Raises `StreamLost` where there can be none."""
    loop, tasks = readers()
    asyncio.run_coroutine_threadsafe(_start(tasks, read), loop)


def cancel(scope: anyio.CancelScope) -> None:
    """Cancel `scope`, which one of the tasks has entered.

    A loop that has ended needs no telling, and in a forked child the task is the parent's.
    """
    found = _READERS.get(os.getpid())
    if found is not None:
        with suppress(RuntimeError):
            found.loop.call_soon_threadsafe(scope.cancel)


def readers() -> Readers:
    """The readers of this process."""
    with _LOCK:
        # Keyed by process: a forked child has the object but not the thread.
        found = _READERS.get(os.getpid())
        if found is None or found.loop.is_closed():
            found = _READERS[os.getpid()] = _open()
        return found


def _open() -> Readers:
    ready: Future[Readers] = Future()
    thread = Thread(target=_run, args=(ready,), name="agent_magic", daemon=True)
    try:
        thread.start()
        opened = ready.result()
    except (OSError, RuntimeError) as error:  # no more files, or no more threads
        raise StreamLost(
            f"The machine has nothing left to make a connection with ({error}); nothing was sent."
        ) from None
    atexit.register(_close, opened, thread)
    return opened


def _run(ready: Future[Readers]) -> None:
    try:
        anyio.run(_serve, ready)
    except BaseException as error:
        if ready.done():
            raise
        ready.set_exception(error)


async def _serve(ready: Future[Readers]) -> None:
    async with anyio.create_task_group() as tasks:
        ready.set_result(Readers(asyncio.get_running_loop(), tasks))
        await anyio.sleep_forever()


async def _start(tasks: TaskGroup, read: Callable[[], Coroutine[Any, Any, None]]) -> None:
    tasks.start_soon(_alone, read)


async def _alone(read: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `read`; whatever befalls it, the other runs go on."""
    try:
        await read()
    except asyncio.CancelledError:
        raise
    except BaseException:  # noqa: BLE001 (also a SystemExit, or what a library in another language raises)
        _LOG.exception("a run ended in a way that agent_magic does not know")


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
