"""The Chat Completions wire, by OpenAI's reference and the ways in which other servers differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from agent_magic._keys import Secret
from agent_magic._request import AgentRequest, Said
from agent_magic.errors import ConfigError, ProtocolError
from agent_magic.events import (
    AgentEvent,
    Done,
    Failed,
    Notice,
    Progress,
    Reasoning,
    ServerSentEvent,
    Source,
    Started,
    Text,
    ToolCall,
    Unknown,
    Usage,
)
from agent_magic.protocols.openai import OpenAI
from agent_magic.testing import ProtocolContract, ScriptedServer, fold, run_against, says

ASK = AgentRequest(prompt="Why?", base_url="https://api.openai.com/v1", agent="gpt-x")
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


FILTERED = Notice(message="The answer was cut short: a filter of the service's ended it (content_filter).")


def chunk(delta: Any = None, *, reason: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta or {}, "finish_reason": reason}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-x", "choices": [choice], **more}


def stream(*chunks: dict[str, Any] | str) -> bytes:
    said = (one if isinstance(one, str) else json.dumps(one) for one in chunks)
    return "".join(f"data: {one}\n\n" for one in said).encode()


def events_of(*chunks: dict[str, Any] | str) -> list[AgentEvent]:
    """What a decoder makes of `chunks`, without what was sent."""
    from msgspec.structs import replace

    decoder = OpenAI().decoder(ASK)
    sent = [ServerSentEvent("", one if isinstance(one, str) else json.dumps(one)) for one in chunks]
    events = [event for one in sent for event in decoder.decode(one)]
    return [replace(event, sent=None) for event in [*events, *decoder.closed(), *decoder.flush()]]


class TestContract(ProtocolContract):
    """The contract of every protocol, on a stream as OpenAI's reference has it."""

    protocol = OpenAI()
    recorded = stream(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Because é"}),
        chunk({"content": " 🌍 it is"}),
        chunk({"content": " so.\n\n"}),
        chunk(reason="stop"),
        {"id": "chatcmpl-1", "choices": [], "usage": USAGE},
        "[DONE]",
    )
    expected = "Because é 🌍 it is so.\n\n"


