"""The AG-UI wire, against the models and the encoder of ag-ui-protocol."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ag_ui.core import (
    ActivityDeltaEvent,
    ActivitySnapshotEvent,
    AssistantMessage,
    BaseEvent,
    CustomEvent,
    EventType,
    FunctionCall,
    Interrupt,
    MessagesSnapshotEvent,
    RawEvent,
    ReasoningEncryptedValueEvent,
    ReasoningEndEvent,
    ReasoningMessage,
    ReasoningMessageChunkEvent,
    ReasoningMessageContentEvent,
    ReasoningMessageEndEvent,
    ReasoningMessageStartEvent,
    ReasoningStartEvent,
    RunAgentInput,
    RunErrorEvent,
    RunFinishedCancelledOutcome,
    RunFinishedEvent,
    RunFinishedInterruptOutcome,
    RunFinishedSuccessOutcome,
    RunStartedEvent,
    StateDeltaEvent,
    StateSnapshotEvent,
    StepFinishedEvent,
    StepStartedEvent,
    SubagentErrorEvent,
    SubagentFinishedEvent,
    SubagentStartedEvent,
    TextMessageChunkEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    TextPart,
    TokenUsage,
    ToolCallArgsEvent,
    ToolCallChunkEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
    ToolMessage,
    UserMessage,
)
from ag_ui.core import ToolCall as MadeCall
from msgspec.structs import replace

from agent_magic._agent import Agent
from agent_magic._keys import Secret
from agent_magic._request import AgentRequest, Earlier, Said
from agent_magic._sessions import Conversation
from agent_magic.errors import AgentError, ConfigError, ProtocolError
from agent_magic.events import (
    AgentEvent,
    Artifact,
    Done,
    Failed,
    Notice,
    Progress,
    Reasoning,
    Replace,
    ServerSentEvent,
    Text,
    ToolCall,
    ToolResult,
    Unknown,
    Usage,
)
from agent_magic.protocols.ag_ui import AGUI
from agent_magic.testing import (
    ProtocolContract,
    ScriptedServer,
    fold,
    refuses,
    run_against,
    says,
    split_events,
)
from tests.protocols._ag_ui_peer import ANSWER, Peer, answer, encoded, words

ASK = AgentRequest(prompt="Why?", base_url="https://agents.example/sky", agent="sky")
INPUT = RunAgentInput(thread_id="t", run_id="r", messages=[])
RECORDED = encoded(answer(INPUT))
START = RunStartedEvent(thread_id="t", run_id="r")
END = RunFinishedEvent(thread_id="t", run_id="r")
TAPES = Path(__file__).parent / "tapes" / "ag-ui"


def events_of(*sent: BaseEvent | dict[str, Any], ask: AgentRequest = ASK) -> list[AgentEvent]:
    """What a decoder makes of the events, without what was sent."""
    decoder = AGUI().decoder(ask)
    said = [split_events(encoded([one]))[0].data if isinstance(one, BaseEvent) else json.dumps(one) for one in sent]
    found = [one for data in said for one in decoder.decode(ServerSentEvent("message", data))]
    return [replace(one, sent=None) for one in [*found, *decoder.closed(), *decoder.flush()]]


def told(*sent: BaseEvent | dict[str, Any], ask: AgentRequest = ASK) -> list[AgentEvent]:
    """The same, without the words on what goes on."""
    return [one for one in events_of(*sent, ask=ask) if not isinstance(one, Progress)]


class TestContract(ProtocolContract):
    """The contract of every protocol."""

    protocol = AGUI()
    recorded = RECORDED
    expected = ANSWER


# One event of each type, with all that it must have; a patch is empty where it may be.
EACH: dict[EventType, BaseEvent] = {
    EventType(one.type): one
    for one in (
        TextMessageStartEvent(message_id="m"),
        TextMessageContentEvent(message_id="m", delta="a"),
        TextMessageEndEvent(message_id="m"),
        TextMessageChunkEvent(message_id="m", delta="a"),
        ToolCallStartEvent(tool_call_id="c", tool_call_name="n"),
        ToolCallArgsEvent(tool_call_id="c", delta="{}"),
        ToolCallEndEvent(tool_call_id="c"),
        ToolCallChunkEvent(tool_call_id="c", tool_call_name="n", delta="{}"),
        ToolCallResultEvent(message_id="t", tool_call_id="c", content="1"),
        StateSnapshotEvent(snapshot={"a": 1}),
        StateDeltaEvent(delta=[]),
        MessagesSnapshotEvent(messages=[UserMessage(id="u", content="Why?"), AssistantMessage(id="a", content="So.")]),
        ActivitySnapshotEvent(message_id="a", activity_type="PLAN", content={}),
        ActivityDeltaEvent(message_id="a", activity_type="PLAN", patch=[]),
        RawEvent(event={"a": 1}),
        CustomEvent(name="mood", value=1),
        START,
        END,
        RunErrorEvent(message="No."),
        StepStartedEvent(step_name="s"),
        StepFinishedEvent(step_name="s"),
        ReasoningStartEvent(message_id="r"),
        ReasoningMessageStartEvent(message_id="r"),
        ReasoningMessageContentEvent(message_id="r", delta="Hm."),
        ReasoningMessageEndEvent(message_id="r"),
        ReasoningMessageChunkEvent(message_id="r", delta="Hm."),
        ReasoningEndEvent(message_id="r"),
        ReasoningEncryptedValueEvent(subtype="message", entity_id="r", encrypted_value="EqQB"),
        SubagentStartedEvent(subagent_run_id="s", name="helper"),
        SubagentFinishedEvent(subagent_run_id="s"),
        SubagentErrorEvent(subagent_run_id="s", message="No."),
    )
}
# What belongs to an application's front end: kept as it came, with nothing to say in a notebook.
KEPT = {EventType.STATE_SNAPSHOT, EventType.STATE_DELTA, EventType.RAW, EventType.CUSTOM}


class TestEveryType:
    """Each type of event that the package knows."""

    @pytest.mark.parametrize("kind", list(EventType), ids=str)
    def test_known_or_kept(self, kind: EventType) -> None:
        """It has a meaning here, or is kept; what was sent stands beside it, verbatim."""
        (sent,) = split_events(encoded([EACH[kind]]))
        events = list(AGUI().decoder(ASK).decode(sent))
        assert {one.sent for one in events} == {sent}
        if kind in KEPT:
            assert events == [Unknown(name=kind.value, data=sent.data, sent=sent)]
        else:
            assert not any(isinstance(one, Unknown) for one in events)

    @pytest.mark.parametrize("kind", list(EventType), ids=str)
    def test_in_snake_case(self, kind: EventType) -> None:
        """Names as Python writes them mean the same."""
        plain = EACH[kind].model_dump(by_alias=False, mode="json")
        assert (
            events_of(plain)[:1]
            == [
                replace(one, data=json.dumps(plain)) if isinstance(one, Unknown) else one
                for one in events_of(EACH[kind])
            ][:1]
        )

    @pytest.mark.parametrize("name", ["STATE_OF_MIND", "TEXT_MESSAGE_MOOD", "TOOL_CALL_MOOD", "REASONING_MOOD"])
    def test_what_is_yet_to_come(self, name: str) -> None:
        """A type that nobody knows today is kept, whatever its name begins with."""
        assert events_of({"type": name, "a": 1}) == [Unknown(name=name, data=json.dumps({"type": name, "a": 1}))]

    def test_the_names_of_before(self) -> None:
        """``THINKING_*``, without ids, are thoughts; each message of them is a paragraph."""
        begin, end = {"type": "THINKING_TEXT_MESSAGE_START"}, {"type": "THINKING_TEXT_MESSAGE_END"}
        events = events_of(
            {"type": "THINKING_START", "title": "Weighing"},
            begin,
            {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "Hm."},
            end,
            begin,
            {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "So."},
            end,
            {"type": "THINKING_END"},
        )
        assert (events[0], fold(events).reasoning) == (Progress(message="Weighing"), "Hm.\n\nSo.")


class TestRequest:
    """What is sent."""

    def _input(self, **asked: Any) -> RunAgentInput:
        """The body, as the package reads it; nothing in it is beyond the models."""
        found = RunAgentInput.model_validate_json(AGUI().request(replace(ASK, **asked)).encoded_body())
        assert found.model_extra == {}
        return found

    def test_a_question(self) -> None:
        """All fields that servers of 0.x want are there, and none that they do not know."""
        request = AGUI().request(ASK)
        assert (request.method, request.url) == ("POST", "https://agents.example/sky")
        assert request.headers == {"Accept": "text/event-stream"}
        assert sorted(request.body or ()) == [
            "context",
            "forwardedProps",
            "messages",
            "runId",
            "state",
            "threadId",
            "tools",
        ]
        found = self._input()
        assert [(one.role, one.content) for one in found.messages] == [("user", "Why?")]
        assert (found.state, found.tools, found.context, found.forwarded_props) == ({}, [], [], {})
        assert found.thread_id
        assert found.run_id != self._input().run_id

    def test_the_address_is_the_whole_endpoint(self) -> None:
        """Not a slash is changed: to a server it is another place."""
        url = AGUI().request(replace(ASK, base_url="https://agents.example/sky/")).url
        assert url == "https://agents.example/sky/"
        with pytest.raises(ConfigError, match="not an http or https URL"):
            AGUI().request(replace(ASK, base_url="agents.example/sky"))

    def test_a_conversation(self) -> None:
        """The thread stays, what was said goes along, and each message keeps its id from turn to turn."""
        system = {"session_id": "t", "system": "Be brief."}
        first = self._input(prompt="One?", **system)
        second = self._input(said=[Said("One?", "1.")], prompt="Two?", **system)
        assert [(one.role, one.content) for one in second.messages] == [
            ("system", "Be brief."),
            ("user", "One?"),
            ("assistant", "1."),
            ("user", "Two?"),
        ]
        assert (first.thread_id, second.thread_id) == ("t", "t")
        assert first.messages == second.messages[:2]
        assert len({one.id for one in second.messages}) == 4
        assert {one.id for one in self._input(prompt="One?").messages}.isdisjoint({one.id for one in first.messages})

    def test_parameters(self) -> None:
        """They are the application's own, but for those that are fields of the input."""
        tool = {"name": "look", "description": "Looks."}
        resume = [{"interruptId": "i", "status": "resolved", "payload": True}]
        found = self._input(
            parameters={
                "model": "m", "tools": [tool], "context": [{"description": "d", "value": "v"}], "state": {"n": 1},
                "resume": resume, "protocolVersion": "1.0", "forwardedProps": {"user": "u", "model": "other"},
            }
        )  # fmt: skip
        assert found.forwarded_props == {"user": "u", "model": "m"}
        assert [one.name for one in found.tools or []] == ["look"]
        assert [one.value for one in found.context or []] == ["v"]
        assert [one.interrupt_id for one in found.resume or []] == ["i"]
        assert (found.state, found.protocol_version) == ({"n": 1}, "1.0")
        assert self._input(parameters={"forwardedProps": ["as it is"]}).forwarded_props == ["as it is"]

    @pytest.mark.parametrize("field", ["messages", "threadId", "thread_id", "runId", "run_id"])
    def test_own_fields_are_refused(self, field: str) -> None:
        """A field that the wire fills itself is no parameter."""
        with pytest.raises(ConfigError, match=field):
            AGUI().request(replace(ASK, parameters={field: 1}))

    def test_a_key(self) -> None:
        """It goes along as a bearer's where there is one."""
        assert str(AGUI().request(replace(ASK, key=Secret("k"))).headers["Authorization"]) == "Bearer ***"


