"""What ``%agent show`` shows: each setting of an agent, and where it came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import msgspec

from agent_magic._agent import Agent
from agent_magic._check import SETTABLE
from agent_magic._config import load_settings
from agent_magic._key_sources import look_up
from agent_magic._listing import html_table, text_table
from agent_magic._local import missing
from agent_magic._overrides import override
from agent_magic._request import host_of
from agent_magic.errors import ConfigError

__all__ = ["Shown", "use"]

COLUMNS = ("setting", "value", "from")
NOTHING = "none"
# What is said of an agent that is there without settings.
SAID_OF_EMBEDDED = {"protocol", "agent", "gguf", "system", "parameters"}
# Whom a cell asks, and with what; how a run goes stands below.
FIRST = ("protocol", "agent", "gguf", "base_url", "key_env", "auth", "system", "parameters", "headers", "tape")


class Shown:
    """The settings of one agent as they hold now, a row each: what, the value, where from.

    The values of headers are not shown, and of the key only where it is.
    """

    def __init__(self, agent: Agent, chosen: str) -> None:
        self.agent = agent.name
        self.rows = [("name", agent.name, chosen), *_rows(agent)]

    @classmethod
    def of(cls, name: str | None) -> Self:
        """The agent called `name`, or the default one. Raises `ConfigError`."""
        return cls(Agent(name), load_settings().default_from if name is None else "the line")

    def __repr__(self) -> str:
        return text_table(COLUMNS, self.rows)

    def _repr_html_(self) -> str:
        return html_table(COLUMNS, self.rows)


def use(name: str) -> str:
    """From now on the agent `name` is the default one. The sentence that says so; raises `ConfigError`."""
    load_settings().agent(name)
    override("default", name)
    return f"Without a name, {name} is asked from now on, in this session."


def _rows(agent: Agent) -> Iterator[tuple[str, str, str]]:
    for name in (*FIRST, *(name for name in SETTABLE if name not in FIRST)):
        yield name, _value(agent, name), _origin(agent, name)
        if name == "key_env":
            yield _key(agent)


def _value(agent: Agent, name: str) -> str:
    match name:
        case "base_url":
            if agent.config.gguf is not None:
                return missing(agent.config.gguf) or "in a process of its own"
            return "in this process" if _is_embedded(agent, name) else agent.base_url or NOTHING
        case "key_env":
            return agent.key_variable or NOTHING
        case "auth":
            return agent.config.auth or "bearer"
        case "headers":
            return ", ".join(f"{header}: ***" for header in agent.config.headers) or NOTHING
    value = getattr(agent.config, name)
    if value is None or value == {}:
        return NOTHING
    if type(value) is int:
        return f"{value:,}"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _origin(agent: Agent, name: str) -> str:
    if name in agent.origins:
        return agent.origins[name]
    if name in {"base_url", "key_env"} and agent.config.gguf is not None:
        return "gguf"
    if _is_embedded(agent, name) or (name in SAID_OF_EMBEDDED and agent.config.embedded):
        return "embedded"
    return "the protocol's own" if name in {"base_url", "key_env", "auth"} else "default"


def _is_embedded(agent: Agent, name: str) -> bool:
    return name in {"base_url", "key_env"} and agent.config.embedded and getattr(agent.config, name) is None


def _key(agent: Agent) -> tuple[str, str, str]:
    variable = agent.key_variable
    if agent.config.gguf is not None:
        return ("key", "***", "made here, for that process")
    if variable is None:
        return ("key", "none is sent", "")
    troubles: list[str] = []
    try:
        found = look_up(variable, troubles, host_of(agent.checked_url()))
    except ConfigError as error:
        return ("key", f"would not be sent: {error}", "")
    if found is None:
        return ("key", "there is none", ", ".join(troubles))
    return ("key", "***", found.source)
