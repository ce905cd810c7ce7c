"""What one run has taken in, counted against its policy.

A limit that is reached ends the run with what fits in it. The cost is known only from what a server says
of its usage: where it says so with its last event, the limit cannot end the run early, and where it never
does, that is said.
"""

from __future__ import annotations

import msgspec

from agent_magic._policy import Policy
from agent_magic.errors import LimitReached
from agent_magic.events import Notice, Replace, ServerSentEvent, Text, Usage

__all__ = ["Limits"]


class Limits:
    """What is left of one run's limits. The messages name the server's `host`."""

    def __init__(self, policy: Policy, host: str) -> None:
        self._policy = policy
        self._host = host
        self._events_left = policy.max_events
        self._data_left = policy.max_data
        self._text_left = policy.max_text
        self._items: dict[int, int] = {}
        self._usage_was_told = False

    def count(self, sent: ServerSentEvent) -> None:
        """Count one more event of the server's. Raises `LimitReached`."""
        self._events_left -= 1
        self._data_left -= len(sent.data)
        if self._events_left < 0:
            raise self._reached(f"sent more than {self._policy.max_events:,} events (max_events)")
        if self._data_left < 0:
            raise self._reached(f"sent events of more than {self._policy.max_data:,} characters (max_data)")

    def admit_text(self, event: Text | Replace) -> tuple[Text | Replace, LimitReached | None]:
        """`event` as far as it fits, and the limit that it reached, if it did."""
        held = self._items.get(event.item, 0)
        if type(event) is Replace:
            self._text_left += held
            held = 0
        length = len(event.text)
        self._items[event.item] = held + length
        self._text_left -= length
        if self._text_left >= 0:
            return event, None
        cut = msgspec.structs.replace(event, text=event.text[: self._text_left])
        return cut, self._reached(f"sent an answer of more than {self._policy.max_text:,} characters (max_text)")

    def check_cost(self, usage: Usage) -> LimitReached | None:
        """The limit that a run of `usage` has reached, if it has."""
        self._usage_was_told = True
        price, most = self._policy.price, self._policy.max_cost
        cost = None if price is None else price.of(usage)
        if most is None or cost is None or cost <= most:
            return None
        return self._reached(f"has cost {cost:g}, more than max_cost = {most:g}")

    def last_words(self) -> Notice | None:
        """What must be said at the end of an answer."""
        if self._policy.max_cost is not None and not self._usage_was_told:
            return Notice(message=f"{self._host} did not say what was used, so max_cost could not be kept.")
        return None

    def _reached(self, what: str) -> LimitReached:
        return LimitReached(f"The run was ended: {self._host} {what}; what had arrived by then is kept.")
