"""Connections: made, lost, taken up again; refused, silent, stopped. Each over a real socket."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Sequence
from email.utils import formatdate
from typing import Any

import pytest

from agent_magic._agent import Agent
from agent_magic._keys import Secret
from agent_magic._request import AgentRequest
from agent_magic._run import Run
from agent_magic._stream import Policy
from agent_magic.errors import (
    AgentError,
    AgentMagicError,
    AuthError,
    ConfigError,
    LimitReached,
    ProtocolError,
    RateLimited,
    StreamLost,
)
from agent_magic.events import Connecting, Retrying
from agent_magic.protocols import AgentProtocol
from agent_magic.protocols.runagent import RunAgent
from agent_magic.protocols.you import You
from agent_magic.testing import Script, ScriptedServer, event_stream, head, run_against, says

PIECES = ["Once ", "upon ", "a ", "time", "."]
FAST = Policy(timeout=5, backoff=0, max_wait=1)


def stream_from(start: int, *, session: bool = True, end: bool = True, pieces: Sequence[str] = PIECES) -> bytes:
    events: list[tuple[str, Any]] = [("start", {"session_id": "s"} if session else {})]
    events += [("chunk", {"content": pieces[index], "index": index}) for index in range(start, len(pieces))]
    return event_stream(*events, *([("done", {})] if end else []))


def resuming(cuts: Sequence[int], back: int = 0) -> Script:
    """A server that cuts its first answers after so many bytes, and resumes `back` chunks too early."""

    def script(connection: socket.socket, request: bytes, number: int) -> None:
        body = json.loads(request.partition(b"\r\n\r\n")[2])
        start = max(0, body.get("parameters", {}).get("resume_from_index", 0) - back)
        answer = stream_from(start)
        connection.sendall(head() + (answer[: cuts[number]] if number < len(cuts) else answer))

    return script


def statuses(*replies: tuple[str, bytes, Sequence[str]]) -> Script:
    """A server that answers with these replies in turn, and then with a whole stream."""

    def script(connection: socket.socket, _request: bytes, number: int) -> None:
        if number < len(replies):
            status, body, extra = replies[number]
            connection.sendall(head("application/json", status, *extra) + body)
        else:
            connection.sendall(head() + stream_from(0))

    return script


@pytest.mark.parametrize("back", [0, 1, 99])
def test_cut_at_every_byte(back: int) -> None:
    """Cut anywhere, and resumed exactly, one chunk early or from the beginning, the text is exact."""
    whole = stream_from(0)
    first_event_end = whole.index(b"\n\n") + 2
    for cut in range(first_event_end, len(whole) - 1, 3):
        with ScriptedServer(resuming([cut], back)) as server:
            run = run_against(server.url, RunAgent(), FAST)
        assert (run.transcript.status, run.transcript.text) == ("done", "Once upon a time."), cut
        assert run.transcript.notices == []


def test_progress_renews_the_budget() -> None:
    """A server that loses every connection, but goes on each time, is asked more often than `retries`."""
    ends = [index for index in range(len(stream_from(0))) if stream_from(0)[:index].endswith(b"\n\n")]
    one_chunk_each = [ends[1]] * (len(PIECES) - 1)
    with ScriptedServer(resuming(one_chunk_each)) as server:
        run = run_against(server.url, RunAgent(), Policy(timeout=5, backoff=0, retries=1))
    assert (run.transcript.status, run.transcript.text) == ("done", "Once upon a time.")
    assert len(server.requests) == len(PIECES)


def test_greetings_are_no_progress() -> None:
    """A server that greets and hangs up each time is not asked for ever."""
    with ScriptedServer(says(event_stream(("start", {"session_id": "s"})))) as server:
        run = run_against(server.url, RunAgent(), FAST)
    assert isinstance(run.transcript.error, StreamLost)
    assert len(server.requests) == 1 + FAST.retries


@pytest.mark.parametrize(
    ("protocol", "sent"),
    [
        (RunAgent(), event_stream(("start", {}), ("chunk", {"content": "a", "index": 0}))),
        (RunAgent(), event_stream(("start", {"session_id": "s"}), ("chunk", {"content": "a"}))),
        (You(), event_stream(("response.output_text.delta", {"response": {"output_index": 0, "delta": "a"}}))),
    ],
    ids=["no session", "no index", "you"],
)
def test_what_cannot_be_resumed_is_not_asked_again(protocol: Any, sent: bytes) -> None:
    """Where the wire cannot resume, the partial is kept and the loss is said: no second, paid run."""
    with ScriptedServer(says(sent)) as server:
        run = run_against(server.url, protocol, FAST)
    error = run.transcript.error
    assert isinstance(error, StreamLost)
    assert "cannot be taken up again" in str(error)
    assert (run.transcript.text, len(server.requests)) == ("a", 1)


def test_a_gap_after_a_resume_is_said() -> None:
    """A server that resumes too late loses text; that is said."""

    def script(connection: socket.socket, _request: bytes, number: int) -> None:
        connection.sendall(head() + (stream_from(0, end=False, pieces=PIECES[:2]) if number == 0 else stream_from(3)))

    with ScriptedServer(script) as server:
        run = run_against(server.url, RunAgent(), FAST)
    assert run.transcript.text == "Once upon time."
    assert run.transcript.notices == ["Chunk 2 is missing here: the server skipped them."]


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
def test_not_now_is_asked_again(status: int) -> None:
    """Before the first event these statuses are retried, the same request each time."""
    with ScriptedServer(statuses((f"{status} No", b"{}", []))) as server:
        run = run_against(server.url, RunAgent(), FAST)
    assert (run.transcript.status, len(server.requests)) == ("done", 2)
    assert server.bodies()[0] == server.bodies()[1]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, AgentError), (401, AuthError), (402, AgentError), (403, AuthError), (404, AgentError), (409, AgentError),
        (413, AgentError), (422, AgentError), (500, AgentError), (501, AgentError), (301, AgentError), (307, AgentError),
    ],
)  # fmt: skip
def test_no_is_no(status: int, kind: type[AgentMagicError]) -> None:
    """No other status is retried; each is one sentence with the host."""
    with ScriptedServer(
        statuses((f"{status} No", b'{"detail": "because"}', ["Location: http://127.0.0.1:1/"]))
    ) as server:
        run = run_against(server.url, RunAgent(), FAST)
    error = run.transcript.error
    assert type(error) is kind
    assert (server.url.removeprefix("http://") in str(error), len(server.requests)) == (True, 1)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"detail": "Prompt too long"}', "Prompt too long."),
        (b'{"error": "Bad"}', "Bad."),
        (b'{"error": {"code": "C", "message": "Wrong.", "suggestion": "Do it right."}}', "Wrong. Do it right."),
        (b'{"message": "M"}', "M."),
        (b'{"title": "T"}', "T."),
        (b'{"detail": [{"type": "missing", "loc": ["body", "query"], "msg": "Field required", "input": null}]}', "body.query: Field required."),
        (b"<html>" + b"x" * 200_000, "answered 422."),
        (b"", "answered 422."),
        (b"[1]", "answered 422."),
        (b"[" * 100_000, "answered 422."),
    ],
)  # fmt: skip
def test_the_servers_words(body: bytes, words: str) -> None:
    """The message and the suggestion are shown, in whichever documented shape they come."""
    with ScriptedServer(statuses(("422 No", body, []))) as server:
        run = run_against(server.url, RunAgent(), FAST)
    assert words in str(run.transcript.error)
    assert len(str(run.transcript.error)) < 700


@pytest.mark.parametrize(
    ("extra", "body"),
    [
        (["Retry-After: 0"], b"{}"),
        (["Retry-After: " + formatdate(time.time() - 5, usegmt=True)], b"{}"),
        ([], b'{"error": {"retry_after": 0.01}}'),
        ([], b'{"error": {"details": {"retry_after": 0.01}}}'),
    ],
)
def test_a_wait_that_the_server_names(extra: list[str], body: bytes) -> None:
    """A named wait takes the place of the backoff, in each of its forms."""
    with ScriptedServer(statuses(("429 No", body, extra))) as server:
        run = run_against(server.url, RunAgent(), Policy(timeout=5, backoff=100))
    (retrying,) = [event for event in run.transcript.events if isinstance(event, Retrying)]
    assert (run.transcript.status, retrying.delay < 1) == ("done", True)


@pytest.mark.parametrize("asked", ["100000", formatdate(time.time() + 10_000, usegmt=True), "9" * 400])
def test_a_wait_that_is_too_long(asked: str) -> None:
    """A wait beyond max_wait is not waited for: the error names it."""
    with ScriptedServer(statuses(("429 No", b"{}", [f"Retry-After: {asked}"]))) as server:
        run = run_against(server.url, RunAgent(), FAST)
    error = run.transcript.error
    assert isinstance(error, RateLimited)
    assert error.retry_after is not None
    assert error.retry_after > 1000
    assert len(server.requests) == 1


def test_a_nonsense_wait_is_no_wait() -> None:
    """A Retry-After that is neither seconds nor a date leaves the backoff as it is."""
    with ScriptedServer(statuses(("503 No", b"", ["Retry-After: soon"]))) as server:
        run = run_against(server.url, RunAgent(), FAST)
    assert run.transcript.status == "done"


def test_capacity_is_waited_for() -> None:
    """CAPACITY_ERROR with retry_after is retried like a lost connection, and resumed."""

    def script(connection: socket.socket, _request: bytes, number: int) -> None:
        busy = event_stream(("error", {"error": "Model overloaded", "code": "CAPACITY_ERROR", "retry_after": 0.01}))
        first = stream_from(0, end=False, pieces=PIECES[:2]) + busy
        connection.sendall(head() + (first if number == 0 else stream_from(2)))

    with ScriptedServer(script) as server:
        run = run_against(server.url, RunAgent(), FAST)
    assert (run.transcript.status, run.transcript.text) == ("done", "Once upon a time.")


def test_capacity_that_never_comes() -> None:
    """When the budget is used up, the failure is the agent's own, with its code."""
    busy = {"error": "Model overloaded", "code": "CAPACITY_ERROR", "retry_after": 0}
    with ScriptedServer(says(event_stream(("start", {"session_id": "s"}), ("error", busy)))) as server:
        run = run_against(server.url, RunAgent(), FAST)
    error = run.transcript.error
    assert isinstance(error, AgentError)
    assert (error.code, len(server.requests)) == ("CAPACITY_ERROR", 4)


