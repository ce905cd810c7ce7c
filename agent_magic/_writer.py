"""The thread that writes tapes: one for all runs of a process, beside whoever reads a stream.

A reader puts what happened on a queue and goes on. The thread wakes up, waits a moment for more, and
writes all there is in one go for each tape. So what a disk does never reaches a stream: the queue has a
limit, what is above it is left out, and a tape that could not be written is said once in its run.

What was written is safe from the end of the process. It is not forced down to the medium (fsync), so a
machine that loses its power may lose the last seconds.
"""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic

import anyio

from agent_magic._deck import Call
from agent_magic._journal import prune
from agent_magic._keys import Secret
from agent_magic._reel import FORGET, Item, Reel
from agent_magic._tape import Entry, Fault, Header, Outcome, microseconds
from agent_magic._transcript import Status
from agent_magic.errors import AgentMagicError
from agent_magic.events import ServerSentEvent, Usage

__all__ = ["Tape", "flush_tapes"]

# The thread waits so long for more to come, before it writes what has: a stream's events share a write.
PAUSE_SECONDS = 0.02
# What waits for a slow disk may take so much memory, in characters, for all runs together.
QUEUE_SIZE = 16 * 1024 * 1024
# The end of a run waits so long for its tape, and the end of the process for all of them.
END_SECONDS = 0.5
EXIT_SECONDS = 3.0
# After so many bytes, or tapes, the folder's size is looked at again.
PRUNE_BYTES = 8 * 1024 * 1024
PRUNE_TAPES = 100
# An entry's own weight in the queue, beside its text.
WEIGHT = 200

_LOCK = Lock()
_WRITERS: dict[int, _Writer] = {}


def _writer() -> _Writer:
    with _LOCK:
        # Keyed by process: a forked child has the object but not the thread.
        writer = _WRITERS.get(os.getpid())
        if writer is None:
            writer = _WRITERS[os.getpid()] = _Writer()
            atexit.register(flush_tapes, EXIT_SECONDS)
        return writer


def flush_tapes(seconds: float = END_SECONDS) -> None:
    """Wait until what this process has to write is written, `seconds` at most."""
    writer = _WRITERS.get(os.getpid())
    if writer is not None:
        writer.flush(seconds)


def _forget_parent() -> None:
    """In a forked child: let go of the parent's tapes, so that their locks end with the parent."""
    global _LOCK  # noqa: PLW0603 (the old one may be held by a thread that the child does not have)
    _LOCK = Lock()
    for writer in _WRITERS.values():
        writer.abandon()
    _WRITERS.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


class Tape:
    """One run's tape, on the run's side: nothing here waits, but `written`.

    `say` is called once, from any thread, with a sentence on why the tape is not whole. `secrets` are
    struck out of all that is written.
    """

    def __init__(
        self, folder: Path, header: Header, secrets: Sequence[Secret], say: Callable[[str], None], began: float
    ) -> None:
        self._writer = _writer()
        self._began = began
        self._say = say
        self._said = Lock()
        self._left_out = ""
        self._reel = Reel(folder, secrets, self.trouble)
        self._writer.put(self._reel, header)

    def tell(self, call: Call) -> None:
        """Put down what just happened. Called in the readers' thread alone."""
        if self._left_out or self._reel.missing:
            return
        writer = self._writer
        if writer.heard - writer.written > QUEUE_SIZE:
            self._left_out = "its disk was too slow"
            self.trouble(self._left_out)
            return
        weight = WEIGHT + (len(call.data) if type(call) is ServerSentEvent else len(call) if type(call) is bytes else 0)
        writer.heard += weight
        writer.put(self._reel, (monotonic() - self._began, call, weight))

    def forget(self) -> None:
        """Take away all that was put down, but for the first line."""
        self._writer.put(self._reel, FORGET)

    def copy(self, entries: Sequence[Entry]) -> None:
        """Put down what an earlier run had."""
        self._writer.put(self._reel, list(entries))

    def end(self, status: Status, error: AgentMagicError | None, elapsed: float, usage: Usage) -> None:
        """Put down the outcome."""
        outcome = Outcome(
            at=microseconds(elapsed),
            status=status,
            error=None if error is None else Fault.of(error),
            missing=self._left_out,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            total_tokens=usage.total_tokens,
        )
        self._writer.put(self._reel, outcome)

    async def written(self) -> None:
        """Wait until all of it is on disk, a moment at most; where that is not enough, say so."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop has gone
                loop.call_soon_threadsafe(done.set)

        with anyio.move_on_after(self._writer.patience()):
            self._writer.mark(wake)
            await done.wait()
            return
        self._writer.is_late = True
        self.trouble("its disk is too slow; what is missing may still follow")

    def trouble(self, reason: str) -> None:
        """Say `reason`, if it is the first."""
        if self._said.acquire(blocking=False):
            self._say(
                f"This run's journal is not whole ({reason}); the run itself is. "
                "AGENT_MAGIC_STATE names another folder, AGENT_MAGIC_JOURNAL=0 keeps none."
            )


class _Writer:
    """The thread, and what waits for it: each reel has a queue of its own, and `_due` the reels with news.

    `heard` and `written` are the weight of all calls so far, put and taken: each has one thread that
    adds to it, so neither needs a lock.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._due: dict[Reel, None] = {}
        self._marks: list[Callable[[], None]] = []
        self.heard = self.written = 0
        self._news = Event()
        self._hurry = Event()
        self._open: set[Reel] = set()
        # As if much had been written: with a process's first tape the folder is looked at.
        self._bytes, self._tapes = PRUNE_BYTES, 0
        self.is_late = False
        Thread(target=self._work, name="agent_magic journal", daemon=True).start()

    def put(self, reel: Reel, item: Item) -> None:
        """Queue `item` for `reel`."""
        reel.queue.append(item)
        if reel not in self._due:
            with self._lock:
                self._due[reel] = None
            self._news.set()

    def mark(self, wake: Callable[[], None]) -> None:
        """Call `wake`, in the thread, once all that is queued now is written."""
        with self._lock:
            self._marks.append(wake)
        self._hurry.set()
        self._news.set()

    def flush(self, seconds: float) -> None:
        """Wait until all that is queued now is written, `seconds` at most."""
        done = Event()
        self.mark(done.set)
        done.wait(seconds)

    def patience(self) -> float:
        """How long the end of a run may wait: not at all for a disk that let another run wait in vain."""
        return 0.0 if self.is_late else END_SECONDS

    def abandon(self) -> None:
        """In a forked child: let go of every file."""
        for reel in tuple(self._open):
            reel.close()

    def _work(self) -> None:
        while True:
            self._news.wait()
            self._hurry.wait(PAUSE_SECONDS)
            self._news.clear()
            self._hurry.clear()
            with self._lock:
                due, self._due = self._due, {}
                marks, self._marks = self._marks, []
            for reel in due:
                with suppress(Exception):  # whatever befalls one tape, the thread lives on for the others
                    self._write(reel)
            self.is_late = False
            for wake in marks:
                wake()

    def _write(self, reel: Reel) -> None:
        size, items = reel.size, reel.take()
        try:
            reel.write(items)
        finally:
            self.written += sum(item[2] for item in items if type(item) is tuple)
        self._bytes += reel.size - size
        if reel.path is None:
            self._open.discard(reel)
            self._tapes += 1
        else:
            self._open.add(reel)
        if self._bytes >= PRUNE_BYTES or self._tapes >= PRUNE_TAPES:
            self._bytes = self._tapes = 0
            with suppress(OSError):
                prune(reel.folder, {one.path for one in self._open if one.path is not None})
