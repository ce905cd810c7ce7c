"""How long a run may take, how often it may try, and what it may take in: plain values."""

from __future__ import annotations

from msgspec import Struct

from agent_magic.events import Usage

__all__ = ["Policy", "Price"]

MILLION = 1_000_000


class Price(Struct, frozen=True, forbid_unknown_fields=True):
    """What a million tokens cost, in the person's own currency: those that go in, those that come out."""

    input: float
    output: float

    def of(self, usage: Usage) -> float | None:
        """What `usage` costs; None where it names no tokens.

        Where a wire tells only the total, what is not told counts as output, mostly the dearer of the two.
        """
        known, came = usage.input_tokens, usage.output_tokens
        if came is None and usage.total_tokens is not None:
            came = max(0, usage.total_tokens - (known or 0))
        if known is None and came is None:
            return None
        return ((known or 0) * self.input + (came or 0) * self.output) / MILLION


class Policy(Struct, frozen=True):
    """How long to wait, how often to try again, how much to take in. All times in seconds.

    `timeout` is the longest silence, `max_time` the longest run, `backoff` the first wait before a
    reconnection (doubled each time, with a fifth of jitter), `max_wait` the longest wait that a
    server may ask for. `verify` is the path of a file with certificate authorities; `insecure_http` lets a
    key go over plain http to another machine.

    `max_event` is the largest server-sent event, or JSON reply, in bytes; `max_text` the longest answer and
    `max_data` the most that all events may hold together, in characters; `max_events` the most events;
    `max_cost` the most that a run may cost by `price`. The defaults are far beyond any answer, and keep what
    a run holds in memory to about a gigabyte at the worst.
    """

    timeout: float = 60.0
    max_time: float | None = None
    retries: int = 3
    backoff: float = 2.0
    max_wait: float = 120.0
    max_event: int = 16 * 1024 * 1024
    max_text: int = 10_000_000
    max_data: int = 256 * 1024 * 1024
    max_events: int = 1_000_000
    max_cost: float | None = None
    price: Price | None = None
    verify: str | None = None
    insecure_http: bool = False
