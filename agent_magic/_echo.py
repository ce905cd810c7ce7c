"""What a server says, without the keys that it echoes.

An agent that shows the headers of its request, or prints its environment, sends a key back: whole, or cut
into chunks, as a model writes it. Neither the answer nor any event of a run may hold it, for both are shown,
saved and pickled. So each server-sent event is struck before a decoder sees it, and the text is struck once
more as it is put together: what may be the beginning of a key waits for the piece that follows it. It is the
one change that is ever made to an answer, and shows as ``***``. A tape that has the pieces is told to forget them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from agent_magic._keys import Secret, strike_all
from agent_magic._request import AgentRequest
from agent_magic.events import AgentEvent, Done, Failed, Reasoning, Replace, ServerSentEvent, Text
from agent_magic.protocols import Decoder, json_or_none, leads_on

__all__ = ["guarded", "nobody"]


def nobody() -> None:
    """Nobody is to be told of a key in pieces."""


def guarded(decoder: Decoder, secrets: Sequence[Secret], in_pieces: Callable[[], None] = nobody) -> Decoder:
    """`decoder`, in whose events `secrets` are struck out. A word that any text may hold is none.

    `in_pieces` is called where a server has sent a secret in several events: each of them holds a piece.
    """
    long_ones = [secret for secret in secrets if secret.is_long]
    return _Guarded(decoder, long_ones, in_pieces) if long_ones else decoder


class _Guarded:
    def __init__(self, decoder: Decoder, secrets: Sequence[Secret], in_pieces: Callable[[], None]) -> None:
        self._decoder = decoder
        self._secrets = secrets
        self._in_pieces = in_pieces
        self._waiting: dict[tuple[type[Text | Reasoning], int], str] = {}
        self._begun: set[int] = set()
        self._has_pieces = False

    @property
    def leads_on(self) -> bool:
        return leads_on(self._decoder)

    def decode(self, sent: ServerSentEvent) -> Iterator[AgentEvent]:
        if any(secret.is_in(f"{sent.data}\n{sent.event}\n{sent.id}") for secret in self._secrets):
            name, place = strike_all([sent.event, sent.id], self._secrets)
            sent = ServerSentEvent(name, _strike_data(sent.data, self._secrets), place)
        return self._struck(self._decoder.decode(sent))

    def whole(self, body: bytes) -> Iterator[AgentEvent]:
        said = body.decode("utf-8", "replace")
        struck = _strike_data(said, self._secrets)
        return self._struck(self._decoder.whole(body if struck == said else struck.encode()))

    def closed(self) -> Iterator[AgentEvent]:
        return self._struck(self._decoder.closed())

    def flush(self) -> Iterator[AgentEvent]:
        yield from self._struck(self._decoder.flush())
        yield from self._rest()

    def resume(self) -> AgentRequest | None:
        return self._decoder.resume()

    def _struck(self, events: Iterable[AgentEvent]) -> Iterator[AgentEvent]:
        for event in self._guarded(events):
            yield msgspec.structs.replace(event, sent=None) if self._has_pieces and event.sent is not None else event

    def _guarded(self, events: Iterable[AgentEvent]) -> Iterator[AgentEvent]:
        for event in events:
            match event:
                case Text() | Reasoning() | Replace():
                    yield self._piece(event)
                case _:
                    if isinstance(event, Done) or (isinstance(event, Failed) and not event.transient):
                        yield from self._rest()
                    facts = {name: getattr(event, name) for name in event.__struct_fields__ if name != "sent"}
                    struck = strike_all(facts, self._secrets)
                    yield event if struck == facts else msgspec.structs.replace(event, **struck)

    def _piece(self, event: Text | Reasoning | Replace) -> Text | Reasoning | Replace:
        is_text = not isinstance(event, Reasoning)
        place = (Text if is_text else Reasoning, event.item if not isinstance(event, Reasoning) else 0)
        waiting = self._waiting.pop(place, "")
        joined = event.text if isinstance(event, Replace) else waiting + event.text
        if not isinstance(event, Reasoning) and event.item not in self._begun:
            joined = self._continued(event.item, joined)
        said: str = strike_all(joined, self._secrets)
        if said != joined:
            self._found()
        held = max(secret.held(said) for secret in self._secrets)
        if held:
            self._waiting[place] = said[-held:]
            said = said[:-held]
        return event if said == event.text else msgspec.structs.replace(event, text=said)

    def _continued(self, item: int, text: str) -> str:
        """The first `text` of an item, behind what waits of the item before it where the two may make a secret."""
        before = (Text, max((begun for begun in self._begun if begun < item), default=-1))
        self._begun.add(item)
        joined = self._waiting.get(before, "") + text
        goes_on = any(secret.is_in(joined) or secret.held(joined) > len(text) for secret in self._secrets)
        if not goes_on:
            return text
        self._waiting.pop(before, None)
        return joined

    def _found(self) -> None:
        self._has_pieces = True
        self._in_pieces()

    def _rest(self) -> Iterator[AgentEvent]:
        waiting, self._waiting = self._waiting, {}
        for (kind, item), said in waiting.items():
            # More than half of a key is as good as a key.
            is_key = any(secret.is_mostly(said) for secret in self._secrets)
            if is_key:
                self._found()
            place: dict[str, Any] = {"item": item} if kind is Text else {}
            yield kind(text="***" if is_key else said, **place)


def _strike_data(data: str, secrets: Sequence[Secret]) -> str:
    """`data` without `secrets`; JSON stays JSON, also where a secret ends with a sign that ends a string there."""
    struck: str = strike_all(data, secrets)
    if struck == data or json_or_none(struck) is not None or (value := json_or_none(data)) is None:
        return struck
    return json.dumps(strike_all(value, secrets))
