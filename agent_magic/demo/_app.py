"""Both wires over one agent: RunAgent's ``/v1/agents/{id}/stream``, You.com's ``/v1/agents/runs``.

The answer is a text that is made here or, with `models`, a real model's. Beside what the services document, a parameter
`fail` asks for a failure to look at: ``cut`` closes the connection in the middle, once; ``STREAM_ERROR`` and
``CAPACITY_ERROR`` end the stream with that error (the latter once, and asks to wait `retry_after` seconds); a number is
answered as an HTTP status.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from http import HTTPStatus
from time import monotonic
from typing import Any
from uuid import uuid4

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent_magic.demo._answers import Answer, sources_about
from agent_magic.demo._model import ModelAnswer, Models
from agent_magic.errors import AgentMagicError

__all__ = ["make_app"]

RUNAGENT_IDS = frozenset({"demo", "agent-123"})
YOU_AGENTS = frozenset({"demo", "express", "advanced"})
# Above so many conversations the oldest is forgotten.
MOST_SESSIONS = 200
Handler = Callable[[Request], Awaitable[Response]]


class _Refused(Exception):
    """A request that is answered with an error, in the shape that its wire documents."""

    def __init__(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.response = JSONResponse(body, status, headers)


class _Session:
    """A conversation on the RunAgent wire: what was asked, and the answer that a client may resume."""

    def __init__(self) -> None:
        self.turns: list[tuple[str, Answer | ModelAnswer]] = []
        self.failed = False

    @property
    def answer(self) -> Answer | ModelAnswer | None:
        """The answer to what was asked last."""
        return self.turns[-1][1] if self.turns else None


def make_app(key: str | None, newline: str, delay_ms: float, models: Models | None = None) -> Starlette:
    """The application; with a `key` every request must carry it, in either header.

    With `models` it is a model that answers, and not the text that is made here.
    """
    agent = _DemoAgent(key, newline, delay_ms, models)
    return Starlette(
        routes=[
            Route("/v1/agents/runs", _guarded(agent.you), methods=["POST"]),
            Route("/v1/agents/{agent_id}/stream", _guarded(agent.runagent_stream), methods=["POST"]),
            Route("/v1/agents/{agent_id}/invoke", _guarded(agent.runagent_invoke), methods=["POST"]),
        ]
    )


def _guarded(handler: Handler) -> Handler:
    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except _Refused as refused:
            return refused.response

    return endpoint


class _DemoAgent:
    def __init__(self, key: str | None, newline: str, delay_ms: float, models: Models | None) -> None:
        self._models = models
        self._key = key
        self._newline = newline
        self._delay_ms = delay_ms
        self._sessions: dict[str, _Session] = {}

    async def runagent_stream(self, request: Request) -> Response:
        """The seed's endpoint."""
        session_id, session, parameters, start = await self._runagent(request)
        events = self._chunks(session_id, session, parameters, start)
        return self._event_stream(events)

    async def runagent_invoke(self, request: Request) -> Response:
        """The same, not streamed."""
        began = monotonic()
        session_id, session, _, _ = await self._runagent(request)
        answer = session.answer
        assert answer is not None
        await _read_whole(answer)
        metadata = {"execution_time": round(monotonic() - began, 3)}
        return JSONResponse(
            {"result": answer.text, "usage": answer.usage, "metadata": metadata, "session_id": session_id}
        )

    async def you(self, request: Request) -> Response:
        """You.com's endpoint, streamed or not."""
        self._check_key(request, lambda said: {"detail": said})
        body = await _json_object(request)
        question = body.get("input")
        if not isinstance(question, str) or not question.strip():
            raise _Refused(422, {"detail": [_invalid("input", "Field required")]})
        if body.get("agent") not in YOU_AGENTS:
            raise _Refused(404, {"detail": "agent_not_found"})
        _fail_with_status(body, lambda said: {"detail": said})
        answer = self._answer(_Session(), question, body)
        sources = sources_about(question)
        if body.get("stream") is True:
            return self._event_stream(self._you_events(answer, sources, body))
        await _read_whole(answer)
        return JSONResponse(
            {
                "agent": body["agent"],
                "input": [{"role": "user", "content": question}],
                "output": [
                    {"type": "web_search.results", "text": "", "content": sources},
                    {"type": "message.answer", "text": answer.text},
                ],
            }
        )

    async def _runagent(self, request: Request) -> tuple[str, _Session, dict[str, Any], int]:
        self._check_key(request, lambda said: {"error": {"code": "UNAUTHORIZED", "message": said}})
        if request.path_params["agent_id"] not in RUNAGENT_IDS:
            suggestion = f"The embedded agent is called {' or '.join(sorted(RUNAGENT_IDS))}."
            raise _Refused(
                404, {"error": {"code": "AGENT_NOT_FOUND", "message": "No such agent.", "suggestion": suggestion}}
            )
        body = await _json_object(request)
        question = body.get("query")
        if not isinstance(question, str) or not question.strip():
            raise _Refused(422, {"detail": [_invalid("query", "Field required")]})
        parameters = body.get("parameters", {})
        if not isinstance(parameters, dict):
            raise _Refused(422, {"detail": [_invalid("parameters", "Input should be an object")]})
        _fail_with_status(parameters, lambda said: {"error": {"code": "DEMO", "message": said}})
        return self._turn(question, body.get("session_id"), parameters)

    def _turn(
        self, question: str, named: object, parameters: dict[str, Any]
    ) -> tuple[str, _Session, dict[str, Any], int]:
        """The session of this request, and the index of the first chunk to send."""
        start = _whole_number(parameters, "resume_from_index")
        session_id = named if isinstance(named, str) and named else uuid4().hex[:12]
        # What was used last is kept; the server lives as long as its notebook.
        session = self._sessions[session_id] = self._sessions.pop(session_id, _Session())
        while len(self._sessions) > MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        if start is None:
            session.turns.append((question, self._answer(session, question, parameters)))
            session.failed = False
        elif session.answer is None:
            raise _Refused(
                404, {"error": {"code": "SESSION_NOT_FOUND", "message": "There is no such stream to resume."}}
            )
        return session_id, session, parameters, start or 0

    def _answer(self, session: _Session, question: str, parameters: dict[str, Any]) -> Answer | ModelAnswer:
        if self._models is None:
            asked = [asked for asked, _ in session.turns]
            return Answer(question, asked, _whole_number(parameters, "chunk_size"))
        return self._models.answer([(asked, said.text) for asked, said in session.turns], question, parameters)

    async def _chunks(
        self, session_id: str, session: _Session, parameters: dict[str, Any], start: int
    ) -> AsyncIterator[ServerSentEvent]:
        answer, began = session.answer, monotonic()
        assert answer is not None
        yield self._event("start", {"message": "Stream started", "session_id": session_id})
        try:
            async with aclosing(answer.read(start)) as pieces:
                async for index, piece in pieces:
                    if index == answer.half and not session.failed:
                        error = self._failure(session, parameters)
                        if error is not None:
                            yield self._event("error", error)
                            return
                    await self._pause(parameters)
                    yield self._event("chunk", {"content": piece, "index": index})
        except AgentMagicError as error:
            yield self._event("error", {"error": str(error), "code": "STREAM_ERROR"})
            return
        figures = {"usage": answer.usage, "execution_time": round(monotonic() - began, 3)}
        yield self._event("done", {"message": "Stream complete", **figures})

    def _failure(self, session: _Session, parameters: dict[str, Any]) -> dict[str, Any] | None:
        """The failure asked for, if one was; a cut and a lack of capacity happen once."""
        match parameters.get("fail"):
            case "cut":
                session.failed = True
                raise ConnectionAbortedError("cut, as the request asked")
            case "CAPACITY_ERROR":
                session.failed = True
                wait = parameters.get("retry_after", 2)
                return {"error": "Model overloaded", "code": "CAPACITY_ERROR", "retry_after": wait}
            case str(code):
                return {"error": "Processing failed", "code": code}
            case _:
                return None

    async def _you_events(
        self, answer: Answer | ModelAnswer, sources: list[dict[str, str]], body: dict[str, Any]
    ) -> AsyncIterator[ServerSentEvent]:
        began, sequence = monotonic(), iter(range(1_000_000))

        def event(name: str, response: dict[str, Any] | None = None) -> ServerSentEvent:
            number = next(sequence)
            data = {"seq_id": number, "type": name} | ({} if response is None else {"response": response})
            return ServerSentEvent(json.dumps(data), event=name, id=str(number), sep=self._newline)

        yield event("response.created")
        yield event("response.starting")
        yield event("response.output_item.added", {"output_index": 0})
        full = {"output_index": 0, "type": "web_search.results", "full": sources}
        yield event("response.output_content.full", full)
        yield event("response.output_item.done", {"output_index": 0})
        yield event("response.output_item.added", {"output_index": 1})
        async with aclosing(answer.read()) as pieces:
            async for place, piece in pieces:
                if place == answer.half and body.get("fail") == "cut":
                    raise ConnectionAbortedError("cut, as the request asked")
                await self._pause(body)
                yield event("response.output_text.delta", {"output_index": 1, "type": "message.answer", "delta": piece})
        yield event("response.output_item.done", {"output_index": 1})
        run_time = f"{(monotonic() - began) * 1000:.3f}"
        yield event("response.done", {"run_time_ms": run_time, "finished": True})

    async def _pause(self, parameters: dict[str, Any]) -> None:
        asked = parameters.get("stream_delay_ms")
        delay = asked if isinstance(asked, int | float) and 0 <= asked <= 60_000 else self._delay_ms
        await asyncio.sleep(delay / 1000)

    def _event(self, name: str, data: dict[str, Any]) -> ServerSentEvent:
        return ServerSentEvent(json.dumps(data), event=name, sep=self._newline)

    def _event_stream(self, events: AsyncIterator[ServerSentEvent]) -> Response:
        return EventSourceResponse(events, sep=self._newline)

    def _check_key(self, request: Request, shape: Callable[[str], dict[str, Any]]) -> None:
        given = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._key is not None and given != self._key:
            raise _Refused(401, shape("The key is missing or wrong."))


