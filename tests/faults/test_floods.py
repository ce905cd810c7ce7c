"""More than anybody wants: an event, a line, a text, a number of events without end."""

from __future__ import annotations

import json
import resource
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from agent_magic._stream import Policy
from agent_magic.errors import AgentError, LimitReached, StreamLost
from agent_magic.protocols import AgentProtocol
from agent_magic.protocols.runagent import RunAgent
from agent_magic.protocols.you import You
from agent_magic.testing import ScriptedServer, event_stream, floods, head, refuses, run_against, says
from tests.faults._cases import PATIENT, Case, complaints

MEGABYTE = 2**20
WIRES: list[AgentProtocol] = [RunAgent(), You()]


def delta(protocol: AgentProtocol, text: str) -> bytes:
    """One piece of text on that wire."""
    if protocol.name == "you":
        return event_stream(("response.output_text.delta", {"response": {"output_index": 0, "delta": text}}))
    return event_stream(("chunk", {"content": text}))


def endings(protocol: AgentProtocol) -> Iterator[Case]:
    """Each flood ends at the limit that is for it, with what had arrived."""
    name = protocol.name
    small = Policy(timeout=10, retries=0, max_event=MEGABYTE, max_text=100_000, max_events=5_000)
    one = delta(protocol, "a")
    quote = delta(protocol, "§")
    open_event = quote[: quote.index(b"\\u00a7")] if b"\\u00a7" in quote else quote

    def limit(what: str, script: object, word: str, text: str | None = None, policy: Policy = small) -> Case:
        return Case(f"{name}: {what}", script, protocol, policy, error=LimitReached, words=word, text=text)  # type: ignore[arg-type]

    yield limit("an event of 100 MB", floods(b"x" * 65536, one + open_event), "max_event", "a")
    yield limit("a line that never ends", floods(b"x" * 65536, one + b"data: "), "max_event", "a")
    yield limit("a field that never ends", floods(b"x" * 65536, one), "max_event", "a")
    yield limit("a comment that never ends", floods(b"x" * 65536, one + b":"), "max_event", "a")
    yield limit("an event of endless lines", floods(b"data: x\n" * 8192, one), "max_event", "a")
    yield limit("an event of endless lines in CRLF", floods(b"data: x\r\n" * 8192, one), "max_event", "a")
    yield limit("a line that never ends, in CRs", floods(b"data: x\r" * 8192, one), "max_event", "a")
    yield limit("1 GB of text", floods(delta(protocol, "word " * 2000)), "max_text", "word " * 20_000)
    yield limit("1 GB of text in letters", floods(delta(protocol, "é") * 100), "max_events", "é" * 5_000)
    yield limit("10 million events", floods(event_stream(("x-new", {})) * 1000), "max_events", "")
    yield limit(
        "a gigabyte of what is no text",
        floods(event_stream(("x-new", "y" * 60_000)) * 4),
        "max_data",
        "",
        Policy(timeout=10, retries=0, max_data=MEGABYTE),
    )
    yield limit("10 million starts", floods(event_stream(("start", {}), ("response.created", {})) * 500), "max_events", "")  # fmt: skip
    reply = head("application/json") + b'{"result": "'
    yield limit("a JSON reply that never ends", _endless(reply), "max_event")
    yield Case(f"{name}: comments by the million", says(b": ping\n\n" * 200_000 + one, *[b"\n" * 1000] * 100), protocol, small, error=StreamLost, text="a")  # fmt: skip
    yield Case(f"{name}: an error page that never ends", _endless(head("text/html", "500 No") + b"<p>"), protocol, small, error=AgentError)  # fmt: skip


def _endless(begin: bytes):  # type: ignore[no-untyped-def]
    from agent_magic.testing import Connection

    async def script(connection: Connection) -> None:
        await connection.send(begin)
        while True:
            await connection.send(b"x" * 65536)

    return script


def cases() -> Iterator[Case]:
    """All of this family."""
    for protocol in WIRES:
        yield from endings(protocol)


def test_floods() -> None:
    """Each ends at its limit, and memory stays within a fraction of what was sent."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert complaints(cases(), at_once=4) == []
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 200 * MEGABYTE


@pytest.mark.parametrize(
    ("piece", "word"),
    [
        (b"x" * 65536, "max_event"),
        (event_stream(("chunk", {"content": "word " * 2000})), "max_text"),
    ],
    ids=["an event", "a text"],
)
def test_the_defaults_are_limits(piece: bytes, word: str) -> None:
    """Without any setting, each flood still ends, in seconds."""
    with ScriptedServer(floods(piece)) as server:
        run = run_against(server.url, RunAgent(), Policy(retries=0))
    assert isinstance(run.transcript.error, LimitReached)
    assert word in str(run.transcript.error)


def test_an_event_of_100_mb_takes_no_more_than_its_limit() -> None:
    """The bytes of an event are not copied again and again while it arrives."""
    tracemalloc.start()
    try:
        with ScriptedServer(floods(b"x" * 65536, b"data: ")) as server:
            run_against(server.url, RunAgent(), Policy(retries=0, max_event=4 * MEGABYTE))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24 * MEGABYTE


@pytest.mark.parametrize("protocol", WIRES, ids=lambda protocol: protocol.name)
def test_a_text_of_just_the_limit(protocol: AgentProtocol) -> None:
    """The limit is what may arrive: a text of that many characters is whole."""
    end: tuple[str, Any] = ("response.done", {"response": {}}) if protocol.name == "you" else ("done", {})
    sent = delta(protocol, "é" * 500) + event_stream(end)
    for limit, status in ((500, "done"), (499, "failed")):
        with ScriptedServer(says(sent)) as server:
            run = run_against(server.url, protocol, Policy(retries=0, max_text=limit))
        assert (run.transcript.status, run.transcript.text) == (status, "é" * limit)


def test_a_whole_reply_has_the_same_limit() -> None:
    """A JSON reply is an answer too."""
    reply = json.dumps({"result": "x" * 1000}).encode()
    with ScriptedServer(says(reply, content_type="application/json")) as server:
        run = run_against(server.url, RunAgent(), Policy(retries=0, max_text=999))
    assert isinstance(run.transcript.error, LimitReached)


def test_an_error_page_of_10_mb_is_not_read() -> None:
    """A refusal's first lines say what there is to say."""
    with ScriptedServer(refuses("500 No", b"x" * 10 * MEGABYTE)) as server:
        run = run_against(server.url, RunAgent(), PATIENT)
    assert isinstance(run.transcript.error, AgentError)
