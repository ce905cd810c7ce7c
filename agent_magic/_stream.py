"""Bytes to an agent's events, over as many connections as it takes. The only room that knows httpx.

One run is one call of `follow`. It makes a connection, hands each server-sent event to the
protocol's decoder and each decoded event to `emit`, and where the connection breaks takes the stream
up again as the decoder says. Its rules:

- An attempt has succeeded when the answer went on; that renews the budget of retries. A server that
  accepts every connection and says nothing new does not get to be asked for ever.
- Before the first event the same request may be sent again: after a connection that failed, and
  after a status that says "not now". After it, only a request that resumes.
- Redirects are not followed: a key belongs to one origin.

httpx-sse parses the stream. Where it differs from the standard (WHATWG HTML, "Server-sent events",
9.2.6) the bytes are put right before it sees them: see `_blocks`.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from email.utils import parsedate_to_datetime
from functools import cache
from ipaddress import ip_address
from time import time
from typing import NoReturn
from urllib.parse import urlsplit

import anyio
import httpx
import msgspec
from httpx_sse import EventSource
from msgspec import Struct

from agent_magic._blocks import Blocks
from agent_magic._keys import Secret
from agent_magic._request import AgentRequest, HTTPRequest, host_of
from agent_magic.errors import (
    AgentError,
    AgentMagicError,
    ConfigError,
    LimitReached,
    ProtocolError,
    RateLimited,
    StreamLost,
)
from agent_magic.events import (
    AgentEvent,
    Artifact,
    Connected,
    Connecting,
    Done,
    Failed,
    Reasoning,
    Replace,
    Retrying,
    ServerSentEvent,
    Source,
    Text,
    ToolCall,
    ToolResult,
)
from agent_magic.protocols import AgentProtocol, Decoder, HTTPFailure

__all__ = ["Policy", "check_request", "follow"]

Emit = Callable[[AgentEvent], None]

RETRIED_STATUSES = frozenset({408, 425, 429, 502, 503, 504})
# What makes an attempt a success. A server that only greets, on each connection anew, makes no progress.
SUBSTANCE = (Text, Replace, Reasoning, ToolCall, ToolResult, Source, Artifact)
# An error page is read this far and no further: its first lines say what there is to say.
ERROR_BODY_BYTES = 64 * 1024
ERROR_BODY_SECONDS = 5.0
CONNECT_SECONDS = 15.0


class Policy(Struct, frozen=True):
    """How long to wait and how often to try again. All times in seconds.

    `timeout` is the longest silence, `max_time` the longest run, `backoff` the first wait before a
    reconnection (doubled each time, with a fifth of jitter), `max_wait` the longest wait that a
    server may ask for. `max_event` is the largest server-sent event, or JSON reply, in bytes.
    `verify` is the path of a file with certificate authorities.
    """

    timeout: float = 60.0
    max_time: float | None = None
    retries: int = 3
    backoff: float = 2.0
    max_wait: float = 120.0
    max_event: int = 16 * 1024 * 1024
    verify: str | None = None


class _Lost(Exception):
    """The connection ended before the answer did; `error` is what to raise when no attempt is left."""

    def __init__(self, reason: str, error: AgentMagicError, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error
        self.retry_after = retry_after
        self.failed: Failed | None = None


async def follow(protocol: AgentProtocol, ask: AgentRequest, policy: Policy, emit: Emit) -> None:
    """Run one request to its terminal event, which is emitted, or to an `AgentMagicError`, which is raised."""
    exchange = _Exchange(protocol, ask, policy, emit)
    async with _client(ask, policy) as client:
        with anyio.move_on_after(policy.max_time) as limit:
            try:
                await exchange.run(client)
            except AgentMagicError as error:
                raise _struck(error, ask.key) from None
        if limit.cancelled_caught:
            raise LimitReached(
                f"The run took longer than max_time = {policy.max_time:g} s; what had arrived by then is kept."
            )


class _Exchange:
    """The state of one run's reading: whom it asks, what has arrived, how many tries are left."""

    def __init__(self, protocol: AgentProtocol, ask: AgentRequest, policy: Policy, emit: Emit) -> None:
        self._protocol = protocol
        self._policy = policy
        self._emit = emit
        self._decoder: Decoder = protocol.decoder(ask)
        self._request = protocol.request(ask)
        self._host = host_of(self._request.url)
        self._ask = ask
        self._arrived = False
        self._ended = False
        self._failures = 0

    async def run(self, client: httpx.AsyncClient) -> None:
        """Connect, read, and take up again until the answer has ended."""
        try:
            while not self._ended:
                try:
                    await self._connection(client)
                except _Lost as lost:
                    await self._prepare_retry(lost)
        finally:
            for event in self._decoder.flush():
                self._emit(event)

    async def _connection(self, client: httpx.AsyncClient) -> None:
        self._emit(Connecting(host=self._host))
        check_request(self._request, self._policy.verify)
        request = _encode(client, self._request)
        try:
            # The response is closed by the context manager also when a stop cancels this task.
            async with aclosing(await client.send(request, stream=True)) as response:
                await self._read(response)
        except httpx.LocalProtocolError:
            # httpx quotes the header that it refuses; this sentence does not.
            raise ConfigError(f"A header for {self._host} cannot be sent; check the setting headers.") from None
        except (httpx.TransportError, httpx.DecodingError, anyio.BrokenResourceError) as error:
            self._fail(error)

    async def _read(self, response: httpx.Response) -> None:
        if not response.is_success:
            await self._refuse(response)
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type == "text/event-stream":
            self._emit(Connected())
            async for sent in _server_sent_events(response, self._policy.max_event):
                self._arrived = True
                for event in self._decoder.decode(sent):
                    self._take(event)
                    if self._ended:
                        return
            self._fail(None)
        elif media_type == "application/json":
            body = await _whole_body(response, self._policy.max_event)
            for event in self._decoder.whole(body):
                self._take(event)
        else:
            head = (await _first_bytes(response, ERROR_BODY_BYTES)).decode("utf-8", "replace")
            raise ProtocolError(
                f"{self._host} answered with {media_type or 'no content type'} and not with an event stream; "
                "check base_url.",
                head,
            )

    def _take(self, event: AgentEvent) -> None:
        match event:
            case Failed(message=said) if self._ask.key is not None and self._ask.key.strike(said) != said:
                self._take(msgspec.structs.replace(event, message=self._ask.key.strike(said), sent=None))
                return
            case Failed(transient=True):
                reason = f"{event.code or 'the server'}: {event.message}"
                lost = _Lost(reason, RateLimited(reason, event.retry_after), event.retry_after)
                lost.failed = event
                raise lost
            case Done() | Failed():
                self._ended = True
            case _ if isinstance(event, SUBSTANCE):
                self._failures = 0
            case _:
                pass
        self._emit(event)

    async def _refuse(self, response: httpx.Response) -> NoReturn:
        failure = HTTPFailure(
            status=response.status_code,
            host=self._host,
            body=await _error_body(response),
            retry_after=_retry_after(response.headers.get("retry-after")),
            key_env=self._ask.key_env,
        )
        error = self._protocol.error(failure)
        if response.status_code not in RETRIED_STATUSES:
            raise error
        asked = error.retry_after if isinstance(error, RateLimited | AgentError) else failure.retry_after
        raise _Lost(f"{self._host} answered {response.status_code}", error, asked)

    def _fail(self, error: Exception | None) -> NoReturn:
        """Turn a broken connection into `_Lost`, or into the error that no retry can mend."""
        if (untrusted := _certificate_error(error)) is not None:
            raise ConfigError(
                f"The certificate of {self._host} is not trusted ({untrusted.verify_message}); "
                "if a company signs its own, name its CA file in the setting verify."
            ) from None
        reason = _reason(error, self._host, self._policy)
        kept = "what had arrived is kept" if self._arrived else "nothing had arrived"
        raise _Lost(reason, StreamLost(f"{reason[0].upper()}{reason[1:]}; {kept}.")) from None

    async def _prepare_retry(self, lost: _Lost) -> None:
        """Wait and have the next request ready, or raise what ended the run."""
        self._failures += 1
        if self._failures > self._policy.retries:
            self._give_up(lost)
            return
        following = self._decoder.resume() if self._arrived else None
        if self._arrived and following is None:
            if lost.failed is None and isinstance(lost.error, StreamLost):
                raise StreamLost(f"{str(lost.error)[:-1]} (this stream cannot be taken up again).")
            self._give_up(lost)
            return
        delay = lost.retry_after
        if delay is None:
            delay = self._policy.backoff * 2 ** (self._failures - 1) * random.uniform(0.8, 1.2)
        elif delay > self._policy.max_wait:
            self._give_up(lost)
            return
        if following is not None:
            self._request = self._protocol.request(following)
        self._emit(Retrying(attempt=self._failures, retries=self._policy.retries, delay=delay, reason=lost.reason))
        await anyio.sleep(delay)

    def _give_up(self, lost: _Lost) -> None:
        if lost.failed is None:
            raise lost.error
        self._ended = True
        self._emit(lost.failed)


