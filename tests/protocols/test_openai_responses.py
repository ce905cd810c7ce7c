"""The Responses wire, by OpenAI's reference; no field but `type` and `delta` is relied on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from agent_magic._request import AgentRequest, Said
from agent_magic.errors import ConfigError, ProtocolError
from agent_magic.events import (
    AgentEvent,
    Artifact,
    Done,
    Failed,
    Progress,
    Reasoning,
    ServerSentEvent,
    Source,
    Text,
    ToolCall,
    ToolResult,
)
from agent_magic.protocols.openai_responses import OpenAIResponses
from agent_magic.testing import ProtocolContract, ScriptedServer, event_stream, fold, run_against, says

ASK = AgentRequest(prompt="Why?", base_url="https://api.openai.com/v1", agent="gpt-x")
USAGE = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
Event = tuple[str, dict[str, Any]]


def event(kind: str, **data: Any) -> Event:
    return kind, {"type": kind, **data}


def text(delta: str, **more: Any) -> Event:
    return event("response.output_text.delta", delta=delta, **more)


RECORDED = event_stream(
    event("response.created", response={"id": "resp_1", "status": "in_progress"}, sequence_number=0),
    event("response.in_progress", response={"id": "resp_1"}),
    event("response.output_item.added", output_index=0, item={"type": "reasoning", "id": "rs_1"}),
    event("response.reasoning_summary_text.delta", output_index=0, delta="Hm."),
    event("response.output_item.done", output_index=0, item={"type": "reasoning", "id": "rs_1"}),
    event("response.output_item.added", output_index=1, item={"type": "message", "id": "msg_1"}),
    event("response.content_part.added", output_index=1, content_index=0, part={"type": "output_text", "text": ""}),
    text("Because é", output_index=1, content_index=0),
    text(" 🌍 so.", output_index=1, content_index=0),
    event("response.output_text.done", output_index=1, content_index=0, text="Because é 🌍 so."),
    event("response.completed", response={"id": "resp_1", "status": "completed", "usage": USAGE}),
)


def events_of(*sent: Event, named: bool = True) -> list[AgentEvent]:
    """What a decoder makes of the events, without what was sent."""
    decoder = OpenAIResponses().decoder(ASK)
    given = [ServerSentEvent(kind if named else "", json.dumps(data)) for kind, data in sent]
    found = [one for said in given for one in decoder.decode(said)]
    return [replace(one, sent=None) for one in [*found, *decoder.closed(), *decoder.flush()]]


class TestContract(ProtocolContract):
    """The contract of every protocol."""

    protocol = OpenAIResponses()
    recorded = RECORDED
    expected = "Because é 🌍 so."


CALL = {"type": "mcp_call", "id": "mcp_1", "name": "look_up"}
NOTE = {"type": "url_citation", "url": "https://a.example", "title": "A"}


class TestBesideTheText(ProtocolContract):
    """The contract on a stream with a tool of the service's and sources."""

    protocol = OpenAIResponses()
    recorded = event_stream(
        event("response.created", response={"id": "resp_1"}),
        event("response.output_item.added", output_index=0, item={**CALL, "arguments": ""}),
        event("response.mcp_call_arguments.delta", output_index=0, delta='{"q"'),
        event("response.output_item.done", output_index=0, item={**CALL, "arguments": '{"q": 1}', "output": "42"}),
        text("So.", output_index=1),
        event("response.output_text.annotation.added", output_index=1, annotation=NOTE),
        event("response.completed", response={"usage": USAGE}),
    )
    expected = "So."


def test_the_request() -> None:
    """The conversation is the input, the system text the instructions; nothing is kept there unless a parameter says so."""
    ask = replace(ASK, system="Be brief.", said=[Said("One?", "1.")], parameters={"reasoning": {"effort": "low"}})
    request = OpenAIResponses().request(ask)
    assert request.url == "https://api.openai.com/v1/responses"
    assert request.body == {
        "model": "gpt-x",
        "input": [
            {"type": "message", "role": "user", "content": "One?"},
            {"type": "message", "role": "assistant", "content": "1."},
            {"type": "message", "role": "user", "content": "Why?"},
        ],
        "instructions": "Be brief.",
        "stream": True,
        "store": False,
        "reasoning": {"effort": "low"},
    }
    assert "store" not in (OpenAIResponses().request(replace(ASK, parameters={"store": None})).body or {})
    with pytest.raises(ConfigError, match="input"):
        OpenAIResponses().request(replace(ASK, parameters={"input": "x"}))


@pytest.mark.parametrize("named", [True, False], ids=["named", "type alone"])
def test_type_and_delta_are_enough(named: bool) -> None:
    """Without indices, ids, names and figures the answer is the same."""
    events = events_of(
        event("response.created"), text("Because"), text(" so."), event("response.completed"), named=named
    )
    assert (fold(events).text, events[-1]) == ("Because so.", Done())


