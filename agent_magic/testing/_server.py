"""A server that does what a script tells it, byte by byte: TCP or TLS on loopback, any wire."""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from typing import Any, Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

__all__ = ["Act", "Connection", "Script", "ScriptedServer", "head"]

# How long a script may go on after its server's test is over.
JOIN_SECONDS = 10


class Connection:
    """One client's connection, its request read. What a script does with it is all that the client sees.

    `number` counts the server's connections from 0. When the script returns, the connection is closed
    cleanly (a FIN); `reset` closes it with an RST.
    """

    def __init__(self, server: ScriptedServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self.request = b""
        self.number = 0

    @property
    def head(self) -> str:
        """The request line and the headers as they came."""
        return self.request.partition(b"\r\n\r\n")[0].decode("latin-1")

    def body(self) -> dict[str, Any]:
        """The JSON object in the request's body; empty where there is none."""
        said = self.request.partition(b"\r\n\r\n")[2]
        value = json.loads(said) if said else {}
        return value if isinstance(value, dict) else {}

    async def send(self, data: bytes) -> None:
        """Send `data`, and wait while the client is slow to take it."""
        self._writer.write(data)
        await self._writer.drain()

    async def drip(self, data: bytes, pause: float) -> None:
        """Send `data` one byte at a time, `pause` seconds between two."""
        for place in range(len(data)):
            await self.send(data[place : place + 1])
            await asyncio.sleep(pause)

    async def read(self) -> bytes:
        """What the client sends next; empty where it has left."""
        return await self._reader.read(65536)

    async def stall(self) -> None:
        """Say nothing more, and wait until the client gives up."""
        while await self._reader.read(65536):
            pass
        self._server.disconnected.set()

    async def reset(self) -> None:
        """Close with an RST: what the client has not read yet may be lost to it."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Go on in TLS, as a proxy's tunnel does."""
        await self._writer.start_tls(context)

    async def read_request(self) -> bytes:
        """The next request on this connection, whole; empty where the client has left."""
        try:
            start = await self._reader.readuntil(b"\r\n\r\n")
            lengths = [line for line in start.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            return start + await self._reader.readexactly(int(lengths[0].partition(b":")[2]) if lengths else 0)
        except asyncio.IncompleteReadError:
            return b""

    async def close(self) -> None:
        """Close with a FIN, after all that was sent has gone out."""
        with suppress(OSError):
            self._writer.close()
            await self._writer.wait_closed()


Act = Callable[[Connection], Awaitable[None]]
Script = Callable[[socket.socket, bytes, int], None]


class ScriptedServer:
    """A raw server on loopback that runs `script` for each connection::

        async def script(connection: Connection) -> None:
            await connection.send(head() + b"data: {")
            await connection.reset()

        with ScriptedServer(script) as server:
            ...  # ask server.url

    A script may also be a plain function of the socket, the request and the connection's number: it
    gets a thread of its own, and may block. `tls` makes it an https server. `requests` holds what was
    asked; `disconnected` is set when a client has closed a connection before its script was through.
    """

    def __init__(self, script: Callable[..., Awaitable[None] | None], *, tls: ssl.SSLContext | None = None) -> None:
        self._script: Any = script
        self._is_async = inspect.iscoroutinefunction(script)
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        self.requests: list[bytes] = []
        self.disconnected = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Self:
        self._portal = self._stack.enter_context(start_blocking_portal("asyncio", name="scripted server"))
        self._portal.call(self._begin)
        return self

    def __exit__(self, *error: object) -> None:
        assert self._portal is not None
        self._portal.call(self._end)
        # A shutdown wakes the threads that read; a close alone would leave them waiting.
        for waiting in tuple(self._open):
            with suppress(OSError):
                waiting.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        for left in tuple(self._open):
            left.close()
        self._stack.close()

    def bodies(self) -> list[dict[str, Any]]:
        """The JSON bodies of the requests so far."""
        return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in self.requests]

    def wait_for_disconnect(self, connection: socket.socket) -> None:
        """Block a plain script until its client closes the connection."""
        with suppress(OSError):
            while connection.recv(4096):
                pass
        self.disconnected.set()

    async def _begin(self) -> None:
        # Not sock_accept in a task: a connection that arrives as the task is cancelled would be nobody's.
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    async def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listening.accept()
        except OSError:  # the client left before it was let in
            return
        self._open.add(accepted)
        if self._is_async:
            accepted.setblocking(False)
            serving = asyncio.get_running_loop().create_task(self._serve(accepted))
            self._tasks.add(serving)
            serving.add_done_callback(self._tasks.discard)
        else:
            accepted.setblocking(True)
            thread = threading.Thread(target=self._serve_blocking, args=(accepted,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _note(self, request: bytes) -> int:
        with self._lock:
            self.requests.append(request)
            return len(self.requests) - 1

    async def _serve(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = asyncio.StreamReader(2**20)
        made: list[asyncio.StreamWriter] = []
        protocol = asyncio.StreamReaderProtocol(reader, lambda _reader, writer: made.append(writer))
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=self._tls)
        except OSError:  # a client that does not trust the certificate hangs up
            accepted.close()
            return
        finally:
            self._open.discard(accepted)
        connection = Connection(self, reader, made[0])
        try:
            connection.request = await connection.read_request()
            if connection.request:
                connection.number = self._note(connection.request)
                await self._script(connection)
        except ConnectionError:
            self.disconnected.set()
        except asyncio.CancelledError:  # the test is over, whether or not its client reads on
            transport.abort()
            raise
        finally:
            await connection.close()

    def _serve_blocking(self, accepted: socket.socket) -> None:
        with accepted:
            try:
                request = _read_request(accepted)
                self._script(accepted, request, self._note(request))
            except (BrokenPipeError, ConnectionResetError):
                self.disconnected.set()
            finally:
                self._open.discard(accepted)
                with suppress(OSError):
                    accepted.shutdown(socket.SHUT_WR)


def _read_request(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(65536) or _gone()
    start, _, body = request.partition(b"\r\n\r\n")
    lengths = [line for line in start.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].partition(b":")[2]) if lengths else 0
    while len(body) < length:
        body += connection.recv(65536) or _gone()
    return start + b"\r\n\r\n" + body


def _gone() -> bytes:
    raise ConnectionResetError("the client left before its request was whole")


def head(content_type: str = "text/event-stream", status: str = "200 OK", *extra: str) -> bytes:
    """A response's head, whose body ends with the connection."""
    lines = [f"HTTP/1.1 {status}", *([f"Content-Type: {content_type}"] if content_type else [])]
    return "\r\n".join([*lines, "Connection: close", *extra, "", ""]).encode()