class TestMessages:
    """The answer: messages, by their ids."""

    def test_interleaved(self) -> None:
        """Each piece belongs to its message; messages stand in the order they began, a paragraph each."""
        events = told(
            TextMessageStartEvent(message_id="a"),
            TextMessageStartEvent(message_id="b", role="assistant"),
            TextMessageContentEvent(message_id="b", delta="Two"),
            TextMessageContentEvent(message_id="a", delta="One"),
            TextMessageContentEvent(message_id="b", delta="."),
        )
        assert events == [
            Text(text="\n\nTwo", item=1),
            Text(text="One", item=0),
            Text(text=".", item=1),
        ]
        assert fold(events).text == "One\n\nTwo."

    def test_messages_without_words(self) -> None:
        """They leave no trace: a message that only called a tool, and a piece that is empty."""
        assert fold(events_of(*words("a"), *words("b", "", "So."), *words("c", ""))).text == "So."

    def test_chunks(self) -> None:
        """A chunk without an id goes on with the message before."""
        events = told(
            TextMessageChunkEvent(message_id="a", role="assistant", delta="One"),
            TextMessageChunkEvent(delta="."),
            TextMessageChunkEvent(message_id="b", delta="Two."),
            ReasoningMessageChunkEvent(message_id="r", delta="H"),
            ReasoningMessageChunkEvent(delta="m."),
            TextMessageChunkEvent(),
        )
        assert (fold(events).text, fold(events).reasoning) == ("One.\n\nTwo.", "Hm.")

    def test_halves_of_characters(self) -> None:
        """A character that was cut in two is one again; half of one at a message's end is replaced."""
        half = [{"type": "TEXT_MESSAGE_CONTENT", "messageId": "a", "delta": piece} for piece in ("\ud83c", "\udf0d")]
        ended = {"type": "TEXT_MESSAGE_END", "messageId": "a"}
        assert fold(events_of(*half, half[0], ended)).text == "🌍\ufffd"

    def test_words_of_others(self) -> None:
        """A message of the user's or the system's is no part of the answer, and is kept."""
        events = told(
            TextMessageStartEvent(message_id="u", role="user"),
            TextMessageContentEvent(message_id="u", delta="Why?"),
            *words("a", "So."),
        )
        assert [type(one) for one in events] == [Unknown, Unknown, Text]
        assert fold(events).text == "So."

    def test_a_subagent(self) -> None:
        """What it says is part of the answer; that it failed is said, and ends nothing."""
        events = events_of(
            SubagentStartedEvent(subagent_run_id="s", name="librarian"),
            TextMessageContentEvent(message_id="a", delta="Found.", subagent_run_id="s"),
            SubagentErrorEvent(subagent_run_id="s", message="Out of books"),
            END,
        )
        assert events == [
            Progress(message="asking librarian"),
            Text(text="Found."),
            Notice(message="A subagent failed: Out of books."),
            Done(),
        ]

    def test_a_piece_without_text(self) -> None:
        """It breaks the protocol."""
        with pytest.raises(ProtocolError, match="without text"):
            events_of({"type": "TEXT_MESSAGE_CONTENT", "messageId": "a"})
        with pytest.raises(ProtocolError, match="not JSON"):
            list(AGUI().decoder(ASK).decode(ServerSentEvent("message", "{")))


