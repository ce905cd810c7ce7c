"""A key: where it is read, and a value that never prints.

A key is looked up at the moment of a request and lives in a `Secret` until the one line that writes
it into a header. A `Secret` shows as ``***`` everywhere and refuses to be pickled.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterator
from typing import NoReturn

from agent_magic.errors import AuthError, ConfigError

__all__ = ["Secret", "find_key"]

# Shorter pieces of base64 than this stand in any text.
SHORTEST_PIECE = 8
URL_SAFE = str.maketrans("+/", "-_")


class Secret:
    """A text that is shown as ``***``, but for a harmless `prefix` such as ``Bearer``."""

    __slots__ = ("_patterns", "_prefix", "_value")

    def __init__(self, value: str, prefix: str = "") -> None:
        self._value = value
        self._prefix = prefix
        self._patterns: tuple[re.Pattern[str], ...] = ()

    def reveal(self) -> str:
        """The text itself. Only the room that writes to the socket calls this."""
        return self._prefix + self._value

    def behind(self, prefix: str) -> Secret:
        """The same secret with `prefix` before it."""
        return Secret(self._value, prefix)

    def is_in(self, text: str) -> bool:
        """Whether `text` holds the secret, as it is or encoded."""
        return any(pattern.search(text) for pattern in self._spellings())

    def strike(self, text: str) -> str:
        """`text` with the secret struck out, should a server have echoed it.

        It is found as it is, in JSON, percent-encoded, and in base64 of it or of a text around it.
        """
        for pattern in self._spellings():
            text = pattern.sub("***", text)
        return text

    def _spellings(self) -> tuple[re.Pattern[str], ...]:
        if not self._patterns and self._value:
            spellings = dict.fromkeys([self._value, *_in_base64(self._value)])
            self._patterns = tuple(_pattern(spelling) for spelling in spellings)
        return self._patterns

    def __repr__(self) -> str:
        return f"{self._prefix}***"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is never pickled; the other side reads its own")


def _in_base64(value: str) -> Iterator[str]:
    """What of `value` stands in base64 of a text that holds it, wherever in its group of three bytes it begins."""
    said = value.encode()
    yield b64encode(said).decode()
    for before in range(3):
        first, end = -(-before * 8 // 6), (before + len(said)) * 8 // 6
        piece = b64encode(b"\0" * before + said).decode()[first:end]
        if len(piece) >= SHORTEST_PIECE:
            yield piece
            yield piece.translate(URL_SAFE)


def _pattern(spelling: str) -> re.Pattern[str]:
    """`spelling` as it may be written in JSON, in JSON within JSON, and in a URL."""
    return re.compile(re.sub(r"\\+|[^0-9A-Za-z\\]", lambda found: _encoded(found[0]), spelling))


def _encoded(signs: str) -> str:
    # Three levels of JSON put 7 backslashes before a sign. The bound is for a server that sends a million of them.
    length, code = len(signs), f"{ord(signs[0]):02x}"
    plain = rf"\\{{{length},{8 * length}}}" if signs[0] == "\\" else rf"\\{{0,7}}{re.escape(signs)}"
    return rf"(?:{plain}|(?i:(?:%|\\{{1,7}}u00){code}){{{length}}})"


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
