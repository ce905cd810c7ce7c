"""What a decoder was called with: told to a tape while it happens, and done again from one.

A decoder sees nothing but the calls of its driver (`decode`, `whole`, `closed`, `resume`, `flush`), so a tape of
those calls is all that a replay needs: resumed streams, repeated chunks and losses come out as they
did. `Taped` stands between the driver and the protocol, and `Player` is the driver of a replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import assert_never

import msgspec

from agent_magic import events
from agent_magic._config import EMBEDDED
from agent_magic._echo import guarded
from agent_magic._key_sources import held_key
from agent_magic._keys import Secret
from agent_magic._limits import Limits
from agent_magic._policy import Policy
from agent_magic._request import AgentRequest, HTTPRequest, SocketRequest, host_of
from agent_magic._tape import (
    Closed,
    Dialled,
    Entry,
    Flushed,
    Header,
    Heard,
    Opened,
    Outcome,
    Recording,
    Refused,
    Replied,
    Resumed,
    Retried,
)
from agent_magic._transcript import Transcript
from agent_magic.errors import AgentMagicError, ProtocolError, StreamLost
from agent_magic.events import AgentEvent, Done, Failed, Notice, Replace, ServerSentEvent, Text
from agent_magic.protocols import AgentProtocol, Decoder, HTTPFailure, get_protocol, leads_on

__all__ = ["Call", "Clock", "Player", "Taped", "entry_of", "replay"]

# Of a refusal's body, what a person may want to see later.
REFUSAL_BODY_BYTES = 2000

_Connection = events.Connecting | events.Connected | events.Retrying
# What is told as it happens; a plain bytes is a reply that was not streamed.
Call = ServerSentEvent | bytes | HTTPFailure | _Connection | type[Closed] | type[Resumed] | type[Flushed]


def entry_of(call: Call, at: float) -> Entry:
    """The line that `call` is on a tape."""
    match call:
        case ServerSentEvent():
            return Heard(at, call.event, call.data, call.id)
        case bytes():
            return Replied(at=at, body=call.decode("utf-8", "replace"))
        case HTTPFailure():
            said = call.body[:REFUSAL_BODY_BYTES].decode("utf-8", "replace")
            return Refused(at=at, status=call.status, body=said, retry_after=call.retry_after)
        case events.Connecting():
            return Dialled(at=at, host=call.host)
        case events.Connected():
            return Opened(at=at)
        case events.Retrying():
            return Retried(at=at, attempt=call.attempt, retries=call.retries, delay=call.delay, reason=call.reason)
        case _:
            return call(at=at)


class Taped:
    """`protocol` with each call of its decoders told to `tell`; `begun` is a decoder that has heard a part already."""

    def __init__(self, protocol: AgentProtocol, tell: Callable[[Call], None], begun: Decoder | None = None) -> None:
        self.name = protocol.name
        self.base_url = protocol.base_url
        self.key_env = protocol.key_env
        self.conversations = protocol.conversations
        self.has_system = protocol.has_system
        self._protocol = protocol
        self._tell = tell
        self._begun = begun

    def request(self, ask: AgentRequest) -> HTTPRequest | SocketRequest:
        return self._protocol.request(ask)

    def decoder(self, ask: AgentRequest) -> Decoder:
        return _TapedDecoder(self._begun or self._protocol.decoder(ask), self._tell)

    def error(self, failure: HTTPFailure) -> AgentMagicError:
        self._tell(failure)
        return self._protocol.error(failure)


class _TapedDecoder:
    def __init__(self, decoder: Decoder, tell: Callable[[Call], None]) -> None:
        self._decoder = decoder
        self._tell = tell

    @property
    def leads_on(self) -> bool:
        return leads_on(self._decoder)

    def decode(self, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        self._tell(sent)
        return self._decoder.decode(sent)

    def whole(self, body: bytes) -> Iterable[AgentEvent]:
        self._tell(body)
        return self._decoder.whole(body)

    def closed(self) -> Iterable[AgentEvent]:
        self._tell(Closed)
        return self._decoder.closed()

    def flush(self) -> Iterable[AgentEvent]:
        self._tell(Flushed)
        return self._decoder.flush()

    def resume(self) -> AgentRequest | None:
        self._tell(Resumed)
        return self._decoder.resume()


class Player:
    """Drives `decoder` as a tape says, and emits what `_stream` had emitted.

    `error` is what the decoder raised, `following` the request that it gave when it was last asked to
    resume. What the run was not allowed to take in any more, by `limits`, is not emitted either.
    """

    def __init__(self, decoder: Decoder, emit: Callable[[AgentEvent], object], limits: Limits | None = None) -> None:
        self._decoder = decoder
        self._emit = emit
        self._limits = limits
        self._held: Failed | None = None
        self.error: AgentMagicError | None = None
        self.following: AgentRequest | None = None

    def play(self, entry: Entry) -> None:
        """Do again what `entry` says."""
        if self.error is not None and not isinstance(entry, Flushed):
            return
        match entry:
            case Heard():
                self._take(lambda: self._decoder.decode(ServerSentEvent(entry.event, entry.data, entry.id)))
            case Replied():
                self._take(lambda: self._decoder.whole(entry.body.encode()))
            case Closed():
                self._take(self._decoder.closed)
            case Flushed():
                self.flush()
            case Resumed():
                self.following = self._decoder.resume()
            case Retried():
                self._held = None
                self._emit(
                    events.Retrying(
                        attempt=entry.attempt, retries=entry.retries, delay=entry.delay, reason=entry.reason
                    )
                )
            case Dialled():
                self._emit(events.Connecting(host=entry.host))
            case Opened():
                self._emit(events.Connected())
            case Refused():
                pass
            case _:
                assert_never(entry)

    def flush(self) -> None:
        """Emit what is left: a failure that no retry followed, and what the decoder had."""
        if self._held is not None:
            self._emit(self._held)
            self._held = None
        for event in self._decoder.flush():
            if self.error is None or isinstance(event, Notice):  # as `_stream`: no text stands behind a cut
                self._emit(event)

    def can_go_on(self) -> bool:
        """Whether the wire can take the stream up again where the tape ends."""
        return self._decoder.resume() is not None

    def _admitted(self, event: AgentEvent) -> AgentEvent:
        """`event` as far as it fits; what the limit is that it has reached stands in `error`."""
        if self._limits is not None and isinstance(event, Text | Replace):
            event, self.error = self._limits.admit_text(event)
        return event

    def _take(self, decode: Callable[[], Iterable[AgentEvent]]) -> None:
        try:
            for event in decode():
                if isinstance(event, Failed) and event.transient:
                    # Whether it was the end is known when a retry follows, or none.
                    self._held = event
                    return
                self._emit(self._admitted(event))
                if self.error is not None:
                    return
                if isinstance(event, Done | Failed):
                    return
        except AgentMagicError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 (a defect in a decoder ended the run that was recorded, too)
            self.error = ProtocolError(f"agent_magic could not read the stream: {type(error).__name__}: {error}")


class Clock:
    """The time on a tape. A class, so that a transcript pickles."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def replay(tape: Recording, *, live: bool) -> Transcript:
    """The transcript of the run on `tape`, which is still going where it is `live`. Raises `ConfigError`."""
    clock = Clock()
    transcript = Transcript(clock)
    protocol = get_protocol(tape.header.protocol)
    decoder = guarded(protocol.decoder(tape.header.question.request()), _known(tape.header.question.key_env))
    policy = msgspec.convert(tape.header.policy, Policy)
    player = Player(decoder, transcript.apply, Limits(policy, host_of(tape.header.question.base_url)))
    for entry in tape.entries:
        clock.now = entry.at
        player.play(entry)
    if tape.damaged:
        transcript.apply(Notice(message="The tape is damaged; what stood behind that place is left out."))
    if tape.outcome is not None:
        _close(transcript, tape.outcome)
    elif not live:
        player.flush()
        _close_cut_off(transcript, player, tape.header)
    return transcript


def _known(variable: str | None) -> list[Secret]:
    """The key that the tape's run had, where it is at hand: a tape may hold it in pieces, which a replay joins."""
    if not variable:
        return []
    try:
        found = held_key(variable)
    except AgentMagicError:
        return []
    return [found.key] if found is not None else []


def _close(transcript: Transcript, outcome: Outcome) -> None:
    if outcome.missing:
        transcript.apply(Notice(message=f"The tape is not whole: {outcome.missing}."))
    error = None if outcome.error is None else outcome.error.error()
    transcript.close(outcome.status, error, outcome.at)


def _close_cut_off(transcript: Transcript, player: Player, header: Header) -> None:
    """Close a transcript whose run wrote no outcome: its process ended, or its disk took no more."""
    if transcript.is_complete:
        transcript.close("done")
        return
    error = transcript.error or player.error
    if error is None:
        # The embedded agent ended with the kernel, and its conversations with it.
        is_there = not (header.agent in EMBEDDED and header.question.base_url.startswith("http://127.0.0.1:"))
        hint = f" To go on from there: %agent recover {header.run} --resume." if is_there and player.can_go_on() else ""
        error = StreamLost(f"The kernel ended before the answer was complete; what had arrived is kept.{hint}")
    transcript.close("failed", error)
