"""Compressed answers: cut short, corrupted, nested, of no known kind, and bombs."""

from __future__ import annotations

import gzip
import resource
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import brotli
import pytest
import zstandard

from agent_magic._stream import Policy
from agent_magic.errors import AgentError, LimitReached, ProtocolError, StreamLost
from agent_magic.testing import RunAgentService, Service, YouService, refuses, says
from tests.faults._cases import ONCE, PATIENT, Case, complaints

PIECES = ["Once ", "upon é ", "a time", "x" * 3000]
SERVICES: list[Service] = [RunAgentService(PIECES), YouService(PIECES)]
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor(level=3).compress,
}
MEGABYTE = 2**20


def damages(service: Service, coding: str) -> Iterator[Case]:
    """Cut at many places, and one bit turned at many places: whole, or lost and said; never another text."""
    name, packed = f"{service.protocol.name}: {coding}", CODINGS[coding](service.recorded)
    extra = (f"Content-Encoding: {coding}",)
    whole = "".join(PIECES)
    yield Case(f"{name} whole", says(packed, extra=extra), service.protocol, PATIENT, "done", whole)
    for place in range(0, len(packed), max(1, len(packed) // 40)):
        yield Case(
            f"{name} cut at {place}", says(packed[:place], extra=extra), service.protocol, ONCE, None, part_of=whole
        )
    yield Case(f"{name}, but it is not", says(service.recorded, extra=extra), service.protocol, ONCE, text="", error=StreamLost)  # fmt: skip
    yield Case(f"{name}, but it is garbage", says(b"\x00garbage\xff" * 99, extra=extra), service.protocol, ONCE, text="", error=StreamLost)  # fmt: skip
    if coding != "br":  # whose library gives nothing out of a piece that has anything behind the end
        yield Case(f"{name}, and garbage behind it", says(packed + b"garbage", extra=extra), service.protocol, ONCE, "done", whole)  # fmt: skip


def names(service: Service) -> Iterator[Case]:
    """Codings in a row, in capitals, unknown, and too many."""
    body, protocol, text = service.recorded, service.protocol, "".join(PIECES)
    twice = brotli.compress(gzip.compress(body))
    name = protocol.name
    yield Case(f"{name}: GZIP", says(gzip.compress(body), extra=["Content-Encoding: GZIP"]), protocol, ONCE, "done", text)  # fmt: skip
    yield Case(f"{name}: gzip, br", says(twice, extra=["Content-Encoding: gzip, br"]), protocol, ONCE, "done", text)
    yield Case(f"{name}: identity", says(body, extra=["Content-Encoding: identity"]), protocol, ONCE, "done", text)
    for unknown in ("x-secret", "aes128gcm", "compress"):
        yield Case(f"{name}: {unknown}", says(body, extra=[f"Content-Encoding: {unknown}"]), protocol, ONCE, text="", error=ProtocolError)  # fmt: skip
    many = ", ".join(["gzip"] * 1000)
    yield Case(f"{name}: gzip a thousand times", says(body, extra=[f"Content-Encoding: {many}"]), protocol, ONCE, text="", error=ProtocolError)  # fmt: skip


@cache
def bomb(coding: str, begin: bytes = b"data: ", fill: bytes = b"x") -> bytes:
    """256 MB of one character, compressed: a few hundred bytes in br, a quarter of a megabyte in gzip."""
    block = fill * MEGABYTE
    match coding:
        case "gzip" | "deflate":
            packer = zlib.compressobj(9, wbits=31 if coding == "gzip" else 15)
            return packer.compress(begin) + b"".join(packer.compress(block) for _ in range(256)) + packer.flush()
        case "br":
            # Quality 5 is quick, and makes a few hundred bytes of it.
            crusher = brotli.Compressor(quality=5, lgwin=24)
            return bytes(crusher.process(begin) + b"".join(map(crusher.process, [block] * 256)) + crusher.finish())
        case _:
            writer = zstandard.ZstdCompressor(level=1).compressobj()
            return writer.compress(begin) + b"".join(writer.compress(block) for _ in range(256)) + writer.flush()


def bombs(service: Service, coding: str) -> Iterator[Case]:
    """256 MB in a few kilobytes: as one event, as a JSON reply, as an error page, as two bombs in one."""
    extra = f"Content-Encoding: {coding}"
    name, protocol = f"{service.protocol.name}: bomb in {coding}", service.protocol
    policy = Policy(timeout=10, retries=0, max_event=2 * MEGABYTE)
    packed = bomb(coding)
    limited = {"protocol": protocol, "policy": policy, "error": LimitReached, "words": "max_event"}
    yield Case(f"{name}, as an event", says(packed, extra=[extra]), **limited)  # type: ignore[arg-type]
    yield Case(f"{name}, as JSON", says(packed, content_type="application/json", extra=[extra]), **limited)  # type: ignore[arg-type]
    yield Case(f"{name}, as an error", refuses("400 No", packed, extra), protocol, policy, error=AgentError)
    yield Case(f"{name}, as HTML", says(packed, content_type="text/html", extra=[extra]), protocol, policy, error=ProtocolError)  # fmt: skip
    twice = says(gzip.compress(packed), extra=[f"Content-Encoding: {coding}, gzip"])
    yield Case(f"{name}, twice packed", twice, **limited)  # type: ignore[arg-type]


def cases() -> Iterator[Case]:
    """All of this family whose text can be reckoned: what a turned bit makes of it, nobody can say."""
    for service in SERVICES:
        yield from names(service)
        for coding in CODINGS:
            yield from damages(service, coding)
            yield from bombs(service, coding)


def test_encodings() -> None:
    """What can be read is read; what cannot is a broken connection, a limit, or a coding that is not known."""
    assert complaints(case for service in SERVICES for case in names(service)) == []
    assert complaints(case for service in SERVICES for coding in CODINGS for case in damages(service, coding)) == []


@pytest.mark.parametrize("coding", CODINGS)
def test_bombs(coding: str) -> None:
    """256 MB in a few kilobytes are never held: it ends at max_event, having taken a fraction of it."""
    bomb(coding)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert complaints((case for service in SERVICES for case in bombs(service, coding)), at_once=2) == []
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 120 * MEGABYTE


def turned(service: Service, coding: str) -> Iterator[Case]:
    """One bit turned on its way, at many places.

    No coding has a check sum that is read before its text is given out, so another text may arrive; but
    no run hangs, and none ends without a word.
    """
    packed = CODINGS[coding](service.recorded)
    for place in range(0, len(packed), max(1, len(packed) // 30)):
        body = packed[:place] + bytes([packed[place] ^ 1 << place % 8]) + packed[place + 1 :]
        script = says(body, extra=[f"Content-Encoding: {coding}"])
        yield Case(f"{service.protocol.name}: {coding} turned at {place}", script, service.protocol, ONCE, None)


def test_turned_bits() -> None:
    """A turned bit is damage, or another text, and always an ending."""
    assert complaints(case for service in SERVICES for coding in CODINGS for case in turned(service, coding)) == []
