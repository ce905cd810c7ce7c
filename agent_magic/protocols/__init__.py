"""The wires, by name. Found by the entry point group ``agent_magic.protocols``."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points

from agent_magic.errors import ConfigError
from agent_magic.protocols._base import (
    AgentProtocol,
    Decoder,
    HTTPFailure,
    Joiner,
    Keeper,
    error_of,
    integer,
    key_header,
    number,
    objects,
    read_json,
    read_object,
    refuse_fields,
    text,
    to_json,
)
from agent_magic.protocols.openai import OpenAI
from agent_magic.protocols.runagent import RunAgent
from agent_magic.protocols.you import You

__all__ = [
    "AgentProtocol",
    "Decoder",
    "HTTPFailure",
    "Joiner",
    "Keeper",
    "error_of",
    "get_protocol",
    "integer",
    "key_header",
    "number",
    "objects",
    "protocol_names",
    "read_json",
    "read_object",
    "refuse_fields",
    "text",
    "to_json",
]

GROUP = "agent_magic.protocols"


@cache
def _installed() -> dict[str, AgentProtocol]:
    built_in: dict[str, AgentProtocol] = {"openai": OpenAI(), "runagent": RunAgent(), "you": You()}
    others = {entry.name: entry.load()() for entry in entry_points(group=GROUP) if entry.name not in built_in}
    return built_in | others


def protocol_names() -> list[str]:
    """The names that an agent's setting `protocol` may have."""
    return sorted(_installed())


def get_protocol(name: str) -> AgentProtocol:
    """The protocol called `name`. Raises `ConfigError` with the nearest names."""
    found = _installed().get(name)
    if found is None:
        near = get_close_matches(name, protocol_names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(protocol_names())}."
        raise ConfigError(f"There is no protocol {name!r}; {hint}")
    return found