def test_text_that_came_only_at_its_end() -> None:
    """A server that tells no deltas is heard; where they came, the whole is no news."""
    assert fold(events_of(event("response.output_text.done", text="a"))).text == "a"
    assert fold(events_of(text("a"), event("response.output_text.done", text="a"))).text == "a"


def test_tools_and_sources() -> None:
    """A function's call, a search of the server's, and what the text cites."""
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look_up"}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    note = {"type": "url_citation", "url": "https://a.example", "title": "A"}
    events = events_of(
        event("response.output_item.added", output_index=0, item={**call, "arguments": ""}),
        event("response.function_call_arguments.delta", output_index=0, delta='{"q"'),
        event("response.output_item.done", output_index=0, item={**call, "arguments": '{"q": 1}'}),
        event("response.output_item.added", output_index=1, item=search),
        event("response.web_search_call.searching", output_index=1),
        event("response.output_text.annotation.added", output_index=2, annotation=note),
    )
    assert [one for one in events if not isinstance(one, Progress)] == [
        ToolCall(id="call_1", name="look_up"),
        ToolCall(id="call_1", name="look_up", arguments='{"q": 1}'),
        ToolCall(id="ws_1", name="web_search"),
        Source(url="https://a.example", title="A"),
    ]


@pytest.mark.parametrize(
    ("item", "given", "made"),
    [
        ({"type": "mcp_call", "name": "f", "arguments": '{"a": 1}', "output": "3"}, '{"a": 1}', "3"),
        ({"type": "mcp_call", "name": "f", "arguments": "{}", "output": None, "error": "No"}, "{}", "No"),
        ({"type": "web_search_call", "action": {"query": "sky"}}, '{"query": "sky"}', ""),
        ({"type": "file_search_call", "queries": ["sky"], "results": [{"text": "blue"}]}, '["sky"]', '[{"text": "blue"}]'),
        ({"type": "code_interpreter_call", "code": "1 + 1", "outputs": [{"logs": "2"}]}, "1 + 1", '[{"logs": "2"}]'),
    ],
)  # fmt: skip
def test_the_services_own_tools(item: dict[str, Any], given: str, made: str) -> None:
    """What each kind of tool was given, and what it gave, once its item is whole."""
    call, result = events_of(event("response.output_item.done", item={"id": "1", **item}))
    assert isinstance(call, ToolCall)
    assert (call.arguments, result) == (given, ToolResult(id="1", result=made))


def test_an_image_is_an_artifact() -> None:
    """What an image is made of stands beside the text, and not among the words of a tool."""
    item = {"type": "image_generation_call", "id": "ig_1", "result": "iVBO"}
    assert events_of(event("response.output_item.done", item=item)) == [
        ToolCall(id="ig_1", name="image_generation"),
        ToolResult(id="ig_1", result=""),
        Artifact(name="image", media_type="image/png", data="iVBO"),
    ]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (event("response.failed", response={"error": {"code": "server_error", "message": "No"}}), Failed(message="No", code="server_error")),
        (event("error", code="rate_limit", message="Slow down"), Failed(message="Slow down", code="rate_limit")),
        (event("response.incomplete", response={"incomplete_details": {"reason": "max_output_tokens"}}), Done(reason="max_output_tokens")),
        (event("response.refusal.delta", delta="No."), Text(text="No.")),
        (event("response.reasoning_text.delta", delta="Hm"), Reasoning(text="Hm")),
    ],
)  # fmt: skip
def test_other_events(sent: Event, expected: AgentEvent) -> None:
    """Each end, and each kind of text."""
    assert events_of(sent)[-1] == expected


def test_a_response_that_was_not_streamed() -> None:
    """A JSON reply is the whole answer."""
    part = {"type": "output_text", "text": "a", "annotations": [{"type": "url_citation", "url": "https://a.example"}]}
    reply = {
        "id": "r",
        "output": [{"type": "reasoning", "summary": [{"text": "Hm"}]}, {"type": "message", "content": [part]}],
        "usage": USAGE,
    }
    known = fold(list(OpenAIResponses().decoder(ASK).whole(json.dumps(reply).encode())))
    assert (known.text, known.reasoning, known.usage.total_tokens, len(known.sources)) == ("a", "Hm", 7, 1)
    for body in (b"{}", b"[]", b"no"):
        with pytest.raises(ProtocolError):
            list(OpenAIResponses().decoder(ASK).whole(body))


def test_cut() -> None:
    """Without its end the stream was cut: the partial is kept, and nobody is asked twice."""
    with ScriptedServer(says(event_stream(text("a")))) as server:
        run = run_against(server.url, OpenAIResponses())
        assert len(server.requests) == 1
    assert (run.transcript.status, run.transcript.text) == ("failed", "a")
