"""WebSockets: opened, refused, cut, silent, stopped. Each over a real socket."""

from __future__ import annotations

import json
import logging
import pickle
import random
import socket
import ssl
import threading
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Opcode
from websockets.server import ServerProtocol

from agent_magic import Agent
from agent_magic._connection import check_request
from agent_magic._journal import journal_folder, tapes
from agent_magic._keys import Secret
from agent_magic._policy import Policy
from agent_magic._question import show_request
from agent_magic._request import SocketRequest, check_base_url
from agent_magic._run import Run
from agent_magic._template import Filled
from agent_magic._writer import flush_tapes
from agent_magic.errors import (
    AgentError,
    AgentMagicError,
    AuthError,
    ConfigError,
    LimitReached,
    ProtocolError,
    RateLimited,
    StreamLost,
    TapeMissing,
)
from agent_magic.events import Connecting
from agent_magic.protocols.runagent_ws import RunAgentSocket
from agent_magic.testing import (
    Act,
    Certificates,
    Connection,
    Play,
    ScriptedServer,
    ScriptedSockets,
    Socket,
    begin_against,
    in_turn,
    redirects,
    refuses,
    run_against,
    run_together,
    tells,
)

WIRE = RunAgentSocket()
FAST = Policy(timeout=5, retries=2, backoff=0, max_wait=1)
ONCE = Policy(timeout=5, retries=0)
COMPANY = Certificates()
KEY = "sk-Ab/9+z=&\"\\'~?xyz0123456789"


def piece(text: str) -> str:
    return json.dumps({"type": "data", "content": json.dumps({"type": "string", "payload": json.dumps(text)})})


STARTED = json.dumps({"type": "status", "status": "stream_started"})
DONE = json.dumps({"type": "status", "status": "stream_completed"})
ANSWER = (STARTED, piece("Once "), piece("upon"), DONE)


def ends(run: Run, kind: type[AgentMagicError], *words: str) -> AgentMagicError:
    """The error of a run that failed in this way, in one sentence that says so."""
    error = run.transcript.error
    assert type(error) is kind, repr(error)
    assert all(word in str(error) for word in words), str(error)
    assert str(error).endswith((".", ").")), str(error)
    return error


async def open_by_hand(connection: Connection) -> ServerProtocol:
    """Open a WebSocket on a raw connection, which then does nothing by itself."""
    protocol = ServerProtocol()
    protocol.receive_data(connection.request)
    (request,) = protocol.events_received()
    protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]
    await connection.send(b"".join(protocol.data_to_send()))
    return protocol


def by_hand(*frames: str) -> Act:
    """A server that opens a socket, says `frames`, and from then on answers nothing: no ping and no goodbye."""

    async def script(connection: Connection) -> None:
        protocol = await open_by_hand(connection)
        for frame in frames:
            protocol.send_text(frame.encode())
        await connection.send(b"".join(protocol.data_to_send()))
        await connection.stall()

    return script


