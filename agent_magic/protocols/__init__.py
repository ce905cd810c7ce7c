"""The wires, by name. Found by the entry point group ``agent_magic.protocols``."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from agent_magic._request import AgentRequest, HTTPRequest, Said, SocketRequest, Task, join_url, socket_url
from agent_magic.errors import ConfigError
from agent_magic.protocols._asking import key_header, refuse_fields, turns_of
from agent_magic.protocols._base import AgentProtocol, Decoder, HTTPFailure, Keeper, KeepsMessages, leads_on
from agent_magic.protocols._ends import ending, error_of, usage_of
from agent_magic.protocols._json import (
    integer,
    json_or_none,
    number,
    object_or_empty,
    objects,
    read_json,
    read_object,
    text,
    to_json,
    well_formed,
)
from agent_magic.protocols._pieces import Joiner, Joiners
from agent_magic.protocols.ag_ui import AGUI
from agent_magic.protocols.anthropic import Anthropic
from agent_magic.protocols.openai import OpenAI
from agent_magic.protocols.openai_responses import OpenAIResponses
from agent_magic.protocols.runagent import RunAgent
from agent_magic.protocols.runagent_ws import RunAgentSocket
from agent_magic.protocols.you import You
from agent_magic.protocols.you_research import YouResearch

__all__ = [
    "AgentProtocol",
    "AgentRequest",
    "Decoder",
    "HTTPFailure",
    "HTTPRequest",
    "Joiner",
    "Joiners",
    "Keeper",
    "KeepsMessages",
    "Said",
    "SocketRequest",
    "Task",
    "ending",
    "error_of",
    "get_protocol",
    "integer",
    "join_url",
    "json_or_none",
    "key_header",
    "leads_on",
    "number",
    "object_or_empty",
    "objects",
    "protocol_names",
    "read_json",
    "read_object",
    "refuse_fields",
    "socket_url",
    "text",
    "to_json",
    "turns_of",
    "usage_of",
    "well_formed",
]

GROUP = "agent_magic.protocols"


BUILT_IN: dict[str, AgentProtocol] = {
    wire.name: wire
    for wire in (
        AGUI(),
        Anthropic(),
        OpenAI(),
        OpenAIResponses(),
        RunAgent(),
        RunAgentSocket(),
        You(),
        YouResearch(),
    )
}


@cache
def _others() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in BUILT_IN}


@cache
def _loaded(name: str) -> AgentProtocol:
    """A plug-in's protocol, which is imported when an agent names it."""
    entry = _others()[name]
    try:
        found: AgentProtocol = entry.load()()
    except Exception as error:
        words = " ".join(f"{type(error).__name__} {error}".split()).rstrip(".")
        raise ConfigError(f"The protocol {name!r} ({entry.value}) cannot be loaded: {words}.") from error
    return found


def protocol_names() -> list[str]:
    """The names that an agent's setting `protocol` may have."""
    return sorted([*BUILT_IN, *_others()])


def get_protocol(name: str) -> AgentProtocol:
    """The protocol called `name`. Raises `ConfigError` with the nearest names."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name in _others():
        return _loaded(name)
    near = get_close_matches(name, protocol_names(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(protocol_names())}."
    raise ConfigError(f"There is no protocol {name!r}; {hint}")
