"""The wire that RunAgent ships, by its own server's frames and by its own rules."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_magic import Agent
from agent_magic._keys import Secret
from agent_magic._request import AgentRequest
from agent_magic.errors import AgentError, AuthError, ConfigError, ProtocolError
from agent_magic.events import (
    AgentEvent,
    Artifact,
    Done,
    Failed,
    Notice,
    Progress,
    Reasoning,
    ServerSentEvent,
    Started,
    Text,
    Unknown,
)
from agent_magic.protocols import HTTPFailure
from agent_magic.protocols.runagent_ws import RunAgentSocket
from agent_magic.testing import SocketContract, fold

ASK = AgentRequest("Why?", "https://backend.run-agent.ai", "agent-1")

STARTED = {"type": "status", "status": "stream_started", "invocation_id": "45ff9351-f79a"}
KINDS = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def yielded(value: Any, **how: Any) -> dict[str, Any]:
    """A data frame as RunAgent's server makes it, encoded three times."""
    payload = {"type": KINDS.get(type(value), "null"), "payload": json.dumps(value, **how)}
    return {"type": "data", "content": json.dumps(payload, **how)}


def completed(chunks: int) -> dict[str, Any]:
    return {"type": "status", "status": "stream_completed", "total_chunks": chunks, "execution_time": 0.25}


def lines(*frames: dict[str, Any], **how: Any) -> bytes:
    return "".join(f"{json.dumps(frame, **how)}\n" for frame in frames).encode()


class TestStrings(SocketContract):
    """A function that yields text, as the server writes it: nothing is escaped but what must be."""

    protocol = RunAgentSocket()
    recorded = lines(
        STARTED, yielded("The sky", ensure_ascii=False), yielded(' is “blue”: 漢 \N{DNA DOUBLE HELIX}\n"x"', ensure_ascii=False), completed(2), ensure_ascii=False
    )  # fmt: skip
    expected = 'The sky is “blue”: 漢 \N{DNA DOUBLE HELIX}\n"x"'


class TestValues(SocketContract):
    """A function that yields whatever it has; a character in two halves, each an escape of its own, three levels deep."""

    protocol = RunAgentSocket()
    recorded = lines(
        STARTED,
        yielded("a \ud83e"),
        yielded("\uddec "),
        yielded({"content": "b", "sender": "me"}),
        yielded({"message_type": "reasoning_message", "reasoning": "hm"}),
        yielded({"state": [1]}),
        yielded(None),
        yielded(3),
        completed(7),
    )
    expected = "a \N{DNA DOUBLE HELIX} b3"


def decode(*frames: dict[str, Any] | str) -> list[AgentEvent]:
    decoder = RunAgentSocket().decoder(ASK)
    said = [frame if isinstance(frame, str) else json.dumps(frame) for frame in frames]
    return [event for frame in said for event in decoder.decode(ServerSentEvent("message", frame))]


def bare(event: AgentEvent) -> AgentEvent:
    """`event` without what was sent."""
    return type(event)(**{name: getattr(event, name) for name in event.__struct_fields__ if name != "sent"})


def test_request_is_the_sdks() -> None:
    """URL, token, header and frame as RunAgent's SDK sends them; the key prints as stars, wherever it stands."""
    request = RunAgentSocket().request(AgentRequest(**{**asdict(ASK), "key": Secret("k" * 8)}))
    assert request.url == "wss://backend.run-agent.ai/api/v1/agents/agent-1/run-stream"
    assert str(request) == f"GET {request.url}?token=***"
    assert {name: str(value) for name, value in request.headers.items()} == {"Authorization": "Bearer ***"}
    assert request.frame == {
        "entrypoint_tag": "minimal_stream",
        "input_args": ["Why?"],
        "input_kwargs": {},
        "timeout_seconds": 600,
        "async_execution": False,
    }


def asdict(ask: AgentRequest) -> dict[str, Any]:
    return {name: getattr(ask, name) for name in ask.__struct_fields__}


def test_a_server_of_ones_own_needs_no_key() -> None:
    """Without a key there is no token and no header, and http becomes ws."""
    request = RunAgentSocket().request(AgentRequest("Why?", "http://127.0.0.1:8450/", "a/b"))
    assert str(request) == "GET ws://127.0.0.1:8450/api/v1/agents/a%2Fb/run-stream"
    assert request.headers == {}


