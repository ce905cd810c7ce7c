"""What can go wrong, and whose fault it is.

::

    AgentMagicError
      +- ConfigError      the person's: an option, a setting, a key's name, a missing part
      +- PromptError      the person's: the text of the cell
      +- AuthError        the server refused the key, or there is none
      +- RateLimited      the server asks to come back later
      +- AgentError       the server said that it failed
      +- ProtocolError    the server said something that its protocol does not know
      +- StreamLost       the connection broke and could not be taken up again
      +- LimitReached     a limit of the person's own stopped the run
      +- TapeMissing      a replay was asked for, and there is no tape of that question

Each message is one sentence or two that a person can act on: what happened, where (the host), what
to do. None quotes a key.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = [
    "AgentError",
    "AgentMagicError",
    "AuthError",
    "ConfigError",
    "LimitReached",
    "PromptError",
    "ProtocolError",
    "RateLimited",
    "StreamLost",
    "TapeMissing",
]


# C0 without tab and line feed, DEL, C1, and the marks that reverse or embed the direction of text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """`text` with control characters shown and not obeyed: no terminal can be steered by a server."""
    return _CONTROL.sub(_picture, text.replace("\r\n", "\n"))


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else f"<U+{code:04X}>"


def _restore(kind: type[AgentMagicError], args: tuple[Any, ...], facts: dict[str, Any]) -> AgentMagicError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(facts)
    return error


class AgentMagicError(Exception):
    """The root of all errors that agent_magic raises on purpose."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are rebuilt from their positional arguments alone, which loses every other field.
        return _restore, (type(self), self.args, self.__dict__)

    def _render_traceback_(self) -> list[str]:
        """IPython's way to a short error: the sentence, without the frames that led to it."""
        return [f"{type(self).__name__}: {visible(str(self))}"]


class ConfigError(AgentMagicError):
    """A setting, an option or a part of the installation is wrong or missing."""


class PromptError(AgentMagicError):
    """The cell's text cannot be made into a prompt."""


class AuthError(AgentMagicError):
    """The server refused the key (401, 403), or there is no usable key to send."""


class RateLimited(AgentMagicError):
    """The server asks to wait. `retry_after` is in seconds, or None where it did not say."""

    def __init__(self, sentence: str, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class AgentError(AgentMagicError):
    """The server said that it failed. `code` and `message` are its own words, `retry_after` is in seconds."""

    def __init__(
        self, sentence: str, code: str | None = None, message: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.message = message
        self.retry_after = retry_after


class ProtocolError(AgentMagicError):
    """The server broke its protocol. `data` is what it sent, cut at 10,000 characters."""

    def __init__(self, sentence: str, data: str = "") -> None:
        super().__init__(sentence)
        self.data = data[:10_000]


class StreamLost(AgentMagicError):
    """The connection broke and could not be taken up again; what had arrived is in the result."""


class LimitReached(AgentMagicError):
    """A limit that the person set (a time, a size) ended the run; what had arrived is in the result."""


class TapeMissing(AgentMagicError):
    """A replay was asked for, and nobody has recorded what is asked. Nothing was sent."""
