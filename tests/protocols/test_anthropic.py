"""The Messages wire, by Anthropic's reference."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from agent_magic._keys import Secret
from agent_magic._request import AgentRequest, Said
from agent_magic.errors import ConfigError, ProtocolError
from agent_magic.events import (
    AgentEvent,
    Done,
    Failed,
    Progress,
    ServerSentEvent,
    Source,
    ToolCall,
    ToolResult,
    Unknown,
    Usage,
)
from agent_magic.protocols.anthropic import Anthropic
from agent_magic.testing import ProtocolContract, ScriptedServer, event_stream, fold, head, run_against, says

ASK = AgentRequest(prompt="Why?", base_url="https://api.anthropic.com", agent="claude-x")
Event = tuple[str, dict[str, Any]]


def event(kind: str, **data: Any) -> Event:
    return kind, {"type": kind, **data}


def opened(index: int, kind: str, **block: Any) -> Event:
    return event("content_block_start", index=index, content_block={"type": kind, **block})


def delta(index: int, kind: str, **said: Any) -> Event:
    return event("content_block_delta", index=index, delta={"type": kind, **said})


def stop(index: int) -> Event:
    return event("content_block_stop", index=index)


START = event(
    "message_start",
    message={"id": "msg_1", "role": "assistant", "content": [], "usage": {"input_tokens": 9, "output_tokens": 1}},
)
END = (event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5}), event("message_stop"))
RECORDED = event_stream(
    START,
    opened(0, "thinking", thinking=""),
    event("ping"),
    delta(0, "thinking_delta", thinking="Hm."),
    delta(0, "signature_delta", signature="EqQB"),
    stop(0),
    opened(1, "text", text=""),
    delta(1, "text_delta", text="Because é"),
    delta(1, "text_delta", text=" 🌍 so."),
    stop(1),
    *END,
)


def events_of(*sent: Event) -> list[AgentEvent]:
    """What a decoder makes of the events, without what was sent."""
    decoder = Anthropic().decoder(ASK)
    found = [one for kind, data in sent for one in decoder.decode(ServerSentEvent(kind, json.dumps(data)))]
    return [replace(one, sent=None) for one in [*found, *decoder.closed(), *decoder.flush()]]


class TestContract(ProtocolContract):
    """The contract of every protocol."""

    protocol = Anthropic()
    recorded = RECORDED
    expected = "Because é 🌍 so."


class TestBesideTheText(ProtocolContract):
    """The contract on a stream with a search of the service's, what it found, and a citation."""

    protocol = Anthropic()
    recorded = event_stream(
        START,
        opened(0, "server_tool_use", id="srv_1", name="web_search", input={}),
        delta(0, "input_json_delta", partial_json='{"query": "sky"}'),
        stop(0),
        opened(1, "web_search_tool_result", tool_use_id="srv_1", content=[{"url": "https://a.example", "title": "A"}]),
        stop(1),
        opened(2, "text", text=""),
        delta(2, "text_delta", text="So."),
        delta(2, "citations_delta", citation={"url": "https://a.example", "title": "A", "cited_text": "so"}),
        stop(2),
        *END,
    )
    expected = "So."


class TestRequest:
    """What is sent."""

    def test_a_conversation(self) -> None:
        """The key in its own header, the version, the system text beside the messages, a limit of tokens."""
        ask = replace(
            ASK, system="Be brief.", said=[Said("One?", "1.")], parameters={"temperature": 0}, key=Secret("k")
        )
        request = Anthropic().request(ask)
        assert (request.method, request.url) == ("POST", "https://api.anthropic.com/v1/messages")
        assert {name: str(value) for name, value in request.headers.items()} == {
            "anthropic-version": "2023-06-01",
            "x-api-key": "***",
            "Accept": "text/event-stream",
        }
        assert request.body == {
            "model": "claude-x",
            "max_tokens": 4096,
            "messages": [
                {"role": "user", "content": "One?"},
                {"role": "assistant", "content": "1."},
                {"role": "user", "content": "Why?"},
            ],
            "stream": True,
            "system": "Be brief.",
            "temperature": 0,
        }

    def test_settings_stand_above(self) -> None:
        """Another version, another limit, a bearer's key."""
        ask = replace(
            ASK,
            headers={"anthropic-version": "2099-01-01"},
            parameters={"max_tokens": 9},
            auth="bearer",
            key=Secret("k"),
        )
        request = Anthropic().request(ask)
        assert request.body is not None
        assert (request.headers["anthropic-version"], request.body["max_tokens"]) == ("2099-01-01", 9)
        assert str(request.headers["Authorization"]) == "Bearer ***"
        assert "x-api-key" not in request.headers

    @pytest.mark.parametrize("field", ["messages", "model", "stream", "system"])
    def test_own_fields_are_refused(self, field: str) -> None:
        """A field that the wire fills itself is no parameter."""
        with pytest.raises(ConfigError, match=field):
            Anthropic().request(replace(ASK, parameters={field: 1}))