@pytest.mark.parametrize(
    ("parameters", "frame"),
    [
        ({"times": 3}, {"input_args": ["Why?"], "input_kwargs": {"times": 3}}),
        ({"prompt_as": "query", "n": 1}, {"input_args": [], "input_kwargs": {"query": "Why?", "n": 1}}),
        ({"entrypoint_tag": "solve_stream"}, {"entrypoint_tag": "solve_stream"}),
        ({"timeout_seconds": 5, "user_id": "u", "persistent_memory": True}, {"timeout_seconds": 5, "user_id": "u", "persistent_memory": True, "input_kwargs": {}}),
        ({"user_id": "u", "input_kwargs": {"user_id": "v"}, "n": 1}, {"user_id": "u", "input_kwargs": {"user_id": "v", "n": 1}}),
    ],
)  # fmt: skip
def test_parameters_are_arguments(parameters: dict[str, Any], frame: dict[str, Any]) -> None:
    """A parameter is an argument of the function, but for those that are RunAgent's own."""
    sent = RunAgentSocket().request(AgentRequest("Why?", ASK.base_url, "a", parameters)).frame
    assert sent == {**RunAgentSocket().request(ASK).frame, **frame}


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"entrypoint_tag": "solve"}, "ends in _stream"),
        ({"entrypoint_tag": 1}, "ends in _stream"),
        ({"prompt_as": "q", "q": 1}, "the one argument"),
        ({"prompt_as": 1}, "the one argument"),
        ({"input_kwargs": [1]}, "as an object"),
        ({"input_args": []}, "fills itself"),
        ({"async_execution": True}, "fills itself"),
    ],
)
def test_parameters_that_cannot_be(parameters: dict[str, Any], words: str) -> None:
    """What the frame cannot say is said before anything is sent."""
    with pytest.raises(ConfigError, match=words):
        RunAgentSocket().request(AgentRequest("Why?", ASK.base_url, "a", parameters))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("text", "text"),
        ("", ""),
        ("3", "3"),
        (3, "3"),
        (0.5, "0.5"),
        (True, "true"),
        ({"content": "piece", "sender": "assistant", "recipient": "user"}, "piece"),
        ({"delta": "piece", "response": "the whole piece", "current_agent_name": "Agent"}, "piece"),
        ({"choices": [{"delta": {"content": "piece"}, "index": 0}], "object": "chat.completion.chunk"}, "piece"),
        ({"event": "RunContent", "content": "piece", "content_type": "str"}, "piece"),
        ({"message_type": "assistant_message", "content": "piece"}, "piece"),
        ({"text": "piece"}, "piece"),
    ],
)
def test_the_text_in_what_frameworks_yield(value: Any, said: str) -> None:
    """Text is text; of an object, the one piece that is new text."""
    (event,) = decode(yielded(value))
    assert bare(event) == Text(text=said)


@pytest.mark.parametrize(
    "value",
    [
        {"solve": {"query": "Why?", "solutions": []}},
        [],
        ["a", "b"],
        {"event": "RunCompleted", "content": "the whole text again"},
        {"message_type": "usage_statistics", "total_tokens": 3},
        {"choices": [{"delta": {"content": None}, "finish_reason": "stop"}]},
        {"content": ["no", "text"]},
    ],
)
def test_what_holds_no_new_text_is_kept(value: Any) -> None:
    """All else is an artifact, as it came."""
    (event,) = decode(yielded(value))
    assert isinstance(event, Artifact)
    assert (json.loads(event.data), event.media_type) == (value, "application/json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("plain", "plain"),
        ('"json"', "json"),
        ('{"type": "string", "payload": "no json"}', "no json"),
        ({"content": "as it is"}, "as it is"),
    ],
)
def test_content_that_is_not_structured(content: Any, said: str) -> None:
    """The SDK reads other forms of content too, and so is it here."""
    (event,) = decode({"type": "data", "content": content})
    assert bare(event) == Text(text=said)


def test_what_was_thought_is_no_text() -> None:
    """Letta's reasoning is reasoning."""
    (event,) = decode(yielded({"message_type": "reasoning_message", "reasoning": "hm"}))
    assert bare(event) == Reasoning(text="hm")


def test_nothing_is_kept_as_nothing() -> None:
    """A function that yields None has said something, though no text."""
    (event,) = decode(yielded(None))
    assert isinstance(event, Unknown)
    assert event.name == "null"


def test_what_the_server_could_not_send_is_said() -> None:
    """The server puts an object in the place of what it could not encode."""
    (event,) = decode(yielded({"error": "Serialization Error: nan", "original_type": "<class 'dict'>"}))
    assert bare(event) == Notice(message="The server could not send what the agent yielded: Serialization Error: nan")


def test_the_end_says_how_long_it_took() -> None:
    """The invocation's name, the server's own figure; a status that nobody has named is progress."""
    events = decode(STARTED, {"type": "status", "status": "warming_up"}, yielded("a"), completed(1))
    assert [bare(event) for event in events] == [
        Started(run_id="45ff9351-f79a"),
        Progress(message="warming_up"),
        Text(text="a"),
        Done(execution_time=0.25),
    ]


def test_chunks_that_did_not_come_are_said() -> None:
    """The server counts what it sent."""
    assert fold(decode(STARTED, yielded("a"), completed(3))).notices == ["The agent yielded 3 times, and 1 came."]


