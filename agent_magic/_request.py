"""What is asked: of the agent (`AgentRequest`), of its server (`HTTPRequest`, `SocketRequest`). Plain values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Struct

from agent_magic._keys import Secret
from agent_magic.errors import ConfigError

__all__ = [
    "ALONE",
    "AgentRequest",
    "Earlier",
    "HTTPRequest",
    "Said",
    "SocketRequest",
    "Task",
    "check_base_url",
    "host_of",
    "join_url",
    "socket_url",
]


class Said(Struct, frozen=True, omit_defaults=True):
    """One earlier turn of a conversation; `messages` is the answer as its wire has it, where that is more than text."""

    prompt: str
    answer: str
    messages: Sequence[dict[str, Any]] = ()


class Earlier(Struct, frozen=True):
    """What was said before in a conversation.

    `session_id` is the server's name for it, `said` the turns as they are known here. `is_replayed`: of some of
    them the server knows nothing, as a tape has answered.
    """

    session_id: str | None = None
    said: Sequence[Said] = ()
    is_replayed: bool = False


ALONE = Earlier()


class Task(Struct, frozen=True):
    """A task that a server works on by itself: its name there, and how far what it tells has been read.

    `after` is the number of the last event that has come; None before the first. `is_over`: there are no more
    events, and what is asked for is the result.
    """

    id: str
    after: int | None = None
    is_over: bool = False


class AgentRequest(Struct, frozen=True):
    """One question to one agent, before any wire has a say in it.

    `key_env` is the variable that the key came from, for messages. `auth` names how the key travels:
    ``bearer`` or ``x-api-key``; None leaves it to the wire. `session_id` names a conversation that the server keeps;
    one that is kept here is `said`, and goes along. `task` is what a resumed request goes on with, where the server
    has a name for it.
    """

    prompt: str
    base_url: str
    agent: str
    parameters: dict[str, Any] = {}
    session_id: str | None = None
    system: str | None = None
    said: Sequence[Said] = ()
    headers: Mapping[str, str | Secret] = {}
    key: Secret | None = None
    key_env: str | None = None
    auth: str | None = None
    task: Task | None = None

    @property
    def secrets(self) -> list[Secret]:
        """All that goes along and is nobody else's to see, but for words that any text may hold."""
        return [value for value in (self.key, *self.headers.values()) if isinstance(value, Secret) and value.is_long]


class HTTPRequest(Struct, frozen=True):
    """One request as it will stand on the wire; a header's value may be a `Secret`. A GET has no `body`."""

    method: str
    url: str
    headers: dict[str, str | Secret]
    body: dict[str, Any] | None = None

    @property
    def secrets(self) -> list[Secret]:
        """The secrets in it, be they empty."""
        return [value for value in self.headers.values() if isinstance(value, Secret)]

    def encoded_body(self) -> bytes:
        """The body as JSON in UTF-8; empty where there is none.

        Raises `ConfigError` for a value that JSON cannot hold.
        """
        return b"" if self.body is None else _as_json(self.body)

    def __str__(self) -> str:
        return f"{self.method} {self.url}"


class SocketRequest(Struct, frozen=True):
    """One WebSocket as it will be asked for, and the frame that is sent on it first.

    `url` is ``ws`` or ``wss``, without a query; a value of `query`, as one of `headers`, may be a `Secret`.
    """

    url: str
    headers: dict[str, str | Secret]
    query: dict[str, str | Secret]
    frame: dict[str, Any]

    @property
    def secrets(self) -> list[Secret]:
        """The secrets in it, be they empty."""
        return [value for value in (*self.headers.values(), *self.query.values()) if isinstance(value, Secret)]

    def encoded_body(self) -> bytes:
        """The frame as JSON in UTF-8. Raises `ConfigError` for a value that JSON cannot hold."""
        return _as_json(self.frame)

    def __str__(self) -> str:
        asked = "&".join(f"{name}={value}" for name, value in self.query.items())
        return f"GET {self.url}?{asked}" if asked else f"GET {self.url}"


def _as_json(value: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"The request cannot be written as JSON: {error}.") from None


def check_base_url(url: str) -> str:
    """`url` without a trailing slash; raises `ConfigError` where no request could be sent to it."""
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        raise ConfigError("The base_url is not a URL; it looks like https://api.example.com.") from None
    if parts.username is not None or parts.password is not None or (not parts.netloc and "@" in url):
        # The URL itself is not quoted: what stands before the @ may be a password.
        raise ConfigError("The base_url has a user or a password in it; name the key's variable in key_env instead.")
    shown = re.split("[?#]", url)[0]  # a query may hold a key
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_good:
        is_bare = "://" not in url and re.fullmatch(r"[\w.-]+(:[0-9]+)?(/.*)?", url)
        hint = f"did you mean 'https://{shown}'?" if is_bare else "it looks like https://api.example.com."
        if parts.scheme in {"ws", "wss"}:
            hint = f"write 'http{shown[2:]}', the wire makes a WebSocket of it."
        raise ConfigError(f"The base_url {shown!r} is not an http or https URL; {hint}")
    if not re.fullmatch(r"[!-~]+", url) or parts.query or parts.fragment or url[-1] in "?#":
        raise ConfigError(
            f"The base_url {shown!r} has a query, a fragment, a space or a letter outside ASCII; "
            "leave only scheme, host and path."
        )
    return url.rstrip("/")


def socket_url(url: str) -> str:
    """The WebSocket's URL for an http or https `url`."""
    return f"ws{url.removeprefix('http')}"


def host_of(url: str) -> str:
    """The host of `url`, with its port where one is named: what an error message may show."""
    return urlsplit(url).netloc.rpartition("@")[2]


def join_url(base_url: str, *segments: str) -> str:
    """`base_url` with path segments behind it, each percent-encoded as one segment.

    Raises `ConfigError` for an empty segment and for ``.`` and ``..``, which a server would resolve
    into another path than the one that is meant.
    """
    for segment in segments:
        if segment in {"", ".", ".."}:
            raise ConfigError(f"{segment!r} cannot be part of a URL's path; check the agent's id in the settings.")
    return "/".join([check_base_url(base_url), *(quote(segment, safe="") for segment in segments)])
