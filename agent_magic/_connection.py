"""One connection: a request out, a reply in, and words for what broke. The only room that knows httpx.

httpx-sse parses the stream. Where it differs from the standard (WHATWG HTML, "Server-sent events",
9.2.6) the bytes are put right before it sees them: see `_blocks`. Three more rules:

- Redirects are not followed: a key belongs to one origin.
- A reply is unpacked by `_codings`, not by httpx, which holds a whole bomb before anybody can stop it.
- A key that a server echoes in its reply's head is struck out of it, and of what httpx and httpcore log.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import cache
from ipaddress import ip_address
from typing import Self
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import httpx
from httpx_sse import EventSource

from agent_magic._blocks import Blocks
from agent_magic._codings import DamagedError, UnknownCodingError, Unpacker
from agent_magic._keys import Secret, strike_all
from agent_magic._logs import hide, strike_logs
from agent_magic._policy import Policy
from agent_magic._reply import CONNECT_SECONDS, HEAD_BYTES, Broken, Kind, cause_of, seconds_until
from agent_magic._request import HTTPRequest, SocketRequest, host_of
from agent_magic.errors import ConfigError, LimitReached, ProtocolError
from agent_magic.events import ServerSentEvent

__all__ = ["Client", "certificates", "check_request", "is_loopback", "proxy_error", "refuse_untrusted"]

ERROR_BODY_SECONDS = 5.0
KINDS: dict[str, Kind] = {"text/event-stream": "events", "application/json": "whole"}

strike_logs("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpcore.socks")


class Client:
    """Makes connections for one run; proxies are for other machines, what is on this one is asked directly."""

    def __init__(self, base_url: str, policy: Policy, secrets: Sequence[Secret] = ()) -> None:
        self._policy = policy
        self._secrets = secrets
        try:
            self._client = httpx.AsyncClient(
                verify=certificates(policy.verify),
                timeout=httpx.Timeout(policy.timeout, connect=min(policy.timeout, CONNECT_SECONDS)),
                limits=httpx.Limits(max_keepalive_connections=0),
                event_hooks={"response": [self._stay]},
                trust_env=not is_loopback(urlsplit(base_url).hostname or ""),
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise proxy_error(error) from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def ask(self, request: HTTPRequest) -> AsyncGenerator[HTTPReply]:
        """Send `request`; the connection is closed with the context, also by a stop. Raises `Broken`."""
        host = host_of(request.url)
        check_request(request, self._policy)
        hide(self._secrets)
        try:
            async with aclosing(await self._client.send(self._encode(request), stream=True)) as response:
                yield HTTPReply(response, host, self._policy.max_event)
        except httpx.LocalProtocolError:
            # httpx quotes the header that it refuses; this sentence does not.
            raise ConfigError(f"A header for {host} cannot be sent; check the setting headers.") from None
        except (httpx.TransportError, DamagedError, anyio.BrokenResourceError) as error:
            refuse_untrusted(error, host)
            raise Broken(_reason(error, host, self._policy)) from None

    def _encode(self, request: HTTPRequest) -> httpx.Request:
        if request.method == "HEAD":
            return self._client.build_request("HEAD", request.url)
        # A header's name is the same in any case: what the wire sets takes the place of what the settings say.
        headers = {
            name.lower(): value.reveal() if isinstance(value, Secret) else value
            for name, value in request.headers.items()
        }
        headers["cache-control"] = "no-store"
        if request.body is not None:
            headers["content-type"] = "application/json"
        content = request.encoded_body() or None
        return self._client.build_request(request.method, request.url, headers=headers, content=content)

    async def _stay(self, response: httpx.Response) -> None:
        # Without a Location httpx takes a redirect as it is; with one it reads the URL, and may fail at it, even to
        # stay.
        response.headers.pop("location", None)
        for name, value in response.headers.items():
            if any(secret.is_in(value) for secret in self._secrets):
                response.headers[name] = strike_all(value, self._secrets)


class HTTPReply:
    """A reply over HTTP; its events are server-sent ones."""

    def __init__(self, response: httpx.Response, host: str, max_event: int) -> None:
        self._response = response
        self._host = host
        self._max_event = max_event
        self.status = response.status_code
        self.is_success = response.is_success
        self.media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.kind: Kind = KINDS.get(self.media_type, "other")
        self.retry_after = seconds_until(response.headers.get("retry-after"))

    async def events(self) -> AsyncGenerator[ServerSentEvent]:
        """The server-sent events, by httpx-sse, from bytes that `_blocks` has put right.

        httpx-sse reads a response's text in the charset it names, but a stream is always UTF-8, so it is
        given a response of our own around the clean bytes. Raises `LimitReached`.
        """
        clean = httpx.Response(
            200, headers={"Content-Type": "text/event-stream; charset=utf-8"}, content=self._clean_bytes()
        )
        async with aclosing(EventSource(clean).aiter_sse()) as events:
            async for sse in events:
                yield ServerSentEvent(sse.event, sse.data, sse.id)

    async def whole(self) -> bytes:
        """The whole body. Raises `LimitReached`."""
        body = bytearray()
        async for piece in self._plain_bytes():
            body += piece
            if len(body) > self._max_event:
                raise LimitReached(f"The server sent a reply larger than {self._max_event:,} bytes (max_event).")
        return bytes(body)

    async def beginning(self) -> bytes:
        """The first part of the body, as far as it comes in time: it is broken or slow at no one's cost."""
        start = bytearray()
        with anyio.move_on_after(ERROR_BODY_SECONDS), suppress(httpx.TransportError, DamagedError, ProtocolError):
            async with aclosing(self._plain_bytes()) as pieces:
                async for piece in pieces:
                    start += piece
                    if len(start) >= HEAD_BYTES:
                        break
        return bytes(start[:HEAD_BYTES])

    async def _clean_bytes(self) -> AsyncIterator[bytes]:
        blocks = Blocks(self._max_event)
        async for piece in self._plain_bytes():
            if clean := blocks.feed(piece):
                yield clean

    async def _plain_bytes(self) -> AsyncGenerator[bytes]:
        try:
            unpacker = Unpacker(self._response.headers.get("content-encoding", ""))
        except UnknownCodingError:
            named = self._response.headers["content-encoding"][:40]
            raise ProtocolError(f"{self._host} sent its reply in a coding that is not known here: {named!r}.") from None
        async for packed in self._response.aiter_raw():
            for number, piece in enumerate(unpacker.feed(packed)):
                if number:  # much in a little: other runs, and a stop, get their turn
                    await anyio.lowlevel.checkpoint()
                yield piece
        unpacker.finish()


