"""The real peer of the AG-UI wire: the models and the encoder of ag-ui-protocol, behind a loopback server."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Thread

import uvicorn
from ag_ui.core import (
    BaseEvent,
    CustomEvent,
    ReasoningEndEvent,
    ReasoningMessageContentEvent,
    ReasoningMessageEndEvent,
    ReasoningMessageStartEvent,
    ReasoningStartEvent,
    RunAgentInput,
    RunFinishedEvent,
    RunStartedEvent,
    StateSnapshotEvent,
    StepFinishedEvent,
    StepStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    TokenUsage,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
)
from ag_ui.encoder import EventEncoder
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Answer = Callable[[RunAgentInput], Iterable[BaseEvent]]
ANSWER = "Because é 🌍 so.\n\nSee **Rayleigh**."


def encoded(events: Iterable[BaseEvent]) -> bytes:
    """What the encoder makes of `events`."""
    return "".join(map(EventEncoder().encode, events)).encode()


def words(identity: str, *pieces: str) -> list[BaseEvent]:
    """A whole streamed message."""
    return [
        TextMessageStartEvent(message_id=identity),
        *(TextMessageContentEvent(message_id=identity, delta=piece) for piece in pieces),
        TextMessageEndEvent(message_id=identity),
    ]


def answer(asked: RunAgentInput) -> list[BaseEvent]:
    """A run with thoughts, a tool, state, two messages and usage; `ANSWER` is what it says."""
    thread, run = asked.thread_id, asked.run_id
    return [
        RunStartedEvent(thread_id=thread, run_id=run, protocol_version="1.0"),
        StepStartedEvent(step_name="look up"),
        ReasoningStartEvent(message_id="r1"),
        ReasoningMessageStartEvent(message_id="r1"),
        ReasoningMessageContentEvent(message_id="r1", delta="Hm."),
        ReasoningMessageEndEvent(message_id="r1"),
        ReasoningEndEvent(message_id="r1"),
        *words("m1", "Because é", " 🌍 so."),
        ToolCallStartEvent(tool_call_id="c1", tool_call_name="search", parent_message_id="m1"),
        ToolCallArgsEvent(tool_call_id="c1", delta='{"q":'),
        ToolCallArgsEvent(tool_call_id="c1", delta=' "sky"}'),
        ToolCallEndEvent(tool_call_id="c1"),
        ToolCallResultEvent(message_id="t1", tool_call_id="c1", content="Rayleigh"),
        StepFinishedEvent(step_name="look up"),
        StateSnapshotEvent(snapshot={"step": 1}),
        CustomEvent(name="mood", value={"good": True}),
        *words("m2", "See ", "**Rayleigh**", "."),
        RunFinishedEvent(thread_id=thread, run_id=run, usage=[TokenUsage(model="m", input_tokens=9, output_tokens=5)]),
    ]


class Peer:
    """A server whose one endpoint, ``/agent``, takes a `RunAgentInput` and answers with typed events."""

    def __init__(self, answers: Answer = answer) -> None:
        self._answers = answers
        self.inputs: list[RunAgentInput] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    async def _asked(self, request: Request) -> Response:
        try:
            asked = RunAgentInput.model_validate_json(await request.body())
        except ValidationError as error:  # as FastAPI says it
            detail = [{"loc": ["body", *one["loc"]], "msg": one["msg"], "type": one["type"]} for one in error.errors()]
            return JSONResponse({"detail": detail}, status_code=422)
        self.inputs.append(asked)
        self.headers.append(dict(request.headers))
        encoder = EventEncoder(accept=request.headers["accept"])
        return StreamingResponse(map(encoder.encode, self._answers(asked)), media_type=encoder.get_content_type())

    @contextmanager
    def serving(self) -> Iterator[Peer]:
        """Serve in a thread."""
        app = Starlette(routes=[Route("/agent", self._asked, methods=["POST"])])
        config = uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/agent"
        thread = Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.should_exit = server.force_exit = True
            thread.join()
