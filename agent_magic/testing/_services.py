"""Services that understand their wire, and take a lost stream up again, well or badly."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal

from agent_magic.protocols import AgentProtocol
from agent_magic.protocols.runagent import RunAgent
from agent_magic.protocols.you import You
from agent_magic.testing._scripts import Cut
from agent_magic.testing._server import Act, Connection, head

__all__ = ["Resume", "RunAgentService", "Service", "Where", "YouService", "event_bytes"]

Where = Callable[[dict[str, Any]], int | None]
Resume = Literal["exactly", "repeats", "ignores", "skips", "forgot"]


class Service(ABC):
    """An answer in pieces, and the way in which one wire sends it; the subclasses are the wires.

    What it sends can be reckoned from its pieces alone, without any decoder.
    """

    protocol: AgentProtocol

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = tuple(pieces)

    @cached_property
    def events(self) -> list[bytes]:
        """The stream of the whole answer, event by event."""
        return [*self.opening(), *map(self.piece, range(len(self.pieces))), *self.closing()]

    @cached_property
    def recorded(self) -> bytes:
        """The stream of the whole answer."""
        return b"".join(self.events)

    @abstractmethod
    def opening(self) -> list[bytes]:
        """The events before the first piece."""

    @abstractmethod
    def piece(self, place: int) -> bytes:
        """The event that carries the piece at `place`."""

    @abstractmethod
    def closing(self) -> list[bytes]:
        """The events behind the last piece."""

    @abstractmethod
    def asked_for(self, body: dict[str, Any]) -> int | None:
        """The piece from which a request wants to go on; None for one that begins."""

    def stream_from(self, place: int) -> bytes:
        """The stream of an answer that is taken up at the piece `place`."""
        return b"".join([*self.opening(), *map(self.piece, range(place, len(self.pieces))), *self.closing()])

    @property
    def reply(self) -> bytes:
        """The whole reply to a request that begins: its head, and the stream."""
        return head() + self.recorded

    def cut_at(self, place: int, cut: Cut = "FIN", resume: Resume = "exactly") -> Act:
        """Break the first reply off after `place` bytes; what is asked after that is taken up as `resume` says."""
        places = iter([place])
        return self.cuts(lambda _body: next(places, None), lambda _body: cut, resume)

    def cuts(self, place: Where, cut: Callable[[dict[str, Any]], Cut], resume: Resume = "exactly") -> Act:
        """As `cut_at`, for many clients: the place and the cut are read from the body of a request that begins.

        Where `place` gives None the reply is whole.
        """

        async def script(connection: Connection) -> None:
            body = connection.body()
            asked = self.asked_for(body)
            if asked is not None:
                await self.take_up(connection, asked, resume)
                return
            await connection.send(self.reply[: place(body)])
            if cut(body) == "RST":
                await connection.reset()

        return script

    async def take_up(self, connection: Connection, asked: int, resume: Resume) -> None:
        """Answer a request for the pieces from `asked` on."""
        match resume:
            case "exactly":
                await connection.send(head() + self.stream_from(asked))
            case "repeats":
                await connection.send(head() + self.stream_from(max(0, asked - 2)))
            case "ignores":
                await connection.send(self.reply)
            case "skips":
                await connection.send(head() + self.stream_from(self.skipped_to(asked)))
            case "forgot":
                said = json.dumps({"detail": "Session not found"}).encode()
                await connection.send(head("application/json", "404 Not Found") + said)

    def skipped_to(self, asked: int) -> int:
        """Where a service that skips two pieces goes on: never behind the last one, which would leave no trace."""
        return max(asked, min(asked + 2, len(self.pieces) - 1))


def event_bytes(name: str, data: str, newline: str, identity: int | None = None) -> bytes:
    """One server-sent event, its lines ended by `newline`, with `identity` as its ``id``."""
    lines = [f"event: {name}", f"data: {data}"]
    if identity is not None:
        lines.insert(0, f"id: {identity}")
    return newline.join([*lines, "", ""]).encode()


class RunAgentService(Service):
    """RunAgent: chunks with an index, a session, and a resume by index."""

    protocol = RunAgent()
    session = "s-1"

    def opening(self) -> list[bytes]:
        said = json.dumps({"message": "Stream started", "session_id": self.session})
        return [event_bytes("start", said, "\n")]

    def piece(self, place: int) -> bytes:
        # Half a character goes as an escape of its own; all others as they are, in several bytes.
        text = self.pieces[place]
        is_whole = text == text.encode("utf-8", "ignore").decode()
        said = json.dumps({"content": text, "index": place}, ensure_ascii=not is_whole)
        return event_bytes("chunk", said, "\n")

    def closing(self) -> list[bytes]:
        usage = {"prompt_tokens": 10, "completion_tokens": 90, "total_tokens": 100}
        said = json.dumps({"message": "Stream complete", "usage": usage, "execution_time": 2.5})
        return [event_bytes("done", said, "\n")]

    def asked_for(self, body: dict[str, Any]) -> int | None:
        place = body.get("parameters", {}).get("resume_from_index")
        return place if isinstance(place, int) and body.get("session_id") == self.session else None


class YouService(Service):
    """You.com's agents: CRLF, an id on every event, and no way back into a run."""

    protocol = You()

    def _numbered(self, number: int, name: str, response: dict[str, Any] | None = None) -> bytes:
        data: dict[str, Any] = {"seq_id": number, "type": name}
        if response is not None:
            data["response"] = response
        return event_bytes(name, json.dumps(data), "\r\n", number)

    def opening(self) -> list[bytes]:
        names = ["response.created", "response.starting"]
        added = self._numbered(2, "response.output_item.added", {"output_index": 0})
        return [*(self._numbered(number, name) for number, name in enumerate(names)), added]

    def piece(self, place: int) -> bytes:
        response = {"output_index": 0, "type": "message.answer", "delta": self.pieces[place]}
        return self._numbered(3 + place, "response.output_text.delta", response)

    def closing(self) -> list[bytes]:
        last = 3 + len(self.pieces)
        return [
            self._numbered(last, "response.output_item.done", {"output_index": 0}),
            self._numbered(last + 1, "response.done", {"run_time_ms": "29.862", "finished": True}),
        ]

    def asked_for(self, body: dict[str, Any]) -> int | None:  # noqa: ARG002 (this wire cannot ask)
        return None