def test_an_answer_without_text_says_where_it_is() -> None:
    """A graph's states are no text, but they are not lost."""
    transcript = fold(decode(STARTED, yielded({"solve": {}}), yielded({"check": {}}), completed(2)))
    assert transcript.notices == ["The agent yielded no text but 2 values: see .artifacts of the result."]
    assert [artifact.data for artifact in transcript.artifacts] == ['{"solve": {}}', '{"check": {}}']


@pytest.mark.parametrize(
    ("frame", "failed"),
    [
        ({"error": "Streaming error: boom"}, Failed(message="Streaming error: boom")),
        ({"detail": "Missing required field: input_args"}, Failed(message="Missing required field: input_args")),
        ({"error": "[QUOTA] No more today"}, Failed(message="No more today", code="QUOTA")),
        ({"error": {"code": "QUOTA", "message": "No more"}}, Failed(message="No more", code="QUOTA")),
        ({}, Failed(message='{"type": "error"}')),
    ],
)
def test_errors(frame: dict[str, Any], failed: Failed) -> None:
    """Either key, a code before the sentence, or an object."""
    half, last = decode(yielded("a \ud83e"), {"type": "error", **frame})[1:]
    assert (bare(half), bare(last)) == (Text(text="\N{REPLACEMENT CHARACTER}"), failed)


@pytest.mark.parametrize(
    "said", ["Entrypoint x_stream not found", "Entrypoint `x_stream` is not a streaming entrypoint."]
)
def test_an_unknown_entrypoint_says_where_the_names_are(said: str) -> None:
    """The server does not list them; where it does is said."""
    (failed,) = decode({"type": "error", "detail": said})
    assert isinstance(failed, Failed)
    assert failed.message == (
        f"{said.rstrip('.')}. Name one that the agent has in the parameter entrypoint_tag: they stand in its "
        "runagent.config.json, and in the reply to https://backend.run-agent.ai/api/v1/agents/agent-1/architecture."
    )


@pytest.mark.parametrize("frame", ["", "no json", "[1]", '"text"'])
def test_a_frame_that_is_no_object(frame: str) -> None:
    """What the SDK passes over in silence is a broken protocol, and kept."""
    with pytest.raises(ProtocolError) as caught:
        decode(frame)
    assert caught.value.data == frame


def test_other_frames_are_kept() -> None:
    """A type that no document names, and none at all."""
    assert [bare(event) for event in decode('{"type": "pong"}', '{"a": 1}')] == [
        Unknown(name="pong", data='{"type": "pong"}'),
        Unknown(name="message", data='{"a": 1}'),
    ]


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["delta", "content", "choices", "event", "message_type", "error", "original_type", "payload"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(VALUES, VALUES)
def test_garbage_within(value: Any, content: Any) -> None:
    """Whatever a function yields, at whichever level, it is one event and nothing is raised."""
    for frame in ({"type": "data", "content": content}, yielded(value), yielded({"payload": content, "type": value})):
        decoder = RunAgentSocket().decoder(ASK)
        with suppress(ProtocolError):  # a number that is none is not JSON
            events = [*decoder.decode(ServerSentEvent("message", json.dumps(frame)))]
            assert len(events) == 1
            fold([*events, *decoder.flush()]).text.encode()


def test_nothing_resumes() -> None:
    """What an agent has yielded is gone; a reply in one piece there is none."""
    decoder = RunAgentSocket().decoder(ASK)
    decoder.resume()
    assert list(decoder.closed()) == []
    with pytest.raises(ProtocolError):
        decoder.whole(b"{}")


@pytest.mark.parametrize(("variable", "kind"), [(None, AgentError), ("RUNAGENT_API_KEY", AuthError)])
def test_403_is_also_an_agent_that_is_not_there(variable: str | None, kind: type[Exception]) -> None:
    """A server's framework refuses a path that it does not have with 403; without a key it can be nothing else."""
    error = RunAgentSocket().error(HTTPFailure(403, "localhost:8450", b"", key_env=variable))
    assert type(error) is kind
    assert "check the agent's id" in str(error)
    assert type(RunAgentSocket().error(HTTPFailure(401, "localhost:8450", b""))) is AuthError


def test_a_tape_of_the_real_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `runagent serve` (0.1.49) sent once replays as it came; nobody is asked."""
    monkeypatch.setenv("AGENT_MAGIC_TAPES", str(Path(__file__).parent / "tapes" / "runagent-ws"))
    served = "3d0e1f57-6c3f-4a52-8a57-0d9a4b1f7c11"
    result = Agent(protocol="runagent-ws", agent=served, base_url="http://127.0.0.1:1", tape="replay").ask("Why?")
    assert (result.text, result.status) == ("You asked: Why? 0 1 2 \N{DNA DOUBLE HELIX} “done”\n", "done")
    assert result.execution_time == 0.000995635986328125
    assert [type(event).__name__ for event in result.events if event.sent] == ["Started", *["Text"] * 5, "Done"]