async def _read_whole(answer: Answer | ModelAnswer) -> None:
    try:
        async with aclosing(answer.read()) as pieces:
            async for _ in pieces:
                pass
    except AgentMagicError as error:
        raise _Refused(500, {"detail": str(error)}) from None


async def _json_object(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        raise _Refused(400, {"detail": "The body is not JSON."}) from None
    if not isinstance(body, dict):
        raise _Refused(400, {"detail": "The body is no JSON object."})
    return body


def _invalid(field: str, message: str) -> dict[str, Any]:
    return {"type": "missing", "loc": ["body", field], "msg": message, "input": None}


def _whole_number(parameters: dict[str, Any], name: str) -> int | None:
    value = parameters.get(name)
    if value is None:
        return None
    if type(value) is not int or value < (1 if name == "chunk_size" else 0):
        raise _Refused(422, {"detail": [_invalid(name, "Input should be a whole number in range")]})
    return value


def _fail_with_status(parameters: dict[str, Any], shape: Callable[[str], dict[str, Any]]) -> None:
    status = parameters.get("fail")
    if type(status) is int and 400 <= status <= 599:
        said = next((known.phrase for known in HTTPStatus if known == status), "Failed")
        headers = {"Retry-After": str(parameters.get("retry_after", 2))} if status in {429, 503} else {}
        raise _Refused(status, shape(f"{said}, as the request asked."), headers)
