"""One question to its answer's end, over as many connections as it takes.

One run is one call of `follow`. It makes a connection, hands each server-sent event to the
protocol's decoder and each decoded event to `emit`, and where the connection breaks takes the stream
up again as the decoder says. Its rules:

- An attempt has succeeded when the answer went on; that renews the budget of retries. A server that
  accepts every connection and says nothing new does not get to be asked for ever.
- Before the first event the same request may be sent again: after a connection that failed, and
  after a status that says "not now". After it, only a request that resumes.
- Where a reply leads to another request (a task to its stream, the stream to the result) that one follows at
  once; it is no retry. A server that leads on and on, and to nothing, does not get to either.
- Every ending is one sentence that names the host, and none shows the key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import NoReturn
from urllib.parse import urlsplit

import anyio
from msgspec import structs

from agent_magic._connection import Client
from agent_magic._echo import guarded, nobody
from agent_magic._keys import Secret, strike_all
from agent_magic._limits import Limits
from agent_magic._local import LocalModel, Served
from agent_magic._pace import Pace
from agent_magic._policy import Policy
from agent_magic._reply import Broken, Reply, Transport
from agent_magic._request import AgentRequest, HTTPRequest, SocketRequest, host_of
from agent_magic._retries import Budget, Lost
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
    Notice,
    Progress,
    Reasoning,
    Replace,
    Retrying,
    Source,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from agent_magic.protocols import AgentProtocol, HTTPFailure, leads_on

__all__ = ["Policy", "follow"]

Emit = Callable[[AgentEvent], None]

# 529 is what Anthropic says when it is overloaded.
RETRIED_STATUSES = frozenset({408, 425, 429, 502, 503, 504, 529})
# What makes an attempt a success, beside text. A server that only greets, on each connection anew, makes no progress.
SUBSTANCE = (Reasoning, ToolCall, ToolResult, Source, Artifact)


async def follow(  # noqa: PLR0913 (each is a seam of its own)
    protocol: AgentProtocol,
    ask: AgentRequest,
    policy: Policy,
    emit: Emit,
    in_pieces: Callable[[], None] = nobody,
    *,
    pace: Pace | None = None,
    local: LocalModel | None = None,
) -> None:
    """Run one request to its terminal event, which is emitted, or to an `AgentMagicError`, which is raised.

    `in_pieces` is called where the server has sent a key back in several events. `pace` is shared with the
    runs that belong to this one. `local` is the model that answers, where it is one of this machine's: its process
    is begun and waited for first, and where it ends, so does the run; it answers one question at a time.
    """
    pace = pace or Pace()
    await pace.wait()  # what others have to wait for does not count against `max_time`
    async with AsyncExitStack() as held:
        with anyio.move_on_after(policy.max_time) as limit:
            served = None
            if local is not None:
                if local.turn.locked():
                    emit(Progress(message="waiting for its turn"))
                await held.enter_async_context(local.turn)
                served, ask = await _loaded(local, ask, emit)
            exchange = _Exchange(protocol, ask, policy, emit, in_pieces, pace=pace, served=served)
            client = await held.enter_async_context(_transport(exchange.request, ask.base_url, policy, ask.secrets))
            try:
                await exchange.run(client)
            except AgentMagicError as error:
                raise _struck(_placed(error, host_of(ask.base_url)), ask.secrets) from None
        if limit.cancelled_caught:
            raise LimitReached(
                f"The run was ended: {host_of(ask.base_url)} took longer than max_time = {policy.max_time:g} s; "
                "what had arrived by then is kept."
            )


def _transport(
    request: HTTPRequest | SocketRequest, base_url: str, policy: Policy, secrets: Sequence[Secret]
) -> Transport:
    """What carries requests of this kind."""
    if isinstance(request, SocketRequest):
        from agent_magic._websocket import SocketClient

        return SocketClient(policy, secrets)
    return Client(base_url, policy, secrets)


async def _loaded(local: LocalModel, ask: AgentRequest, emit: Emit) -> tuple[Served, AgentRequest]:
    """The process that serves `local`, and `ask` with the place where it does."""
    served = await local.serve()
    if not served.began.done():
        emit(Progress(message=f"loading {ask.agent}"))
    url = await local.ready(served)
    return served, structs.replace(ask, base_url=f"{url}{urlsplit(ask.base_url).path}")


class _Exchange:
    """The state of one run's reading: whom it asks, what has arrived, how many tries are left."""

    def __init__(  # noqa: PLR0913 (as `follow`)
        self,
        protocol: AgentProtocol,
        ask: AgentRequest,
        policy: Policy,
        emit: Emit,
        in_pieces: Callable[[], None],
        *,
        pace: Pace,
        served: Served | None = None,
    ) -> None:
        self._protocol = protocol
        self._pace = pace
        self._served = served
        self._emit = emit
        self._decoder = guarded(protocol.decoder(ask), ask.secrets, in_pieces)
        self.request = protocol.request(ask)
        self._host = host_of(self.request.url)
        self._limits = Limits(policy, self._host)
        self._ask = ask
        self._arrived = False
        self._ended = False
        self._is_cut = False
        self._budget = Budget(policy, pace)
        self._retries = policy.retries

    async def run(self, client: Transport) -> None:
        """Connect, read, and take up again until the answer has ended."""
        try:
            while not self._ended:
                try:
                    await self._pace.wait()
                    await self._connection(client)
                    self._lead_on()
                except Lost as lost:
                    await self._prepare_retry(lost)
        finally:
            for event in self._decoder.flush():
                if not self._is_cut or isinstance(event, Notice):  # text that is left would stand behind the cut
                    self._emit(event)

    async def _connection(self, client: Transport) -> None:
        self._emit(Connecting(host=self._host))
        try:
            # The connection is closed by the context manager also when a stop cancels this task.
            async with client.ask(self.request) as reply:
                await self._read(reply)
        except Broken as broken:
            if not self._was_all():
                self._lose(str(broken))

    async def _read(self, reply: Reply) -> None:
        if not reply.is_success:
            await self._refuse(reply)
        if reply.kind == "events":
            self._emit(Connected())
            async for sent in reply.events():
                self._arrived = True
                self._limits.count(sent)
                for event in self._decoder.decode(sent):
                    self._take(event)
                    if self._ended:
                        return
                if leads_on(self._decoder):
                    return
            if not self._was_all():
                self._lose(f"{self._host} ended the stream before the answer was complete")
        elif reply.kind == "whole":
            # From here on the question has been taken: to send it again would be another answer, or another task.
            had_begun, self._arrived = self._arrived, True
            for event in self._decoder.whole(await reply.whole()):
                self._take(event)
            if not self._ended and not leads_on(self._decoder):
                self._miss(had_begun=had_begun)
        else:
            raise ProtocolError(
                f"{self._host} answered with {reply.media_type[:80] or 'no content type'} and not with an event "
                "stream; check base_url.",
                await self._beginning(reply),
            )

    def _miss(self, *, had_begun: bool) -> NoReturn:
        """A JSON reply was no answer: lost where one had begun, as it may be had later; else a broken protocol."""
        if had_begun:
            self._lose(f"{self._host} answered without the rest of the answer")
        raise ProtocolError(f"{self._host} sent a reply that is not an answer; nothing more is to come.")

    def _lead_on(self) -> None:
        """Have the request ready that the last reply leads to, if it does."""
        if self._ended:
            return
        following = self._decoder.resume()
        if following is None or not self._budget.may_lead():
            self._lose(f"{self._host} led from one reply to the next and to no answer")
        self.request = self._protocol.request(following)

    def _was_all(self) -> bool:
        """Whether the answer is complete, now that the connection has ended."""
        for event in self._decoder.closed() if self._arrived else ():
            self._take(event)
        return self._ended

    def _take(self, event: AgentEvent) -> None:
        limit = None
        match event:
            case Text() | Replace():
                if event.text:
                    self._budget.renew()
                event, limit = self._limits.admit_text(event)
                self._is_cut = limit is not None
            case Usage():
                limit = self._limits.check_cost(event)
            case Failed():
                event = self._failed(event)
            case Done():
                self._ended = True
                if (words := self._limits.last_words()) is not None:
                    self._emit(words)
            case _ if isinstance(event, SUBSTANCE):
                self._budget.renew()
            case _:
                pass
        self._emit(event)
        if limit is not None:
            raise limit

    def _failed(self, event: Failed) -> Failed:
        """The run's end; raises `Lost` where it may be retried."""
        if event.transient:
            reason = f"{event.code or 'the server'}: {event.message}"
            lost = Lost(reason, RateLimited(reason, event.retry_after), event.retry_after)
            lost.failed = event
            raise lost
        self._ended = True
        return event

    async def _refuse(self, reply: Reply) -> NoReturn:
        failure = HTTPFailure(
            status=reply.status,
            host=self._host,
            body=(await self._beginning(reply)).encode(),
            retry_after=reply.retry_after,
            key_env=self._ask.key_env,
        )
        error = self._protocol.error(failure)
        if reply.status not in RETRIED_STATUSES:
            raise self._not_taken_up(failure, error) if self._arrived else error
        asked = error.retry_after if isinstance(error, RateLimited | AgentError) else failure.retry_after
        raise Lost(f"{self._host} answered {reply.status}", error, asked)

    async def _beginning(self, reply: Reply) -> str:
        """The body's first part; a key in it is struck out here, before anything is cut."""
        said: str = strike_all((await reply.beginning()).decode("utf-8", "replace"), self._ask.secrets)
        return said[: len(said) - max((secret.held(said) for secret in self._ask.secrets), default=0)]

    def _not_taken_up(self, failure: HTTPFailure, error: AgentMagicError) -> AgentMagicError:
        """The refusal of a request that resumes: what failed is the stream, not what the person asked."""
        if not isinstance(error, AgentError):
            return error
        words = " ".join(error.message.split())[:300].rstrip(".")
        said = f"{failure.status}: {words}" if words else f"{failure.status}"
        return StreamLost(
            f"{self._host} broke the stream off and did not take it up again (it answered {said}); "
            "what had arrived is kept. Ask again for a new answer."
        )

    def _lose(self, reason: str) -> NoReturn:
        kept = "what had arrived is kept" if self._arrived else "nothing had arrived"
        raise Lost(reason, StreamLost(f"{reason[0].upper()}{reason[1:]}; {kept}.")) from None

    async def _prepare_retry(self, lost: Lost) -> None:
        """Wait and have the next request ready, or raise what ended the run."""
        if self._served is not None and isinstance(lost.error, StreamLost):
            ended = await self._served.fate()
            if ended is not None:
                raise ended
        following = self._decoder.resume() if self._arrived else None
        if not self._budget.may_retry(lost, following):
            self._give_up(lost)
            return
        if self._arrived and following is None:
            if lost.failed is None and isinstance(lost.error, StreamLost):
                raise StreamLost(f"{str(lost.error)[:-1]} (this stream cannot be taken up again).")
            self._give_up(lost)
            return
        delay = self._budget.delay(lost)
        if delay is None:
            self._give_up(lost)
            return
        if following is not None:
            self.request = self._protocol.request(following)
        reason = strike_all(lost.reason, self._ask.secrets)
        self._emit(Retrying(attempt=self._budget.failures, retries=self._retries, delay=delay, reason=reason))
        if lost.says_later:
            self._pace.hold(delay)
        await anyio.sleep(delay)

    def _give_up(self, lost: Lost) -> None:
        if lost.failed is None:
            raise lost.error
        self._ended = True
        self._emit(lost.failed)


def _placed(error: AgentMagicError, host: str) -> AgentMagicError:
    """`error` with the host in its words: a decoder does not know whom it reads."""
    said = str(error)
    if host not in said and not isinstance(error, ConfigError):
        rest = said.removeprefix("The server ")
        error.args = (f"The server at {host} {rest}" if rest != said else f"{host}: {said}", *error.args[1:])
    return error


def _struck(error: AgentMagicError, secrets: Sequence[Secret]) -> AgentMagicError:
    """`error` without a key that the server has echoed into its words or its data, or that httpx keeps behind it."""
    error.args = tuple(strike_all(argument, secrets) for argument in error.args)
    for name, value in vars(error).items():
        setattr(error, name, strike_all(value, secrets))
    error.__cause__ = error.__context__ = None
    return error
