"""One agent's settings, and which values are good, whichever way they came."""

from __future__ import annotations

import math
import re
from typing import Any

from msgspec import field

from agent_magic._keys import check_variable
from agent_magic._modes import Mode
from agent_magic._policy import Policy
from agent_magic._request import check_base_url
from agent_magic.errors import ConfigError

__all__ = ["AgentConfig", "check_amount", "check_seconds", "check_values"]

AUTHS = ("bearer", "x-api-key")
# RFC 9110, 5.6.2: what a header's name may hold.
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# What frames and routes a request is the connection's own. With a Host of its choosing a settings file could
# have a service's front door pass the request, and the key in it, on to another of its customers.
OWN_HEADERS = frozenset(
    {"connection", "content-length", "content-type", "expect", "host", "keep-alive", "proxy-authorization",
     "proxy-connection", "sec-websocket-accept", "sec-websocket-extensions", "sec-websocket-key",
     "sec-websocket-protocol", "sec-websocket-version", "te", "trailer", "transfer-encoding", "upgrade"}
)  # fmt: skip


class AgentConfig(Policy, frozen=True, forbid_unknown_fields=True):
    """One agent's settings: how its runs go, whom they ask and with what. See the README for each.

    `base_url` None is the protocol's own default; `gguf` is the file of a model that is served here; `embedded` is
    an agent that is there without settings.
    """

    protocol: str = "runagent"
    agent: str = "demo"
    base_url: str | None = None
    gguf: str | None = None
    key_env: str | None = None
    auth: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    system: str | None = None
    tape: Mode | None = None
    images: bool = False
    max_value: int = 30_000
    embedded: bool = False

    def __repr__(self) -> str:
        """The settings, without the headers' values."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__} | {"headers": [*self.headers]}
        return f"AgentConfig({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def check_seconds(name: str, value: float, *, zero: bool = False) -> float:
    """`value` where it is a finite time; raises `ConfigError` for NaN, infinity and what is negative."""
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        least = "0 or more" if zero else "more than 0"
        raise ConfigError(f"{name} is a number of seconds, {least}; {value:g} is not.")
    return value


def check_values(config: AgentConfig) -> None:
    """Raise `ConfigError` for a value that no run could use."""
    check_seconds("timeout", config.timeout)
    check_seconds("backoff", config.backoff, zero=True)
    check_seconds("max_wait", config.max_wait, zero=True)
    if config.max_time is not None:
        check_seconds("max_time", config.max_time)
    if config.retries < 0:
        raise ConfigError(f"retries is a whole number from 0 up; {config.retries} is not.")
    for name in ("max_event", "max_text", "max_data", "max_events", "max_value"):
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} is a whole number from 1 up; {getattr(config, name)} is not.")
    _check_cost(config)
    if config.base_url is not None:
        check_base_url(config.base_url)
    if config.gguf is not None:
        _check_local(config)
    if config.key_env:
        check_variable(config.key_env)
    if config.auth is not None and config.auth not in AUTHS:
        raise ConfigError(f"auth is one of {', '.join(AUTHS)}: how the key travels, never the key.")
    for name, value in config.headers.items():
        if not HEADER_NAME.fullmatch(name) or not value.isprintable() or not value.isascii():
            raise ConfigError(f"the header {name!r} cannot be sent; names and values are printable ASCII.")
        if name.lower() in OWN_HEADERS:
            raise ConfigError(f"the header {name!r} is set by the connection itself; leave it out.")


def _check_local(config: AgentConfig) -> None:
    if not config.gguf:
        raise ConfigError("gguf names no file; it is the path of a model, such as ~/models/small.gguf.")
    for name in ("base_url", "key_env"):
        if getattr(config, name):
            raise ConfigError(f"gguf is a model that is served here, and needs no {name}; leave one of the two out.")


def _check_cost(config: AgentConfig) -> None:
    if config.price is not None:
        check_amount("price.input", config.price.input)
        check_amount("price.output", config.price.output)
    if config.max_cost is not None:
        check_amount("max_cost", config.max_cost)
        if config.price is None:
            raise ConfigError(
                "max_cost needs a price to reckon with: price = { input = 3.0, output = 15.0 }, per million tokens."
            )


def check_amount(name: str, value: float) -> None:
    """Raise `ConfigError` where `value` is no amount of money."""
    if not math.isfinite(value) or value < 0:
        raise ConfigError(f"{name} is an amount of money, 0 or more; {value:g} is not.")
