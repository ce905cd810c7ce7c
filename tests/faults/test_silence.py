"""A server that falls silent, or is very slow, at each place where it hurts."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

from agent_magic._stream import Policy
from agent_magic.errors import AgentError, LimitReached, StreamLost
from agent_magic.testing import (
    Connection,
    RunAgentService,
    ScriptedServer,
    Service,
    YouService,
    begin_against,
    drips,
    falls_silent,
    head,
    pings,
)
from tests.faults._cases import BRIEF, Case, complaints

PIECES = ["Once ", "upon é ", "a time"]
SERVICES: list[Service] = [RunAgentService(PIECES), YouService(PIECES)]
SLOW = Policy(timeout=1, retries=0, max_time=20)


def silences(service: Service) -> Iterator[Case]:
    """Silence at each place of a reply: it is a lost connection, and what came before it is kept."""
    reply, ends = head(), [len(service.events[0])]
    for event in service.events[1:]:
        ends.append(ends[-1] + len(event))
    opening = len(service.opening())
    body = service.recorded
    second = b"".join(service.events[: opening + 1])
    packed = gzip.compress(body)
    zipped = head("text/event-stream", "200 OK", "Content-Encoding: gzip")
    flushed = _flushed(second)
    places = {
        "before the head": (b"", b"", ""),
        "inside the head": (reply[:40], b"", ""),
        "after the head": (reply, b"", ""),
        "after the first event": (reply, body[: ends[0]], ""),
        "after some events": (reply, second, PIECES[0]),
        "inside an event": (reply, second + service.events[opening + 1][:20], PIECES[0]),
        "before an event's last line end": (reply, second + service.events[opening + 1].rstrip(), PIECES[0]),
        "after a comment": (reply, second + b": still there\n\n", PIECES[0]),
        "inside a gzip header": (zipped, packed[:5], ""),
        "inside a gzip block": (zipped, flushed + packed[10:20], PIECES[0]),
    }
    if "é".encode() in body:
        places["inside a character"] = (reply, body[: body.index("é".encode()) + 1], PIECES[0])
    for place, (begin, sent, text) in places.items():
        yield Case(
            f"{service.protocol.name}: silence {place}",
            falls_silent(sent, reply=begin),
            service.protocol,
            BRIEF,
            text=text,
            error=StreamLost,
            words="sent nothing for 0.6 s",
            requests=1,
        )


def _flushed(data: bytes) -> bytes:
    """The beginning of a gzip stream from which all of `data` can be read already."""
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)


def slowness(service: Service) -> Iterator[Case]:
    """What is slow is not lost; what never ends is ended by max_time."""
    name, protocol = service.protocol.name, service.protocol
    text = "".join(PIECES)
    endless = Policy(timeout=0.5, retries=0, max_time=1)
    first = b"".join(service.events[: len(service.opening()) + 1])
    done = {"protocol": protocol, "policy": SLOW, "status": "done", "text": text}
    late = {"protocol": protocol, "policy": endless, "error": LimitReached, "words": "max_time"}
    yield Case(f"{name}: a byte at a time", drips(service.recorded, 0.002), **done)  # type: ignore[arg-type]
    yield Case(f"{name}: the head a byte at a time", drips(head() + service.recorded, 0.002, reply=b""), **done)  # type: ignore[arg-type]
    yield Case(f"{name}: a byte at a time, for ever", drips(service.recorded * 9, 0.05), **late)  # type: ignore[arg-type]
    yield Case(f"{name}: comments for ever", pings(0.05), text="", **late)  # type: ignore[arg-type]
    yield Case(f"{name}: some text, comments for ever", pings(0.05, first), text=PIECES[0], **late)  # type: ignore[arg-type]
    yield Case(
        f"{name}: an error page that never ends",
        falls_silent(b'{"detail": "No', reply=head("application/json", "400 Bad Request", "Content-Length: 99")),
        protocol,
        SLOW,
        error=AgentError,
        words="answered 400",
    )
    yield Case(f"{name}: one byte of JSON, then nothing", falls_silent(b"{", reply=head("application/json")), protocol, BRIEF, error=StreamLost)  # fmt: skip


def cases() -> Iterator[Case]:
    """All of this family."""
    for service in SERVICES:
        yield from silences(service)
        yield from slowness(service)


def test_silence() -> None:
    """Each silence is a lost connection after `timeout`; each slow answer arrives; each endless one is ended."""
    assert complaints(cases(), at_once=16) == []


def test_one_byte_a_second() -> None:
    """A byte within each `timeout` keeps the connection, however long the event takes: as many waits as it takes."""

    async def script(connection: Connection) -> None:
        # Six silences of two thirds of the timeout: four times the timeout in one event.
        event = service.events[1]
        await connection.send(head() + service.events[0] + event[:20])
        await connection.drip(event[20:26], 0.2)
        await connection.send(event[26:] + b"".join(service.events[2:]))

    service = RunAgentService(PIECES)
    with ScriptedServer(script) as server:
        run = begin_against(server.url, service.protocol, Policy(timeout=0.3, retries=0))
        assert run.wait(20)
    assert (run.transcript.status, run.transcript.text) == ("done", "".join(PIECES))
    assert run.transcript.elapsed > 1.1
