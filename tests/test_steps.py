"""What an agent did on its way, folded from its events."""

from __future__ import annotations

from agent_magic._steps import Step
from agent_magic._transcript import Transcript
from agent_magic.events import AgentEvent, Artifact, Done, Progress, Reasoning, Text, ToolCall, ToolResult, Usage


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def told(*events: tuple[float, AgentEvent], closed: float | None = None) -> Transcript:
    clock = Hand()
    transcript = Transcript(clock)
    for at, event in events:
        clock.now = at
        transcript.apply(event)
    if closed is not None:
        clock.now = closed
        transcript.close("done")
    return transcript


def test_a_thought_goes_on_until_something_else_begins() -> None:
    """Pieces of a thought are one step, also with figures between them; text ends it, and the next piece begins another."""
    transcript = told(
        (1, Reasoning(text="First ")),
        (2, Usage(total_tokens=3)),
        (2, Progress(message="thinking")),
        (3, Reasoning(text="this.")),
        (5, Text(text="So: ")),
        (6, Reasoning(text="")),
        (7, Reasoning(text="Then that.")),
    )
    assert transcript.steps == [
        Step("thought", made="First this.", seconds=4.0),
        Step("thought", made="Then that.", is_open=True),
    ]
    assert transcript.reasoning == "First this.Then that."


def test_a_tool_has_its_arguments_its_result_and_its_time() -> None:
    """A call is told when it begins, again when its arguments are whole, and has its time when its result is there."""
    began: list[tuple[float, AgentEvent]] = [(1, ToolCall(id="a", name="search"))]
    assert told(*began).steps == [Step("tool", "search", is_open=True)]
    whole = [*began, (2, ToolCall(id="a", name="search", arguments='{"q": 1}')), (4.5, ToolResult(id="a", result="3"))]
    assert told(*whole).steps == [Step("tool", "search", '{"q": 1}', "3", 3.5)]


def test_a_tool_that_nobody_calls() -> None:
    """It does not go on once the answer does; a result that comes all the same is its own."""
    began: list[tuple[float, AgentEvent]] = [(1, ToolCall(id="a", name="f")), (2, Text(text="So."))]
    assert told(*began).steps == [Step("tool", "f")]
    assert told(*began, (3, ToolResult(id="a", result="1"))).steps == [Step("tool", "f", "", "1", 2.0)]


def test_tools_side_by_side() -> None:
    """Calls are in the order in which they began, whichever result comes first."""
    steps = told(
        (1, ToolCall(id="a", name="slow")),
        (2, ToolCall(id="b", name="fast")),
        (3, ToolResult(id="b", result="B")),
        (9, ToolResult(id="a", result="A")),
    ).steps
    assert steps == [Step("tool", "slow", "", "A", 8.0), Step("tool", "fast", "", "B", 1.0)]


def test_an_id_that_is_used_twice_is_two_calls() -> None:
    """A server that begins its ids anew loses no call; a call that is told again after its result is the same."""
    call = ToolCall(id="0", name="add", arguments="[1]")
    transcript = told(
        (1, call),
        (2, ToolResult(id="0", result="1")),
        (3, call),
        (4, ToolCall(id="0", name="add", arguments="[2]")),
        (5, ToolResult(id="0", result="2")),
    )
    assert [(step.given, step.made) for step in transcript.steps] == [("[1]", "1"), ("[2]", "2")]
    assert [(made.arguments, result and result.result) for made, result in transcript.tool_calls] == [
        ("[1]", "1"),
        ("[2]", "2"),
    ]


def test_a_result_without_a_call_is_kept() -> None:
    """What a tool gave is shown, though nobody told of its use."""
    assert told((1, ToolResult(id="x", result="42"))).steps == [Step("tool", "", "", "42")]


def test_a_time_that_nobody_measured_is_none() -> None:
    """A call that is told together with its result took longer than that."""
    steps = told((1, ToolCall(id="a", name="f")), (1.01, ToolResult(id="a", result="1"))).steps
    assert steps == [Step("tool", "f", "", "1")]


def test_an_artifact_is_a_step() -> None:
    """What was made beside the text stands in its place, with its data or where that is."""
    steps = told(
        (1, Reasoning(text="Hm.")),
        (2, Artifact(name="report", media_type="text/csv", data="a,b")),
        (3, Artifact(name="plot", media_type="image/png", url="https://example.com/p.png")),
    ).steps
    assert steps == [
        Step("thought", made="Hm.", seconds=1.0),
        Step("artifact", "report", "text/csv", "a,b"),
        Step("artifact", "plot", "image/png", "https://example.com/p.png"),
    ]


def test_at_the_end_nothing_goes_on() -> None:
    """A thought that the end cuts off took until then; a tool that gave nothing has no time of its own."""
    transcript = told((1, ToolCall(id="a", name="f")), (2, Reasoning(text="Hm.")), (3, Done()), closed=4)
    assert transcript.steps == [Step("tool", "f"), Step("thought", made="Hm.", seconds=2.0)]


def test_steps_stay_when_a_transcript_is_packed() -> None:
    """Packing takes nothing from the steps."""
    transcript = told((1, Reasoning(text="a")), (2, Reasoning(text="b")), (3, ToolCall(id="a", name="f")), closed=4)
    before = transcript.steps
    transcript.pack()
    assert transcript.steps == before
