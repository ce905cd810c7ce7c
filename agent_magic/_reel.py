"""One tape's file while it is written. Only the writing thread comes here."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

from msgspec import structs

from agent_magic._deck import Call, entry_of
from agent_magic._journal import create_tape
from agent_magic._keys import Secret
from agent_magic._tape import Entry, Header, Heard, Outcome, encode_lines, microseconds
from agent_magic.events import ServerSentEvent

__all__ = ["FORGET", "Item", "Reel"]

TAPE_BYTES = 64 * 1024 * 1024
ROOM_FOR_OUTCOME = 4096


class _Order(Enum):
    FORGET = auto()


# All between the first line and the outcome goes: it holds a key in pieces, which nobody could strike out of it.
FORGET = _Order.FORGET

# What is put on a tape: its header, what happened (when, what, its weight), lines of an earlier tape, the outcome.
Item = Header | tuple[float, Call, int] | list[Entry] | Outcome | _Order


class Reel:
    """A file that is made when its header is written, and closed after its outcome.

    `queue` is what is to be written; any thread may append to it. `path` is None where the file is not
    open. After the first failure, which `trouble` is called with, `missing` says what it was, and only
    the outcome is still tried. `size` is that of the whole lines.
    """

    def __init__(self, folder: Path, secrets: Sequence[Secret], trouble: Callable[[str], None]) -> None:
        self.folder = folder
        self.queue: deque[Item] = deque()
        self.path: Path | None = None
        self.size = 0
        self.missing = ""
        self._secrets = secrets
        self._trouble = trouble
        self._descriptor: int | None = None
        self._first_line = 0

    def take(self) -> list[Item]:
        """What is queued now; it is queued no longer."""
        return [self.queue.popleft() for _ in range(len(self.queue))]

    def write(self, items: Sequence[Item]) -> None:
        """Write `items`, in order; a failure is said and not raised."""
        outcome = items[-1] if items and isinstance(items[-1], Outcome) else None
        entries = items if outcome is None else items[:-1]
        if FORGET in entries:
            self._forget([item for item in entries if isinstance(item, Header)])
        elif entries and not self.missing:
            self._try(entries)
        if outcome is not None:
            self._end(outcome)

    def close(self) -> None:
        """Let go of the file, and so of its lock; where a parent process has it too, the lock stays the parent's."""
        descriptor, self._descriptor, self.path = self._descriptor, None, None
        if descriptor is not None:
            with suppress(OSError):  # a network folder may fail here, and there is nothing left to do
                os.close(descriptor)

    def _end(self, outcome: Outcome) -> None:
        if self.missing:
            # A full disk has room for the outcome where the last lines stood.
            with suppress(OSError):
                self._shorten(self.size - ROOM_FOR_OUTCOME)
        self._try([structs.replace(outcome, missing=outcome.missing or self.missing)])
        self.close()

    def _forget(self, header: Sequence[Header]) -> None:
        self._try(header)
        with suppress(OSError):
            self._shorten(self._first_line)
        self._fail("the server sent a key back in pieces, and they are not kept")

    def _try(self, items: Sequence[Item]) -> None:
        try:
            for item in items:
                if isinstance(item, Header):
                    self.path, self._descriptor = create_tape(self.folder, item)
                    self._first_line = len(encode_lines([item], self._secrets))
            if self._descriptor is not None:
                self._append(self._descriptor, encode_lines(_lines(items), self._secrets))
        except OSError as error:
            self._fail(f"{error.filename or self.path or self.folder}: {error.strerror or type(error).__name__}")
        except Exception as error:  # noqa: BLE001 (whatever it is, the other tapes are written)
            self._fail(f"{type(error).__name__}: {error}")

    def _fail(self, reason: str) -> None:
        self.missing = self.missing or reason
        self._trouble(reason)

    def _append(self, descriptor: int, data: bytes) -> None:
        """Write `data`; of what cannot be written whole, whole lines stay."""
        most = len(data) if self.missing else min(len(data), max(0, TAPE_BYTES - self.size))
        view, written = memoryview(data), 0
        try:
            while written < most:
                written += os.write(descriptor, view[written:most])
        finally:
            whole = data.rfind(b"\n", 0, written) + 1
            self.size += whole
            if whole < written:
                self._cut(descriptor)
        if most < len(data):
            raise OSError(0, f"a run's tape has at most {TAPE_BYTES // 1024 // 1024} MiB")

    def _shorten(self, most: int) -> None:
        """Take the last lines away until `most` bytes are left, or a little less; the first line stays."""
        if self._descriptor is not None and most > 0:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            self.size = os.read(self._descriptor, most).rfind(b"\n") + 1 or self.size
            self._cut(self._descriptor)

    def _cut(self, descriptor: int) -> None:
        with suppress(OSError):  # what is no file has no length
            os.ftruncate(descriptor, self.size)
            os.lseek(descriptor, self.size, os.SEEK_SET)


def _lines(items: Sequence[Item]) -> list[Header | Entry | Outcome]:
    lines: list[Header | Entry | Outcome] = []
    for item in items:
        if type(item) is tuple:
            at, call, _ = item
            if type(call) is ServerSentEvent:  # nearly all are, and the reader's time is taken for each
                lines.append(Heard(microseconds(at), call.event, call.data, call.id))
            else:
                lines.append(entry_of(call, microseconds(at)))
        elif type(item) is list:
            lines.extend(item)
        elif isinstance(item, Header | Outcome):
            lines.append(item)
    return lines
