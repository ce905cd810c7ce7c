"""Compressed bytes to plain ones, a bounded piece at a time.

A few bytes can hold gigabytes, and httpx unpacks all that it has at once. Here no step gives out more than
some megabytes, so that whoever reads can stop at a limit of its own. The codings are those of RFC 9110,
8.4.1 (gzip, deflate), RFC 7932 (br) and RFC 8878 (zstd).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

__all__ = ["DamagedError", "UnknownCodingError", "Unpacker"]

# The most that one step of gzip and br gives out.
PIECE_BYTES = 256 * 1024
# zstd has no such limit, but a block of 128 KiB takes at least 4 bytes: so many at once are 4 MiB at the most.
ZSTD_STEP_BYTES = 128
# RFC 9659: no zstd content coding may need a larger window.
ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
# No server packs what is packed more than once or twice.
MOST_CODINGS = 4


class DamagedError(Exception):
    """The bytes are no compressed data, or end before it does."""


class UnknownCodingError(Exception):
    """A coding that is not known here, or too many of them."""


class _Coding(Protocol):
    @property
    def is_whole(self) -> bool:
        """Whether the data has come to its own end, or has not begun."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` completes, piece by piece. Raises `DamagedError`."""


class Unpacker:
    """Undoes the codings that a Content-Encoding header names."""

    def __init__(self, content_encoding: str) -> None:
        names = [name.strip().lower() for name in content_encoding.split(",")]
        codings = [name for name in names if name not in {"", "identity"}]
        if len(codings) > MOST_CODINGS or not all(name in _CODINGS for name in codings):
            raise UnknownCodingError
        # What was applied last is undone first.
        self._codings = [_CODINGS[name]() for name in reversed(codings)]

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The plain bytes that `data` completes, piece by piece. Raises `DamagedError`."""
        pieces: Iterable[bytes] = (data,)
        for coding in self._codings:
            pieces = _fed(coding, pieces)
        yield from pieces

    def finish(self) -> None:
        """Raise `DamagedError` where the data ended before its own end."""
        if not all(coding.is_whole for coding in self._codings):
            raise DamagedError


def _fed(coding: _Coding, pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield from coding.feed(piece)


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._unpacker = zlib.decompressobj(wbits)
        self.is_whole = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        piece = b""
        # With all of the data taken in there may still be more to come out than fitted.
        while data or len(piece) == PIECE_BYTES:
            try:
                piece = self._unpacker.decompress(data, PIECE_BYTES)
            except zlib.error:
                raise DamagedError from None
            self.is_whole = self._unpacker.eof
            if piece:
                yield piece
            if not self._unpacker.eof:
                data = self._unpacker.unconsumed_tail
            elif self._wbits == GZIP and self._unpacker.unused_data.startswith(b"\x1f\x8b"):
                # RFC 1952, 2.2: members follow one another.
                data, self._unpacker = self._unpacker.unused_data, zlib.decompressobj(GZIP)
            else:
                return  # what stands behind the end is not ours


class _Deflate:
    """zlib's format, as the RFC says, or the raw one that some servers mean by the name: two bytes tell them apart."""

    def __init__(self) -> None:
        self._start = b""
        self._unpacker: _Zlib | None = None

    @property
    def is_whole(self) -> bool:
        return not self._start if self._unpacker is None else self._unpacker.is_whole

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._unpacker is None:
            self._start += data
            if len(self._start) < 2:
                return
            # RFC 1950, 2.2: the method is 8, and the two bytes are a multiple of 31.
            has_header = self._start[0] & 15 == 8 and int.from_bytes(self._start[:2]) % 31 == 0
            data, self._unpacker = self._start, _Zlib(ZLIB if has_header else RAW)
        yield from self._unpacker.feed(data)


class _Brotli:
    def __init__(self) -> None:
        import brotli

        self._unpacker = brotli.Decompressor()
        self._error = brotli.error
        self._begun = False
        self.is_whole = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not data:
            return
        while piece := self._step(data):
            data = b""
            yield piece

    def _step(self, data: bytes) -> bytes:
        if self._begun and self.is_whole:
            return b""  # what stands behind the end is not ours
        self._begun = True
        try:
            piece = bytes(self._unpacker.process(data, output_buffer_limit=PIECE_BYTES))
            self.is_whole = self._unpacker.is_finished()
        except self._error:
            raise DamagedError from None
        return piece


class _Zstd:
    def __init__(self) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._begin: Callable[[], Any] = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj
        self._unpacker = self._begin()
        self.is_whole = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), ZSTD_STEP_BYTES):
            left = data[start : start + ZSTD_STEP_BYTES]
            while left:
                if self._unpacker.eof:
                    self._unpacker = self._begin()  # frames follow one another
                if piece := self._step(left):
                    yield piece
                left = self._unpacker.unused_data
                self.is_whole = self._unpacker.eof

    def _step(self, data: bytes) -> bytes:
        try:
            return bytes(self._unpacker.decompress(data))
        except self._error:
            raise DamagedError from None


GZIP, ZLIB, RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS
_CODINGS: dict[str, Callable[[], _Coding]] = {
    "gzip": lambda: _Zlib(GZIP),
    "x-gzip": lambda: _Zlib(GZIP),
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}
