"""Ways to misbehave: scripts for a `ScriptedServer`, to be used as they are or put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from agent_magic.testing._server import Act, Connection, head

__all__ = [
    "Cut",
    "breaks_off",
    "drips",
    "falls_silent",
    "floods",
    "in_turn",
    "pings",
    "redirects",
    "refuses",
    "says",
]

Cut = Literal["FIN", "RST"]


def says(*parts: bytes, content_type: str = "text/event-stream", extra: Sequence[str] = ()) -> Act:
    """Send `parts`, each by itself, as the body of a reply to every client."""

    async def script(connection: Connection) -> None:
        await connection.send(head(content_type, "200 OK", *extra))
        for part in parts:
            await connection.send(part)

    return script


def refuses(status: str, body: bytes = b"", *extra: str, content_type: str = "application/json") -> Act:
    """Answer with `status` (such as ``429 Too Many Requests``), `body`, and `extra` header lines."""

    async def script(connection: Connection) -> None:
        await connection.send(head(content_type, status, f"Content-Length: {len(body)}", *extra) + body)

    return script


def redirects(to: str, status: str = "307 Temporary Redirect") -> Act:
    """Send every client on to the URL `to`."""
    return refuses(status, b"", f"Location: {to}")


def breaks_off(sent: bytes, cut: Cut = "FIN", *, reply: bytes | None = None) -> Act:
    """Send a reply's head and `sent`, then end the connection: cleanly, or with an RST."""

    async def script(connection: Connection) -> None:
        await connection.send((head() if reply is None else reply) + sent)
        if cut == "RST":
            await connection.reset()

    return script


def falls_silent(sent: bytes, *, reply: bytes | None = None) -> Act:
    """Send a reply's head and `sent`, then nothing, until the client gives up. An empty `reply` sends no head."""

    async def script(connection: Connection) -> None:
        await connection.send((head() if reply is None else reply) + sent)
        await connection.stall()

    return script


def drips(sent: bytes, pause: float, *, reply: bytes | None = None) -> Act:
    """Send `sent` one byte at a time, `pause` seconds between two."""

    async def script(connection: Connection) -> None:
        await connection.send(head() if reply is None else reply)
        await connection.drip(sent, pause)

    return script


def pings(pause: float, sent: bytes = b"") -> Act:
    """Send `sent`, then a comment every `pause` seconds, for ever."""

    async def script(connection: Connection) -> None:
        await connection.send(head() + sent)
        while True:
            await connection.send(b": ping\n\n")
            await asyncio.sleep(pause)

    return script


def floods(piece: bytes, begin: bytes = b"", *extra: str) -> Act:
    """Send `begin`, then `piece` again and again, as fast as the client takes it, for ever."""

    async def script(connection: Connection) -> None:
        await connection.send(head("text/event-stream", "200 OK", *extra) + begin)
        while True:
            await connection.send(piece)

    return script


def in_turn(*scripts: Act) -> Act:
    """The first script for the first connection, and so on; the last one for all that follow."""

    async def script(connection: Connection) -> None:
        await scripts[min(connection.number, len(scripts) - 1)](connection)

    return script