class TestSnapshots:
    """``MESSAGES_SNAPSHOT``: the whole conversation, of which this run is the end."""

    def _snapshot(self, *messages: Any) -> MessagesSnapshotEvent:
        asked: list[Any] = [
            UserMessage(id="u0", content="One?"),
            AssistantMessage(id="a0", content="1."),
            UserMessage(id="u", content="Why?"),
        ]
        return MessagesSnapshotEvent(messages=[*asked, *messages])

    def test_a_correction(self) -> None:
        """A message of this run is what the snapshot says; what says the same says nothing."""
        streamed = [*words("a", "Wrong."), *words("b", "Right.")]
        events = told(
            *streamed,
            self._snapshot(AssistantMessage(id="a", content="Better."), AssistantMessage(id="b", content="Fine.")),
        )
        assert events[2:] == [Replace(text="Better."), Replace(text="\n\nFine.", item=1)]
        assert fold(events).text == "Better.\n\nFine."
        same = self._snapshot(AssistantMessage(id="a", content="Wrong."), AssistantMessage(id="b", content="Right."))
        assert fold(events_of(*streamed, same)).text == "Wrong.\n\nRight."

    def test_what_was_not_streamed(self) -> None:
        """What stands behind the question is this run's: words, thoughts, calls and what they gave."""
        call = MadeCall(id="c", function=FunctionCall(name="search", arguments='{"q": 1}'))
        snapshot = self._snapshot(
            ReasoningMessage(id="r", content="Hm."),
            AssistantMessage(id="a", tool_calls=[call]),
            ToolMessage(id="t", tool_call_id="c", content=[TextPart(text="found")]),
            AssistantMessage(id="b", content="So."),
        )
        assert told(snapshot, snapshot)[:4] == [
            Reasoning(text="Hm."),
            ToolCall(id="c", name="search", arguments='{"q": 1}'),
            ToolResult(id="c", result="found"),
            Text(text="So."),
        ]
        assert fold(events_of(snapshot, snapshot)).text == "So."

    def test_named_anew(self) -> None:
        """A message that has another id when it is complete is not said twice."""
        assert (
            fold(events_of(*words("a", "So."), self._snapshot(AssistantMessage(id="b", content="So.")))).text == "So."
        )

    @pytest.mark.parametrize(
        ("streamed", "whole", "answer"),
        [
            (["Hello world.\n"], ["Hello world."], "Hello world.\n"),
            (["One.", "Two."], ["One.\n\nTwo."], "One.\n\nTwo."),
            (["One.\n\nTwo."], ["One.", "Two."], "One.\n\nTwo."),
            (["Aside.", "One.", "Two."], ["One. Two."], "Aside.\n\nOne.\n\nTwo."),
            (["One.", "Two."], ["One.\n\nTwo.", "Three."], "One.\n\nTwo.\n\nThree."),
            (["Hello wor"], ["Hello world."], "Hello world."),
            (["Done.", "Done."], ["Done.", "Done.", "Done."], "Done.\n\nDone.\n\nDone."),
            (["One."], ["One", "Two"], "One.\n\nOne\n\nTwo"),
        ],
    )
    def test_named_anew_in_other_pieces(self, streamed: list[str], whole: list[str], answer: str) -> None:
        """White space, and where messages begin, make no news of what was streamed; a second snapshot makes none."""
        said = [event for place, piece in enumerate(streamed) for event in words(f"run-{place}", piece)]
        snapshot = self._snapshot(*(AssistantMessage(id=f"lc-{place}", content=one) for place, one in enumerate(whole)))
        assert fold(events_of(*said, snapshot, END)).text == answer
        assert fold(events_of(*said, snapshot, snapshot, END)).text == answer

    def test_it_goes_on_under_the_new_name(self) -> None:
        """What follows under the name that a snapshot gave belongs to the same message."""
        snapshot = self._snapshot(AssistantMessage(id="b", content="Hello"))
        more = TextMessageContentEvent(message_id="b", delta=" world.")
        corrected = self._snapshot(AssistantMessage(id="b", content="Hello, world."))
        assert fold(events_of(*words("a", "Hello "), snapshot, more)).text == "Hello  world."
        assert fold(events_of(*words("a", "Hello "), snapshot, more, corrected)).text == "Hello, world."

    @pytest.mark.parametrize("streamed", [[], words("a", "Done.")])
    def test_the_same_words_twice(self, streamed: list[BaseEvent]) -> None:
        """Two messages of a snapshot that say the same are two."""
        done: list[Any] = [AssistantMessage(id=identity, content="Done.") for identity in ("a", "b")]
        assert fold(events_of(*streamed, self._snapshot(*done), END)).text == "Done.\n\nDone."

    def test_without_ids(self) -> None:
        """Messages that have none are messages of their own."""
        said = [{"role": "user", "content": "Why?"}, *({"role": "assistant", "content": one} for one in ("1.", "2."))]
        snapshot = {"type": "MESSAGES_SNAPSHOT", "messages": said}
        assert fold(events_of(snapshot, snapshot, END)).text == "1.\n\n2."

    @pytest.mark.parametrize(
        ("streamed", "whole", "thought"),
        [
            ({"r": "I th"}, {"r": "I think so."}, "I think so."),
            ({"r": "I th"}, {"s": "I think so."}, "I think so."),
            ({"r": "Hm."}, {"r": "Else."}, "Hm."),
            ({"r": "Hm.\n"}, {"r": "Hm."}, "Hm.\n"),
            ({"r": ""}, {"r": "Hm."}, "Hm."),
            ({"r": "I th", "s": "So."}, {"r": "I think.", "s": "So."}, "I th\n\nSo.\n\nI think."),
        ],
    )
    def test_a_thought_that_goes_on(self, streamed: dict[str, str], whole: dict[str, str], thought: str) -> None:
        """The rest of it is told; it cannot be taken back, so that another is not."""
        pieces = [TextMessageStartEvent(message_id="a")] + [
            {"type": "REASONING_MESSAGE_CONTENT", "messageId": identity, "delta": piece}
            for identity, piece in streamed.items()
        ]
        snapshot = self._snapshot(*(ReasoningMessage(id=identity, content=one) for identity, one in whole.items()))
        assert fold(events_of(*pieces, snapshot, snapshot, END)).reasoning == thought

    @pytest.mark.parametrize("thread", ["t", None])
    def test_the_question_by_its_id(self, thread: str | None) -> None:
        """The id that went along is known again, whatever the server has made of the words, and where it stands."""
        ask = replace(ASK, session_id=thread)
        body = json.loads(AGUI().request(ask).encoded_body())
        started = RunStartedEvent(thread_id=body["threadId"], run_id="r")
        asked = UserMessage(id=body["messages"][0]["id"], content="The user asks: Why?")
        said: list[Any] = [asked, AssistantMessage(id="a", content="So."), UserMessage(id="x", content="Go on.")]
        snapshot = MessagesSnapshotEvent(messages=[*said, AssistantMessage(id="b", content="That is it.")])
        events = told(started, snapshot, ask=ask)
        assert events[1:] == [Text(text="So."), Text(text="\n\nThat is it.", item=1)]

    def test_the_question_by_its_words(self) -> None:
        """White space around it is no other question."""
        said: list[Any] = [
            UserMessage(id="u", content=[TextPart(text=" Why?\n")]),
            AssistantMessage(id="a", content="So."),
        ]
        assert told(MessagesSnapshotEvent(messages=said)) == [Text(text="So.")]

    def test_a_server_that_cuts_off_old_turns(self) -> None:
        """Fewer questions than were asked are no reason to leave the last one's answer out."""
        ask = replace(ASK, said=[Said("One?", "1."), Said("Why?", "Because.")])
        said: list[Any] = [UserMessage(id="u", content="Why?"), AssistantMessage(id="a", content="As I said.")]
        assert told(MessagesSnapshotEvent(messages=said), ask=ask) == [Text(text="As I said.")]

    def test_what_only_a_snapshot_has(self) -> None:
        """Without the question in it, what no earlier turn has said is the answer, where the run ends without another."""
        ask = replace(ASK, said=[Said("One?", "1.", [{"id": "a0", "role": "assistant", "content": "1."}])])
        said: list[Any] = [
            UserMessage(id="u", content="(the question in other words)"),
            AssistantMessage(id="a0", content="1, corrected."),
            AssistantMessage(id="x", content="1."),
            AssistantMessage(id="a", content="So."),
        ]
        snapshot = MessagesSnapshotEvent(messages=said)
        assert told(snapshot, END, ask=ask)[1:] == [Text(text="So."), Done()]
        assert fold(events_of(snapshot, *words("b", "Else."), END, ask=ask)).text == "Else."
        more = MessagesSnapshotEvent(messages=[*said, AssistantMessage(id="b", content="Else.")])
        assert fold(events_of(*words("b", "El"), more, END, ask=ask)).text == "Else.\n\nSo."

    @pytest.mark.parametrize("value", [None, 1, [1], {"a": 1}, "x", "\ud83c"])
    def test_whatever_is_in_it(self, value: Any) -> None:
        """Nothing in a snapshot raises: fields of the wrong kind are none."""
        ask = replace(
            ASK, session_id="t", said=[Said("One?", "1.", [{"id": "a", "role": "assistant", "content": "1."}])]
        )
        odd = [
            {"role": role, "id": value, "content": content, "toolCalls": [value, {"id": value}], "toolCallId": value}
            for role in ("user", "assistant", "reasoning", "tool", value)
            for content in (value, "Why?")
        ]
        for messages in (odd, odd[1:], odd[2:], [value], value):
            snapshot = {"type": "MESSAGES_SNAPSHOT", "messages": messages}
            assert isinstance(events_of(*words("x", "So."), snapshot, snapshot, END, ask=ask)[-1], Done)
            assert isinstance(events_of(snapshot, END, ask=ask)[-1], Done)

    def test_no_answer_in_a_snapshot(self) -> None:
        """That nothing in it is new is said; a run without words and without a snapshot of any says nothing."""
        ask = replace(ASK, said=[Said("Why?", "Because.")])
        before: list[Any] = [UserMessage(id="u", content="Why?"), AssistantMessage(id="a", content="Because.")]
        _, notice, done = told(MessagesSnapshotEvent(messages=before), END, ask=ask)
        assert (notice, done) == (
            Notice(
                message="The server told no answer of its own to this question: its copy of the conversation ends "
                "with what was said before. Ask again in a new session if the answer is missing."
            ),
            Done(),
        )
        assert told(MessagesSnapshotEvent(messages=before[:1]), END, ask=ask)[1:] == [Done()]

    @pytest.mark.parametrize("prompt", ["Why?", "Else?"])
    def test_earlier_turns(self, prompt: str) -> None:
        """They are no part of this answer, also where the question is not yet in the snapshot, or is one again."""
        before: list[Any] = [UserMessage(id="u", content="Why?"), AssistantMessage(id="a", content="Because.")]
        ask = replace(ASK, prompt=prompt, said=[Said("Why?", "Because.")])
        (kept,) = told(MessagesSnapshotEvent(messages=before), ask=ask)
        assert isinstance(kept, Unknown)


