"""``%agent login`` and ``logout``: an agent's key into the keyring, and out of it."""

from __future__ import annotations

import os

from agent_magic._agent import Agent
from agent_magic._key_sources import forget_key, hold_key
from agent_magic._keyring import KeyringTrouble, ask_again, delete_key, read_key, store_key
from agent_magic._prompt import ask_hidden
from agent_magic._request import host_of
from agent_magic.errors import AuthError, ConfigError

__all__ = ["login", "logout"]


def login(name: str | None) -> str:
    """Ask for the key of the agent `name`, hidden, and store it. The sentence that says so.

    Raises `ConfigError` where there is no keyring or no key is wanted, `AuthError` where none is typed.
    """
    variable, host = _wanted(Agent(name))
    ask_again()
    try:
        read_key(variable)  # before anything is typed that could not be stored
        key = ask_hidden(f"Key for {host} ({variable}), to be stored in the keyring: ")
        if key is None:
            raise AuthError(
                f"%agent login asks for a key, and nobody can answer here; set the environment variable {variable}."
            )
        if key.is_empty or not key.is_visible:
            what = "has a character that a header cannot carry" if not key.is_empty else "is empty"
            raise AuthError(f"What was typed {what}; nothing was stored.")
        store_key(variable, key)
    except KeyringTrouble as trouble:
        raise _refused(trouble) from None
    hold_key(variable, key)
    return f"The key for {host} is in the keyring, as {variable}.{_above(variable)}"


def logout(name: str | None) -> str:
    """Delete the key of the agent `name`, and hold it no longer. The sentence that says so; raises `ConfigError`."""
    variable, _ = _wanted(Agent(name))
    was_held = forget_key(variable) is not None
    try:
        was_there = delete_key(variable)
    except KeyringTrouble as trouble:
        raise _refused(trouble) from None
    if was_there:
        return f"The keyring holds {variable} no longer.{_above(variable)}"
    also = " The one of this session is forgotten." if was_held else ""
    return f"The keyring held no {variable}.{also}{_above(variable)}"


def _wanted(agent: Agent) -> tuple[str, str]:
    """The name of the agent's key, and the host that gets it."""
    variable = agent.key_variable
    if variable is None:
        raise ConfigError(f"The agent {agent.name!r} wants no key.")
    return variable, host_of(agent.checked_url())


def _above(variable: str) -> str:
    if not os.environ.get(variable, "").strip():
        return ""
    return f" The environment variable {variable} is set, and stands above the keyring."


def _refused(trouble: KeyringTrouble) -> ConfigError:
    if trouble.is_missing:
        return ConfigError("The keyring needs the extra: pip install 'agent-magic[keyring]'.")
    return ConfigError(f"The keyring cannot be used here ({trouble}); set the key's environment variable instead.")