class TestFrames:
    """What comes in."""

    def test_the_request(self) -> None:
        """The frame goes first; the key stands in the URL and in the header; no compression is offered."""
        with ScriptedSockets(tells(*ANSWER)) as server:
            run = run_against(server.url, WIRE, ONCE, key=Secret(KEY), headers={"X-Mine": "1", "authorization": "no"})
        assert (run.transcript.text, run.transcript.status) == ("Once upon", "done")
        assert server.frames == [WIRE.request(run.ask).frame]
        (head,) = server.heads
        assert head.splitlines()[0] == (
            "GET /api/v1/agents/demo/run-stream?token=sk-Ab%2F9%2Bz%3D%26%22%5C%27~%3Fxyz0123456789"
        )
        assert f"authorization: Bearer {KEY}" in head.splitlines()
        assert "x-mine: 1" in head.splitlines()
        assert "extensions" not in head.lower()

    def test_many_at_once(self) -> None:
        """Frames that come in one piece with the end of the connection all count."""
        with ScriptedSockets(tells(STARTED, *[piece("x")] * 500, DONE, is_open=False)) as server:
            assert run_against(server.url, WIRE, ONCE).transcript.text == "x" * 500

    def test_an_end_without_the_last_word(self) -> None:
        """A server that closes in good order before the answer is complete has broken it off."""
        with ScriptedSockets(tells(STARTED, piece("a"), is_open=False)) as server:
            run = run_against(server.url, WIRE, FAST)
        ends(run, StreamLost, "ended the stream before the answer was complete", "cannot be taken up again")
        assert (run.transcript.text, len(server.heads)) == ("a", 1)

    def test_nothing_is_asked_again_after_an_event(self) -> None:
        """A frame has come, so the agent runs: it is not begun a second time."""

        async def script(socket: Socket) -> None:
            await socket.send(STARTED)
            await socket.reset()

        with ScriptedSockets(script) as server:
            ends(run_against(server.url, WIRE, FAST), StreamLost, "cannot be taken up again")
        assert len(server.heads) == 1

    def test_a_binary_frame(self) -> None:
        """No frame of this wire is binary."""

        async def script(socket: Socket) -> None:
            await socket.send(STARTED, piece("a"))
            await socket.send_binary(b"\0\1")

        with ScriptedSockets(script) as server:
            run = run_against(server.url, WIRE, FAST)
        ends(run, ProtocolError, "a binary frame")
        assert run.transcript.text == "a"

    @pytest.mark.parametrize(
        ("raw", "words"),
        [
            (b"\x81\x02\xff\xfe", "not UTF-8"),
            (b"\xc1\x01a", "broke the rules of a WebSocket"),  # a bit that nobody has agreed on
            (b"\x83\x00", "broke the rules of a WebSocket"),  # a kind of frame that does not exist
            (b"HTTP/1.1 200 OK\r\n" + b"\r\n" * 50, "broke the rules of a WebSocket"),
        ],
    )
    def test_what_is_no_frame(self, raw: bytes, words: str) -> None:
        """Bytes that no WebSocket sends are one sentence; what had come is kept, and nobody is waited for."""

        async def script(socket: Socket) -> None:
            await socket.send(STARTED, piece("a"))
            await socket.send_raw(raw)
            await socket.stall()

        with ScriptedSockets(script) as server:
            run = run_against(server.url, WIRE, FAST)
            assert server.disconnected.wait(10)
        ends(run, ProtocolError, words)
        assert run.transcript.text == "a"

    def test_garbage(self) -> None:
        """Any bytes at all, and then the end: one of our errors, in a sentence; what had come is kept."""
        dice = random.Random(7)
        begins = [
            b"",
            b"\x81",
            b"\x88",
            b"\x89",
            b"\x01",
            b"\x82\x7f",
            b"\x81\x7e\xff\xff",
            b"\x88\x02\x03",
            b"\x88\x01",
        ]

        async def script(socket: Socket) -> None:
            await socket.send(STARTED, piece("a"))
            await socket.ping()  # what was sent has been read
            await socket.send_raw(begins[socket.number % len(begins)] + dice.randbytes(dice.randrange(40)))
            await socket.end()

        with ScriptedSockets(script) as server:
            for run in run_together({"url": server.url, "protocol": WIRE, "policy": ONCE} for _ in range(90)):
                error = run.transcript.error
                assert isinstance(error, StreamLost | ProtocolError | AgentError | LimitReached), repr(error)
                assert str(error).endswith((".", ").")), str(error)
                assert "Traceback" not in str(error)
                assert run.transcript.text == "a"