class TestHistory:
    """What goes back of an answer, in the session's next turn."""

    def _messages(self, *sent: BaseEvent | dict[str, Any]) -> list[Any]:
        """As the package reads them, in a request."""
        decoder = AGUI().decoder(ASK)
        said = [split_events(encoded([one]))[0].data if isinstance(one, BaseEvent) else json.dumps(one) for one in sent]
        events = [event for data in said for event in decoder.decode(ServerSentEvent("message", data))]
        turn = Said("One?", "1.", AGUI().messages([*events, *decoder.flush()]))
        body = AGUI().request(replace(ASK, said=[turn])).encoded_body()
        return RunAgentInput.model_validate_json(body).messages[1:-1]

    def test_its_messages(self) -> None:
        """They have the server's ids, and so have calls and what they gave; halves of characters are whole."""
        call = MadeCall(id="c1", function=FunctionCall(name="search", arguments='{"q": "sky"}'))
        first = AssistantMessage(id="m1", content="Because é 🌍 so.", tool_calls=[call])
        tool = ToolMessage(id="t1", tool_call_id="c1", content="Rayleigh")
        assert self._messages(*answer(INPUT)) == [first, tool, AssistantMessage(id="m2", content="See **Rayleigh**.")]
        half = [{"type": "TEXT_MESSAGE_CHUNK", "message_id": "a", "delta": piece} for piece in ("\ud83c", "\udf0d")]
        assert self._messages(*half) == [AssistantMessage(id="a", content="🌍")]

    def test_what_does_not_go_back(self) -> None:
        """Calls that nobody answered, thoughts, a message of others, and what stands for nothing."""
        events = [
            *words("a", "So."),
            *words("b"),
            TextMessageStartEvent(message_id="u", role="user"),
            EACH[EventType.REASONING_MESSAGE_CONTENT],
            ToolCallChunkEvent(tool_call_id="c", tool_call_name="n", delta="{}", parent_message_id="a"),
            ToolCallChunkEvent(tool_call_id="d", tool_call_name="n", delta="{}"),
        ]
        assert self._messages(*events) == [AssistantMessage(id="a", content="So.")]

    def test_a_snapshot_knows_better(self) -> None:
        """Where it has a message of this run, what stands behind the question is the run."""
        call = MadeCall(id="c", function=FunctionCall(name="n", arguments="{}"))
        own: list[Any] = [
            AssistantMessage(id="a", content="Better.", tool_calls=[call]),
            ToolMessage(id="t", tool_call_id="c", content=""),
        ]
        before: list[Any] = [AssistantMessage(id="z", content="Before."), UserMessage(id="u", content="Why?")]
        thought = ReasoningMessage(id="r", content="Hm.")
        snapshot = MessagesSnapshotEvent(messages=[*before, thought, *own])
        assert self._messages(*words("a", "Wrong."), snapshot) == own
        assert self._messages(*words("b", "Else."), snapshot) == [AssistantMessage(id="b", content="Else.")]

    def test_it_goes_on_behind_a_snapshot(self) -> None:
        """Pieces that come after it are added to what it says."""
        snapshot = MessagesSnapshotEvent(
            messages=[UserMessage(id="u", content="Why?"), AssistantMessage(id="a", content="So")]
        )
        more = TextMessageContentEvent(message_id="a", delta=" it is.")
        assert self._messages(*words("a", "So"), snapshot, more) == [AssistantMessage(id="a", content="So it is.")]

    def test_put_together_once(self, peer: Peer) -> None:
        """A turn's messages are kept for all turns behind it, as soon as its run is over."""
        talk, agent = Conversation("talk"), Agent(protocol="ag-ui", base_url=peer.url)
        place = talk.place(agent, "a")
        result, _ = agent.begin("Why?", earlier=place.earlier)
        talk.put(place, agent, "a", result)
        result.wait()
        first, second = (talk.place(agent, cell).earlier.said[0] for cell in ("b", "c"))
        assert second is first
        assert [message["id"] for message in first.messages] == ["m1", "t1", "m2"]

    def test_an_answer_without_messages(self) -> None:
        """What came as a result, or in parts of a key, goes back as its words."""
        (said,) = self._messages(START, RunFinishedEvent(thread_id="t", run_id="r", result="So."))
        assert (said.role, said.content) == ("assistant", "1.")
        assert AGUI().messages([Text(text="So.")]) == []

    def test_whatever_was_sent(self) -> None:
        """Nothing in it raises: events of every kind, with nothing in them or the wrong things."""
        odd = [
            {
                "type": kind.value,
                "content": value,
                "delta": value,
                "messages": [value, {"role": "tool", "id": "x", "toolCalls": value}],
                "toolCallId": value,
            }
            for kind in EventType
            for value in (None, 1, [1], {"a": 1}, "x", "\ud83c")
        ]
        sent = [
            ServerSentEvent("message", json.dumps(one)) for one in [*odd, *({"type": kind.value} for kind in EventType)]
        ]
        AGUI().messages([Unknown(name="", data="", sent=one) for one in [*sent, ServerSentEvent("message", "{")]])