class TestBesideTheText(ProtocolContract):
    """The contract on a stream with thoughts, a call and sources, as servers that have them send them."""

    protocol = OpenAI()
    recorded = stream(
        chunk({"role": "assistant", "content": None, "reasoning_content": "Hm"}),
        chunk({"reasoning": ", so."}),
        chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": ""}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a": 1}'}}]}),
        chunk({"content": "So \ud83e"}),
        chunk({"content": "\uddec", "annotations": [{"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}]}),
        chunk(reason="stop", usage=USAGE),
    )  # fmt: skip
    expected = "So \N{DNA DOUBLE HELIX}"

    def _decode(self, sent: Sequence[ServerSentEvent]) -> list[AgentEvent]:
        decoder = self.protocol.decoder(self._request())
        events = [event for one in sent for event in decoder.decode(one)]
        return [*events, *decoder.closed(), *decoder.flush()]


class TestRequest:
    """What is sent."""

    def test_a_conversation(self) -> None:
        """The system text, what was said, the prompt; parameters are fields of the body."""
        from msgspec.structs import replace

        ask = replace(
            ASK,
            system="Be brief.",
            said=[Said("One?", "1.")],
            parameters={"temperature": 0, "stop": None},
            key=Secret("k"),
        )
        request = OpenAI().request(ask)
        assert (request.method, request.url) == ("POST", "https://api.openai.com/v1/chat/completions")
        assert str(request.headers["Authorization"]) == "Bearer ***"
        assert request.body == {
            "model": "gpt-x",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "One?"},
                {"role": "assistant", "content": "1."},
                {"role": "user", "content": "Why?"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0,
        }

    def test_a_server_that_knows_no_stream_options(self) -> None:
        """A parameter that is null is left out, this one too."""
        from msgspec.structs import replace

        request = OpenAI().request(replace(ASK, parameters={"stream_options": None}))
        assert request.body == {"model": "gpt-x", "messages": [{"role": "user", "content": "Why?"}], "stream": True}

    @pytest.mark.parametrize("field", ["messages", "model", "stream"])
    def test_own_fields_are_refused(self, field: str) -> None:
        """A field that the wire fills itself is no parameter."""
        from msgspec.structs import replace

        with pytest.raises(ConfigError, match=field):
            OpenAI().request(replace(ASK, parameters={field: 1}))


class TestDecoder:
    """What chunks mean."""

    @pytest.mark.parametrize(
        ("chunks", "expected"),
        [
            pytest.param([chunk({"role": "assistant", "content": None})], [Started(run_id="chatcmpl-1")], id="null"),
            pytest.param(
                [chunk({"reasoning_content": "Hm"}), chunk({"reasoning": "."}), chunk({"content": "So"})],
                [Started(run_id="chatcmpl-1"), Reasoning(text="Hm"), Reasoning(text="."), Text(text="So")],
                id="thinking under two names",
            ),
            pytest.param(
                [chunk({"content": "a"}, reason="stop", usage=USAGE)],
                [
                    Started(run_id="chatcmpl-1"),
                    Text(text="a"),
                    Text(text=""),
                    Usage(input_tokens=3, output_tokens=4, total_tokens=7, raw=USAGE),
                    Done(reason="stop"),
                ],
                id="usage in each chunk, and no [DONE]",
            ),
            pytest.param(
                [
                    chunk(
                        {"content": [{"type": "thinking", "thinking": [{"text": "Hm"}]}, {"type": "text", "text": "a"}]}
                    )
                ],
                [Started(run_id="chatcmpl-1"), Reasoning(text="Hm"), Text(text="a")],
                id="typed parts",
            ),
            pytest.param(
                [chunk({"refusal": "No."}), chunk(reason="content_filter"), "[DONE]"],
                [
                    Started(run_id="chatcmpl-1"),
                    Text(text="No."),
                    Text(text=""),
                    FILTERED,
                    Done(reason="content_filter"),
                ],
                id="a refusal",
            ),
            pytest.param(
                [chunk({"content": "a"}), {"error": {"message": "Overloaded", "code": 529}}],
                [Started(run_id="chatcmpl-1"), Text(text="a"), Failed(message="Overloaded", code="529")],
                id="an error in mid-stream",
            ),
            pytest.param(
                [{"error": "Out of memory"}], [Failed(message="Out of memory")], id="an error that is a string"
            ),
            pytest.param([{"object": "ping"}], [Started(), Unknown(name="", data='{"object": "ping"}')], id="unknown"),
            pytest.param(
                [
                    chunk(
                        {"annotations": [{"type": "url_citation", "url_citation": {"url": "https://a", "title": "A"}}]}
                    )
                ],
                [Started(run_id="chatcmpl-1"), Source(url="https://a", title="A")],
                id="a citation",
            ),
            pytest.param(
                [chunk({"content": "b"}, index=1), chunk({"content": "a"})],
                [Started(run_id="chatcmpl-1"), Text(text="b", item=1), Text(text="a")],
                id="two choices",
            ),
        ],
    )
    def test_chunks(self, chunks: list[Any], expected: list[AgentEvent]) -> None:
        """Each way in which servers differ gives the same events."""
        assert events_of(*chunks) == expected

    def test_a_tool_call_in_pieces(self) -> None:
        """It is told when it begins, and once more when its arguments are whole."""
        call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look_up", "arguments": ""}}
        pieces = [{"index": 0, "function": {"arguments": said}} for said in ('{"q":', ' "sky"}')]
        other = {"index": 1, "id": "c2", "function": {"name": "stop", "arguments": "{}"}}
        events = events_of(
            chunk({"tool_calls": [call]}),
            *(chunk({"tool_calls": [piece]}) for piece in pieces),
            chunk({"tool_calls": [other]}),
            chunk(reason="tool_calls"),
            "[DONE]",
        )
        assert events[1:] == [
            ToolCall(id="c1", name="look_up"),
            Progress(message="using look_up"),
            Progress(message="using look_up"),
            ToolCall(id="c2", name="stop"),
            ToolCall(id="c1", name="look_up", arguments='{"q": "sky"}'),
            ToolCall(id="c2", name="stop", arguments="{}"),
            Text(text=""),
            Notice(message="The model asks for tools to be called (tool_calls), and nobody here calls any."),
            Done(reason="tool_calls"),
        ]
        assert [call.arguments for call, _ in fold(events).tool_calls] == ['{"q": "sky"}', "{}"]

    def test_a_call_before_text(self) -> None:
        """It is whole when the text begins, and is told then; what comes of it later is told once more."""
        call = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}
        more = {"index": 0, "function": {"arguments": " "}}
        events = events_of(
            chunk({"tool_calls": [call]}), chunk({"content": "So."}), chunk({"tool_calls": [more]}), "[DONE]"
        )
        assert [event for event in events if isinstance(event, ToolCall | Text)] == [
            ToolCall(id="c1", name="f"),
            ToolCall(id="c1", name="f", arguments="{}"),
            Text(text="So."),
            ToolCall(id="c1", name="f", arguments="{} "),
        ]

    def test_half_a_character(self) -> None:
        """A surrogate pair that is cut between two chunks is one character; a half that stays alone is U+FFFD."""
        assert fold(events_of(chunk({"content": "\ud83c"}), chunk({"content": "\udf0d"}))).text == "🌍"
        assert fold(events_of(chunk({"content": "\ud83c"}), chunk(reason="stop"))).text == "\ufffd"

    def test_a_reply_that_was_not_streamed(self) -> None:
        """A JSON reply is the whole answer."""
        reply = {
            "id": "c",
            "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}],
            "usage": USAGE,
        }
        events = list(OpenAI().decoder(ASK).whole(json.dumps(reply).encode()))
        assert (fold(events).text, fold(events).usage.total_tokens, type(events[-1])) == ("a", 7, Done)
        for body in (b"{}", b"[]", b"no"):
            with pytest.raises(ProtocolError):
                list(OpenAI().decoder(ASK).whole(body))


class TestEnds:
    """A stream's end over a real socket."""

    @pytest.mark.parametrize("end", [b"", stream("[DONE]")], ids=["closed", "DONE"])
    def test_complete(self, end: bytes) -> None:
        """With a reason for the end the answer is complete, whether or not ``[DONE]`` comes behind it."""
        with ScriptedServer(says(stream(chunk({"content": "a"}), chunk(reason="stop")) + end)) as server:
            run = run_against(server.url, OpenAI())
        assert (run.transcript.status, run.transcript.text, run.transcript.reason) == ("done", "a", "stop")

    def test_cut(self) -> None:
        """Without one it was cut: the partial is kept, and nobody is asked twice."""
        with ScriptedServer(says(stream(chunk({"content": "a"})))) as server:
            run = run_against(server.url, OpenAI())
            assert len(server.requests) == 1
        assert (run.transcript.status, run.transcript.text) == ("failed", "a")
        assert "cannot be taken up again" in str(run.transcript.error)


class TestOthersWays:
    """Shapes that are not OpenAI's own."""

    def test_calls_without_an_index(self) -> None:
        """Another id is another call; a name that is told again is the same name."""
        first = {"id": "a1", "function": {"name": "weather", "arguments": '{"c":1}'}}
        second = {"id": "a2", "function": {"name": "time", "arguments": '{"t":2}'}}
        again = {"id": "a2", "function": {"name": "time", "arguments": ""}}
        events = events_of(
            *(chunk({"tool_calls": [call]}) for call in (first, second, again)), chunk(reason="tool_calls")
        )
        assert [(call.id, call.name, call.arguments) for call, _ in fold(events).tool_calls] == [
            ("a1", "weather", '{"c":1}'),
            ("a2", "time", '{"t":2}'),
        ]

    def test_thinking_beside_a_null(self) -> None:
        """Whichever of the two names has words."""
        assert fold(events_of(chunk({"reasoning_content": None, "reasoning": "Hm"}))).reasoning == "Hm"

    def test_what_is_not_read_is_kept(self) -> None:
        """A delta of something else is kept as it came."""
        kept = [one for one in events_of(chunk({"audio": {"data": "…"}})) if isinstance(one, Unknown)]
        assert len(kept) == 1

    def test_pages_beside_the_choices(self) -> None:
        """A list of addresses is a list of sources."""
        events = events_of(chunk({"content": "a"}, citations=["https://a.example", 5]))
        assert [one.url for one in events if isinstance(one, Source)] == ["https://a.example"]

    def test_a_flat_error(self) -> None:
        """As vLLM has it."""
        assert events_of({"object": "error", "message": "No", "code": 400}, "[DONE]")[0] == Failed(
            message="No", code="400"
        )
        ended = events_of(chunk({"content": "a"}, reason="error"))
        assert [type(one).__name__ for one in ended[:3]] == ["Started", "Text", "Failed"]

    def test_two_choices_of_which_one_is_cut(self) -> None:
        """The answer is complete when each of its choices is."""
        one, two = chunk({"content": "A"}, reason="stop"), chunk({"content": "B is not fin"}, index=1)
        assert not any(isinstance(event, Done) for event in events_of(one, two))
        assert isinstance(events_of(one, two, chunk(index=1, reason="stop"))[-1], Done)
