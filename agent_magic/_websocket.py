"""One WebSocket: a request and a frame out, frames in, and words for what broke. The only room that knows websockets.

It has the manners of `_connection`: redirects are not followed, a key goes over TLS or to this machine, proxies are
for other machines. Each text frame is a server-sent event called ``message``, so what reads, counts, tapes and replays
events need not know how they came. Four more rules:

- The key stands in the URL here, as a handshake has no other place that all servers read; the URL that holds it is
  made in the line that sends it, and never quoted.
- No compression is offered, so that a small frame cannot unpack into a large one.
- The end of a run is no handshake: a connection is closed at once, whatever the server does about it.
- Whatever comes is a sign of life, a ping and a pong too. We ping: an agent may think for longer than `timeout`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from itertools import count
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import anyio.lowlevel
from websockets.asyncio.client import ClientConnection, connect
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.http11 import Response

from agent_magic._connection import certificates, check_request, is_loopback, proxy_error, refuse_untrusted
from agent_magic._keys import Secret
from agent_magic._logs import hidden, hide, strike_logs
from agent_magic._policy import Policy
from agent_magic._reply import CONNECT_SECONDS, HEAD_BYTES, Broken, Kind, Reply, cause_of, seconds_until
from agent_magic._request import SocketRequest, host_of
from agent_magic.errors import AgentError, AgentMagicError, ConfigError, LimitReached, ProtocolError
from agent_magic.events import ServerSentEvent

__all__ = ["SocketClient"]

PING_SECONDS = 20.0
# So many frames that lie ready are read before others get their turn.
FRAMES_AT_ONCE = 64
# A frame in more pieces than this is none. Not all versions of the library that will do count them.
PIECES_AT_MOST = 4096
IN_PIECES = "too many fragments"
DATA = frozenset({Opcode.CONT, Opcode.TEXT, Opcode.BINARY})
# RFC 9110, 5.6.2 and 5.5; the library writes whatever it is given.
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(r"[!-~]([\t -~]*[!-~])?|")
# A server that closes so has something against what was asked, or against who asks: it need not be asked again.
REFUSALS = frozenset({1003, 1007, 1008, 1009, 1010, 3000, 3003})


class _Frames(logging.Filter):
    """Strikes keys out of whole frames: the library shows a long one without its middle, where half a key may be."""

    def filter(self, record: logging.LogRecord) -> bool:
        for argument in record.args if isinstance(record.args, tuple) else ():
            if isinstance(argument, Frame):
                said = bytes(argument.data).decode("utf-8", "replace")
                if any(secret.is_in(said) for secret in hidden()):
                    record.args = ("a frame with a key in it",)
        return True


logging.getLogger("websockets.client").addFilter(_Frames())
strike_logs("websockets.client")


class _Silence:
    """How long nothing has come: a deadline that each sign of life puts off."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._scope: anyio.CancelScope | None = None
        self.is_connected = False

    @contextmanager
    def within(self, seconds: float | None = None) -> Iterator[anyio.CancelScope]:
        """A scope that ends after so much silence."""
        with anyio.move_on_after(self._seconds if seconds is None else seconds) as self._scope:
            yield self._scope

    def put_off(self, now: float) -> None:
        """Something has come. It is told by a callback, which belongs to no task, so the time is told too."""
        if self._scope is not None:
            self._scope.deadline = now + self._seconds