def test_an_error_of_the_agent() -> None:
    """Another error is final; what had arrived is kept."""
    failed = event_stream(
        ("chunk", {"content": "a"}), ("error", {"error": "Processing failed", "code": "STREAM_ERROR"})
    )
    with ScriptedServer(says(failed)) as server:
        run = run_against(server.url, RunAgent(), FAST)
    error = run.transcript.error
    assert isinstance(error, AgentError)
    assert (error.code, error.message, run.transcript.text) == ("STREAM_ERROR", "Processing failed", "a")


def test_backoff_doubles_with_jitter() -> None:
    """The waits are 2, 4 and 8 of the unit, give or take a fifth."""
    with ScriptedServer(statuses(*[("503 No", b"", [])] * 3)) as server:
        run = run_against(server.url, RunAgent(), Policy(timeout=5, backoff=0.01))
    waits = [event.delay / 0.01 for event in run.transcript.events if isinstance(event, Retrying)]
    assert [round(wait / ideal, 2) for wait, ideal in zip(waits, [1, 2, 4], strict=True)] == pytest.approx(
        [1] * 3, abs=0.21
    )


def test_nobody_listens() -> None:
    """A refused connection is tried again, and then is one sentence with the host."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    run = run_against(f"http://{host}", RunAgent(), FAST)
    assert isinstance(run.transcript.error, StreamLost)
    assert host in str(run.transcript.error)
    assert sum(isinstance(event, Connecting) for event in run.transcript.events) == 4


def test_a_host_that_does_not_exist() -> None:
    """A name that resolves to nothing is one sentence."""
    run = run_against("http://no-such-host.invalid", RunAgent(), FAST)
    assert isinstance(run.transcript.error, StreamLost)
    assert "no-such-host.invalid" in str(run.transcript.error)


def test_silence_is_a_lost_connection() -> None:
    """A server that says nothing for `timeout` seconds is taken for lost."""

    def script(connection: socket.socket, _request: bytes, _number: int) -> None:
        connection.sendall(head() + event_stream(("chunk", {"content": "a"})))
        server.wait_for_disconnect(connection)

    with ScriptedServer(script) as server:
        run = run_against(server.url, RunAgent(), Policy(timeout=0.2, retries=0))
        assert server.disconnected.wait(5)
    assert "sent nothing for 0.2 s" in str(run.transcript.error)
    assert run.transcript.text == "a"


def test_a_comment_is_a_sign_of_life() -> None:
    """Comments keep a connection alive; max_time ends it all the same."""

    def script(connection: socket.socket, _request: bytes, _number: int) -> None:
        connection.sendall(head())
        while True:
            connection.sendall(b": ping\n\n")
            time.sleep(0.05)  # the server's own pace; what ends this is the client's limit

    with ScriptedServer(script) as server:
        run = run_against(server.url, RunAgent(), Policy(timeout=0.4, max_time=1.2, retries=0))
    assert isinstance(run.transcript.error, LimitReached)
    assert run.transcript.elapsed > 1


def test_reset_is_a_lost_connection() -> None:
    """An RST in mid-stream is resumed like a clean close."""

    def script(connection: socket.socket, _request: bytes, number: int) -> None:
        if number:
            connection.sendall(head() + stream_from(2))
            return
        connection.sendall(head() + stream_from(0, end=False, pieces=PIECES[:2]))
        arrived.wait(5)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    arrived = threading.Event()
    with ScriptedServer(script) as server:
        ask = AgentRequest("Why?", server.url, "demo")
        run = Run(RunAgent(), ask, FAST, "test")
        run.listen(lambda: arrived.set() if run.transcript.text else None)
        run.start()
        assert run.wait(20)
    assert (run.transcript.status, run.transcript.text) == ("done", "Once upon a time.")


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_damaged_compression(coding: str) -> None:
    """Damaged data is a broken connection, and one sentence."""
    with ScriptedServer(says(b"\x00garbage\xff" * 20, extra=[f"Content-Encoding: {coding}"])) as server:
        run = run_against(server.url, RunAgent(), FAST)
    assert isinstance(run.transcript.error, StreamLost)


def test_a_json_reply_is_a_whole_answer() -> None:
    """A server that does not stream is read all the same, on both wires."""
    replies: list[tuple[AgentProtocol, Any]] = [
        (RunAgent(), {"result": "Hi"}),
        (You(), {"output": [{"type": "message.answer", "text": "Hi"}]}),
    ]
    for protocol, body in replies:
        with ScriptedServer(says(json.dumps(body).encode(), content_type="application/json")) as server:
            run = run_against(server.url, protocol)
        assert (run.transcript.status, run.transcript.text) == ("done", "Hi")


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"[]", b"\xff", b"{" * 10_000])
def test_a_json_reply_that_is_no_answer(body: bytes) -> None:
    """JSON without an answer is a broken protocol, on both wires."""
    for protocol in (RunAgent(), You()):
        with ScriptedServer(says(body, content_type="application/json")) as server:
            run = run_against(server.url, protocol)
        assert isinstance(run.transcript.error, ProtocolError)


def test_text_after_the_end_is_not_read() -> None:
    """There is one terminal event; what the server sends behind it changes nothing."""
    with ScriptedServer(says(stream_from(0) + event_stream(("chunk", {"content": "more"}), ("done", {})))) as server:
        run = run_against(server.url, RunAgent())
    assert run.transcript.text == "Once upon a time."


def test_the_callers_headers_are_left_alone() -> None:
    """httpx-sse writes into the headers it is given; nobody sees that here."""
    headers = {"X-Mine": "1"}
    with ScriptedServer(says(stream_from(0))) as server:
        run_against(server.url, RunAgent(), headers=headers)
    assert headers == {"X-Mine": "1"}
    assert b"x-mine: 1" in server.requests[0].lower()


class TestKeys:
    """Where a key goes, and where it never shows."""

    KEY = "sk-marked-0123456789"

    @pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 500])
    def test_an_echo_is_struck_out(self, status: int) -> None:
        """A server that echoes the request does not get the key into a message."""
        body = json.dumps({"detail": f"You sent {self.KEY}"}).encode()
        with ScriptedServer(statuses((f"{status} No", body, []))) as server:
            run = run_against(server.url, RunAgent(), Policy(retries=0), key=Secret(self.KEY))
        assert self.KEY.encode() in server.requests[0]
        assert self.KEY not in str(run.transcript.error) + repr(vars(run.transcript.error))

    def test_plain_http_is_for_this_machine(self) -> None:
        """A key is not sent over http to another machine."""
        run = run_against("http://192.0.2.1", RunAgent(), FAST, key=Secret(self.KEY))
        assert isinstance(run.transcript.error, ConfigError)
        assert self.KEY not in str(run.transcript.error)

    def test_a_redirect_gets_no_key(self) -> None:
        """A redirect is said and not followed."""
        with ScriptedServer(says(stream_from(0))) as other:
            with ScriptedServer(statuses(("307 Go", b"", [f"Location: {other.url}/"]))) as server:
                run = run_against(server.url, RunAgent(), FAST, key=Secret(self.KEY))
            assert other.requests == []
        assert "redirect" in str(run.transcript.error)

    def test_a_header_that_cannot_be_sent_is_not_quoted(self) -> None:
        """A refused header is named as the setting, without its value."""
        with ScriptedServer(says(stream_from(0))) as server:
            run = run_against(server.url, RunAgent(), FAST, headers={"X-Token": f"{self.KEY}\n"})
        assert isinstance(run.transcript.error, ConfigError)
        assert self.KEY not in str(run.transcript.error)


def test_every_lower_error_is_mapped() -> None:
    """Each way in which httpx says that a connection broke becomes a sentence with the host."""
    import httpx

    from agent_magic._connection import _reason

    def leaves(kind: type[Exception]) -> list[type[Exception]]:
        below = [leaf for sub in kind.__subclasses__() for leaf in leaves(sub)]
        return below or [kind]

    for kind in [*leaves(httpx.TransportError), httpx.DecodingError]:
        sentence = _reason(kind("words"), "host.example", Policy())
        assert "host.example" in sentence


class TestReviewed:
    """Faults that were found by looking hard; each had a run of its own first."""

    KEY = "sk-marked/0123456789"

    @pytest.mark.parametrize(
        "sent",
        [
            event_stream(("error", {"error": f"bad key {KEY}", "code": "X"})),
            event_stream(("chunk", f"{KEY}")),
            event_stream(("chunk", {"content": [KEY]})),
        ],
    )
    def test_an_echo_in_the_stream_is_struck_out(self, sent: bytes) -> None:
        """A key that the stream itself echoes stands in no error, neither in its words nor in its data."""
        with ScriptedServer(says(sent)) as server:
            run = run_against(server.url, RunAgent(), FAST, key=Secret(self.KEY))
        error = run.transcript.error
        assert error is not None
        assert "0123456789" not in str(error) + repr(vars(error)) + repr(run.transcript.events)

    def test_an_escaped_echo_is_struck_out(self) -> None:
        """JSON may escape a slash; the key is struck out all the same."""
        body = json.dumps({"detail": self.KEY}).replace("/", "\\/").encode()
        with ScriptedServer(statuses(("401 No", body, []))) as server:
            run = run_against(server.url, RunAgent(), FAST, key=Secret(self.KEY))
        assert "0123456789" not in str(run.transcript.error)

    def test_this_machine_is_asked_without_a_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A company's proxy has nothing to do with a server on loopback, and does not get its key."""
        with ScriptedServer(says(b"")) as proxy, ScriptedServer(says(stream_from(0))) as server:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url)
            run = run_against(server.url, RunAgent(), FAST, key=Secret(self.KEY))
            assert proxy.requests == []
        assert run.transcript.status == "done"

    def test_a_proxy_that_cannot_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A proxy setting that no request could use is one sentence."""
        monkeypatch.setenv("HTTPS_PROXY", "nonsense://x")
        run = run_against("https://192.0.2.1", RunAgent(), FAST)
        assert isinstance(run.transcript.error, ConfigError)

    def test_you_is_never_asked_twice_after_an_event(self) -> None:
        """Any event at all means that a paid run has begun."""
        begun = event_stream(("response.output_item.added", {"response": {"output_index": 0}}))
        with ScriptedServer(says(begun)) as server:
            run = run_against(server.url, You(), FAST)
        assert isinstance(run.transcript.error, StreamLost)
        assert len(server.requests) == 1

    def test_a_resumed_request_that_is_answered_whole(self) -> None:
        """A JSON reply to a resumed request takes the place of the part that had come."""

        def script(connection: socket.socket, _request: bytes, number: int) -> None:
            whole = json.dumps({"result": "Once upon a time."}).encode()
            connection.sendall(
                head("application/json") + whole if number else head() + stream_from(0, end=False, pieces=PIECES[:2])
            )

        with ScriptedServer(script) as server:
            run = run_against(server.url, RunAgent(), FAST)
        assert (run.transcript.status, run.transcript.text) == ("done", "Once upon a time.")

    @pytest.mark.parametrize("extra", [["Content-Length: 1000"], ["Content-Encoding: gzip"]])
    def test_a_refusal_with_a_broken_body_is_a_refusal(self, extra: list[str]) -> None:
        """A 401 is a 401 whatever its body does."""
        with ScriptedServer(statuses(("401 No", b"broken", extra))) as server:
            run = run_against(server.url, RunAgent(), FAST)
        assert isinstance(run.transcript.error, AuthError)
        assert len(server.requests) == 1

    def test_a_first_chunk_that_is_not_the_first(self) -> None:
        """A server that was asked for the beginning and sends the middle has lost the beginning; that is said."""

        def script(connection: socket.socket, _request: bytes, number: int) -> None:
            connection.sendall(head() + (stream_from(3) if number else event_stream(("start", {"session_id": "s"}))))

        with ScriptedServer(script) as server:
            run = run_against(server.url, RunAgent(), FAST)
        assert run.transcript.text == "time."
        assert run.transcript.notices == ["Chunks 0 to 2 are missing here: the server skipped them."]

    def test_the_variable_that_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A refused key is named by the variable that it came from."""
        monkeypatch.setenv("MY_KEY", "k")
        with ScriptedServer(statuses(("401 No", b"", []))) as server:
            result, _ = Agent(protocol="runagent", base_url=server.url, key_env="MY_KEY").begin("Why?")
            result.wait(20)
        assert "MY_KEY" in str(result.error)

    def test_a_wait_in_the_body_of_a_503(self) -> None:
        """A wait that the body names holds for every status that is retried."""
        with ScriptedServer(statuses(("503 No", b'{"error": {"retry_after": 0.5}}', []))) as server:
            run = run_against(server.url, RunAgent(), FAST)
        assert [event.delay for event in run.transcript.events if isinstance(event, Retrying)] == [0.5]

    def test_words_of_a_server_are_one_short_line(self) -> None:
        """Whatever an agent says of its failure, the error is one line of a readable length, and steers nothing."""
        hostile = "a\x1b]0;pwn\x07\nline2\n" + "x" * 100_000
        with ScriptedServer(says(event_stream(("error", {"error": hostile, "code": "X"})))) as server:
            run = run_against(server.url, RunAgent(), FAST)
        error = run.transcript.error
        assert isinstance(error, AgentError)
        (line,) = error._render_traceback_()
        assert len(line) < 1000
        assert not set(line) & set("\x1b\x07\n")
        assert error.message == hostile


def test_empty_text_is_no_progress() -> None:
    """A server that sends one new but empty chunk on each connection is not asked for ever."""

    def script(connection: socket.socket, _request: bytes, number: int) -> None:
        start = [("start", {"session_id": "s"})] if number == 0 else []
        connection.sendall(head() + event_stream(*start, ("chunk", {"content": "", "index": number})))

    with ScriptedServer(script) as server:
        run = run_against(server.url, RunAgent(), Policy(retries=2, backoff=0))
    assert run.transcript.status == "failed"
    assert len(server.requests) == 3
