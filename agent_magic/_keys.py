"""A key: a value that never prints.

A key is looked up (`_key_sources`) at the moment of a request and lives in a `Secret` until the one line that writes
it into a header. A `Secret` shows as ``***`` everywhere and refuses to be pickled.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, NoReturn
from urllib.parse import quote

from agent_magic.errors import ConfigError

__all__ = ["Secret", "check_variable", "strike_all"]

# Shorter pieces of base64 than this stand in any text.
SHORTEST_PIECE = 8
URL_SAFE = str.maketrans("+/", "-_")


class Secret:
    """A text that is shown as ``***``, but for a harmless `prefix` such as ``Bearer``."""

    __slots__ = ("_beginnings", "_pairs", "_patterns", "_prefix", "_value")

    def __init__(self, value: str, prefix: str = "") -> None:
        self._value = value
        self._prefix = prefix
        self._patterns: tuple[tuple[str, re.Pattern[str]], ...] = ()
        self._beginnings: tuple[str, ...] = ()
        self._pairs: frozenset[str] = frozenset()

    def reveal(self) -> str:
        """The text itself. Only the room that writes to the socket calls this."""
        return self._prefix + self._value

    def behind(self, prefix: str) -> Secret:
        """The same secret with `prefix` before it."""
        return Secret(self._value, prefix)

    def is_in(self, text: str) -> bool:
        """Whether `text` holds the secret, as it is or encoded."""
        return any(core in text and pattern.search(text) for core, pattern in self._spellings())

    def strike(self, text: str) -> str:
        """`text` with the secret struck out, should a server have echoed it.

        It is found as it is, in JSON, percent-encoded, and in base64 of it or of a text around it.
        """
        for core, pattern in self._spellings():
            if core in text:
                text = pattern.sub("***", text)
        return text

    @property
    def is_empty(self) -> bool:
        """Whether there is none."""
        return not self._value

    @property
    def is_visible(self) -> bool:
        """Whether it is visible ASCII, and no more."""
        return re.fullmatch("[!-~]*", self._value) is not None

    @property
    def is_long(self) -> bool:
        """Whether it can be told from a word that stands in any text."""
        return len(self._value) >= SHORTEST_PIECE

    def held(self, text: str) -> int:
        """How many characters at the end of `text` may be the beginning of the secret."""
        if not self._beginnings and self._value:
            self._beginnings = tuple(dict.fromkeys(said for value in self._values() for said in _written(value)))
            self._pairs = frozenset(_pairs(self._beginnings))
        if text[-2:] not in self._pairs and text[-1:] not in self._pairs:  # as nearly always
            return 0
        return max((_overlap(text, spelling) for spelling in self._beginnings), default=0)

    def is_mostly(self, beginning: str) -> bool:
        """Whether `beginning`, with which the secret begins, is half of it or more."""
        held = self.held(beginning)
        return bool(held) and any(
            spelling.startswith(beginning[-held:]) and 2 * held >= len(spelling) for spelling in self._beginnings
        )

    def _values(self) -> Iterator[str]:
        """The secret; of a user and a password behind ``Basic`` (RFC 7617), also these, and the password."""
        yield self._value
        if self._prefix.strip().lower() == "basic":
            with suppress(ValueError):
                pair = b64decode(self._value, validate=True).decode()
                yield from (said for said in (pair, pair.partition(":")[2]) if len(said) >= SHORTEST_PIECE)

    def _spellings(self) -> tuple[tuple[str, re.Pattern[str]], ...]:
        if not self._patterns and self._value:
            self._patterns = tuple(pattern for value in self._values() for pattern in _patterns(value))
        return self._patterns

    def __repr__(self) -> str:
        return f"{self._prefix}***"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is never pickled; the other side reads its own")


def strike_all(value: Any, secrets: Sequence[Secret]) -> Any:
    """`value`, made of what JSON is made of, with all of `secrets` struck out."""
    match value:
        case str():
            for secret in secrets:
                value = secret.strike(value)
            return value
        case list() | tuple():
            return [strike_all(item, secrets) for item in value]
        case dict():
            return {strike_all(name, secrets): strike_all(item, secrets) for name, item in value.items()}
        case _:
            return value


def _overlap(text: str, spelling: str) -> int:
    """The length of the longest end of `text` that `spelling` goes on from."""
    start = max(0, len(text) - len(spelling) + 1)
    while (start := text.find(spelling[0], start)) >= 0:
        if spelling.startswith(text[start:]):
            return len(text) - start
        start += 1
    return 0


def _written(value: str) -> Iterator[str]:
    """The ways in which `value` is mostly written, each in full."""
    yield value
    for safe in ("", "/"):
        yield quote(value, safe=safe)
        yield re.sub("%..", lambda found: found[0].lower(), quote(value, safe=safe))
    yield (once := json.dumps(value)[1:-1])
    yield json.dumps(once)[1:-1]
    yield from _in_base64(value)


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


def _patterns(value: str) -> Iterator[tuple[str, re.Pattern[str]]]:
    """The ways in which `value` may stand in a text, each with what must stand there for it to be tried."""
    for spelling in dict.fromkeys([value, *_in_base64(value)]):
        yield _core(spelling), _pattern(spelling)
    every_sign = _pattern(value, r"\\+|[^\\]")
    yield "u00", every_sign
    yield "%", every_sign


def _core(spelling: str) -> str:
    """The longest part of `spelling` that is written in one way only: where it is not, no pattern need be tried."""
    return max(re.findall(r"[0-9A-Za-z]+", spelling), key=len, default="")


def _pairs(spellings: Sequence[str]) -> Iterator[str]:
    """How a beginning of one of `spellings` may end: its first sign, or any two that stand together."""
    for spelling in spellings:
        yield spelling[0]
        yield from map("".join, pairwise(spelling))


def _pattern(spelling: str, signs: str = r"\\+|[^0-9A-Za-z\\]") -> re.Pattern[str]:
    """`spelling` as it may be written in JSON, in JSON within JSON, and in a URL, with an escape for any of `signs`."""
    return re.compile(re.sub(signs, lambda found: _encoded(found[0]), spelling))


def _encoded(signs: str) -> str:
    # Three levels of JSON put 7 backslashes before a sign. The bound is for a server that sends a million of them.
    length, code = len(signs), f"{ord(signs[0]):02x}"
    plain = rf"\\{{{length},{8 * length}}}" if signs[0] == "\\" else rf"\\{{0,7}}{re.escape(signs)}"
    return rf"(?:{plain}|(?i:(?:%|\\{{1,7}}u00){code}){{{length}}})"


def check_variable(variable: str) -> None:
    """Raise `ConfigError` where `variable` cannot be one's name. It is not quoted: it may be the key itself."""
    if not variable.isidentifier():
        raise ConfigError(
            "The setting key_env holds no variable's name; it is the name of the variable, never the key."
        )
