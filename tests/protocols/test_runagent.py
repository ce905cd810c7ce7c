"""The RunAgent wire, by RunAgent's page and by its own rules."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent_magic._keys import Secret
from agent_magic._request import AgentRequest
from agent_magic.errors import ConfigError, ProtocolError
from agent_magic.events import AgentEvent, Done, Failed, Notice, ServerSentEvent, Started, Text, Usage
from agent_magic.protocols import HTTPFailure
from agent_magic.protocols.runagent import RunAgent
from agent_magic.testing import ProtocolContract, event_stream, fold

ASK = AgentRequest(prompt="Why?", base_url="https://api.run-agent.ai", agent="agent-123")

PAGE = b"""event: start
data: {"message": "Stream started"}

event: chunk
data: {"content": "The weather in "}

event: chunk
data: {"content": "San Francisco is "}

event: done
data: {"message": "Stream complete", "usage": {"total_tokens": 150}}

"""

BROKEN_DONE = b"""event: start
data: {"message": "Stream started", "session_id": "abc123"}

event: chunk
data: {"content": "Hello, ", "index": 0}

event: done
data: {
  "message": "Stream complete",
  "usage": {
    "total_tokens": 150
  },
  "execution_time": 2.5
}

"""


class TestPage(ProtocolContract):
    """The page's first example: no session, no index."""

    protocol = RunAgent()
    recorded = PAGE
    expected = "The weather in San Francisco is "


class TestBrokenDone(ProtocolContract):
    """The page's `done` example at its letter, which is not valid SSE."""

    protocol = RunAgent()
    recorded = BROKEN_DONE
    expected = "Hello, "


class TestUnicode(ProtocolContract):
    """Text of all planes, cut where a server that counts in UTF-16 cuts it."""

    protocol = RunAgent()
    recorded = event_stream(
        ("start", {"session_id": "s"}),
        ("chunk", '{"content": "\\ud83e", "index": 0}'),
        ("chunk", '{"content": "\\uddec é 漢", "index": 1}'),
        ("chunk", {"content": " | end", "index": 2}),
        ("done", {}),
        newline="\r\n",
    )
    expected = "\N{DNA DOUBLE HELIX} é 漢 | end"


def decode(*events: tuple[str, Any], ask: AgentRequest = ASK) -> list[AgentEvent]:
    decoder = RunAgent().decoder(ask)
    return [
        event
        for name, data in events
        for event in decoder.decode(ServerSentEvent(name, data if isinstance(data, str) else json.dumps(data)))
    ]


def chunk(content: str, index: int | None = None) -> tuple[str, Any]:
    return "chunk", {"content": content} | ({} if index is None else {"index": index})


def test_request_is_the_pages() -> None:
    """Method, path, headers and body as the page has them; the key prints as stars."""
    ask = AgentRequest("Why?", "https://api.run-agent.ai/", "agent-123", {"chunk_size": 10}, "abc", key=Secret("k" * 8))
    request = RunAgent().request(ask)
    assert (request.method, request.url) == ("POST", "https://api.run-agent.ai/v1/agents/agent-123/stream")
    assert request.body == {"query": "Why?", "parameters": {"chunk_size": 10}, "session_id": "abc"}
    assert {name: str(value) for name, value in request.headers.items()} == {
        "Authorization": "Bearer ***",
        "Accept": "text/event-stream",
    }


@pytest.mark.parametrize(("agent", "path"), [("a/b?c#d", "a%2Fb%3Fc%23d"), ("é", "%C3%A9"), ("a..b", "a..b")])
def test_agent_id_is_one_path_segment(agent: str, path: str) -> None:
    """An id cannot reach into the rest of the URL."""
    ask = AgentRequest("Why?", "https://x.example", agent)
    assert RunAgent().request(ask).url == f"https://x.example/v1/agents/{path}/stream"


@pytest.mark.parametrize("agent", ["", ".", ".."])
def test_dot_segments_are_refused(agent: str) -> None:
    """What a server would resolve into another path is not sent."""
    with pytest.raises(ConfigError, match="cannot be part of a URL's path"):
        RunAgent().request(AgentRequest("Why?", "https://x.example", agent))


@pytest.mark.parametrize("name", ["query", "parameters", "session_id", "stream"])
def test_own_fields_are_refused(name: str) -> None:
    """A parameter cannot take the place of a field that the wire fills."""
    with pytest.raises(ConfigError, match=name):
        RunAgent().request(AgentRequest("Why?", "https://x.example", "a", {name: 1}))


def test_figures_of_done() -> None:
    """Usage and execution time are read from `done`, tokens under either of their names."""
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "cached": 1}
    _, used, done = decode(("start", {}), ("done", {"usage": usage, "execution_time": 2.5}))
    assert isinstance(used, Usage)
    assert (used.input_tokens, used.output_tokens, used.total_tokens, used.raw) == (3, 4, 7, usage)
    assert isinstance(done, Done)
    assert done.execution_time == 2.5


@pytest.mark.parametrize("value", [True, -1, "7", 1.5, None, [7]])
def test_tokens_that_are_no_count(value: object) -> None:
    """A token count that is no whole number from 0 up is None, and kept in raw."""
    used, _ = decode(("done", {"usage": {"total_tokens": value}}))
    assert isinstance(used, Usage)
    assert (used.total_tokens, used.raw) == (None, {"total_tokens": value})


