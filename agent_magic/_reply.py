"""A reply, whichever way it travels: its head, and the ways to read what follows. What carries requests keeps to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, Literal, Protocol, Self

from agent_magic.events import ServerSentEvent

__all__ = ["CONNECT_SECONDS", "HEAD_BYTES", "Broken", "Kind", "Reply", "Transport", "cause_of", "seconds_until"]

# An error page is read this far and no further: its first lines say what there is to say.
HEAD_BYTES = 64 * 1024
CONNECT_SECONDS = 15.0

# What follows the head: a stream of events, an answer in one piece, or something else.
Kind = Literal["events", "whole", "other"]


class Broken(Exception):
    """The connection was not made, or ended before its reply did; its text is the beginning of a sentence."""


class Reply(Protocol):
    """A reply whose head has come. `retry_after` is in seconds from now."""

    status: int
    is_success: bool
    kind: Kind
    media_type: str
    retry_after: float | None

    def events(self) -> AsyncGenerator[ServerSentEvent]:
        """The events, each as a server-sent one. Raises `LimitReached`, `ProtocolError` and `Broken`."""

    async def whole(self) -> bytes:
        """The whole body. Raises `LimitReached`."""

    async def beginning(self) -> bytes:
        """The first part of the body, as far as it comes in time: it is broken or slow at no one's cost."""


class Transport(Protocol):
    """What carries one kind of requests, for one run."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *error: object) -> None: ...

    def ask(self, request: Any) -> AbstractAsyncContextManager[Reply]:
        """Send `request`; the connection is closed with the context, also by a stop. Raises `Broken`."""


def seconds_until(value: str | None) -> float | None:
    """A Retry-After header in seconds from now (RFC 9110, 10.2.3: a number of seconds, or a date)."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:15])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (ValueError, OverflowError):
        return None


def cause_of(error: BaseException) -> str:
    """What an error says of itself, in a few words."""
    words = " ".join(str(error).split())[:300].rstrip(".")
    return words or type(error).__name__
