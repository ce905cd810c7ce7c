r"""For authors of protocols: a contract that every decoder keeps, and a server that says what it is told.

::

    from agent_magic.testing import ProtocolContract

    class TestMine(ProtocolContract):
        protocol = Mine()
        recorded = b"event: start\ndata: {}\n\n…"       # a stream as the service sends it
        expected = "Hello"                                 # the text in it

A pytest class that inherits from `ProtocolContract` runs the whole contract. Needs hypothesis.
"""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Self

from msgspec.structs import asdict

from agent_magic._request import AgentRequest
from agent_magic._run import Run
from agent_magic._stream import Policy
from agent_magic._transcript import Transcript
from agent_magic.errors import ProtocolError
from agent_magic.events import AgentEvent, Done, Failed, ServerSentEvent, Unknown
from agent_magic.protocols import AgentProtocol

__all__ = [
    "ProtocolContract",
    "ScriptedServer",
    "event_stream",
    "fold",
    "head",
    "run_against",
    "says",
    "split_events",
]


def split_events(recorded: bytes) -> list[ServerSentEvent]:
    """The events of a recorded stream, read by the plainest reading of the standard.

    This is a second opinion beside the library that the product uses, for recorded streams whose lines
    end in LF or CRLF.
    """
    events: list[ServerSentEvent] = []
    identity = ""
    for block in recorded.decode().replace("\r\n", "\n").split("\n\n"):
        fields = [line.partition(":")[::2] for line in block.split("\n") if line and not line.startswith(":")]
        values = [(name, value.removeprefix(" ")) for name, value in fields]
        identity = next((value for name, value in reversed(values) if name == "id"), identity)
        data = [value for name, value in values if name == "data"]
        name = next((value for name, value in reversed(values) if name == "event" and value), "message")
        if data:
            events.append(ServerSentEvent(name, "\n".join(data), identity))
    return events


def event_stream(*events: tuple[str, Any], newline: str = "\n") -> bytes:
    """Server-sent events as bytes: a name and data each; data that is no string is written as JSON."""
    blocks = []
    for name, data in events:
        said = data if isinstance(data, str) else json.dumps(data)
        lines = [f"event: {name}", *(f"data: {line}" for line in said.split("\n"))]
        blocks.append(newline.join([*lines, "", ""]))
    return "".join(blocks).encode()


def fold(events: Sequence[AgentEvent]) -> Transcript:
    """The transcript of `events`."""
    transcript = Transcript()
    for event in events:
        transcript.apply(event)
    return transcript


Script = Callable[[socket.socket, bytes, int], None]


class ScriptedServer:
    """A raw HTTP server on loopback, one thread a connection.

    `script` is called with the connection, the request as it came, and the connection's number from
    0; it sends what it likes and returns, and the connection is closed. `requests` holds what was asked;
    `disconnected` is set when a client has closed a connection before the script was through with it.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.requests: list[bytes] = []
        self.disconnected = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        thread = threading.Thread(target=self._accept, daemon=True)
        self._threads.append(thread)
        thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        # A shutdown wakes the threads that read or accept; a close alone would leave them waiting.
        for waiting in [self._listening, *self._open]:
            with suppress(OSError):
                waiting.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)

    def bodies(self) -> list[dict[str, Any]]:
        """The JSON bodies of the requests so far."""
        return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in self.requests]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        with connection:
            try:
                request = _read_request(connection)
                number = len(self.requests)
                self.requests.append(request)
                self._script(connection, request, number)
            except (BrokenPipeError, ConnectionResetError):
                self.disconnected.set()
            finally:
                self._open.discard(connection)
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)

    def wait_for_disconnect(self, connection: socket.socket) -> None:
        """Block a script until its client closes the connection."""
        with suppress(OSError):
            while connection.recv(4096):
                pass
        self.disconnected.set()


def _read_request(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(65536) or _gone()
    head, _, body = request.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].partition(b":")[2]) if lengths else 0
    while len(body) < length:
        body += connection.recv(65536) or _gone()
    return head + b"\r\n\r\n" + body


def _gone() -> bytes:
    raise ConnectionResetError("the client left before its request was whole")


def head(content_type: str = "text/event-stream", status: str = "200 OK", *extra: str) -> bytes:
    """A response's head, whose body ends with the connection."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", "Connection: close", *extra, "", ""]
    return "\r\n".join(lines).encode()


def says(*parts: bytes, content_type: str = "text/event-stream", extra: Sequence[str] = ()) -> Script:
    """A script that sends `parts`, each by itself, to every client."""

    def script(connection: socket.socket, _request: bytes, _number: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head(content_type, "200 OK", *extra))
        for part in parts:
            connection.sendall(part)

    return script


def run_against(url: str, protocol: AgentProtocol, policy: Policy | None = None, **request: Any) -> Run:
    """A finished run of `protocol` against the server at `url`."""
    ask = AgentRequest(**{"prompt": "Why?", "base_url": url, "agent": "demo", **request})
    run = Run(protocol, ask, policy or Policy(timeout=10, backoff=0, max_wait=1), "test")
    run.start()
    if not run.wait(60):
        run.stop()
        raise TimeoutError("the run did not end within 60 s")
    return run