class TestTools:
    """Calls, by their ids."""

    def test_in_parallel(self) -> None:
        """Arguments go to the call that they belong to, and so does what a call gave."""
        events = told(
            ToolCallStartEvent(tool_call_id="a", tool_call_name="look"),
            ToolCallStartEvent(tool_call_id="b", tool_call_name="hear"),
            ToolCallArgsEvent(tool_call_id="b", delta="[2"),
            ToolCallArgsEvent(tool_call_id="a", delta="[1]"),
            ToolCallArgsEvent(tool_call_id="b", delta="]"),
            ToolCallEndEvent(tool_call_id="a"),
            ToolCallResultEvent(message_id="m", tool_call_id="b", content="two"),
            ToolCallEndEvent(tool_call_id="b"),
            ToolCallResultEvent(message_id="n", tool_call_id="a", content="one"),
        )
        assert events == [
            ToolCall(id="a", name="look"),
            ToolCall(id="b", name="hear"),
            ToolCall(id="a", name="look", arguments="[1]"),
            ToolCall(id="b", name="hear", arguments="[2]"),
            ToolResult(id="b", result="two"),
            ToolResult(id="a", result="one"),
        ]
        assert fold(events).tool_calls == [(events[2], events[5]), (events[3], events[4])]

    def test_chunks(self) -> None:
        """A call in chunks is complete when something else is said."""
        events = told(
            ToolCallChunkEvent(tool_call_id="a", tool_call_name="look", delta="[1"),
            ToolCallChunkEvent(delta="]"),
            ToolCallChunkEvent(tool_call_id="b", tool_call_name="hear", delta="[2]"),
            TextMessageChunkEvent(message_id="m", delta="So."),
        )
        assert events == [
            ToolCall(id="a", name="look"),
            ToolCall(id="a", name="look", arguments="[1]"),
            ToolCall(id="b", name="hear"),
            ToolCall(id="b", name="hear", arguments="[2]"),
            Text(text="So."),
        ]

    def test_what_a_tool_gave(self) -> None:
        """Parts that are not all text are written as they came."""
        image = {"type": "image", "source": {"type": "url", "value": "https://a.example/b.png"}}
        result = {"type": "TOOL_CALL_RESULT", "toolCallId": "a", "content": [{"type": "text", "text": "See"}, image]}
        assert told(result)[-1] == ToolResult(id="a", result=json.dumps(result["content"]))

    def test_cut_off(self) -> None:
        """Arguments that did not end are kept as far as they came."""
        events = told(EACH[EventType.TOOL_CALL_START], ToolCallArgsEvent(tool_call_id="c", delta="[1"))
        assert events[-1] == ToolCall(id="c", name="n", arguments="[1")


