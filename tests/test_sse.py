"""Server-sent events by the WHATWG text, through the whole stream and over a real socket.

The sections are those of the HTML standard: 9.2.5 (parsing) and 9.2.6 (interpretation).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence

import brotli
import pytest
import zstandard

from agent_magic._stream import Policy
from agent_magic.errors import LimitReached, ProtocolError
from agent_magic.protocols.runagent import RunAgent
from agent_magic.testing import ScriptedServer, event_stream, run_against, says

DONE = b"event: done\ndata: {}\n\n"
Seen = list[tuple[str, str, str]]


def seen(*parts: bytes, content_type: str = "text/event-stream", extra: Sequence[str] = ()) -> Seen:
    """The events that a run saw before its end, as (event, data, id); "" stands for the default, ``message``."""
    with ScriptedServer(says(*parts, DONE, content_type=content_type, extra=extra)) as server:
        run = run_against(server.url, RunAgent())
    assert run.transcript.status == "done", run.transcript.error
    sent = [event.sent for event in run.transcript.events if event.sent is not None]
    return [("" if one.event == "message" else one.event, one.data, one.id) for one in sent][:-1]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        # 9.2.6, the examples in their order
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("", "YHOO\n+2\n10", "")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            [("", "first event", "1"), ("", "second event", ""), ("", " third event", "")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [("", "", ""), ("", "\n", "")]),
        (b"data:test\n\ndata: test\n\n", [("", "test", ""), ("", "test", "")]),
        # the rules
        (b"event: add\ndata: 73857293\n\n", [("add", "73857293", "")]),
        (b"event: a\n\ndata: x\n\n", [("", "x", "")]),
        (b"id: 1\n\ndata: x\n\n", [("", "x", "1")]),
        (b"id: 1\ndata: x\n\n: comment\n\n:\n\ndata: y\n\n", [("", "x", "1"), ("", "y", "1")]),
        (b"id: 1\ndata: x\n\nevent: ping\n\nretry: 10\n\n", [("", "x", "1")]),
        (b"id: a\x00b\ndata: x\n\n", [("", "x", "")]),
        (b"retry: 10\ndata: x\n\nretry: +5\n\nretry: -5\n\nretry: 1_000\n\n", [("", "x", "")]),
        (b"foo: bar\nDATA: no\n data: no\ndata : no\ndata: x\n\n", [("", "x", "")]),
        (b"data: a: b\n\n", [("", "a: b", "")]),
        (b"\n\n\ndata: x\n\n\n\n\ndata: y\n\n", [("", "x", ""), ("", "y", "")]),
        (b"id: 7\ndata: x\n\n\n\ndata: y\n\n", [("", "x", "7"), ("", "y", "7")]),
        ("data: a\u2028b\u2029c\u0085d\x0be\x0cf\n\n".encode(), [("", "a\u2028b\u2029c\u0085d\x0be\x0cf", "")]),
        (b"data: a\xffb\xc3\n\n", [("", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}", "")]),
        (b"data: retry\n\n", [("", "retry", "")]),
        (b"data: x\n" * 3 + b"\n", [("", "x\nx\nx", "")]),
    ],
)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_interpretation(stream: bytes, expected: Seen, newline: bytes) -> None:
    """Each example and rule, with each of the three line ends, whole and byte by byte."""
    stream = stream.replace(b"\n", newline)
    # An event that is unfinished at the end is not dispatched; here another event follows it.
    stream += newline * 2 if stream.endswith(b"data:") else b""
    expected = [*expected, ("", "", "")] if stream.rstrip(b"\r\n").endswith(b"data:") else expected
    assert seen(stream) == expected
    assert seen(*(stream[place : place + 1] for place in range(len(stream)))) == expected


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_one_byte_order_mark_is_dropped(cut: int) -> None:
    """A BOM at the start is no part of the first field; a second one is."""
    stream = b"\xef\xbb\xbfdata: x\n\n\xef\xbb\xbfdata: y\n\n"
    assert seen(stream) == [("", "x", "")]
    assert seen(stream[:cut], stream[cut:]) == [("", "x", "")]


@pytest.mark.parametrize(
    "content_type",
    [
        "Text/Event-Stream",
        "text/event-stream; charset=utf-16",
        "text/event-stream;charset=latin-1",
        "TEXT/EVENT-STREAM ; x=y",
    ],
)
def test_a_stream_is_utf8_whatever_its_content_type_says(content_type: str) -> None:
    """The media type is matched in any case, and its charset has no say."""
    assert seen("data: é\n\n".encode(), content_type=content_type) == [("", "é", "")]


def test_a_character_split_between_reads() -> None:
    """A character whose bytes arrive apart is one character."""
    stream = "data: 漢\N{DNA DOUBLE HELIX}\n\n".encode()
    assert seen(*(stream[place : place + 1] for place in range(len(stream)))) == [("", "漢\N{DNA DOUBLE HELIX}", "")]


def test_an_unfinished_event_is_not_dispatched() -> None:
    """What stands behind the last empty line is no event."""
    with ScriptedServer(says(b"data: x\n\ndata: y\n")) as server:
        run = run_against(server.url, RunAgent(), Policy(retries=0))
    assert [event.sent.data for event in run.transcript.events if event.sent] == ["x"]
    assert run.transcript.status == "failed"


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("br", brotli.compress),
        ("zstd", zstandard.ZstdCompressor().compress),
    ],
)
def test_compressed(coding: str, compress: type) -> None:
    """Compressed streams are read, byte by byte too."""
    stream = event_stream(("chunk", {"content": "é" * 2000}), ("done", {}))
    packed = compress(stream)
    for parts in ([packed], [packed[place : place + 1] for place in range(len(packed))]):
        with ScriptedServer(says(*parts, extra=[f"Content-Encoding: {coding}"])) as server:
            run = run_against(server.url, RunAgent())
        assert (run.transcript.status, run.transcript.text) == ("done", "é" * 2000)


def test_an_event_is_shown_before_the_next_one_arrives() -> None:
    """Compressed or not, with any line end, an event is decoded when its last byte is there."""
    with ScriptedServer(says(b"event: start\rdata: {}\r\r")) as server:
        run = run_against(server.url, RunAgent(), Policy(retries=0))
    assert run.transcript.first_event is not None


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 3000, b"data: " + b"x" * 3000 + b"\n\n", b"data: x\n" * 500])
def test_an_event_without_end_is_refused(stream: bytes) -> None:
    """An event larger than the limit ends the run while it still arrives."""
    with ScriptedServer(says(stream, DONE)) as server:
        run = run_against(server.url, RunAgent(), Policy(max_event=2000))
    assert isinstance(run.transcript.error, LimitReached)


def test_many_events_in_one_read_are_not_one_event() -> None:
    """The limit is on one event, not on what happens to arrive together."""
    with ScriptedServer(says(b"data: x\n\n" * 5000, DONE)) as server:
        run = run_against(server.url, RunAgent(), Policy(max_event=2000))
    assert run.transcript.status == "done"


def test_a_page_is_no_stream() -> None:
    """HTML with status 200 is said to be no event stream, and kept."""
    with ScriptedServer(says(b"<html>login</html>", content_type="text/html; charset=utf-8")) as server:
        run = run_against(server.url, RunAgent())
    error = run.transcript.error
    assert isinstance(error, ProtocolError)
    assert "text/html" in str(error)
    assert error.data == "<html>login</html>"