class TestLimits:
    """How much is taken in."""

    @pytest.mark.parametrize(
        ("limits", "frames"),
        [
            ({"max_event": 1000}, [piece("x" * 2000)]),
            ({"max_text": 10}, [piece("x" * 6)] * 2),
            ({"max_events": 3}, [piece("x")] * 5),
            ({"max_data": 1000}, [piece("x" * 600)] * 2),
        ],
    )
    def test_each(self, limits: dict[str, int], frames: Sequence[str]) -> None:
        """Each limit of a run holds for frames as it does for events."""
        with ScriptedSockets(tells(STARTED, piece("a"), *frames)) as server:
            run = run_against(server.url, WIRE, Policy(timeout=5, **limits))  # type: ignore[arg-type]
            assert server.disconnected.wait(10)
        ends(run, LimitReached, next(iter(limits)))
        assert run.transcript.text.startswith("a")

    def test_a_frame_without_end(self) -> None:
        """A frame in pieces that never ends is not collected for ever."""

        async def script(socket: Socket) -> None:
            await socket.send(STARTED)
            await socket.send_raw(b"\x01\x01a")
            while True:
                await socket.send_raw(b"\x00\x7e\x01\x00" + b"x" * 256)
                await socket.ping()

        with ScriptedSockets(script) as server:
            ends(run_against(server.url, WIRE, Policy(timeout=5, max_event=10_000)), LimitReached, "max_event")
            assert server.disconnected.wait(10)

    def test_a_frame_in_pieces_without_end(self) -> None:
        """Empty pieces hold nothing, and are not collected for ever either."""

        async def script(socket: Socket) -> None:
            await socket.send(STARTED)
            await socket.send_raw(b"\x01\x01a")
            while True:
                await socket.send_raw(b"\x00\x00" * 100)
                await socket.ping()

        with ScriptedSockets(script) as server:
            ends(run_against(server.url, WIRE, ONCE), ProtocolError, "in more than 4,096 pieces")
            assert server.disconnected.wait(10)

    def test_the_longest_run(self) -> None:
        """`max_time` ends a run whose server is alive."""
        with ScriptedSockets(tells(STARTED, piece("a"))) as server:
            ends(run_against(server.url, WIRE, Policy(timeout=5, max_time=0.3)), LimitReached, "max_time")
            assert server.disconnected.wait(10)


class TestEndings:
    """Silence, cuts, and stops."""

    def test_silence(self) -> None:
        """A server that answers no ping is lost."""
        with ScriptedServer(by_hand(STARTED, piece("a"))) as server:
            run = run_against(server.url, WIRE, Policy(timeout=0.2, retries=0))
        ends(run, StreamLost, "sent nothing for 0.2 s", "what had arrived is kept")
        assert run.transcript.text == "a"

    def test_a_pong_is_a_sign_of_life(self) -> None:
        """An agent may think for longer than the longest silence, as long as its server answers pings."""

        async def script(connection: Connection) -> None:
            protocol = await open_by_hand(connection)
            pings = 0
            while pings < 5:
                protocol.receive_data(await connection.read())
                pings += sum(getattr(event, "opcode", None) is Opcode.PING for event in protocol.events_received())
                await connection.send(b"".join(protocol.data_to_send()))
            for frame in ANSWER:
                protocol.send_text(frame.encode())
            await connection.send(b"".join(protocol.data_to_send()))
            await connection.stall()

        with ScriptedServer(script) as server:
            assert run_against(server.url, WIRE, Policy(timeout=0.4, retries=0)).transcript.text == "Once upon"

    def test_a_handshake_without_an_answer(self) -> None:
        """A server that takes the connection and says nothing is asked again, and given up."""

        async def script(connection: Connection) -> None:
            await connection.stall()

        with ScriptedServer(script) as server:
            run = run_against(server.url, WIRE, Policy(timeout=0.2, retries=1, backoff=0))
        ends(run, StreamLost, "sent nothing for 0.2 s; nothing had arrived")
        assert len(server.requests) == 2

    @pytest.mark.parametrize("is_reset", [False, True])
    def test_a_cut_in_a_frame(self, is_reset: bool) -> None:
        """A connection that ends within a frame is lost; what came before it is kept."""

        async def script(socket: Socket) -> None:
            await socket.send(STARTED, piece("a"))
            await socket.ping()  # what was sent has been read
            await socket.send_raw(b'\x81\x7e\x01\x00{"type": "da')
            await (socket.reset() if is_reset else socket.end())

        with ScriptedSockets(script) as server:
            run = run_against(server.url, WIRE, ONCE)
        ends(run, StreamLost, "The connection to 127.0.0.1", "broke")
        assert run.transcript.text == "a"

    def test_stop(self) -> None:
        """A stop closes the socket at once, though the server would say nothing about it."""
        with ScriptedServer(by_hand(STARTED, piece("a"))) as server:
            run = begin_against(server.url, WIRE)
            arrived = threading.Event()
            run.listen(lambda: arrived.set() if run.transcript.text else None)
            assert arrived.wait(10)
            run.stop()
            assert server.disconnected.wait(5)
            assert run.wait(5)
        assert (run.transcript.status, run.transcript.text, run.transcript.error) == ("stopped", "a", None)

    def test_stop_in_a_flood(self) -> None:
        """A stop gets its turn while frames come as fast as they are read."""

        async def script(socket: Socket) -> None:
            await socket.send(STARTED)
            while True:
                await socket.send(piece("x"))

        with ScriptedSockets(script) as server:
            run = begin_against(server.url, WIRE)
            arrived = threading.Event()
            run.listen(lambda: arrived.set() if run.transcript.text else None)
            assert arrived.wait(10)
            run.stop()
            assert server.disconnected.wait(10)
            assert run.wait(5)
        assert run.transcript.status == "stopped"

    def test_stop_before_the_handshake(self) -> None:
        """A stop ends a connection that is not open yet, too."""
        asked = threading.Event()

        async def script(connection: Connection) -> None:
            asked.set()
            await connection.stall()

        with ScriptedServer(script) as server:
            run = begin_against(server.url, WIRE)
            assert asked.wait(10)
            run.stop()
            assert server.disconnected.wait(5)
            assert run.wait(5)
        assert run.transcript.status == "stopped"

    def test_the_end_waits_for_nobody(self) -> None:
        """After the last word the run is over, whatever the server does about it."""
        with ScriptedServer(by_hand(*ANSWER)) as server:
            assert run_against(server.url, WIRE).transcript.status == "done"
            assert server.disconnected.wait(5)

    @pytest.mark.parametrize(
        ("code", "reason", "kind", "asked"),
        [
            (1011, "internal error", StreamLost, 3),
            (1012, "", StreamLost, 3),
            (1008, "Invalid token", AgentError, 1),
            (1009, "", AgentError, 1),
            (1000, "", StreamLost, 3),
        ],
    )
    def test_how_a_server_closes(self, code: int, reason: str, kind: type[AgentMagicError], asked: int) -> None:
        """A reason is told; one that is against the question itself is not asked again."""

        async def script(socket: Socket) -> None:
            await socket.close(code, reason)

        with ScriptedSockets(script) as server:
            ends(run_against(server.url, WIRE, FAST), kind, reason, str(code) if code != 1000 else "ended")
        assert len(server.heads) == asked


