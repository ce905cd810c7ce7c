"""What a protocol is: a request and a decoder, with no I/O between them.

An `AgentProtocol` turns an `AgentRequest` into an `HTTPRequest`, or into a `SocketRequest` where its wire is a
WebSocket, and hands out a fresh `Decoder` for each run. A decoder holds all the state of one run's stream, over as many
connections as the run takes. Whoever drives it calls, per connection, `decode` for each server-sent event (a
WebSocket's text frame is one called ``message``) or `whole` for a JSON reply, and `closed` at the connection's end;
after a lost one `resume`, and when there is no more to come `flush`.
Nothing that a server sends may make a decoder raise anything but `ProtocolError`.

An answer may stand behind more than one request: a POST that is answered with a task's name, the stream of
that task, its result. The decoder of such a wire has a property `leads_on`, which is true when a reply has said
all that it has to say and the answer is to be had from the request that `resume` gives. That request is made at
once, and is no retry. It may name a `Task`; one that has come further than the one before renews the budget of
retries. A JSON reply that neither ends the answer nor leads on is a lost connection where the decoder can
resume, and a broken protocol where it cannot.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Protocol, runtime_checkable

from msgspec import Struct

from agent_magic._request import AgentRequest, HTTPRequest, SocketRequest
from agent_magic.errors import AgentMagicError
from agent_magic.events import AgentEvent, ServerSentEvent

__all__ = ["AgentProtocol", "Decoder", "HTTPFailure", "Keeper", "KeepsMessages", "leads_on"]

Keeper = Literal["server", "client", "nobody"]


class HTTPFailure(Struct, frozen=True):
    """A reply that is not a success: its head, and the first part of its body.

    `retry_after` is the ``Retry-After`` header in seconds, whichever of its two forms it had.
    """

    status: int
    host: str
    body: bytes
    retry_after: float | None = None
    key_env: str | None = None


class Decoder(Protocol):
    """One run's stream: server-sent events in, `agent_magic.events` out."""

    def decode(self, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        """What `sent` says. Raises `ProtocolError` where it cannot be read."""

    def whole(self, body: bytes) -> Iterable[AgentEvent]:
        """The answer in a JSON reply that was not streamed, or what leads to it. Raises `ProtocolError`."""

    def closed(self) -> Iterable[AgentEvent]:
        """What it means that the connection ended: a `Done` where the answer was complete, mostly nothing."""

    def flush(self) -> Iterable[AgentEvent]:
        """What is left when nothing more will come, however the run has ended: the place for last words."""

    def resume(self) -> AgentRequest | None:
        """The request that goes on where the lost connection ended, or None where the wire cannot."""


def leads_on(decoder: Decoder) -> bool:
    """Whether the answer is to be had from the request that `decoder.resume` gives, and not from this reply."""
    return bool(getattr(decoder, "leads_on", False))


class AgentProtocol(Protocol):
    """One wire. It keeps no state, so one object serves every run.

    `conversations` says who remembers what was said before: the "server", which is sent a session's id, the
    "client", which sends it along with each question, or "nobody". `has_system` is whether there is a place for a
    system text. `base_url` is where the wire's own service is; it is empty where there is none, and the setting is
    an agent's whole endpoint.
    """

    name: str
    base_url: str
    key_env: str | None
    conversations: Keeper
    has_system: bool

    def request(self, ask: AgentRequest) -> HTTPRequest | SocketRequest:
        """The request for `ask`. Raises `ConfigError` for a parameter that it cannot carry."""

    def decoder(self, ask: AgentRequest) -> Decoder:
        """A fresh decoder for the run that `ask` begins."""

    def error(self, failure: HTTPFailure) -> AgentMagicError:
        """The error that a reply without success stands for."""


@runtime_checkable
class KeepsMessages(Protocol):
    """A wire whose answers are more than their text to its servers: messages with ids, which go back as they came."""

    def messages(self, events: Iterable[AgentEvent]) -> list[dict[str, Any]]:
        """The messages that a run's `events` came as, for `Said.messages`; none where they are not to be had."""
