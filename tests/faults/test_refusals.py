"""Every status with every body; redirects; a success that is none."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from email.utils import formatdate

from agent_magic._stream import Policy
from agent_magic.errors import AgentError, AgentMagicError, AuthError, ProtocolError, RateLimited, StreamLost
from agent_magic.protocols import AgentProtocol
from agent_magic.protocols.runagent import RunAgent
from agent_magic.protocols.you import You
from agent_magic.testing import (
    Connection,
    RunAgentService,
    ScriptedServer,
    event_stream,
    head,
    in_turn,
    redirects,
    refuses,
    run_against,
    says,
)
from tests.faults._cases import KEY, PATIENT, Case, complaints

WIRES: list[AgentProtocol] = [RunAgent(), You()]
ONCE = Policy(timeout=10, retries=1, backoff=0, max_wait=1)
KINDS: dict[int, type[AgentMagicError]] = {401: AuthError, 403: AuthError, 429: RateLimited}
STATUSES = (400, 401, 402, 403, 404, 408, 409, 413, 422, 425, 429, 500, 501, 502, 503, 504, 418, 599)
RETRIED = {408, 425, 429, 502, 503, 504}
ECHO = json.dumps({"detail": f"No, not with {KEY}"}).encode()
BODIES: dict[str, tuple[str, bytes, str]] = {
    "JSON": ("application/json", ECHO, "No, not with ***"),
    "JSON of another shape": ("application/json", b'{"error": {"code": "X", "message": "Because"}}', "Because"),
    "HTML": ("text/html", b"<html><title>Oops</title>" + b"<p>no</p>" * 99, "answered"),
    "empty": ("application/json", b"", "answered"),
    "10 MB": ("text/plain", b"no " * 3_500_000, "answered"),
    "10 MB of JSON": ("application/json", b'{"detail": "' + b"n" * 10_000_000 + b'"}', "answered"),
    "a stream": ("text/event-stream", event_stream(("chunk", {"content": "not this"})), "answered"),
    "bytes": ("application/json", bytes(range(256)), "answered"),
}


def refusals(protocol: AgentProtocol) -> Iterator[Case]:
    """Each status with each body: asked again only where that can help."""
    for status in STATUSES:
        for body, (content_type, sent, words) in BODIES.items():
            yield Case(
                f"{protocol.name}: {status} with {body}",
                refuses(f"{status} No", sent, content_type=content_type),
                protocol,
                ONCE,
                text="",
                error=KINDS.get(status, AgentError),
                words=words,
                requests=2 if status in RETRIED else 1,
            )


def waits(protocol: AgentProtocol) -> Iterator[Case]:
    """429 with each Retry-After: a short one is waited for, a long one is said, nonsense is none."""
    short = ["0", "1", formatdate(time.time() - 5, usegmt=True), "Thu, 01 Jan 1970 00:00:00 GMT"]
    nonsense = ["soon", "-1", "1.5", "", "١", "9 " * 2000, "Thu, 32 Foo 2030 99:99:99 GMT"]
    long = ["3600", formatdate(time.time() + 10_000, usegmt=True), "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"]
    service = RunAgentService(["a"])
    whole = says(service.recorded)
    if protocol.name == "you":
        whole = says(event_stream(("response.output_text.delta", {"response": {"output_index": 0, "delta": "a"}}), ("response.done", {"response": {}})))  # fmt: skip
    for asked in (*short, *nonsense):
        refused = refuses("429 No", b"{}", f"Retry-After: {asked}")
        yield Case(f"{protocol.name}: Retry-After {asked[:40]!r}", in_turn(refused, whole), protocol, PATIENT, "done", "a", requests=2)  # fmt: skip
    yield Case(f"{protocol.name}: 429 without Retry-After", in_turn(refuses("429 No"), whole), protocol, PATIENT, "done", "a", requests=2)  # fmt: skip
    for asked in long:
        refused = refuses("429 No", b"{}", f"Retry-After: {asked}")
        yield Case(f"{protocol.name}: Retry-After {asked[:40]!r}", refused, protocol, PATIENT, error=RateLimited, words="asks to wait", requests=1)  # fmt: skip


def successes(protocol: AgentProtocol) -> Iterator[Case]:
    """200, and no stream behind it."""
    page = b"<html>Please log in</html>"
    bodies = {
        "HTML": ("text/html", page, ProtocolError),
        "JSON that is no answer": ("application/json", b'{"ok": true}', ProtocolError),
        "JSON that is an error": ("application/json", b'{"detail": "no"}', ProtocolError),
        "broken JSON": ("application/json", b'{"result": ', ProtocolError),
        "nothing, as JSON": ("application/json", b"", ProtocolError),
        "nothing, as a stream": ("text/event-stream", b"", StreamLost),
        "nothing, as text": ("text/plain", b"", ProtocolError),
        "nothing, as nothing": ("", b"", ProtocolError),
        "a stream as text": ("text/plain", event_stream(("chunk", {"content": "a"}), ("done", {})), ProtocolError),
        "a stream as bytes": ("application/octet-stream", event_stream(("done", {})), ProtocolError),
        "a stream as nothing": ("", event_stream(("done", {})), ProtocolError),
        "HTML as a stream": ("text/event-stream", page * 50, StreamLost),
        "JSON as a stream": ("text/event-stream", b'{"result": "Hi"}', StreamLost),
        "10 MB of HTML": ("text/html", page * 400_000, ProtocolError),
    }
    for name, (content_type, body, kind) in bodies.items():
        yield Case(f"{protocol.name}: 200 with {name}", says(body, content_type=content_type), protocol, ONCE, text="", error=kind)  # fmt: skip
    for status in ("201 Created", "206 Partial Content", "299 Odd"):
        script = refuses(status, b"{}", content_type="application/json")
        yield Case(f"{protocol.name}: {status}", script, protocol, ONCE, text="", error=ProtocolError)
    for status in ("204 No Content", "205 Reset Content", "304 Not Modified"):
        yield Case(f"{protocol.name}: {status}", refuses(status), protocol, ONCE, text="")
    for start in (
        b"",
        b"\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
    ):
        yield Case(f"{protocol.name}: a reply that begins {start!r}", _raw(start), protocol, ONCE, text="", error=StreamLost)  # fmt: skip
    headers = {
        "a header without end": b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 300_000,
        "a million headers": b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 100_000,
        "a header with a NUL": b"HTTP/1.1 200 OK\r\nX-A: \x00\r\n\r\n",
        "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab",
        "broken chunks": head("text/event-stream", "200 OK", "Transfer-Encoding: chunked") + b"zz\r\nhi\r\n",
        "a chunk too short": head("text/event-stream", "200 OK", "Transfer-Encoding: chunked") + b"ff\r\nhi\r\n",
        "a body too short": head("text/event-stream", "200 OK", "Content-Length: 1000") + b"data: x\n",
    }
    for name, sent in headers.items():
        yield Case(f"{protocol.name}: {name}", _raw(sent), protocol, ONCE, text="", error=StreamLost)


def _raw(sent: bytes):  # type: ignore[no-untyped-def]
    async def script(connection: Connection) -> None:
        await connection.send(sent)

    return script


def cases() -> Iterator[Case]:
    """All of this family, but for redirects, which want a second server."""
    for protocol in WIRES:
        yield from refusals(protocol)
        yield from waits(protocol)
        yield from successes(protocol)


def test_refusals() -> None:
    """Each is one sentence with the host and, where the server has any, its words; never the key."""
    assert complaints(cases()) == []


MOVES = ("301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent")


def redirections(other: str = "http://127.0.0.1:9") -> Iterator[Case]:
    """Each redirect to the same host and to `other`."""
    for protocol in WIRES:
        for status in MOVES:
            for to in ("/elsewhere", f"{other}/v1", "", "ftp://x", "//evil.example", "javascript:0"):
                yield Case(
                    f"{protocol.name}: {status} to {to}",
                    redirects(to, status),
                    protocol,
                    ONCE,
                    error=AgentError,
                    words="redirect",
                    requests=1,
                )


def test_redirects() -> None:
    """A redirect is said and not followed: not on the same host, and with no key to another one."""
    with ScriptedServer(says(b"")) as other:
        assert complaints(redirections(other.url)) == []
        assert other.requests == []


def test_a_session_that_was_forgotten_is_no_wrong_agent() -> None:
    """A resume that is refused says so, in the server's words, and does not blame the agent's id."""
    service = RunAgentService(["Once ", "upon ", "a time"])
    with ScriptedServer(service.cut_at(len(head()) + 130, resume="forgot")) as server:
        run = run_against(server.url, service.protocol, PATIENT)
    error = run.transcript.error
    assert isinstance(error, StreamLost)
    assert "did not take it up again (it answered 404: Session not found)" in str(error)
    assert "agent's id" not in str(error)
    assert run.transcript.text == "Once "