class ProtocolContract:
    """What every protocol keeps. Inherit, and name a protocol, a recorded stream and the text in it."""

    protocol: ClassVar[AgentProtocol]
    recorded: ClassVar[bytes]
    expected: ClassVar[str]

    def _request(self) -> AgentRequest:
        return AgentRequest(prompt="Why?", base_url="http://127.0.0.1:1", agent="demo")

    def _decode(self, sent: Sequence[ServerSentEvent]) -> list[AgentEvent]:
        decoder = self.protocol.decoder(self._request())
        events = [event for one in sent for event in decoder.decode(one)]
        return [*events, *decoder.flush()]

    def test_whole(self) -> None:
        """The recorded stream gives the expected text and one terminal event, its last."""
        events = self._decode(split_events(self.recorded))
        assert fold(events).text == self.expected
        assert [isinstance(event, Done | Failed) for event in events].index(True) == len(events) - 1

    def test_every_event_keeps_what_was_sent(self) -> None:
        """Each event that came from the server has its server-sent event beside it."""
        sent = split_events(self.recorded)
        assert {event.sent.data for event in self._decode(sent) if event.sent} == {one.data for one in sent}

    def test_byte_by_byte(self) -> None:
        """Sent one byte at a time over a socket, the stream gives the same events."""
        self._check_pieces([self.recorded[place : place + 1] for place in range(len(self.recorded))])

    def test_cut_at_random_places(self) -> None:
        """Sent in pieces of any length over a socket, the stream gives the same events."""
        from hypothesis import HealthCheck, given, settings
        from hypothesis import strategies as st

        places = st.lists(st.integers(1, len(self.recorded) - 1), max_size=30, unique=True).map(sorted)

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(places)
        def check(cuts: list[int]) -> None:
            self._check_pieces([self.recorded[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)])

        check()

    def _check_pieces(self, pieces: Sequence[bytes]) -> None:
        with ScriptedServer(says(*pieces)) as server:
            run = run_against(server.url, self.protocol)
        assert (run.transcript.status, run.transcript.text) == ("done", self.expected)
        whole = self._decode(split_events(self.recorded))
        assert [event for event in run.transcript.events if event.sent] == [event for event in whole if event.sent]

    def test_two_streams_interleaved(self) -> None:
        """Two decoders do not know of each other: the state of a stream is its own."""
        sent = split_events(self.recorded)
        first, second = (self.protocol.decoder(self._request()) for _ in range(2))
        events: list[list[AgentEvent]] = [[], []]
        for one in sent:
            events[0] += first.decode(one)
            events[1] += second.decode(one)
        assert events[0] == events[1]
        assert fold(events[0]).text == self.expected

    def test_unknown_events_are_kept(self) -> None:
        """An event that no document names is kept as `Unknown`, and disturbs nothing."""
        sent = [ServerSentEvent("x-never-heard-of", '{"a": 1}'), *split_events(self.recorded)]
        events = self._decode(sent)
        assert (events[0], fold(events).text) == (
            Unknown(name="x-never-heard-of", data='{"a": 1}', sent=sent[0]),
            self.expected,
        )

    def test_garbage(self) -> None:
        """Whatever stands in an event's data, a decoder raises nothing but ProtocolError."""
        from hypothesis import HealthCheck, given, settings
        from hypothesis import strategies as st

        names = sorted({one.event for one in split_events(self.recorded)})
        models = [json.loads(one.data) for one in split_events(self.recorded) if _is_object(one.data)]
        leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
        values: st.SearchStrategy[Any] = st.recursive(
            leaves,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
            max_leaves=6,
        )
        spoiled = st.builds(_spoil, st.sampled_from(models), values, st.randoms(use_true_random=False))
        data = st.text(max_size=60) | values.map(json.dumps) | spoiled.map(json.dumps)

        @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.tuples(st.sampled_from(names), data), max_size=5))
        def check(garbage: list[tuple[str, str]]) -> None:
            decoder = self.protocol.decoder(self._request())
            with suppress(ProtocolError):
                events = [event for name, said in garbage for event in decoder.decode(ServerSentEvent(name, said))]
                fold([*events, *decoder.flush()]).text.encode()
                for event in events:
                    asdict(event)
            with suppress(ProtocolError):
                for _, said in garbage:
                    list(self.protocol.decoder(self._request()).whole(said.encode("utf-8", "replace")))

        check()

    def test_extremes(self) -> None:
        """Nesting without end, numbers without end, halves of characters: a `ProtocolError` at the most."""
        names = {one.event for one in split_events(self.recorded)}
        extremes = [
            "[" * 100_000,
            '{"a":' * 100_000,
            "1" * 10_000,
            f'{{"index": {"9" * 10_000}}}',
            '"\\ud83e"',
            "\0",
            "{",
        ]
        for name in names:
            for data in extremes:
                with suppress(ProtocolError):
                    self._decode([ServerSentEvent(name, data)])


def _is_object(data: str) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False


def _spoil(model: dict[str, Any], value: Any, dice: random.Random) -> dict[str, Any]:
    """A copy of `model` in which one field, at any depth, is `value`."""
    copy = json.loads(json.dumps(model))
    place = copy
    while True:
        if not place:
            return {"spoiled": value}
        key = dice.choice(sorted(place))
        if isinstance(place[key], dict) and place[key] and dice.random() < 0.7:
            place = place[key]
        else:
            place[key] = value
            return dict(copy)
