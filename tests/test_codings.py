"""Compressed bytes to plain ones, in bounded pieces; over sockets it is tried in tests/faults."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
import zstandard

from agent_magic._codings import PIECE_BYTES, DamagedError, UnknownCodingError, Unpacker

TEXT = "Once upon é a time. ".encode() * 500
ZSTD = zstandard.ZstdCompressor()
PACKED = {
    "": TEXT,
    "identity": TEXT,
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT[:77]) + gzip.compress(TEXT[77:]),
    "deflate": zlib.compress(TEXT),
    " Deflate ": zlib.compress(TEXT)[2:-4],
    "br": brotli.compress(TEXT),
    "zstd": ZSTD.compress(TEXT[:77]) + ZSTD.compress(TEXT[77:]),
    "gzip, identity, br": brotli.compress(gzip.compress(TEXT)),
}


def unpacked(coding: str, *parts: bytes) -> bytes:
    unpacker = Unpacker(coding)
    plain = b"".join(piece for part in parts for piece in unpacker.feed(part))
    unpacker.finish()
    return plain


@pytest.mark.parametrize("coding", PACKED)
def test_each_coding(coding: str) -> None:
    """Whole and byte by byte; members of gzip and frames of zstd follow one another; deflate may be raw."""
    packed = PACKED[coding]
    assert unpacked(coding, packed) == TEXT
    assert unpacked(coding, *(packed[place : place + 1] for place in range(len(packed)))) == TEXT


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_what_ends_too_early_is_damaged(coding: str) -> None:
    """Data that ends before its own end is said to be damaged, and nothing at all is not."""
    with pytest.raises(DamagedError):
        unpacked(coding, PACKED[coding][:-5])
    assert unpacked(coding) == unpacked(coding, b"") == b""


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "br, gzip"])
def test_noise_is_damaged(coding: str) -> None:
    """What is no compressed data is damaged, and nothing else is raised."""
    with pytest.raises(DamagedError):
        unpacked(coding, b"\x00\xffnoise" * 50)


@pytest.mark.parametrize("coding", ["x-secret", "gzip, x", "gzip;q=1", ", ".join(["gzip"] * 5)])
def test_codings_that_are_not_known(coding: str) -> None:
    """An unknown coding, and too many in a row, are refused before a byte is read."""
    with pytest.raises(UnknownCodingError):
        Unpacker(coding)


@pytest.mark.parametrize(("coding", "most"), [("gzip", PIECE_BYTES), ("br", 2 * PIECE_BYTES), ("zstd", 8 * 2**20)])
def test_pieces_are_bounded(coding: str, most: int) -> None:
    """However much a byte holds, no piece is larger than some megabytes."""
    zeros = bytes(64 * 2**20)
    packed = {"gzip": gzip.compress, "br": lambda data: brotli.compress(data, quality=1), "zstd": ZSTD.compress}[
        coding
    ](zeros)
    sizes = [len(piece) for piece in Unpacker(coding).feed(packed)]
    assert sum(sizes) == len(zeros)
    assert max(sizes) <= most


def test_a_window_that_is_too_large() -> None:
    """A zstd frame that wants a window of 128 MB does not get one."""
    large = zstandard.ZstdCompressionParameters(window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=large).compressobj()
    with pytest.raises(DamagedError):
        unpacked("zstd", packer.compress(bytes(2**20)) + packer.flush())


@pytest.mark.parametrize("more", range(-8, 300, 11))
def test_more_comes_out_than_goes_in(more: int) -> None:
    """What fits no more into a piece comes with the next, also where all of the data has been taken in."""
    data = (b"ab" * PIECE_BYTES)[: PIECE_BYTES + more]
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    assert unpacked("deflate", packer.compress(data) + packer.flush()) == data
