"""What one run has taken in, counted against its policy.

A limit that is reached ends the run with what fits in it. The cost is known only from what a server says
of its usage: where it says so with its last event, the limit cannot end the run early, and where it never
does, that is said.
"""

from __future__ import annotations

import msgspec

from agent_magic._policy import Policy
from agent_magic.errors import LimitReached
from agent_magic.events import AgentEvent, Done, Notice, Replace, ServerSentEvent, Text, Usage

__all__ = ["Limits"]


class Limits:
    """The counts of one run. The messages begin with the server's `host`."""

    def __init__(self, policy: Policy, host: str) -> None:
        self._policy = policy
        self._host = host
        self._events = 0
        self._data = 0
        self._text = 0
        self._items: dict[int, int] = {}
        self._usage_was_told = False

    def count(self, sent: ServerSentEvent) -> None:
        """Count one more event of the server's. Raises `LimitReached`."""
        self._events += 1
        self._data += len(sent.data)
        if self._events > self._policy.max_events:
            raise self._reached(f"sent more than {self._policy.max_events:,} events (max_events)")
        if self._data > self._policy.max_data:
            raise self._reached(f"sent events of more than {self._policy.max_data:,} characters (max_data)")

    def admit(self, event: AgentEvent) -> tuple[AgentEvent, LimitReached | None]:
        """`event` as far as it fits, and the limit that it reached, if it did."""
        match event:
            case Text() | Replace():
                return self._admit_text(event)
            case Usage():
                self._usage_was_told = True
                return event, self._cost(event)
            case _:
                return event, None

    def last_words(self, event: AgentEvent) -> Notice | None:
        """What must be said before `event`, should it be the last one."""
        if isinstance(event, Done) and self._policy.max_cost is not None and not self._usage_was_told:
            return Notice(message=f"{self._host} did not say what was used, so max_cost could not be kept.")
        return None

    def _admit_text(self, event: Text | Replace) -> tuple[AgentEvent, LimitReached | None]:
        before = self._items.get(event.item, 0) if isinstance(event, Replace) else 0
        room = self._policy.max_text - self._text + before
        taken = min(len(event.text), room)
        self._text += taken - before
        self._items[event.item] = taken if isinstance(event, Replace) else self._items.get(event.item, 0) + taken
        if len(event.text) <= room:
            return event, None
        cut = msgspec.structs.replace(event, text=event.text[:taken])
        return cut, self._reached(f"sent an answer of more than {self._policy.max_text:,} characters (max_text)")

    def _cost(self, usage: Usage) -> LimitReached | None:
        price, most = self._policy.price, self._policy.max_cost
        cost = None if price is None else price.of(usage)
        if most is None or cost is None or cost <= most:
            return None
        return self._reached(f"has cost {cost:g}, more than max_cost = {most:g}")

    def _reached(self, what: str) -> LimitReached:
        return LimitReached(f"The run was ended: {self._host} {what}; what had arrived by then is kept.")
