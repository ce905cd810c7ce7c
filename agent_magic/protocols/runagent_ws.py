"""RunAgent as it ships: ``GET {base}/api/v1/agents/{agent_id}/run-stream``, a WebSocket.

What ``runagent serve`` and RunAgent's own SDK speak (PyPI, 0.1.49: ``runagent/sdk/socket_client.py`` and
``runagent/sdk/server/socket_utils.py``). One frame goes out; status, data and error frames come back. Five rules:

- An agent is a Python function, called an entrypoint; its tag ends in ``_stream``. The prompt is its first argument,
  whatever that is called, as in all of RunAgent's templates; the parameter `prompt_as` names it instead.
- The key goes along twice, as the SDK sends it: in the URL's query and in a header. Without a key there is neither.
- What the function yields is encoded three times: JSON (the frame) that holds JSON (a type and a payload) that holds
  JSON. Text is text. Of the objects that frameworks yield, the one piece that is new text is the text, and all
  else is kept as it came.
- The server leaves the socket open after its last word, so that word is the end.
- There is no session, no resume and no usage on this wire.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from agent_magic._request import AgentRequest, SocketRequest, join_url, socket_url
from agent_magic.errors import AgentError, AgentMagicError, AuthError, ConfigError, ProtocolError
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
from agent_magic.protocols._asking import key_header, refuse_fields
from agent_magic.protocols._base import HTTPFailure, Keeper
from agent_magic.protocols._ends import error_of
from agent_magic.protocols._json import integer, number, read_json, read_object, text, to_json
from agent_magic.protocols._pieces import Joiner

__all__ = ["RunAgentSocket", "RunAgentSocketDecoder"]

# What the frame says of itself, and no argument of the agent's function is.
OWN_FIELDS = frozenset({"async_execution", "input_args"})
# RunAgent's default template has it, and the examples of its command line.
ENTRYPOINT = "minimal_stream"
TIMEOUT_SECONDS = 600
# Agno, by version: events whose content is a new piece of text. Its other events have a content too, the whole text.
TEXT_EVENTS = frozenset({"RunContent", "RunResponse", "RunResponseContent", "TeamRunContent", "TeamRunResponseContent"})
NOT_FOUND = re.compile(r"Entrypoint .* (not found|is not a streaming entrypoint)")


class RunAgentSocket:
    """RunAgent's WebSocket wire. Parameters are arguments of the agent's function, by name, but for five.

    `entrypoint_tag` is the function, `prompt_as` the name of the argument that the prompt becomes;
    `timeout_seconds`, `user_id` and `persistent_memory` are RunAgent's own. An argument that has one of these names
    goes into `input_kwargs`, an object.
    """

    name = "runagent-ws"
    base_url = "https://backend.run-agent.ai"
    key_env: str | None = "RUNAGENT_API_KEY"
    conversations: Keeper = "nobody"
    has_system = False

    def request(self, ask: AgentRequest) -> SocketRequest:
        """The socket to open, and the frame that calls the function."""
        refuse_fields(ask.parameters, OWN_FIELDS, self.name)
        return SocketRequest(
            url=socket_url(join_url(ask.base_url, "api", "v1", "agents", ask.agent, "run-stream")),
            headers={**ask.headers, **key_header(ask)},
            query={} if ask.key is None else {"token": ask.key},
            frame=_frame(ask),
        )

    def decoder(self, ask: AgentRequest) -> RunAgentSocketDecoder:
        """A decoder for one run."""
        return RunAgentSocketDecoder(ask)

    def error(self, failure: HTTPFailure) -> AgentMagicError:
        """The error of a refused handshake. A server's framework says 403 of a path that it does not have."""
        error = error_of(failure)
        if failure.status != 403:
            return error
        hint = "A server of RunAgent's says 403 of an agent that it does not serve, too; check the agent's id."
        if failure.key_env is not None:
            return AuthError(f"{error} {hint}")
        return AgentError(f"{failure.host} answered 403, it refused the request. {hint}", "403")


def _frame(ask: AgentRequest) -> dict[str, Any]:
    keywords = dict(ask.parameters)
    tag = keywords.pop("entrypoint_tag", ENTRYPOINT)
    if not isinstance(tag, str) or not tag.endswith("_stream"):
        raise ConfigError(f"The entrypoint_tag {tag!r} cannot be streamed; one that can ends in _stream.")
    frame = {"timeout_seconds": keywords.pop("timeout_seconds", TIMEOUT_SECONDS), "async_execution": False}
    frame |= {name: keywords.pop(name) for name in ("user_id", "persistent_memory") if name in keywords}
    prompt_as = keywords.pop("prompt_as", None)
    others = keywords.pop("input_kwargs", {})
    if not isinstance(others, dict):
        raise ConfigError("The parameter input_kwargs holds arguments by name, as an object.")
    keywords |= others
    if prompt_as is None:
        return {"entrypoint_tag": tag, "input_args": [ask.prompt], "input_kwargs": keywords, **frame}
    if not isinstance(prompt_as, str) or prompt_as in keywords:
        raise ConfigError(f"The parameter prompt_as ({prompt_as!r}) names the one argument that the prompt becomes.")
    return {"entrypoint_tag": tag, "input_args": [], "input_kwargs": {prompt_as: ask.prompt, **keywords}, **frame}


