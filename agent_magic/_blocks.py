"""A stream's bytes, put right: in a form in which httpx-sse 0.4.3 reads them as the standard says.

The standard is WHATWG HTML, "Server-sent events", 9.2.5 and 9.2.6. The differences, each put right here:

- A byte order mark at the start is dropped (httpx-sse would lose the first event to it).
- CR and CRLF become LF, a CR as soon as it is seen (httpx-sse waits for the byte after it).
- A block without a data line is no event (httpx-sse makes one): its ``id`` is passed on, no more.
- A ``retry`` is dropped: no wire uses it, and httpx-sse reads ``+5`` and ``1_000`` as numbers.
- An event longer than `max_event` bytes is refused while it still arrives.
"""

from __future__ import annotations

from typing import NoReturn

from agent_magic.errors import LimitReached

__all__ = ["Blocks"]


class Blocks:
    """Bytes of a stream in, whole events out.

    Raises `LimitReached` for an event of more than `max_event` bytes, while it still arrives.
    """

    def __init__(self, max_event: int) -> None:
        self._max_event = max_event
        self._pending: list[bytes] = []
        self._size = 0
        self._begun = False
        self._after_cr = False

    def feed(self, chunk: bytes) -> bytes:
        """The events that `chunk` completes, as clean bytes."""
        chunk = self._lines(self._unmarked(chunk))
        if not chunk:
            return b""
        # An end may lie on the seam: what came last goes along with the first byte of this chunk.
        seam = self._pending[-1][-1:] if self._pending else b""
        end = (seam + chunk).rfind(b"\n\n")
        if end < 0:
            self._keep(chunk)
            return b""
        cut = end + 2 - len(seam)
        whole = b"".join([*self._pending, chunk[:cut]])
        self._pending, self._size = [], 0
        self._keep(chunk[cut:])
        if len(whole) > self._max_event:
            self._check_sizes(whole)
        return _only_events(whole)

    def _keep(self, rest: bytes) -> None:
        if rest:
            self._pending.append(rest)
            self._size += len(rest)
            if self._size > self._max_event:
                self._refuse()

    def _check_sizes(self, whole: bytes) -> None:
        if max(map(len, whole.split(b"\n\n"))) > self._max_event:
            self._refuse()

    def _refuse(self) -> NoReturn:
        raise LimitReached(f"The server sent an event larger than {self._max_event:,} bytes (max_event).")

    def _unmarked(self, chunk: bytes) -> bytes:
        if self._begun:
            return chunk
        start = b"".join(self._pending) + chunk
        if len(start) < 3 and b"\xef\xbb\xbf".startswith(start):
            self._pending = [start]
            return b""
        self._pending = []
        self._begun = True
        return start.removeprefix(b"\xef\xbb\xbf")

    def _lines(self, chunk: bytes) -> bytes:
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk


def _only_events(whole: bytes) -> bytes:
    """`whole`, which ends with an empty line, without the blocks that are no event."""
    blocks = whole.split(b"\n\n")
    blocks.pop()
    return b"".join([block + b"\n\n" if _is_plain(block) else _plain(block) for block in blocks])


def _is_plain(block: bytes) -> bool:
    if block.startswith(b"\n") or b"retry" in block:
        return False
    return block.startswith(b"data:") or b"\ndata:" in block


def _plain(block: bytes) -> bytes:
    lines = [line for line in block.split(b"\n") if line and line.partition(b":")[0] != b"retry"]
    if any(line.partition(b":")[0] == b"data" for line in lines):
        return b"\n".join(lines) + b"\n\n"
    return b"".join([line + b"\n" for line in lines if line.partition(b":")[0] == b"id"])