class TestEnds:
    """How a run ends."""

    def _ended(self, outcome: Any, **asked: Any) -> list[AgentEvent]:
        return told(
            EACH[EventType.TOOL_CALL_START],
            EACH[EventType.TOOL_CALL_END],
            RunFinishedEvent(thread_id="t", run_id="r", outcome=outcome),
            ask=replace(ASK, **asked),
        )[2:]

    def test_success(self) -> None:
        """The answer is complete."""
        assert self._ended(RunFinishedSuccessOutcome()) == [Done(reason="success")]

    def test_an_interrupt(self) -> None:
        """What the agent waits for is said, and how to answer it."""
        stopped = Interrupt(id="i", reason="approval", message="Send it?")
        assert self._ended(RunFinishedInterruptOutcome(interrupts=[stopped])) == [
            Notice(
                message="The agent waits for an answer before it goes on: Send it? Answer it in the same session with "
                'the parameter resume=[{"interruptId": "i", "status": "resolved", "payload": "…"}].'
            ),
            Done(reason="interrupt"),
        ]

    def test_an_interrupt_before_1_0(self) -> None:
        """LangGraph's agents say it in an event of their own, and take the answer elsewhere."""
        assert events_of(CustomEvent(name="on_interrupt", value="Send it?"), END) == [
            Notice(
                message="The agent waits for an answer before it goes on: Send it? Answer it in the same session with "
                'the parameter command={"resume": "…"}.'
            ),
            Done(),
        ]

    def test_cancelled(self) -> None:
        """That it was is said."""
        assert self._ended(RunFinishedCancelledOutcome()) == [
            Notice(message="The run was cancelled where the agent runs; the answer may be a part."),
            Done(reason="cancelled"),
        ]

    def test_tools_that_are_left_to_us(self) -> None:
        """A call that nobody will answer is said, whether the server names it, or it is of a tool that was sent along."""
        said = Notice(message="The agent waits for what a tool of yours gives, and nobody here calls it: n.")
        named = RunFinishedSuccessOutcome(pending_tool_call_ids=["c"])
        assert self._ended(named) == [said, Done(reason="success")]
        assert self._ended(None, parameters={"tools": [{"name": "n"}]}) == [said, Done()]
        assert self._ended(None, parameters={"tools": [{"name": "other"}]}) == [Done()]

    def test_usage(self) -> None:
        """The figures of several models add up; what they were is kept."""
        used = [
            TokenUsage(provider="a", model="x", input_tokens=9, output_tokens=5, reasoning_tokens=2),
            TokenUsage(provider="b", model="y", input_tokens=1),
        ]
        raw = {"usage": [one.model_dump(by_alias=True) for one in used]}
        events = events_of(RunFinishedEvent(thread_id="t", run_id="r", usage=used))
        assert events == [Usage(input_tokens=10, output_tokens=5, total_tokens=15, raw=raw), Done()]
        totals = [TokenUsage(total_tokens=7), TokenUsage(total_tokens=8)]
        assert fold(events_of(RunErrorEvent(message="No", usage=totals))).usage.total_tokens == 15

    def test_a_result(self) -> None:
        """It stands beside the answer; where nothing was said, and it is a text, it is the answer."""
        events = events_of(RunFinishedEvent(thread_id="t", run_id="r", result={"n": 1}))
        assert events == [Artifact(name="result", media_type="application/json", data='{"n": 1}'), Done()]
        whole = RunFinishedEvent(thread_id="t", run_id="r", result="So.")
        assert fold(events_of(whole)).text == "So."
        assert fold(events_of(*words("a", "Else."), whole)).text == "Else."

    def test_an_error(self) -> None:
        """The run failed, in the server's own words."""
        assert events_of(RunErrorEvent(message="No more.", code="LIMIT")) == [Failed(message="No more.", code="LIMIT")]