def test_capacity_is_transient() -> None:
    """CAPACITY_ERROR with retry_after asks to be asked again; no other error does."""
    busy = {"error": "Model overloaded", "code": "CAPACITY_ERROR", "retry_after": 30}
    failures = [
        decode(("error", data))[0]
        for data in (busy, {**busy, "retry_after": None}, {**busy, "code": "STREAM_ERROR"}, {"error": "x"})
    ]
    assert all(isinstance(failure, Failed) for failure in failures)
    assert [failure.transient for failure in failures if isinstance(failure, Failed)] == [True, False, False, False]


def test_error_without_json() -> None:
    """An error whose data is no JSON is an error with that text."""
    (failed,) = decode(("error", "boom"))
    assert isinstance(failed, Failed)
    assert failed.message == "boom"


@pytest.mark.parametrize("content", [None, 1, True, [], {}])
def test_chunk_without_text(content: object) -> None:
    """A chunk whose text is none is a broken protocol, and its data is kept."""
    with pytest.raises(ProtocolError) as caught:
        decode(("chunk", {"content": content}))
    assert json.loads(caught.value.data) == {"content": content}


def test_an_unnamed_event_with_content_is_a_chunk() -> None:
    """The page's Python example reads data with a content whatever its event."""
    events = decode(("", {"content": "a"}), ("message", {"content": "b"}))
    assert fold(events).text == "ab"


def test_no_resume_without_session_or_index() -> None:
    """Without a session, or with chunks that have no index, the stream cannot be taken up."""
    for events in ([chunk("a", 0)], [("start", {"session_id": "s"}), chunk("a")]):
        decoder = RunAgent().decoder(ASK)
        for name, data in events:
            list(decoder.decode(ServerSentEvent(name, json.dumps(data))))
        assert decoder.resume() is None


def test_resume_names_the_next_index() -> None:
    """The resumed request is the same one with the session and the index after the last."""
    ask = AgentRequest("Why?", "https://x.example", "a", {"chunk_size": 3})
    decoder = RunAgent().decoder(ask)
    for name, data in [("start", {"session_id": "s"}), chunk("a", 0), chunk("b", 1)]:
        list(decoder.decode(ServerSentEvent(name, json.dumps(data))))
    again = decoder.resume()
    assert again is not None
    assert RunAgent().request(again).body == {
        "query": "Why?",
        "parameters": {"chunk_size": 3, "resume_from_index": 2},
        "session_id": "s",
    }


@pytest.mark.parametrize("first", [0, 1, 2])
def test_resumed_chunks_are_folded_once(first: int) -> None:
    """Whether the server resumes at the index, one before it or at the beginning, the text is exact."""
    pieces = ["a", "b", "c", "d"]
    decoder = RunAgent().decoder(ASK)
    sent = [("start", {"session_id": "s"}), chunk("a", 0), chunk("b", 1)]
    events = [event for name, data in sent for event in decoder.decode(ServerSentEvent(name, json.dumps(data)))]
    decoder.resume()
    for index in range(first, 4):
        events += decoder.decode(ServerSentEvent("chunk", json.dumps(chunk(pieces[index], index)[1])))
    transcript = fold(events)
    assert (transcript.text, transcript.notices) == ("abcd", [])


def test_a_gap_is_said() -> None:
    """Chunks that the server skipped are said, in their place."""
    events = decode(chunk("a", 0), chunk("d", 3))
    (notice,) = [event for event in events if isinstance(event, Notice)]
    assert notice.message == "Chunks 1 to 2 are missing here: the server skipped them."
    assert fold(events).text == "ad"


def test_a_repeat_within_a_connection_is_said() -> None:
    """A chunk that comes again without a resume is left out, and said."""
    transcript = fold(decode(chunk("a", 0), chunk("a", 0), chunk("b", 1)))
    assert (transcript.text, transcript.notices) == ("ab", ["Chunk 0 came again and was left out."])


def test_resume_without_index_is_refused() -> None:
    """A server that resumes without saying where could double the text: that is an error, not a guess."""
    decoder = RunAgent().decoder(ASK)
    for name, data in [("start", {"session_id": "s"}), chunk("a", 0)]:
        list(decoder.decode(ServerSentEvent(name, json.dumps(data))))
    decoder.resume()
    with pytest.raises(ProtocolError, match="without saying where"):
        decoder.decode(ServerSentEvent("chunk", '{"content": "a"}'))


@pytest.mark.parametrize(
    "body",
    [
        {"result": "Hi", "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}, "metadata": {"execution_time": 0.5}},
        {"status": "success", "data": {"result": "Hi", "metadata": {"execution_time": 0.5, "usage": {"total_tokens": 3}}}},
    ],
)  # fmt: skip
def test_a_reply_that_is_not_streamed(body: dict[str, Any]) -> None:
    """Both documented shapes of /invoke are whole answers."""
    transcript = fold(list(RunAgent().decoder(ASK).whole(json.dumps(body).encode())))
    assert (transcript.text, transcript.usage.total_tokens, transcript.execution_time) == ("Hi", 3, 0.5)


def test_404_names_the_other_wire() -> None:
    """A self-hosted RunAgent has no SSE endpoint; its 404 says what it has."""
    error = RunAgent().error(HTTPFailure(404, "localhost:8450", b'{"detail": "Not Found"}'))
    assert "runagent-ws" in str(error)


def test_session_may_stand_in_start_only() -> None:
    """The session's id is kept from `start`."""
    (started,) = decode(("start", {"message": "Stream started", "session_id": "abc123"}))
    assert isinstance(started, Started)
    assert started.session_id == "abc123"


def test_a_broken_start_is_a_start() -> None:
    """A `start` whose data cannot be read begins the stream all the same."""
    assert fold(decode(("start", "{"), chunk("a"))).text == "a"
    assert [type(event) for event in decode(("start", "{"), chunk("a"))] == [Started, Text]
