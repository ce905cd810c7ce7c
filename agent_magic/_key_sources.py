"""Where a key is looked for: the environment, the keyring, Colab's secrets, and then the person is asked.

What is found beyond the environment is held for this session, in a `Secret`, until a server refuses it.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

from agent_magic._keyring import KeyringTrouble, ask_again, read_key
from agent_magic._keys import Secret, check_variable
from agent_magic._prompt import ask_hidden
from agent_magic.errors import AuthError

__all__ = [
    "FoundKey",
    "checked_key",
    "find_key",
    "forget_key",
    "forget_keys",
    "held_key",
    "hold_key",
    "look_up",
]

ENVIRONMENT, KEYRING, COLAB, SESSION = "environment", "keyring", "Colab's secrets", "this session"
AFTER_REFUSAL = {
    KEYRING: "It came from the keyring, where %agent login stores another one.",
    COLAB: "It came from Colab's secrets.",
    SESSION: "The key that was typed is forgotten; the next cell asks for it again.",
}


class FoundKey(NamedTuple):
    """A key, and where it was found."""

    key: Secret
    source: str


# What is held for this session, by variable; what was typed for one host, by that host too.
_HELD: dict[tuple[str, str | None], FoundKey] = {}


def find_key(variable: str, host: str | None = None) -> Secret:
    """The key called `variable`, stripped, wherever it is found. The person is asked only for a `host` to send it to.

    Raises `AuthError` where it is missing, or where it holds anything but visible ASCII: an HTTP
    library quotes the header that it refuses, so a bad key must never reach one.
    """
    troubles: list[str] = []
    found = look_up(variable, troubles, host) or _of_colab(variable) or _typed(variable, host)
    if found is None:
        why = f" ({', '.join(troubles)})" if troubles else ""
        stored = "" if find_spec("keyring") is None else ", or store it with %agent login NAME"
        raise AuthError(
            f"There is no key{why}: set the environment variable {variable}, "
            f'for example with os.environ["{variable}"] = getpass.getpass(){stored} '
            '(for a server that wants no key, set key_env = "").'
        )
    key = checked_key(variable, found)
    if found.source != ENVIRONMENT:
        _HELD[variable, host if found.source == SESSION else None] = found
    return key


def checked_key(variable: str, found: FoundKey) -> Secret:
    """The key that was `found` as `variable`. Raises `AuthError` where no header can carry it."""
    if not found.key.is_visible:
        place = variable if found.source == ENVIRONMENT else f"{variable} ({found.source})"
        raise AuthError(
            f"The key in {place} has a character that a header cannot carry (a space, a line end, "
            "a letter outside ASCII); copy it once more."
        )
    return found.key


def held_key(variable: str, host: str | None = None) -> FoundKey | None:
    """The key where it is at hand: in the environment, or held; one that was typed only for its own `host`.

    Nobody and nothing else is asked.
    """
    check_variable(variable)
    # A traceback may show what a frame holds, so no name here stands for the bare text.
    key = Secret(os.environ.get(variable, "").strip())
    if not key.is_empty:
        return FoundKey(key, ENVIRONMENT)
    return _HELD.get((variable, None)) or _HELD.get((variable, host))


def look_up(variable: str, troubles: list[str] | None = None, host: str | None = None) -> FoundKey | None:
    """The key where it can be had without a word: at hand, or in the keyring; its troubles go to `troubles`."""
    if (found := held_key(variable, host)) is not None:
        return found
    try:
        key = read_key(variable)
    except KeyringTrouble as trouble:
        if troubles is not None and not trouble.is_missing:
            troubles.append(f"keyring: {trouble}")
        return None
    return None if key is None else FoundKey(key, KEYRING)


def hold_key(variable: str, key: Secret) -> None:
    """Hold `key`, which has just been stored in the keyring."""
    _HELD[variable, None] = FoundKey(key, KEYRING)


def forget_key(variable: str, key: Secret | None = None) -> str | None:
    """Hold the key no longer, where it is `key` or none is named. What is to be said of it, where it was held."""
    for place, found in list(_HELD.items()):
        if place[0] == variable and (key is None or found.key is key):
            del _HELD[place]
            return AFTER_REFUSAL[found.source]
    return None


def forget_keys() -> None:
    """Hold no key any longer."""
    _HELD.clear()
    ask_again()


def _of_colab(variable: str) -> FoundKey | None:
    """The secret of that name in Colab, where this is Colab, it exists, and the person lets this notebook read it."""
    try:
        userdata = import_module("google.colab.userdata")
        key = Secret((userdata.get(variable) or "").strip())
    except Exception:  # noqa: BLE001 (each of its refusals is a class of its own, and the person may be asked yet)
        return None
    return None if key.is_empty else FoundKey(key, COLAB)


def _typed(variable: str, host: str | None) -> FoundKey | None:
    if host is None:
        return None
    key = ask_hidden(f"Key for {host} ({variable}), kept for this session only: ")
    if key is None:
        return None
    if key.is_empty:
        raise AuthError(f"No key was typed for {host} ({variable}), and nothing was sent.")
    return FoundKey(key, SESSION)
