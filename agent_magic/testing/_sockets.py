"""A WebSocket server that does what a script tells it, frame by frame: ws or wss on loopback, any wire."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any, Self

from anyio.from_thread import BlockingPortal, start_blocking_portal
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

__all__ = ["Play", "ScriptedSockets", "Socket", "frames_in_pieces", "tells"]


class Socket:
    """One client's socket, its first frame read. When the script returns, the socket is closed with code 1000.

    `number` counts the server's sockets from 0, `frame` is the JSON object that the client sent first.
    """

    def __init__(self, server: ScriptedSockets, connection: ServerConnection, first: str | bytes, number: int) -> None:
        self._server = server
        self._connection = connection
        self.number = number
        self.frame: dict[str, Any] = json.loads(first)

    async def send(self, *frames: str) -> None:
        """Send text frames, each whole."""
        for frame in frames:
            await self._connection.send(frame)

    async def send_binary(self, data: bytes) -> None:
        """Send a binary frame."""
        await self._connection.send(data)

    async def send_pieces(self, pieces: Sequence[bytes]) -> None:
        """Send one text frame in pieces, which may end within a character."""
        await self._connection.send(iter(pieces), text=True)

    async def send_raw(self, data: bytes) -> None:
        """Write to the connection itself, beside all framing."""
        self._connection.transport.write(data)

    async def ping(self) -> None:
        """Send a ping, and wait for its pong."""
        await (await self._connection.ping())

    async def stall(self) -> None:
        """Say nothing more, and wait until the client gives up."""
        await self._connection.wait_closed()
        self._server.disconnected.set()

    async def close(self, code: int, reason: str = "") -> None:
        """Close with `code`."""
        await self._connection.close(code, reason)

    async def end(self) -> None:
        """End the connection with a FIN, without a word of closing."""
        self._connection.transport.close()
        await self._connection.wait_closed()

    async def reset(self) -> None:
        """End the connection with an RST: what the client has not read yet may be lost to it."""
        raw = self._connection.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.transport.abort()


Play = Callable[[Socket], Awaitable[None]]


class ScriptedSockets:
    """A WebSocket server on loopback that runs `script` for each socket::

        async def script(socket: Socket) -> None:
            await socket.send('{"type": "status"}')
            await socket.stall()

        with ScriptedSockets(script) as server:
            ...  # ask server.url, an http one

    `tls` makes it a server for https. `heads` holds the request lines and headers of the handshakes, `frames` the
    first frame of each client; `disconnected` is set when a client has left before its script was through. A
    handshake is refused by a `ScriptedServer`.
    """

    def __init__(self, script: Play, *, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._server: Server | None = None
        self.url = ""
        self.heads: list[str] = []
        self.frames: list[dict[str, Any]] = []
        self.disconnected = threading.Event()

    def __enter__(self) -> Self:
        self._portal = self._stack.enter_context(start_blocking_portal("asyncio", name="scripted sockets"))
        self._portal.call(self._begin)
        return self

    def __exit__(self, *error: object) -> None:
        assert self._portal is not None
        self._portal.call(self._end)
        self._stack.close()

    async def _begin(self) -> None:
        # No pings of its own: a script says all that there is to see. Nothing is compressed, as nothing is offered.
        self._server = await serve(
            self._serve, "127.0.0.1", 0, ssl=self._tls, ping_interval=None, max_size=None, close_timeout=5
        )
        port = next(iter(self._server.sockets)).getsockname()[1]
        self.url = f"{'http' if self._tls is None else 'https'}://127.0.0.1:{port}"

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, connection: ServerConnection) -> None:
        try:
            number = len(self.heads)
            assert connection.request is not None
            lines = [f"{name}: {value}" for name, value in connection.request.headers.raw_items()]
            self.heads.append("\n".join([f"GET {connection.request.path}", *lines]))
            first = Socket(self, connection, await connection.recv(), number)
            self.frames.append(first.frame)
            await self._script(first)
        except ConnectionClosed:
            self.disconnected.set()


def tells(*frames: str, pieces: Sequence[Sequence[bytes]] = (), is_open: bool = True) -> Play:
    """Send `frames`, then those that come in `pieces`; then leave the socket open, or close it."""

    async def script(socket: Socket) -> None:
        await socket.send(*frames)
        for frame in pieces:
            await socket.send_pieces(frame)
        if is_open:
            await socket.stall()

    return script


def frames_in_pieces(pieces: Sequence[bytes]) -> list[list[bytes]]:
    """The frames that stand line by line in what `pieces` make together, each cut where they are cut."""
    frames: list[list[bytes]] = [[]]
    for piece in pieces:
        first, *others = piece.split(b"\n")
        frames[-1].append(first)
        frames += [[other] for other in others]
    cut = [[piece for piece in frame if piece] for frame in frames]
    return [frame for frame in cut if frame]