@cache
def certificates(verify: str | None) -> ssl.SSLContext:
    """The trust store; made once, for it takes longer than a request. SSL_CERT_FILE holds, as in httpx."""
    try:
        if verify is None:
            return httpx.create_ssl_context()
        return ssl.create_default_context(cafile=verify)
    except (OSError, ssl.SSLError) as error:
        named = "SSL_CERT_FILE or SSL_CERT_DIR" if verify is None else f"the setting verify ({verify!r})"
        raise ConfigError(f"The certificates that {named} names cannot be used: {cause_of(error)}.") from None


def check_request(request: HTTPRequest | SocketRequest, policy: Policy) -> None:
    """Raise `ConfigError` where `request` could not be sent: before a run begins, and before each connection."""
    try:
        url = httpx.URL(request.url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"The URL made from base_url cannot be used: {error}.") from None
    if (
        request.secrets
        and url.scheme not in {"https", "wss"}
        and not is_loopback(url.host)
        and not policy.insecure_http
    ):
        raise ConfigError(
            f"A key is sent over https only, or to this machine; {host_of(request.url)} is neither "
            "(insecure_http = true, in settings of your own, allows it for one agent)."
        )
    request.encoded_body()
    certificates(policy.verify)


def proxy_error(error: Exception) -> ConfigError:
    """What to say where the environment names a proxy that cannot be used."""
    if isinstance(error, ImportError):
        return ConfigError(f"The proxy that the environment names cannot be used: {cause_of(error)}.")
    # It is not quoted: a password may stand in it.
    return ConfigError(
        "The proxy that the environment names cannot be used: HTTPS_PROXY, HTTP_PROXY or ALL_PROXY holds no "
        "URL such as http://proxy.example.com:3128."
    )


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def refuse_untrusted(error: BaseException | None, host: str) -> None:
    """Raise `ConfigError` where a certificate was not trusted: no retry can mend that."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            raise ConfigError(
                f"The certificate of {host} is not trusted ({error.verify_message.rstrip('.')}); "
                "if a company signs its own, name its CA file in the setting verify."
            ) from None
        error = error.__cause__ or error.__context__


def _reason(error: Exception, host: str, policy: Policy) -> str:
    """What happened to the connection, as the beginning of a sentence."""
    match error:
        case httpx.ConnectTimeout():
            return f"{host} did not accept a connection in time"
        case httpx.ReadTimeout():
            return f"{host} sent nothing for {policy.timeout:g} s"
        case httpx.ConnectError():
            return f"no connection to {host} could be made ({cause_of(error)})"
        case httpx.ProxyError():
            return f"the proxy on the way to {host} refused ({cause_of(error)})"
        case DamagedError() | httpx.DecodingError():
            return f"{host} sent compressed data that is damaged"
        case httpx.UnsupportedProtocol():
            return f"{host} cannot be reached by that URL"
        case _:
            return f"the connection to {host} broke ({cause_of(error)})"