def _client(ask: AgentRequest, policy: Policy) -> httpx.AsyncClient:
    """A client for one run. Proxies are for other machines: what is on this one is asked directly."""
    try:
        return httpx.AsyncClient(
            verify=_certificates(policy.verify),
            timeout=httpx.Timeout(policy.timeout, connect=min(policy.timeout, CONNECT_SECONDS)),
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=not _is_loopback(urlsplit(ask.base_url).hostname or ""),
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise ConfigError(f"The proxy that the environment names cannot be used: {_cause(error)}.") from None


def _struck(error: AgentMagicError, key: Secret | None) -> AgentMagicError:
    """`error` without the key, should a server have echoed it into its words or its data."""
    if key is not None:
        error.args = tuple(key.strike(argument) for argument in error.args)
        for name, value in vars(error).items():
            if isinstance(value, str):
                setattr(error, name, key.strike(value))
    return error


@cache
def _certificates(verify: str | None) -> ssl.SSLContext:
    """The trust store; made once, for it takes longer than a request. SSL_CERT_FILE holds, as in httpx."""
    try:
        if verify is None:
            return httpx.create_ssl_context()
        return ssl.create_default_context(cafile=verify)
    except (OSError, ssl.SSLError) as error:
        named = "SSL_CERT_FILE or SSL_CERT_DIR" if verify is None else f"the setting verify ({verify!r})"
        raise ConfigError(f"The certificates that {named} names cannot be used: {_cause(error)}.") from None


def check_request(request: HTTPRequest, verify: str | None) -> None:
    """Raise `ConfigError` where `request` could not be sent: before a run begins, and before each connection."""
    carries_key = any(isinstance(value, Secret) for value in request.headers.values())
    try:
        url = httpx.URL(request.url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"The URL made from base_url cannot be used: {error}.") from None
    if carries_key and url.scheme != "https" and not _is_loopback(url.host):
        raise ConfigError(f"A key is sent over https only, or to this machine; {host_of(request.url)} is neither.")
    request.encoded_body()
    _certificates(verify)


def _encode(client: httpx.AsyncClient, request: HTTPRequest) -> httpx.Request:
    headers = {name: value.reveal() if isinstance(value, Secret) else value for name, value in request.headers.items()}
    headers |= {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return client.build_request(request.method, request.url, headers=headers, content=request.encoded_body())


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _retry_after(value: str | None) -> float | None:
    """A Retry-After header in seconds from now (RFC 9110, 10.2.3: a number of seconds, or a date)."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:15])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (ValueError, OverflowError):
        return None


def _certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _reason(error: Exception | None, host: str, policy: Policy) -> str:
    """What happened to the connection, as the beginning of a sentence."""
    match error:
        case None:
            return f"{host} ended the stream before the answer was complete"
        case httpx.ConnectTimeout():
            return f"{host} did not accept a connection in time"
        case httpx.ReadTimeout():
            return f"{host} sent nothing for {policy.timeout:g} s"
        case httpx.ConnectError():
            return f"no connection to {host} could be made ({_cause(error)})"
        case httpx.ProxyError():
            return f"the proxy on the way to {host} refused ({error})"
        case httpx.DecodingError():
            return f"{host} sent compressed data that is damaged"
        case httpx.UnsupportedProtocol():
            return f"{host} cannot be reached by that URL"
        case _:
            return f"the connection to {host} broke ({_cause(error)})"


def _cause(error: BaseException) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__


async def _error_body(response: httpx.Response) -> bytes:
    """The first part of a refusal. The status has been given; a body that is slow or broken changes nothing."""
    body = b""
    with anyio.move_on_after(ERROR_BODY_SECONDS), suppress(httpx.TransportError, httpx.DecodingError):
        body = await _first_bytes(response, ERROR_BODY_BYTES)
    return body


async def _first_bytes(response: httpx.Response, most: int) -> bytes:
    head = b""
    async for chunk in response.aiter_bytes(8192):
        head += chunk
        if len(head) >= most:
            break
    return head[:most]


async def _whole_body(response: httpx.Response, most: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > most:
            raise LimitReached(f"The server's reply is larger than {most:,} bytes (max_event).")
    return bytes(body)


async def _server_sent_events(response: httpx.Response, max_event: int) -> AsyncIterator[ServerSentEvent]:
    """The events of `response`, by httpx-sse, from bytes that `_blocks` has put right.

    httpx-sse reads a response's text in the charset it names, but a stream is always UTF-8, so it is
    given a response of our own around the clean bytes.
    """
    clean = httpx.Response(
        200,
        headers={"Content-Type": "text/event-stream; charset=utf-8"},
        content=_clean_bytes(response, max_event),
    )
    async with aclosing(EventSource(clean).aiter_sse()) as events:
        async for sse in events:
            yield ServerSentEvent(sse.event, sse.data, sse.id)


async def _clean_bytes(response: httpx.Response, max_event: int) -> AsyncIterator[bytes]:
    blocks = Blocks(max_event)
    async for chunk in response.aiter_bytes():
        if clean := blocks.feed(chunk):
            yield clean
