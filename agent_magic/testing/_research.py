"""A stand-in for You.com's research: tasks that go on at the server, whoever reads of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from agent_magic.protocols.you_research import YouResearch
from agent_magic.testing._scripts import Cut
from agent_magic.testing._server import Act, Connection, head
from agent_magic.testing._services import Resume, Service, Where, event_bytes

__all__ = ["YouResearchService"]

SEARCHED = {"url": "https://a.example/sky", "title": "Sky", "snippets": ["Blue light scatters more.", "So it is blue."]}


@dataclass
class _Task:
    """A task that has begun: where its first replies are broken off, and how often each has been asked for."""

    cut: Cut
    left: int | None
    asked: dict[str, int] = field(default_factory=dict)


class YouResearchService(Service):
    """You.com's research: a POST begins a task, its stream tells of its steps, its result has the answer.

    As the pages and the SDK have it: an event ``connected`` of number 0 opens each stream, the names of the steps
    are the server's own, ``response.done`` closes it, and no text is in it. One piece of the answer is one step.
    A place to cut at counts on through the three replies. What the pages leave open is what `Resume` says: the
    event ``from_id`` comes again (``repeats``) or does not (``exactly``).
    """

    protocol = YouResearch()

    @staticmethod
    def name_of(number: int) -> str:
        """The name of the task that the POST `number` (from 0) begins."""
        return f"{number:08x}-0000-4000-8000-000000000000"

    def begun(self, name: str) -> bytes:
        """The reply to a POST."""
        said = {
            "task_id": name,
            "type": "research",
            "status": "queued",
            "stream_url": f"/v1/research/{name}/stream",
            "created_at": "2026-06-26T00:00:00Z",
        }
        return json.dumps(said).encode()

    def finished(self, name: str) -> bytes:
        """The task, once it is complete."""
        text = "".join(self.pieces).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        said = {
            "id": name,
            "task_type": "research",
            "status": "completed",
            "created_at": "2026-06-26T00:00:00Z",
            "updated_at": "2026-06-26T00:01:30Z",
            "completed_at": "2026-06-26T00:01:30Z",
            "error": None,
            "result": {"output": {"content": text, "content_type": "text", "sources": [SEARCHED]}, "warnings": []},
        }
        return json.dumps(said).encode()

    def opening(self) -> list[bytes]:
        said = {"type": "connected", "task_id": self.name_of(0), "status": "running"}
        return [event_bytes("connected", json.dumps(said), "\n", 0)]

    def piece(self, place: int) -> bytes:
        return self._told("research.searching", place + 1, "running", {"message": f"step {place + 1}"})

    def closing(self) -> list[bytes]:
        return [self._told("response.done", len(self.pieces) + 1, "completed", {})]

    def _told(self, name: str, number: int, status: str, data: dict[str, Any]) -> bytes:
        task = self.name_of(0)
        said = {"type": name, "task_id": task, "status": status, "data": data, "error": None, "sequence": number}
        return event_bytes(name, json.dumps(said), "\n", number)

    def asked_for(self, body: dict[str, Any]) -> int | None:  # noqa: ARG002 (what goes on is asked for by a GET)
        return None

    @cached_property
    def replies(self) -> list[bytes]:
        """The three replies to one who reads without a cut: the task's name, its stream, its result."""
        return [_json(self.begun(self.name_of(0))), head() + self.recorded, _json(self.finished(self.name_of(0)))]

    @property
    def reply(self) -> bytes:
        """The three replies, one behind the other."""
        return b"".join(self.replies)

    def cuts(self, place: Where, cut: Callable[[dict[str, Any]], Cut], resume: Resume = "exactly") -> Act:
        tasks: dict[str, _Task] = {}

        async def script(connection: Connection) -> None:
            method, target = connection.head.split(" ", 2)[:2]
            found = re.fullmatch(r"/v1/research(?:/([^/?]+)(/stream)?(?:\?from_id=([0-9]+))?)?", target)
            if found is None:
                await _send(connection, head("application/json", "404 Not Found") + b'{"detail": "Not found"}', None)
            elif method == "POST":
                body = connection.body()
                name = self.name_of(len(tasks))
                tasks[name] = _Task(cut(body), place(body))
                await _send(connection, _json(self.begun(name)), tasks[name])
            else:
                task = tasks[found[1]]
                task.asked[target.partition("?")[0]] = count = task.asked.get(target.partition("?")[0], 0) + 1
                if count > 1 and resume == "forgot":
                    said = head("application/json", "404 Not Found") + b'{"detail": "Task not found"}'
                    await _send(connection, said, None)
                elif found[2] is None:
                    await _send(connection, _json(self.finished(found[1])), task)
                elif found[3] is None:
                    await _send(connection, head() + self.recorded, task)
                else:
                    await self.take_up(connection, int(found[3]), resume)

        return script

    async def take_up(self, connection: Connection, asked: int, resume: Resume) -> None:
        if resume == "ignores":
            await connection.send(head() + self.recorded)
        else:
            await super().take_up(connection, asked, resume)


def _json(said: bytes) -> bytes:
    return head("application/json", "200 OK", f"Content-Length: {len(said)}") + said


async def _send(connection: Connection, reply: bytes, task: _Task | None) -> None:
    """Send `reply`, or what of it stands before the task's cut."""
    if task is None or task.left is None or task.left > len(reply):
        await connection.send(reply)
        if task is not None and task.left is not None:
            task.left -= len(reply)
        return
    whole, task.left = task.left, None
    await connection.send(reply[:whole])
    if task.cut == "RST":
        await connection.reset()
