"""An agent's settings, put together from all who may say something: a file, the environment, %config, the caller."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import structs

from agent_magic._check import SETTABLE, check_names, checked_value
from agent_magic._config import AgentConfig, Source, check_values
from agent_magic._layers import settings_said
from agent_magic.errors import ConfigError

__all__ = ["combined"]


def combined(base: AgentConfig, source: Source, given: dict[str, Any]) -> tuple[AgentConfig, dict[str, str]]:
    """The settings of an agent, `given` above all, and where each that is said came from. Raises `ConfigError`."""
    said = settings_said()
    if base.embedded or (base.gguf is not None and base.price is None):
        said.pop("max_cost", None)  # it costs nothing
    check_names("Agent(...): ", "", given, SETTABLE)
    try:
        plain = {name: msgspec.to_builtins(value) for name, value in given.items()}
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"Agent(...): these settings cannot be written down: {error}.") from None
    values = {name: value for name, (value, _) in said.items()}
    values |= {name: checked_value(f"Agent(...): {name}", name, value) for name, value in plain.items()}
    origins = dict.fromkeys(source.says, source.where) | {name: where for name, (_, where) in said.items()}
    origins |= dict.fromkeys(given, "Agent(...)")
    config = structs.replace(base, **values)
    try:
        check_values(config)
    except ConfigError as error:
        raise ConfigError(f"{origins.get('max_cost', source.where)}: {error}") from None
    return config, origins