class TestWhole:
    """A reply that was not streamed."""

    def _events(self, reply: Any) -> list[AgentEvent]:
        return list(AGUI().decoder(ASK).whole(json.dumps(reply).encode()))

    def test_its_events(self) -> None:
        """They stand in a list, or in an object; what follows the end is left."""
        sent = [json.loads(one.data) for one in split_events(RECORDED)]
        for reply in (sent, {"events": sent}, [*sent, *sent]):
            events = self._events(reply)
            assert (fold(events).text, isinstance(events[-1], Done)) == (ANSWER, True)
        assert fold(self._events({"type": "RUN_ERROR", "message": "No."})).error is not None

    def test_something_else(self) -> None:
        """It is no answer."""
        others: list[Any] = [{}, [], {"detail": "No."}, "no", 1]
        for reply in others:
            with pytest.raises(ProtocolError, match="without the events"):
                self._events(reply)
        with pytest.raises(ProtocolError, match="cannot be read"):
            list(AGUI().decoder(ASK).whole(b"{"))


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    """The real peer, for the tests of this file."""
    with Peer().serving() as peer:
        yield peer


class TestRuns:
    """Over a real socket."""

    def test_a_run(self, peer: Peer) -> None:
        """What the peer read is what was asked, and its events are the answer."""
        known = run_against(peer.url, AGUI(), prompt="Why?", parameters={"mood": "good"}).transcript
        asked = peer.inputs[-1]
        assert (asked.messages[-1].content, asked.forwarded_props) == ("Why?", {"mood": "good"})
        assert "authorization" not in peer.headers[-1]
        assert (known.status, known.text, known.reasoning) == ("done", ANSWER, "Hm.")
        assert (known.session_id, known.run_id) == (asked.thread_id, asked.run_id)
        assert [(call.name, call.arguments, found and found.result) for call, found in known.tool_calls] == [
            ("search", '{"q": "sky"}', "Rayleigh")
        ]
        assert (known.usage.total_tokens, known.notices) == (14, [])

    def test_a_body_that_the_server_refuses(self, peer: Peer) -> None:
        """The server's own words say which field it was."""
        run = run_against(peer.url, AGUI(), parameters={"tools": [{"name": "n"}]})
        assert isinstance(run.transcript.error, AgentError)
        assert "answered 422: body.tools.0.description: Field required." in str(run.transcript.error)

    @pytest.mark.parametrize(("method", "status"), [("", 404), ("/agent/other", 404)])
    def test_nothing_is_there(self, peer: Peer, method: str, status: int) -> None:
        """The sentence says what base_url is."""
        run = run_against(peer.url.removesuffix("/agent") + method, AGUI())
        assert str(run.transcript.error).endswith(" Set base_url to the agent's whole endpoint.")
        assert f"answered {status}" in str(run.transcript.error)

    def test_another_place_that_takes_no_question(self) -> None:
        """A 405, as of a page, means the same."""
        with ScriptedServer(refuses("405 Method Not Allowed", b'{"detail": "Method Not Allowed"}')) as server:
            run = run_against(server.url, AGUI())
        assert str(run.transcript.error).endswith(": Method Not Allowed. Set base_url to the agent's whole endpoint.")

    def test_cut(self) -> None:
        """A stream without its end was cut: the partial is kept, and nobody is asked twice."""
        with ScriptedServer(says(encoded([START, *words("a", "So")]))) as server:
            run = run_against(server.url, AGUI())
            assert len(server.requests) == 1
        assert (run.transcript.status, run.transcript.text) == ("failed", "So")

    def test_asked_again_before_anything_has_come(self) -> None:
        """It is the same run of the same thread."""
        replies = iter([b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"])

        def script(connection: Any, _request: bytes, _number: int) -> None:
            ok = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
            connection.sendall(next(replies, ok + RECORDED))

        with ScriptedServer(script) as server:
            assert run_against(server.url, AGUI()).transcript.text == ANSWER
            first, second = server.bodies()
        assert first == second

    def test_a_json_reply(self) -> None:
        """Its events are the answer."""
        body = json.dumps([json.loads(one.data) for one in split_events(RECORDED)]).encode()
        with ScriptedServer(says(body, content_type="application/json")) as server:
            assert run_against(server.url, AGUI()).transcript.text == ANSWER


class TestAgents:
    """As an agent of the settings."""

    def _agent(self, url: str | None = None, **settings: Any) -> Agent:
        return Agent(protocol="ag-ui", retries=0, **({"base_url": url} if url else {}), **settings)

    def test_no_address(self) -> None:
        """The wire has none of its own, and says what is missing."""
        Path("agent_magic.toml").write_text('[agents.sky]\nprotocol = "ag-ui"\n')
        with pytest.raises(ConfigError) as raised:
            Agent("sky").ask("Why?")
        assert str(raised.value) == (
            "The agent 'sky' speaks ag-ui, which has no address of its own: set base_url to the agent's whole "
            "endpoint, such as https://api.example.com/agent."
        )

    def test_asked(self, peer: Peer) -> None:
        """No model is named, and a key goes along only where its variable is named."""
        os.environ["SKY_KEY"] = "secret-key-123"
        try:
            assert self._agent(peer.url).ask("Why?").text == ANSWER
            assert "authorization" not in peer.headers[-1]
            self._agent(peer.url, key_env="SKY_KEY").ask("Why?")
        finally:
            del os.environ["SKY_KEY"]
        assert peer.headers[-1]["authorization"] == "Bearer secret-key-123"

    def test_a_slash_at_the_end(self) -> None:
        """It is part of the address."""
        assert self._agent("https://agents.example/sky/").request("Why?").url == "https://agents.example/sky/"

    def test_two_agents_have_tapes_of_their_own(self, peer: Peer) -> None:
        """Without an id on the wire an agent's own name tells one from the other."""
        other = Peer(lambda asked: [START, *words("m", f"Other: {asked.messages[-1].content}"), END])
        with other.serving():
            Path("agent_magic.toml").write_text(
                f'[agents.one]\nprotocol = "ag-ui"\nbase_url = "{peer.url}"\n'
                f'[agents.two]\nprotocol = "ag-ui"\nbase_url = "{other.url}"\n'
            )
            for name in ("one", "two"):
                Agent(name, tape="record").ask("Why?")
        assert [Agent(name, tape="replay").ask("Why?").text for name in ("one", "two")] == [ANSWER, "Other: Why?"]

    def test_a_thread(self, peer: Peer) -> None:
        """A session's turns are one thread; a turn from a tape does not give its own away."""
        talk = Conversation("talk")

        def turn(prompt: str, cell: str, tape: Any = "live") -> RunAgentInput:
            agent = self._agent(peer.url, tape=tape)
            place = talk.place(agent, cell)
            result, _ = agent.begin(prompt, earlier=place.earlier)
            result.wait()
            talk.put(place, agent, cell, result)
            return peer.inputs[-1]

        first, second = turn("One?", "a", "record"), turn("Two?", "b")
        assert second.thread_id == first.thread_id
        assert second.messages[0] == first.messages[0]
        said = ["One?", "Because é 🌍 so.", "Rayleigh", "See **Rayleigh**."]
        assert [one.content for one in second.messages] == [*said, "Two?"]
        assert [one.id for one in second.messages[1:4]] == ["m1", "t1", "m2"]
        talk = Conversation("another")
        assert turn("One?", "a", "replay") is second
        third = turn("Two?", "b")
        assert third.thread_id not in {first.thread_id, ""}
        assert [one.content for one in third.messages] == [*said, "Two?"]
        assert turn("Three?", "c").thread_id == third.thread_id

    def test_a_cell_that_is_run_again(self, peer: Peer) -> None:
        """It does not go on in a thread that has what is no longer said; all that is said goes along into a new one."""
        talk, agent = Conversation("talk"), self._agent(peer.url)

        def turn(prompt: str, cell: str) -> str:
            place = talk.place(agent, cell)
            result, _ = agent.begin(prompt, earlier=place.earlier)
            result.wait()
            talk.put(place, agent, cell, result)
            asked = peer.inputs[-1]
            assert [one.content for one in asked.messages if one.role == "user"][-1] == prompt
            assert len(asked.messages) == 4 * place.number + 1
            return asked.thread_id

        old = turn("One?", "a")
        assert turn("Two?", "b") == old
        second = turn("Two, changed?", "b")
        third = turn("Two, changed again?", "b")
        assert len({old, second, third}) == 3
        assert turn("Three?", "c") == third
        anew = turn("One, changed?", "a")
        assert anew not in {old, second, third}
        assert turn("Two?", "b") == anew
        assert turn("Three?", "c") == anew
        assert turn("Four?", "d") == anew

    def test_a_dry_run(self, peer: Peer) -> None:
        """It shows the thread that the session is in."""
        asked = self._agent(peer.url).request("Two?", earlier=Earlier("t", [Said("One?", "1.")]))
        body = json.loads(asked.encoded_body())
        assert (body["threadId"], len(body["messages"])) == ("t", 3)


class TestTape:
    """A tape that was recorded from the real peer."""

    PROMPT = "Why is the sky blue?"

    def test_replayed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It gives the answer that the peer gave, with neither a network nor an address."""
        monkeypatch.setenv("AGENT_MAGIC_TAPES", str(TAPES))
        result = Agent(protocol="ag-ui", agent="sky", tape="replay").ask(self.PROMPT)
        assert (result.replayed, result.text, result.reasoning) == (True, ANSWER, "Hm.")
        assert (result.usage.total_tokens, [call.name for call, _ in result.tool_calls]) == (14, ["search"])

    def test_the_encoder_says_the_same(self, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
        """Recorded anew it is the same tape: it is left as it is."""
        folder = Path("taped")
        folder.mkdir()
        (tape,) = TAPES.glob("*.jsonl")
        (folder / tape.name).write_bytes(tape.read_bytes())
        monkeypatch.setenv("AGENT_MAGIC_TAPES", str(folder))
        Agent(protocol="ag-ui", agent="sky", base_url=peer.url, tape="record").ask(self.PROMPT)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {tape.name: tape.read_bytes()}
