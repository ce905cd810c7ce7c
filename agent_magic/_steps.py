"""What an agent did on its way to the answer: its thoughts, its tools, what it made beside the text, in order."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from agent_magic.events import Artifact, ToolCall, ToolResult

__all__ = ["Step", "Steps"]

LEAST_SECONDS = 0.05


class Step(Struct, frozen=True):
    """One step, as far as it is known.

    A thought has its text in `made`; a tool its name, in `given` its arguments (JSON text) and in `made` its result,
    None before there is one; an artifact its name, in `given` its media type and in `made` its data or its URL.
    `seconds` is how long it took, None where the wire does not tell; `is_open` is whether it still goes on.
    """

    kind: Literal["thought", "tool", "artifact"]
    name: str = ""
    given: str = ""
    made: str | None = None
    seconds: float | None = None
    is_open: bool = False


class _Thought:
    """Reasoning without anything between."""

    def __init__(self, now: float) -> None:
        self._pieces: list[str] = []
        self._began = now
        self._ended: float | None = None

    @property
    def text(self) -> str:
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def add(self, text: str) -> None:
        self._pieces.append(text)

    def end(self, now: float) -> None:
        self._ended = now
        self._pieces = [self.text]

    def step(self) -> Step:
        seconds = None if self._ended is None else self._ended - self._began
        return Step("thought", made=self.text, seconds=seconds, is_open=self._ended is None)


class _Use:
    """One use of a tool."""

    def __init__(self, call: ToolCall, now: float) -> None:
        self.call = call
        self.result: ToolResult | None = None
        self._began = now
        self._seconds: float | None = None
        self._is_open = True

    def goes_on(self, call: ToolCall) -> bool:
        """Whether `call` is this one, told again with more of its arguments, and not another of the same id."""
        return self.result is None or (
            call.name in {"", self.call.name} and call.arguments.startswith(self.call.arguments)
        )

    def finish(self, result: ToolResult, now: float) -> None:
        self.result = result
        self._is_open = False
        # A call that comes together with its result was made before anybody told of it.
        if self._seconds is None and now - self._began >= LEAST_SECONDS:
            self._seconds = now - self._began

    def end(self) -> None:
        self._is_open = False

    def step(self) -> Step:
        made = None if self.result is None else self.result.result
        return Step("tool", self.call.name, self.call.arguments, made, self._seconds, self._is_open)


class Steps:
    """The fold of a run's steps. `now` is seconds on the run's clock."""

    def __init__(self) -> None:
        self._all: list[_Thought | _Use | Artifact] = []
        self._uses: dict[str, _Use] = {}
        self._going: list[_Use] = []
        self._thought: _Thought | None = None

    @property
    def reasoning(self) -> str:
        """All thoughts, one behind the other."""
        return "".join(one.text for one in self._all if isinstance(one, _Thought))

    @property
    def tool_calls(self) -> list[tuple[ToolCall, ToolResult | None]]:
        """The uses of tools, each with its result once there is one."""
        return [(one.call, one.result) for one in self._all if isinstance(one, _Use)]

    @property
    def artifacts(self) -> list[Artifact]:
        """What was made beside the text."""
        return [one for one in self._all if isinstance(one, Artifact)]

    def steps(self) -> list[Step]:
        """All steps so far, in the order in which they began."""
        return [_of(one) if isinstance(one, Artifact) else one.step() for one in self._all]

    def think(self, text: str, now: float) -> None:
        """Add a piece of a thought."""
        if not text:
            return
        if self._thought is None:
            self._thought = _Thought(now)
            self._all.append(self._thought)
        self._thought.add(text)

    def call(self, event: ToolCall, now: float) -> None:
        """A tool is used, or its use is told again with more of its arguments."""
        self.settle(now)
        use = self._uses.get(event.id)
        if use is not None and use.goes_on(event):
            use.call = event if event.name else ToolCall(
                id=event.id, name=use.call.name, arguments=event.arguments, sent=event.sent
            )  # fmt: skip
        else:
            use = self._uses[event.id] = _Use(event, now)
            self._all.append(use)
            self._going.append(use)

    def result(self, event: ToolResult, now: float) -> None:
        """What a tool gave; of a use that nobody told of, too."""
        self.settle(now)
        if event.id not in self._uses:
            self.call(ToolCall(id=event.id, name=""), now)
        self._uses[event.id].finish(event, now)

    def add(self, artifact: Artifact, now: float) -> None:
        """Something was made."""
        self.settle(now)
        self._all.append(artifact)

    def write(self, now: float) -> None:
        """The answer goes on, and waits for nothing that was begun before: nobody may be there to call a tool."""
        self.settle(now)
        while self._going:
            self._going.pop().end()

    def settle(self, now: float) -> None:
        """Something else began: a thought that went on is at its end."""
        if self._thought is not None:
            self._thought.end(now)
            self._thought = None

    def end(self, now: float) -> None:
        """The run is over."""
        self.write(now)


def _of(artifact: Artifact) -> Step:
    return Step("artifact", artifact.name, artifact.media_type, artifact.data or artifact.url or "")