class RunAgentSocketDecoder:
    """One run's frames."""

    def __init__(self, ask: AgentRequest) -> None:
        self._ask = ask
        self._joiner = Joiner()
        self._yielded = 0
        self._has_text = False
        self._kept = 0

    def decode(self, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        """What one frame says."""
        if sent.event not in {"", "message"}:
            return [Unknown(name=sent.event, data=sent.data, sent=sent)]
        frame = read_object(sent)
        match frame.get("type"):
            case "data":
                return self._data(frame, sent)
            case "status":
                return self._status(frame, sent)
            case "error":
                return [*self.flush(), self._failed(frame, sent)]
            case name:
                return [Unknown(name=text(name) or "message", data=sent.data, sent=sent)]

    def whole(self, body: bytes) -> Iterable[AgentEvent]:
        """No server of this wire answers so."""
        raise ProtocolError("The server sent a reply that is not a WebSocket's.", body.decode("utf-8", "replace"))

    def closed(self) -> Iterable[AgentEvent]:
        """Nothing: this wire says itself when the answer is complete."""
        return []

    def flush(self) -> Iterable[AgentEvent]:
        """Half a character that the stream ended in."""
        return self._joiner.rest()

    def resume(self) -> AgentRequest | None:
        """None: what an agent has yielded is gone."""
        return None

    def _status(self, frame: dict[str, Any], sent: ServerSentEvent) -> Iterable[AgentEvent]:
        match frame.get("status"):
            case "stream_started":
                return [Started(run_id=text(frame.get("invocation_id")), sent=sent)]
            case "stream_completed":
                return self._completed(frame, sent)
            case status:
                return [Progress(message=text(status) or "working", sent=sent)]

    def _completed(self, frame: dict[str, Any], sent: ServerSentEvent) -> Iterator[AgentEvent]:
        yield from self.flush()
        total = integer(frame.get("total_chunks"))
        if total is not None and total != self._yielded:
            yield Notice(message=f"The agent yielded {total} times, and {self._yielded} came.", sent=sent)
        if self._kept and not self._has_text:
            values = "one value" if self._kept == 1 else f"{self._kept} values"
            yield Notice(message=f"The agent yielded no text but {values}: see .artifacts of the result.", sent=sent)
        yield Done(execution_time=number(frame.get("execution_time")), sent=sent)

    def _data(self, frame: dict[str, Any], sent: ServerSentEvent) -> Iterable[AgentEvent]:
        self._yielded += 1
        value = _yielded(frame.get("content"))
        match value:
            case None:
                return [Unknown(name="null", data=sent.data, sent=sent)]
            case {"error": str() as said, "original_type": str()} if len(value) == 2:
                return [Notice(message=f"The server could not send what the agent yielded: {text(said)}", sent=sent)]
            case {"message_type": "reasoning_message", "reasoning": str() as thought}:  # Letta
                return [Reasoning(text=text(thought) or "", sent=sent)]
            case _ if (piece := _text_in(value)) is not None:
                self._has_text = self._has_text or bool(piece)
                return [Text(text=self._joiner.feed(piece), sent=sent)]
            case _:
                self._kept += 1
                return [Artifact(name="yielded", media_type="application/json", data=to_json(value), sent=sent)]

    def _failed(self, frame: dict[str, Any], sent: ServerSentEvent) -> Failed:
        error = frame.get("error")
        inner = error if isinstance(error, dict) else {}
        said = text(error) or text(inner.get("message")) or text(frame.get("detail")) or sent.data
        coded = re.match(r"\[([A-Z0-9_]+)]\s*(.+)", said, re.DOTALL)
        code, said = coded.groups() if coded else (text(inner.get("code")) or text(frame.get("code")), said)
        if NOT_FOUND.match(said):
            said = (
                f"{said.rstrip('.')}. Name one that the agent has in the parameter entrypoint_tag: they stand in its "
                f"runagent.config.json, and in the reply to {'/'.join(self._architecture())}."
            )
        return Failed(message=said, code=code, sent=sent)

    def _architecture(self) -> tuple[str, ...]:
        return (self._ask.base_url, "api", "v1", "agents", self._ask.agent, "architecture")


def _yielded(content: object) -> Any:
    """What the agent's function yielded, as the SDK reads it: structured, or as JSON, or as it stands."""
    if not isinstance(content, str):
        return content
    try:
        value = read_json(content)
    except ValueError:
        return content
    if not isinstance(value, dict) or not isinstance(value.get("payload"), str) or "type" not in value:
        return value
    try:
        return read_json(value["payload"])
    except ValueError:
        return value["payload"]


def _text_in(value: object) -> str | None:
    """The new text in what an agent yielded; None where it has none, or none that is known to be new."""
    match value:
        case str():
            return value
        case bool() | int() | float():
            return to_json(value)
        case {"choices": [{"delta": {"content": str() as piece}}, *_]}:  # OpenAI's client
            return piece
        case {"event": str() as event} if event not in TEXT_EVENTS:  # Agno
            return None
        case {"message_type": str() as kind} if kind != "assistant_message":  # Letta
            return None
        case {"delta": str() as piece} | {"content": str() as piece} | {"text": str() as piece}:
            return piece  # LlamaIndex, whose `response` beside it is the whole so far; AG2, Agno, Letta; most others
        case _:
            return None