class TestDecoder:
    """What events mean."""

    def test_usage_is_cumulative(self) -> None:
        """What was read from a cache went in, too; the last figure of each kind counts."""
        start = event(
            "message_start", message={"usage": {"input_tokens": 2, "cache_read_input_tokens": 7, "output_tokens": 1}}
        )
        usage = fold(events_of(start, *END)).usage
        raw = {"input_tokens": 2, "cache_read_input_tokens": 7, "output_tokens": 5}
        assert usage == Usage(input_tokens=9, output_tokens=5, total_tokens=14, raw=raw)

    def test_a_tool(self) -> None:
        """It is told when it begins, and once more with its arguments when its block closes."""
        events = events_of(
            opened(0, "tool_use", id="t1", name="look_up", input={}),
            delta(0, "input_json_delta", partial_json='{"q":'),
            delta(0, "input_json_delta", partial_json=' "sky"}'),
            stop(0),
        )
        assert [one for one in events if not isinstance(one, Progress)] == [
            ToolCall(id="t1", name="look_up"),
            ToolCall(id="t1", name="look_up", arguments='{"q": "sky"}'),
        ]

    def test_a_search_of_the_servers(self) -> None:
        """Its pages are sources, and so is what the text cites."""
        page = {"type": "web_search_result", "url": "https://a.example", "title": "A"}
        cited = {"type": "web_search_result_location", "url": "https://b.example", "title": "B", "cited_text": "so"}
        events = events_of(
            opened(0, "web_search_tool_result", tool_use_id="t1", content=[page]),
            opened(1, "text", text=""),
            delta(1, "citations_delta", citation=cited),
        )
        assert ToolResult(id="t1", result=json.dumps([page])) in events
        assert [one for one in events if isinstance(one, Source)] == [
            Source(url="https://a.example", title="A"),
            Source(url="https://b.example", title="B", snippet="so"),
        ]

    def test_several_blocks(self) -> None:
        """Text belongs to its block, and blocks stand in their order, whichever is told first."""
        assert fold(events_of(delta(2, "text_delta", text="b"), delta(0, "text_delta", text="a"))).text == "ab"

    def test_an_error_in_mid_stream(self) -> None:
        """`overloaded_error` and its like end the run with the server's own words."""
        error = {"type": "overloaded_error", "message": "Overloaded"}
        assert events_of(event("error", error=error)) == [Failed(message="Overloaded", code="overloaded_error")]

    def test_what_no_document_names(self) -> None:
        """Kept as it came."""
        (kept,) = events_of(event("message", a=1))
        assert isinstance(kept, Unknown)
        with pytest.raises(ProtocolError):
            events_of(delta(0, "text_delta"))

    def test_a_message_that_was_not_streamed(self) -> None:
        """A JSON reply is the whole answer."""
        reply = {
            "id": "m", "type": "message", "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 2},
            "content": [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "a"}, {"type": "tool_use", "id": "t", "name": "n", "input": {"q": 1}}],
        }  # fmt: skip
        events = list(Anthropic().decoder(ASK).whole(json.dumps(reply).encode()))
        known = fold(events)
        assert (known.text, known.reasoning, known.usage.total_tokens) == ("a", "Hm", 3)
        assert [call.arguments for call, _ in known.tool_calls] == ['{"q": 1}']
        assert isinstance(events[-1], Done)
        for body in (b"{}", b"[]", b"no"):
            with pytest.raises(ProtocolError):
                list(Anthropic().decoder(ASK).whole(body))


class TestRuns:
    """Over a real socket."""

    def test_overloaded_before_anything_has_come(self) -> None:
        """A 529 is tried again, as a 503 is."""
        error = json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}).encode()
        replies = iter([head("application/json", "529 Overloaded") + error])

        def script(connection: Any, _request: bytes, _number: int) -> None:
            connection.sendall(next(replies, head() + RECORDED))

        with ScriptedServer(script) as server:
            run = run_against(server.url, Anthropic())
            assert len(server.requests) == 2
        assert (run.transcript.status, run.transcript.text) == ("done", "Because é 🌍 so.")
        assert run.transcript.reasoning == "Hm."

    def test_cut(self) -> None:
        """A stream without its end was cut: the partial is kept, and nobody is asked twice."""
        with ScriptedServer(says(event_stream(START, delta(0, "text_delta", text="a")))) as server:
            run = run_against(server.url, Anthropic())
            assert len(server.requests) == 1
        assert (run.transcript.status, run.transcript.text) == ("failed", "a")

    def test_without_its_last_event(self) -> None:
        """With the reason for the end the answer is complete."""
        body = event_stream(START, delta(0, "text_delta", text="a"), END[0])
        with ScriptedServer(says(body)) as server:
            run = run_against(server.url, Anthropic())
        assert (run.transcript.status, run.transcript.reason) == ("done", "end_turn")
