"""What stands above the files, for all agents: the environment, and above it ``%config AgentMagics``."""

from __future__ import annotations

import os
from difflib import get_close_matches
from typing import Any, NamedTuple

from agent_magic._check import checked_agent, checked_value, read_number, written
from agent_magic._overrides import overrides
from agent_magic._settings import AgentConfig
from agent_magic.errors import ConfigError

__all__ = ["AGENTS", "Said", "agents_said", "checked_override", "default_said", "journal_said", "settings_said"]

PREFIX = "AGENT_MAGIC_"
CONFIG = "%config AgentMagics"
AGENTS = f"{CONFIG}.agents"
SCALARS = ("timeout", "max_time", "retries", "backoff", "max_wait", "max_value", "max_cost")
# Those that other rooms read.
OTHERS = ("CONFIG", "DEFAULT", "JOURNAL", "STATE", "TAPE", "TAPES")
JOURNAL_VALUES: dict[str, bool | None] = {"": None, "0": False, "no": False, "off": False, "false": False}
JOURNAL_VALUES |= {"1": True, "yes": True, "on": True, "true": True}


class Said(NamedTuple):
    """A value, and where the person said it."""

    value: Any
    where: str


def settings_said() -> dict[str, Said]:
    """The settings of all agents that are said here, by name. Raises `ConfigError`."""
    _check_variables()
    said = {}
    for name in SCALARS:
        variable = f"{PREFIX}{name.upper()}"
        if text := os.environ.get(variable, "").strip():
            said[name] = Said(checked_value(variable, name, read_number(text)), variable)
    if text := os.environ.get(f"{PREFIX}TAPE", "").strip():
        said["tape"] = Said(checked_value(f"{PREFIX}TAPE", "tape", text), f"{PREFIX}TAPE")
    of_config = {name: value for name, value in overrides().items() if name in (*SCALARS, "images")}
    return said | {name: Said(value, f"{CONFIG}.{name}") for name, value in of_config.items()}


def default_said() -> Said | None:
    """The default agent's name."""
    if (name := overrides().get("default")) is not None:
        return Said(name, f"{CONFIG}.default")
    variable = f"{PREFIX}DEFAULT"
    name = os.environ.get(variable, "").strip()
    return Said(name, variable) if name else None


def journal_said() -> Said | None:
    """Whether runs are written down. Raises `ConfigError`."""
    if (wanted := overrides().get("journal")) is not None:
        return Said(wanted, f"{CONFIG}.journal")
    variable = f"{PREFIX}JOURNAL"
    said = os.environ.get(variable, "").strip().lower()
    if said not in JOURNAL_VALUES:
        raise ConfigError(f"{variable} is 0 (no journal) or 1; {said!r} is neither.")
    wanted = JOURNAL_VALUES[said]
    return None if wanted is None else Said(wanted, variable)


def agents_said() -> dict[str, tuple[AgentConfig, frozenset[str]]]:
    """The whole agents that ``%config AgentMagics.agents`` describes, each with the names of what is said of it."""
    tables = overrides().get("agents", {})
    return {name: (checked_agent(CONFIG, name, table), frozenset(table)) for name, table in tables.items()}


def checked_override(name: str, value: Any) -> Any:
    """What ``%config AgentMagics.name = value`` may say. Raises `ConfigError`."""
    label = f"{CONFIG}.{name}"
    match name:
        case "agents":
            _check_agents(label, value)
        case "default":
            if not isinstance(value, str) or not value:
                raise ConfigError(f'{label} = {written(value)} names no agent; write {label} = "demo".')
        case "journal":
            if not isinstance(value, bool):
                raise ConfigError(f"{label} = {written(value)} is neither True nor False.")
        case _:
            return checked_value(label, name, value)
    return value


def _check_agents(label: str, value: object) -> None:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f'{label} is a dict of agents by name: {label} = {{"mine": {{"protocol": "you"}}}}.')
    for name, table in value.items():
        if not isinstance(table, dict):
            raise ConfigError(f'{label}: {name} is a dict of settings, such as {{"protocol": "you"}}.')
        checked_agent(CONFIG, name, table)


def _check_variables() -> None:
    """Raise `ConfigError` for a variable that is nearly one of these."""
    known = [*OTHERS, *(name.upper() for name in SCALARS)]
    for variable in os.environ:
        name = variable.removeprefix(PREFIX)
        if (
            variable.startswith(PREFIX)
            and name not in known
            and (near := get_close_matches(name, known, n=1, cutoff=0.7))
        ):
            raise ConfigError(
                f"{variable} is set, and agent_magic knows none of that name; did you mean {PREFIX}{near[0]}?"
            )
