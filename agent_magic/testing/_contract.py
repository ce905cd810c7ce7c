"""The contract that every protocol's decoder keeps, as a class of tests. Needs hypothesis."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, ClassVar

from msgspec.structs import asdict

from agent_magic._request import AgentRequest
from agent_magic.errors import ProtocolError
from agent_magic.events import AgentEvent, Done, Failed, ServerSentEvent, Unknown
from agent_magic.protocols import AgentProtocol, Decoder, leads_on
from agent_magic.testing._runs import run_against
from agent_magic.testing._scripts import in_turn, says
from agent_magic.testing._server import ScriptedServer
from agent_magic.testing._sockets import ScriptedSockets, frames_in_pieces, tells
from agent_magic.testing._streams import fold, split_events

__all__ = ["ProtocolContract", "SocketContract"]


class ProtocolContract:
    """What every protocol keeps. Inherit, and name a protocol, a recorded stream and the text in it.

    Where the stream stands behind a JSON reply that leads to it, or leads to one itself, name those too. `documented`
    is whether the service says that it sends such a stream; one that might come all the same is no word on the wire.
    """

    protocol: ClassVar[AgentProtocol]
    recorded: ClassVar[bytes]
    expected: ClassVar[str]
    leading: ClassVar[bytes] = b""
    following: ClassVar[bytes] = b""
    documented: ClassVar[bool] = True

    def _request(self) -> AgentRequest:
        return AgentRequest(prompt="Why?", base_url="http://127.0.0.1:1", agent="demo")

    def _sent(self) -> list[ServerSentEvent]:
        """The recorded stream's events."""
        return split_events(self.recorded)

    def _serving(self, pieces: Sequence[bytes]) -> AbstractContextManager[ScriptedServer | ScriptedSockets]:
        """A server that sends the recorded stream in `pieces`."""
        led, followed = (
            [says(reply, content_type="application/json")] if reply else [] for reply in (self.leading, self.following)
        )
        return ScriptedServer(in_turn(*led, says(*pieces), *followed))

    def _decode(self, sent: Sequence[ServerSentEvent]) -> list[AgentEvent]:
        decoder = self.protocol.decoder(self._request())
        events = self._led(decoder)
        events += [event for one in sent for event in decoder.decode(one)]
        return [*events, *self._followed(decoder), *decoder.flush()]

    def events(self) -> list[AgentEvent]:
        """What the recorded stream says."""
        return self._decode(self._sent())

    def half_heard(self) -> Decoder:
        """A decoder that has heard the first half of the recorded stream."""
        decoder = self.protocol.decoder(self._request())
        self._led(decoder)
        sent = self._sent()
        for one in sent[: len(sent) // 2]:
            list(decoder.decode(one))
        return decoder

    def _led(self, decoder: Decoder) -> list[AgentEvent]:
        events = list(decoder.whole(self.leading)) if self.leading else []
        if leads_on(decoder):
            decoder.resume()
        return events

    def _followed(self, decoder: Decoder) -> list[AgentEvent]:
        if not leads_on(decoder):
            return []
        decoder.resume()
        return list(decoder.whole(self.following))

    def test_whole(self) -> None:
        """The recorded stream gives the expected text and one terminal event, its last."""
        events = self._decode(self._sent())
        assert fold(events).text == self.expected
        assert [isinstance(event, Done | Failed) for event in events].index(True) == len(events) - 1

    def test_every_event_keeps_what_was_sent(self) -> None:
        """Each event that came from the server has its server-sent event beside it."""
        sent = self._sent()
        replies = {reply.decode() for reply in (self.leading, self.following) if reply}
        assert {event.sent.data for event in self._decode(sent) if event.sent} == {one.data for one in sent} | replies

    def test_byte_by_byte(self) -> None:
        """Sent one byte at a time over a socket, the stream gives the same events."""
        self._check_pieces([self.recorded[place : place + 1] for place in range(len(self.recorded))])

    def test_cut_at_random_places(self) -> None:
        """Sent in pieces of any length over a socket, the stream gives the same events."""
        from hypothesis import HealthCheck, given, settings
        from hypothesis import strategies as st

        places = st.lists(st.integers(1, len(self.recorded) - 1), max_size=30, unique=True).map(sorted)

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(places)
        def check(cuts: list[int]) -> None:
            self._check_pieces([self.recorded[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)])

        check()

    def _check_pieces(self, pieces: Sequence[bytes]) -> None:
        with self._serving(pieces) as server:
            run = run_against(server.url, self.protocol)
        assert (run.transcript.status, run.transcript.text) == ("done", self.expected)
        whole = self._decode(self._sent())
        assert [event for event in run.transcript.events if event.sent] == [event for event in whole if event.sent]

    def test_two_streams_interleaved(self) -> None:
        """Two decoders do not know of each other: the state of a stream is its own."""
        sent = self._sent()
        first, second = (self.protocol.decoder(self._request()) for _ in range(2))
        events = [self._led(first), self._led(second)]
        for one in sent:
            events[0] += first.decode(one)
            events[1] += second.decode(one)
        events[0] += self._followed(first)
        events[1] += self._followed(second)
        assert events[0] == events[1]
        assert fold(events[0]).text == self.expected

    def test_unknown_events_are_kept(self) -> None:
        """An event that no document names is kept as `Unknown`, and disturbs nothing."""
        sent = [ServerSentEvent("x-never-heard-of", '{"a": 1}'), *self._sent()]
        events = self._decode(sent)
        kept = next(event for event in events if event.sent == sent[0])
        assert (kept, fold(events).text) == (
            Unknown(name="x-never-heard-of", data='{"a": 1}', sent=sent[0]),
            self.expected,
        )

    def test_garbage(self) -> None:
        """Whatever stands in an event's data, a decoder raises nothing but ProtocolError."""
        from hypothesis import HealthCheck, given, settings
        from hypothesis import strategies as st

        names = sorted({one.event for one in self._sent()})
        models = [json.loads(one.data) for one in self._sent() if _is_object(one.data)]
        leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
        values: st.SearchStrategy[Any] = st.recursive(
            leaves,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
            max_leaves=6,
        )
        spoiled = st.builds(_spoil, st.sampled_from(models), values, st.randoms(use_true_random=False))
        data = st.text(max_size=60) | values.map(json.dumps) | spoiled.map(json.dumps)

        @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.tuples(st.sampled_from(names), data), max_size=5))
        def check(garbage: list[tuple[str, str]]) -> None:
            decoder = self.protocol.decoder(self._request())
            with suppress(ProtocolError):
                events = [event for name, said in garbage for event in decoder.decode(ServerSentEvent(name, said))]
                fold([*events, *decoder.flush()]).text.encode()
                for event in events:
                    asdict(event)
            with suppress(ProtocolError):
                for _, said in garbage:
                    list(self.protocol.decoder(self._request()).whole(said.encode("utf-8", "replace")))

        check()

    def test_extremes(self) -> None:
        """Nesting without end, numbers without end, halves of characters: a `ProtocolError` at the most."""
        names = {one.event for one in self._sent()}
        extremes = [
            "[" * 100_000,
            '{"a":' * 100_000,
            "1" * 10_000,
            f'{{"index": {"9" * 10_000}}}',
            '"\\ud83e"',
            "\0",
            "{",
        ]
        for name in names:
            for data in extremes:
                with suppress(ProtocolError):
                    self._decode([ServerSentEvent(name, data)])


class SocketContract(ProtocolContract):
    """The same for a wire that is a WebSocket; `recorded` holds its text frames, one a line.

    What is cut in pieces is each frame: it is sent as fragments.
    """

    def _sent(self) -> list[ServerSentEvent]:
        return [ServerSentEvent("message", line) for line in self.recorded.decode().split("\n") if line]

    def _serving(self, pieces: Sequence[bytes]) -> AbstractContextManager[ScriptedServer | ScriptedSockets]:
        return ScriptedSockets(tells(pieces=frames_in_pieces(pieces)))


def _is_object(data: str) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False


def _spoil(model: dict[str, Any], value: Any, dice: random.Random) -> dict[str, Any]:
    """A copy of `model` in which one field, at any depth, is `value`."""
    copy = json.loads(json.dumps(model))
    place = copy
    while True:
        if not place:
            return {"spoiled": value}
        key = dice.choice(sorted(place))
        if isinstance(place[key], dict) and place[key] and dice.random() < 0.7:
            place = place[key]
        else:
            place[key] = value
            return dict(copy)
