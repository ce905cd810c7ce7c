"""RunAgent: ``POST {base}/v1/agents/{agent_id}/stream``.

Events ``start``, ``chunk``, ``error`` and ``done``, as RunAgent's page "Stream agent responses"
documents them. Three rules of this room:

- A chunk's `index` is its place in the whole answer. After a resume a chunk that had come is dropped,
  so a server that resumes one chunk early, or begins again, changes nothing; but it must be the same
  chunk, or two answers would be made into one. A chunk beyond the next one is a gap, and is said.
- The stream can be resumed where the server named a session and every chunk had an index.
- A ``done`` is the end whatever its data holds: the page's own example of it is not valid SSE, and a
  parser that follows the standard reads ``{`` there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from agent_magic._request import AgentRequest, HTTPRequest, join_url
from agent_magic.errors import AgentError, AgentMagicError, ProtocolError
from agent_magic.events import (
    AgentEvent,
    Done,
    Failed,
    Notice,
    Replace,
    ServerSentEvent,
    Started,
    Text,
    Unknown,
)
from agent_magic.protocols._asking import key_header, refuse_fields
from agent_magic.protocols._base import HTTPFailure, Keeper
from agent_magic.protocols._ends import error_of, usage_of
from agent_magic.protocols._json import integer, number, object_or_empty, read_object, text, to_json
from agent_magic.protocols._pieces import Joiner

__all__ = ["RunAgent", "RunAgentDecoder"]

OWN_FIELDS = frozenset({"query", "parameters", "session_id", "stream"})


class RunAgent:
    """RunAgent's HTTP wire. Parameters go into the body's ``parameters`` object."""

    name = "runagent"
    base_url = "https://api.run-agent.ai"
    key_env: str | None = "RUNAGENT_API_KEY"
    conversations: Keeper = "server"
    has_system = False

    def request(self, ask: AgentRequest) -> HTTPRequest:
        """The POST that begins, or resumes, a stream."""
        refuse_fields(ask.parameters, OWN_FIELDS, self.name)
        body: dict[str, Any] = {"query": ask.prompt}
        if ask.parameters:
            body["parameters"] = ask.parameters
        if ask.session_id is not None:
            body["session_id"] = ask.session_id
        return HTTPRequest(
            method="POST",
            url=join_url(ask.base_url, "v1", "agents", ask.agent, "stream"),
            headers={**ask.headers, **key_header(ask), "Accept": "text/event-stream"},
            body=body,
        )

    def decoder(self, ask: AgentRequest) -> RunAgentDecoder:
        """A decoder for one run."""
        return RunAgentDecoder(ask)

    def error(self, failure: HTTPFailure) -> AgentMagicError:
        """The error of a failed reply; a 404 says that a self-hosted RunAgent has no such endpoint."""
        error = error_of(failure)
        if failure.status == 404 and isinstance(error, AgentError):
            hint = "(`runagent serve` has no /stream endpoint: it streams over a WebSocket, the wire runagent-ws)."
            return AgentError(f"{str(error)[:-1]} {hint}", error.code, error.message)
        return error


class RunAgentDecoder:
    """One run's RunAgent stream."""

    def __init__(self, ask: AgentRequest) -> None:
        self._ask = ask
        self._session_id: str | None = ask.session_id
        # The place of the next chunk; None before the first.
        self._due: int | None = None
        # The text of each chunk by its place, as a hash: what comes again must be what had come.
        self._folded: dict[int, int] = {}
        self._unplaced = 0
        self._repeated: int | None = None
        self._indexed = True
        self._resumed = False
        self._joiner = Joiner()

    def decode(self, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        """What one event says."""
        match sent.event:
            case "chunk":
                return self._chunk(sent)
            case "start":
                return self._start(sent)
            case "error":
                return [_failed(sent)]
            case "done":
                return self._done(sent)
            case "" | "message" if '"content"' in sent.data:
                # The page's Python example reads any data that has a `content`, whatever its event.
                return self._chunk(sent)
            case name:
                return [Unknown(name=name, data=sent.data, sent=sent)]

    def whole(self, body: bytes) -> Iterator[AgentEvent]:
        """The reply of ``/invoke``, in both of the shapes that are documented."""
        said = body.decode("utf-8", "replace")
        sent = ServerSentEvent("", said)
        reply = object_or_empty(said)
        inner = reply.get("data")
        result = reply if "result" in reply or not isinstance(inner, dict) else inner
        answer = result.get("result")
        if answer is None:
            raise ProtocolError("The server sent a JSON reply without a result.", said)
        if session_id := text(reply.get("session_id")) or text(result.get("session_id")):
            yield Started(session_id=session_id, sent=sent)
        words = answer if isinstance(answer, str) else to_json(answer)
        # A reply to a resumed request is the whole answer, and takes the place of the part that had come.
        if self._resumed:
            self._joiner = Joiner()
            yield Replace(text=text(words) or "", sent=sent)
        else:
            yield Text(text=text(words) or "", sent=sent)
        metadata = result.get("metadata")
        figures = {**reply, **(metadata if isinstance(metadata, dict) else {})}
        yield from _ending(figures, sent)

    def closed(self) -> Iterable[AgentEvent]:
        """Nothing: this wire says itself when the answer is complete."""
        return []

    def flush(self) -> Iterable[AgentEvent]:
        """Half a character that the stream ended in."""
        return self._joiner.rest()

    def resume(self) -> AgentRequest | None:
        """The same question from the next chunk on; None without a session, or with chunks that had no index."""
        if self._session_id is None or not self._indexed:
            return None
        self._resumed = True
        self._repeated = None
        return msgspec.structs.replace(
            self._ask,
            session_id=self._session_id,
            parameters={**self._ask.parameters, "resume_from_index": self._due or 0},
        )

    def _start(self, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        session_id = text(object_or_empty(sent.data).get("session_id"))
        if session_id:
            self._session_id = session_id
        return [Started(session_id=session_id, sent=sent)]

    def _chunk(self, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        data = read_object(sent)
        content = data.get("content")
        if not isinstance(content, str):
            raise ProtocolError("The server sent a chunk without text in its content.", sent.data)
        index = integer(data.get("index"))
        if index is None:
            return self._unnumbered(content, sent)
        if index == self._due and self._repeated is None and not self._unplaced:  # as nearly always
            self._due = index + 1
            self._folded[index] = hash(content)
            return [Text(text=self._joiner.feed(content), index=index, sent=sent)]
        if index in self._folded:
            return self._again(content, index, sent)
        return self._placed(content, index, sent)

    def _unnumbered(self, content: str, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        if self._resumed and self._due is not None:
            raise ProtocolError(
                "The server took the stream up again without saying where; what followed could double the text.",
                sent.data,
            )
        self._indexed = False
        self._unplaced += 1
        return [Text(text=self._joiner.feed(content), sent=sent)]

    def _again(self, content: str, index: int, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        """A chunk in a place that is taken: after a resume it must be the one that had come."""
        if not self._resumed:
            return [Notice(message=f"Chunk {index} came again and was left out.", sent=sent)]
        if self._folded[index] != hash(content):
            raise ProtocolError(
                f"The server began another answer instead of taking this one up (its chunk {index} is not the one "
                "that had come); what had arrived is kept.",
                sent.data,
            )
        self._repeated = index
        return []

    def _placed(self, content: str, index: int, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        """A chunk in a place of its own. Chunks without a number may have filled what looks like a gap."""
        due, spare = self._due, self._unplaced
        if due is None:  # a stream that was taken up before its first chunk was asked to begin at 0
            due = 0 if self._resumed else index
        if index < due:
            return [Notice(message=f"Chunk {index} came too late and was left out.", sent=sent)]
        self._folded[index] = hash(content)
        self._due, self._unplaced, self._repeated = index + 1, 0, None
        piece = Text(text=self._joiner.feed(content), index=index, sent=sent)
        if index <= due + spare:
            return [piece]
        missing = f"Chunk {due} is missing" if index == due + 1 else f"Chunks {due} to {index - 1} are missing"
        return [Notice(message=f"{missing} here: the server skipped them.", sent=sent), piece]

    def _early(self, sent: ServerSentEvent) -> Iterator[Notice]:
        last = (self._due or 0) - 1
        if self._repeated is not None and self._repeated < last:
            said = f"The server ended the answer at chunk {self._repeated}, though it had sent chunk {last} before."
            yield Notice(message=said, sent=sent)

    def _done(self, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        return [*self.flush(), *self._early(sent), *_ending(object_or_empty(sent.data), sent)]


def _ending(figures: dict[str, Any], sent: ServerSentEvent) -> Iterator[AgentEvent]:
    usage = figures.get("usage")
    if isinstance(usage, dict):
        yield usage_of(usage, sent)
    yield Done(execution_time=number(figures.get("execution_time")), sent=sent)


def _failed(sent: ServerSentEvent) -> Failed:
    data = object_or_empty(sent.data)
    code = text(data.get("code"))
    retry_after = number(data.get("retry_after"))
    return Failed(
        message=text(data.get("error")) or text(data.get("message")) or sent.data,
        code=code,
        retry_after=retry_after,
        transient=code == "CAPACITY_ERROR" and retry_after is not None,
        sent=sent,
    )
