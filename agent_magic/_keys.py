"""A key: where it is read, and a value that never prints.

A key is looked up at the moment of a request and lives in a `Secret` until the one line that writes
it into a header. A `Secret` shows as ``***`` everywhere and refuses to be pickled.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from typing import NoReturn
from urllib.parse import quote

from agent_magic.errors import AuthError, ConfigError

__all__ = ["Secret", "find_key"]


class Secret:
    """A text that is shown as ``***``, but for a harmless `prefix` such as ``Bearer``."""

    __slots__ = ("_prefix", "_value")

    def __init__(self, value: str, prefix: str = "") -> None:
        self._value = value
        self._prefix = prefix

    def reveal(self) -> str:
        """The text itself. Only the room that writes to the socket calls this."""
        return self._prefix + self._value

    def behind(self, prefix: str) -> Secret:
        """The same secret with `prefix` before it."""
        return Secret(self._value, prefix)

    def strike(self, text: str) -> str:
        """`text` with the secret struck out, should a server have echoed it, as it is or encoded."""
        spellings = {
            self._value,
            json.dumps(self._value)[1:-1],
            self._value.replace("/", "\\/"),
            quote(self._value, safe=""),
        }
        spellings.add(b64encode(self._value.encode()).decode())
        for spelling in sorted(spellings, key=len, reverse=True):
            text = text.replace(spelling, "***")
        return text

    def __repr__(self) -> str:
        return f"{self._prefix}***"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is never pickled; the other side reads its own")


def find_key(variable: str) -> Secret:
    """The key in the environment's `variable`, stripped.

    Raises `AuthError` where it is missing, or where it holds anything but visible ASCII: an HTTP
    library quotes the header that it refuses, so a bad key must never reach one.
    """
    if not variable.isidentifier():
        # It is not quoted: it may be the key itself.
        raise ConfigError(
            "The setting key_env holds no variable's name; it is the name of the variable, never the key."
        )
    value = os.environ.get(variable, "").strip()
    if not value:
        raise AuthError(
            f"There is no key: set the environment variable {variable}, "
            f'for example with os.environ["{variable}"] = getpass.getpass() '
            '(for a server that wants no key, set key_env = "").'
        )
    if not all("!" <= character <= "~" for character in value):
        raise AuthError(
            f"The key in {variable} has a character that a header cannot carry (a space, a line end, "
            "a letter outside ASCII); copy it once more."
        )
    return Secret(value)