class _Watched(ClientConnection):
    """A connection that tells of each sign of life, and that is not waited for once it is over."""

    def __init__(self, silence: _Silence, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._silence = silence
        self._pieces = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._silence.is_connected = True
        self._silence.put_off(self.loop.time())

    def data_received(self, data: bytes) -> None:
        self._silence.put_off(self.loop.time())
        super().data_received(data)
        if self.protocol.close_sent is not None:
            self.transport.abort()

    def process_event(self, event: Any) -> None:
        if isinstance(event, Frame) and event.opcode in DATA:
            self._pieces = 0 if event.fin else self._pieces + 1
            if self._pieces > PIECES_AT_MOST:
                self.protocol.fail(CloseCode.MESSAGE_TOO_BIG, IN_PIECES)
                self.transport.abort()
                return
        super().process_event(event)


class _Connect(connect):
    """`connect` that stays where it is: a key belongs to one origin."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class SocketClient:
    """Makes WebSockets for one run."""

    def __init__(self, policy: Policy, secrets: Sequence[Secret]) -> None:
        self._policy = policy
        self._secrets = secrets

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    @asynccontextmanager
    async def ask(self, request: SocketRequest) -> AsyncGenerator[Reply]:
        """Open a socket and send the frame; it is closed with the context, also by a stop. Raises `Broken`."""
        check_request(request, self._policy)
        hide([*self._secrets, *request.secrets])  # here a short one too: the library logs the whole handshake
        host = host_of(request.url)
        silence = _Silence(self._policy.timeout)
        try:
            connection = await self._open(request, host, silence)
        except InvalidStatus as refused:
            yield _Refusal(refused.response)
            return
        try:
            await self._begin(connection, request, host, silence)
            yield _Stream(connection, host, self._policy, silence)
            await connection.close()  # it says goodbye and waits for no answer
        finally:
            connection.transport.abort()

    async def _open(self, request: SocketRequest, host: str, silence: _Silence) -> ClientConnection:
        """The connection, its handshake done. Raises `InvalidStatus` where the server refused it."""
        try:
            # Whoever drips is alive; a handshake ends all the same.
            with (
                anyio.move_on_after(max(self._policy.timeout, CONNECT_SECONDS)),
                silence.within(min(self._policy.timeout, CONNECT_SECONDS)),
            ):
                return await self._connect(request, host, silence)
        except InvalidStatus:
            raise
        except (InvalidProxy, ImportError) as error:
            raise proxy_error(error) from None
        except InvalidURI:
            raise ConfigError("The URL made from base_url cannot be used; check it.") from None
        except ProxyError as error:
            raise Broken(f"the proxy on the way to {host} refused ({cause_of(error)})") from None
        except InvalidMessage as error:
            raise Broken(f"the connection to {host} broke ({cause_of(error.__cause__ or error)})") from None
        except InvalidHandshake as error:
            raise ProtocolError(f"{host} did not open a WebSocket ({cause_of(error)}); check base_url.") from None
        except (OSError, ValueError) as error:
            refuse_untrusted(error, host)
            raise Broken(f"no connection to {host} could be made ({cause_of(error)})") from None
        raise _silent(host, self._policy, silence)

    async def _connect(self, request: SocketRequest, host: str, silence: _Silence) -> ClientConnection:
        parts = urlsplit(request.url)
        return await _Connect(
            _revealed_url(request),
            additional_headers=_revealed_headers(request, host),
            compression=None,
            proxy=None if is_loopback(parts.hostname or "") else _proxy(parts.scheme, parts.netloc),
            open_timeout=None,
            ping_interval=min(PING_SECONDS, self._policy.timeout / 2),
            ping_timeout=None,
            close_timeout=0,
            max_size=self._policy.max_event,
            create_connection=partial(_Watched, silence),  # type: ignore[arg-type] # a wrapper will do, say its docs
            ssl=certificates(self._policy.verify) if parts.scheme == "wss" else None,
        )

    async def _begin(self, connection: ClientConnection, request: SocketRequest, host: str, silence: _Silence) -> None:
        with silence.within() as scope, suppress(ConnectionClosed):  # what the server said before is still to be read
            await connection.send(request.encoded_body().decode())
        if scope.cancelled_caught:
            raise _silent(host, self._policy, silence)


class _Refusal:
    """The reply of a server that opened no socket: a page that says why."""

    kind: Kind = "other"

    def __init__(self, response: Response) -> None:
        self._body = bytes(response.body or b"")
        self.status = response.status_code
        self.is_success = 200 <= self.status < 300
        self.media_type = _first(response.headers, "Content-Type").partition(";")[0].strip().lower()
        self.retry_after = seconds_until(_first(response.headers, "Retry-After") or None)

    async def events(self) -> AsyncGenerator[ServerSentEvent]:
        """None."""
        none: tuple[ServerSentEvent, ...] = ()
        for event in none:
            yield event

    async def whole(self) -> bytes:
        """The page."""
        return self._body

    async def beginning(self) -> bytes:
        """The page's first part; the library has read it within the time for a handshake."""
        return self._body[:HEAD_BYTES]


class _Stream(_Refusal):
    """The reply of a server that opened a socket: its frames are the events."""

    kind: Kind = "events"

    def __init__(self, connection: ClientConnection, host: str, policy: Policy, silence: _Silence) -> None:
        super().__init__(connection.response or Response(101, "", Headers()))
        self.is_success = True
        self._connection = connection
        self._host = host
        self._policy = policy
        self._silence = silence

    async def events(self) -> AsyncGenerator[ServerSentEvent]:
        """Each text frame, put together where it came in pieces."""
        for number in count(1):
            if number % FRAMES_AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
            try:
                frame = await self._next()
            except ConnectionClosed as closed:
                if (ending := _ending(closed, self._host, self._policy)) is not None:
                    raise ending from None
                return
            if isinstance(frame, bytes):
                raise ProtocolError(f"{self._host} sent a binary frame; text was due, and it was not read.")
            yield ServerSentEvent("message", frame)

    async def _next(self) -> str | bytes:
        with self._silence.within():
            return await self._connection.recv()
        raise _silent(self._host, self._policy, self._silence)


def _silent(host: str, policy: Policy, silence: _Silence) -> Broken:
    if not silence.is_connected:
        return Broken(f"{host} did not accept a connection in time")
    return Broken(f"{host} sent nothing for {policy.timeout:g} s")


def _ending(closed: ConnectionClosed, host: str, policy: Policy) -> AgentMagicError | Broken | None:
    """What it means that a connection was closed, by either side; None where that is a plain end."""
    if closed.rcvd is not None and closed.rcvd_then_sent is not False:
        return _farewell(closed.rcvd, host)
    match closed.sent and closed.sent.code:
        case CloseCode.MESSAGE_TOO_BIG if closed.sent is not None and closed.sent.reason == IN_PIECES:
            return ProtocolError(f"{host} sent one frame in more than {PIECES_AT_MOST:,} pieces.")
        case CloseCode.MESSAGE_TOO_BIG:
            return LimitReached(f"The server sent an event larger than {policy.max_event:,} bytes (max_event).")
        case CloseCode.INVALID_DATA:
            return ProtocolError(f"{host} sent text that is not UTF-8.")
        case CloseCode.PROTOCOL_ERROR:
            return ProtocolError(f"{host} broke the rules of a WebSocket ({cause_of(closed.__cause__ or closed)}).")
        case _:
            return Broken(f"the connection to {host} broke ({cause_of(closed.__cause__ or closed)})")


def _farewell(close: Close, host: str) -> AgentError | Broken | None:
    """What a server means that closes with this code (RFC 6455, 7.4.1), as far as it says so."""
    if close.code in {CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD}:
        return None
    words = f"{close.code}: {close.reason}" if close.reason else f"code {close.code}"
    if close.code in REFUSALS:
        return AgentError(f"{host} closed the connection ({words}).", str(int(close.code)), close.reason)
    return Broken(f"{host} closed the connection ({words})")


def _revealed_url(request: SocketRequest) -> str:
    query = {name: value.reveal() if isinstance(value, Secret) else value for name, value in request.query.items()}
    return f"{request.url}?{urlencode(query, quote_via=quote)}" if query else request.url


def _revealed_headers(request: SocketRequest, host: str) -> dict[str, str]:
    # As over HTTP, what the wire sets takes the place of what the settings say.
    headers = {
        name.lower(): value.reveal() if isinstance(value, Secret) else value for name, value in request.headers.items()
    }
    headers["cache-control"] = "no-store"
    if not all(NAME.fullmatch(name) and VALUE.fullmatch(value) for name, value in headers.items()):
        raise ConfigError(f"A header for {host} cannot be sent; check the setting headers.")
    return headers


def _proxy(scheme: str, place: str) -> str | None:
    """The proxy that httpx would take; the library's own choice knows no ALL_PROXY, and takes one more for plain ws."""
    if proxy_bypass(place):
        return None
    proxies = getproxies()
    found = proxies.get("https" if scheme == "wss" else "http") or proxies.get("all")
    return f"http://{found}" if found and "://" not in found else found


def _first(headers: Headers, name: str) -> str:
    """A header's first value, or nothing."""
    return next(iter(headers.get_all(name)), "")