class TestHandshakes:
    """Sockets that are not opened."""

    @pytest.mark.parametrize(
        ("status", "kind", "asked"),
        [
            ("401 Unauthorized", AuthError, 1),
            ("403 Forbidden", AgentError, 1),
            ("404 Not Found", AgentError, 1),
            ("429 Too Many Requests", RateLimited, 3),
            ("500 Internal Server Error", AgentError, 1),
            ("503 Service Unavailable", AgentError, 3),
        ],
    )
    def test_refused(self, status: str, kind: type[AgentMagicError], asked: int) -> None:
        """A refusal is an error as over HTTP, in the server's words, and asked again where it says "not now"."""
        with ScriptedServer(refuses(status, b'{"detail": "because"}')) as server:
            run = run_against(server.url, WIRE, FAST)
        ends(run, kind, status[:3], *([] if "403" in status else ["because"]))
        assert len(server.requests) == asked

    def test_later(self) -> None:
        """A Retry-After is kept, and what follows it is the answer."""
        later = refuses("429 Too Many Requests", b"", "Retry-After: 0")
        with ScriptedServer(in_turn(later, by_hand(*ANSWER))) as server:
            run = run_against(server.url, WIRE, FAST)
        assert (run.transcript.text, run.transcript.retries) == ("Once upon", 1)
        with ScriptedServer(refuses("429 Too Many Requests", b"", "Retry-After: 30")) as server:
            error = ends(run_against(server.url, WIRE, FAST), RateLimited, "30 s")
        assert isinstance(error, RateLimited)
        assert error.retry_after == 30

    def test_a_redirect(self) -> None:
        """Nobody is sent on with a key."""
        with ScriptedSockets(tells(*ANSWER)) as other, ScriptedServer(redirects(f"{other.url}/x")) as server:
            ends(run_against(server.url, WIRE, FAST, key=Secret(KEY)), AgentError, "a redirect")
            assert other.heads == []

    @pytest.mark.parametrize("content_type", ["text/html", "application/json", ""])
    def test_a_page(self, content_type: str) -> None:
        """A server that knows nothing of sockets is told from one that has no agent."""
        with ScriptedServer(refuses("200 OK", b"<html>", content_type=content_type)) as server:
            error = ends(run_against(server.url, WIRE, FAST), ProtocolError, "check base_url")
        assert isinstance(error, ProtocolError)
        assert error.data == "<html>"

    @pytest.mark.parametrize(
        "extra",
        [
            ["Upgrade: websocket", "Connection: Upgrade"],
            ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: x"],
            ["Sec-WebSocket-Accept: x"],
        ],
    )
    def test_a_handshake_that_is_none(self, extra: Sequence[str]) -> None:
        """A 101 that is no answer to what was asked."""
        with ScriptedServer(refuses("101 Switching Protocols", b"", *extra)) as server:
            ends(run_against(server.url, WIRE, FAST), ProtocolError, "did not open a WebSocket", "check base_url")

    def test_compression_that_nobody_asked_for(self) -> None:
        """A server cannot begin to compress by itself: a small frame stays small."""

        async def script(connection: Connection) -> None:
            protocol = ServerProtocol()
            protocol.receive_data(connection.request)
            (request,) = protocol.events_received()
            response = protocol.accept(request)  # type: ignore[arg-type]
            response.headers["Sec-WebSocket-Extensions"] = "permessage-deflate"
            protocol.send_response(response)
            await connection.send(b"".join(protocol.data_to_send()))
            await connection.stall()

        with ScriptedServer(script) as server:
            ends(run_against(server.url, WIRE, FAST), ProtocolError, "did not open a WebSocket")

    @pytest.mark.parametrize("sent", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 "])
    def test_what_is_no_web_server(self, sent: bytes) -> None:
        """A connection that ends, or speaks something else, is a lost one."""

        async def script(connection: Connection) -> None:
            await connection.send(sent)

        with ScriptedServer(script) as server:
            ends(run_against(server.url, WIRE, ONCE), StreamLost, "broke", "nothing had arrived")

    def test_nobody_listens(self) -> None:
        """A port where nobody listens is one sentence."""
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        run = run_against(f"http://127.0.0.1:{port}", WIRE, ONCE)
        ends(run, StreamLost, f"No connection to 127.0.0.1:{port} could be made")
        assert any(isinstance(event, Connecting) for event in run.transcript.events)

    def test_a_header_that_cannot_be_sent(self) -> None:
        """A header is a line: one that would make two is refused, and not quoted."""
        for headers in ({"X-A": Secret("hidden-1234\nX-B: 1")}, {"X A": "hidden-1234"}, {"X-A": "hidden-1234 "}):
            with ScriptedSockets(tells(*ANSWER)) as server:
                error = ends(run_against(server.url, WIRE, ONCE, headers=headers), ConfigError, "A header for")
                assert server.heads == []
            assert "hidden" not in str(error)


class TestTrust:
    """TLS, and to whom a key goes."""

    def test_a_companys_own_authority(self, tmp_path: Path) -> None:
        """`verify` trusts the company's certificates."""
        policy = Policy(timeout=5, retries=0, verify=COMPANY.write_ca(tmp_path / "ca.pem"))
        with ScriptedSockets(tells(*ANSWER), tls=COMPANY.good()) as server:
            assert run_against(server.url, WIRE, policy, key=Secret(KEY)).transcript.text == "Once upon"

    @pytest.mark.parametrize("tls", [COMPANY.wrong_host(), COMPANY.expired(), Certificates().good()])
    def test_others_are_not_trusted(self, tls: ssl.SSLContext, tmp_path: Path) -> None:
        """A certificate that is another's, over, or nobody's is one sentence, and nothing was sent."""
        policy = Policy(timeout=5, retries=2, backoff=0, verify=COMPANY.write_ca(tmp_path / "ca.pem"))
        with ScriptedSockets(tells(*ANSWER), tls=tls) as server:
            ends(run_against(server.url, WIRE, policy), ConfigError, "is not trusted", "verify")
            assert server.heads == []

    def test_plain_where_tls_is_due(self) -> None:
        """A server that knows no TLS is one sentence."""
        with ScriptedSockets(tells(*ANSWER)) as server:
            ends(run_against(server.url.replace("http", "https"), WIRE, ONCE), StreamLost, "No connection to")

    def test_a_key_goes_over_tls(self) -> None:
        """A key goes over TLS or to this machine, be it in the query alone."""
        query: dict[str, str | Secret] = {"token": Secret(KEY)}
        request = SocketRequest("ws://agents.example/x", {}, query, {})
        with pytest.raises(ConfigError, match="over https only"):
            check_request(request, Policy())
        check_request(request, Policy(insecure_http=True))
        for url in ("wss://agents.example/x", "ws://127.0.0.1:8450/x", "ws://localhost/x"):
            check_request(SocketRequest(url, {}, query, {}), Policy())

    @pytest.mark.parametrize("scheme", ["ws", "wss"])
    def test_a_socket_for_a_base_url(self, scheme: str) -> None:
        """The base URL is an http one; which is said."""
        with pytest.raises(ConfigError, match=f"write '{scheme.replace('ws', 'http')}://127.0.0.1:8450/x'"):
            check_base_url(f"{scheme}://127.0.0.1:8450/x")


class TestProxies:
    """What the environment says of proxies holds for other machines."""

    URL = "https://agent.example"

    def test_a_tunnel(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Through a tunnel the certificate is the agent's own; the proxy sees no key."""
        context = COMPANY.good("agent.example")

        async def tunnel(connection: Connection) -> None:
            await connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await connection.start_tls(context)
            connection.request = await connection.read_request()
            await by_hand(*ANSWER)(connection)

        policy = Policy(timeout=20, retries=0, verify=COMPANY.write_ca(tmp_path / "ca.pem"))
        for name in ("HTTPS_PROXY", "ALL_PROXY"):
            with ScriptedServer(tunnel) as proxy, monkeypatch.context() as patch:
                patch.setenv(name, proxy.url.removeprefix("http://"))
                run = run_against(self.URL, WIRE, policy, key=Secret(KEY))
                assert run.transcript.text == "Once upon", run.transcript.error
            assert [request.split(b"\r\n")[0] for request in proxy.requests] == [b"CONNECT agent.example:443 HTTP/1.1"]

    def test_a_proxy_that_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A tunnel that is refused is one sentence."""
        with ScriptedServer(refuses("407 Proxy Authentication Required")) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            ends(run_against(self.URL, WIRE, ONCE), StreamLost, "The proxy on the way to agent.example refused", "407")

    @pytest.mark.parametrize(
        ("proxy", "words"),
        [("socks5://me:hidden-1234@127.0.0.1:1", "python-socks"), ("nonsense://me:hidden-1234@x", "holds no URL")],
    )
    def test_a_proxy_that_cannot_be_used(self, proxy: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a proxy wants, or that it is none, is one sentence without its password."""
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        error = ends(run_against(self.URL, WIRE, ONCE), ConfigError, words)
        assert "hidden" not in str(error)

    def test_no_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """NO_PROXY holds, and this machine is asked directly."""
        with ScriptedServer(refuses("500 No")) as proxy, ScriptedSockets(tells(*ANSWER)) as server:
            monkeypatch.setenv("ALL_PROXY", proxy.url)
            assert run_against(server.url, WIRE, ONCE).transcript.text == "Once upon"
            monkeypatch.setenv("NO_PROXY", "no-such-host.invalid")
            ends(run_against("https://no-such-host.invalid", WIRE, ONCE), StreamLost, "No connection")
            assert proxy.requests == []


def echoes(socket_says: str) -> Play:
    """A server that says what it was told."""

    async def script(socket: Socket) -> None:
        match socket_says:
            case "text":
                await socket.send(
                    STARTED, piece(f"it is {KEY[:9]}"), piece(KEY[9:]), piece(f" {KEY} " + "x" * 200), DONE
                )
            case "error":
                await socket.send(json.dumps({"type": "error", "error": f"who is {KEY}?"}))
            case "garbage":
                await socket.send(f"{KEY}")
            case reason:
                await socket.close(1008, f"{reason} {KEY}")
        await socket.stall()

    return script


class TestKeys:
    """The key stands in a URL here, and nowhere else."""

    @pytest.mark.parametrize("answer", ["text", "error", "garbage", "close", "401", "302", "silent", "nobody"])
    def test_nowhere(self, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither log, error, event, result nor tape holds the key, whatever a server does with it."""
        monkeypatch.setenv("MY_KEY", KEY)
        written = StringIO()
        handler, root = logging.StreamHandler(written), logging.getLogger()
        handler.addFilter(lambda record: record.name != "websockets.server")  # the other side, which may know it
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        page = json.dumps({"detail": f"bad {KEY}"}).encode()
        acts = {
            "401": refuses("401 No", page, f"X-Echo: {KEY}"),
            "302": redirects(f"http://127.0.0.1:1/?token={KEY}"),
            "silent": by_hand(STARTED),
        }
        server: Any = ScriptedServer(acts[answer]) if answer in acts else ScriptedSockets(echoes(answer))
        try:
            with server:
                url = "http://127.0.0.1:1" if answer == "nobody" else server.url
                agent = Agent(
                    protocol="runagent-ws", base_url=url, agent="demo", key_env="MY_KEY", timeout=1, retries=0
                )
                result, _ = agent.begin("Why?")
                result.wait(20)
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
        assert result.status == ("done" if answer == "text" else "failed"), result.error
        flush_tapes()
        told = [path.read_text() for path in tapes(journal_folder())]
        told += [
            written.getvalue(),
            repr(result.events),
            str(result.error),
            result.text,
            repr(vars(result.error or result)),
        ]
        told += [repr(pickle.loads(pickle.dumps(result)).events)]
        assert "websockets" in written.getvalue() or "token=***" in written.getvalue() or answer == "nobody"
        for text in told:
            assert "xyz0123456789" not in text
        if answer == "text":
            assert result.text == f"it is *** *** {'x' * 200}"
            assert "token=***" in written.getvalue()

    def test_a_short_one(self, caplog: pytest.LogCaptureFixture) -> None:
        """A key that is too short to be told from other words stands in no log either."""
        caplog.set_level(logging.DEBUG, "websockets.client")
        with ScriptedSockets(tells(*ANSWER)) as server:
            assert run_against(server.url, WIRE, ONCE, key=Secret("k-7q")).transcript.text == "Once upon"
        told = [record.getMessage() for record in caplog.records if record.name == "websockets.client"]
        assert "> GET /api/v1/agents/demo/run-stream?token=*** HTTP/1.1" in told
        assert not [line for line in told if "k-7q" in line]

    def test_a_dry_run(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """A dry run shows the URL with stars, and the frame."""
        monkeypatch.setenv("MY_KEY", KEY)
        agent = Agent(protocol="runagent-ws", base_url="http://127.0.0.1:1", agent="demo", key_env="MY_KEY")
        show_request(agent, Filled("Why?", []), {"times": 3})
        shown = capsys.readouterr().out
        assert shown.startswith(
            "GET ws://127.0.0.1:1/api/v1/agents/demo/run-stream?token=***\nAuthorization: Bearer ***\n\n{"
        )
        assert '"input_args": [\n    "Why?"\n  ]' in shown
        assert "not sent" in shown


def test_tapes() -> None:
    """What was recorded over a socket replays without one, event by event."""
    with ScriptedSockets(tells(*ANSWER)) as server:
        agent = {"protocol": "runagent-ws", "base_url": server.url, "agent": "demo", "key_env": ""}
        recorded = Agent(**agent, tape="record").ask("Why?")
    replayed = Agent(**agent, tape="replay").ask("Why?")
    assert (replayed.text, replayed.status, replayed.events) == ("Once upon", "done", recorded.events)
    with pytest.raises(TapeMissing):
        Agent(**agent, tape="replay").ask("Why not?")
