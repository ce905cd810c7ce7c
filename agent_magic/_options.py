"""A magic's line to `Options`. One argparse specification for the magic, its help and its errors."""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
from dataclasses import dataclass, field
from difflib import get_close_matches
from keyword import iskeyword
from typing import Any, Literal, NoReturn, get_args

from agent_magic.errors import ConfigError

__all__ = ["MODES", "Mode", "Options", "help_text", "parse_options"]

# How a question uses tapes.
Mode = Literal["live", "record", "replay", "auto"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True)
class Options:
    """What stood behind ``%%agent``. Times in seconds; None is the agent's own setting."""

    agent: str | None = None
    out: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    max_time: float | None = None
    retries: int | None = None
    session: str | None = None
    new: bool = False
    background: bool = False
    tape: str | None = None
    raw: bool = False
    dry_run: bool = False
    quiet: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"%%agent: {_plain(message, self)}")


def _plain(message: str, parser: argparse.ArgumentParser) -> str:
    """Argparse's message as a sentence, with the nearest option for one that does not exist."""
    unknown = message.removeprefix("unrecognized arguments: ")
    if unknown == message:
        return f"{message[0].upper()}{message[1:]}."
    word = unknown.split()[0].partition("=")[0]
    known = re.findall(r"--[a-z-]+", parser.format_help())
    near = get_close_matches(word, known, n=1)
    if not word.startswith("-"):
        return f"{word!r} is one word too many: the prompt belongs into the lines below."
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}."
    return f"There is no option {word}; {hint}"


def _name(value: str) -> str:
    if not value.isidentifier() or iskeyword(value):
        raise argparse.ArgumentTypeError(f"{value!r} cannot be a variable's name")
    return value


def _session(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise argparse.ArgumentTypeError(f"{value!r} cannot be a conversation's name")
    return value


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds <= 0:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of seconds above 0")
    return seconds


def _count(value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number from 0 up")
    return int(value)


def _parameter(value: str) -> tuple[str, Any]:
    name, equals, said = value.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{value!r} is not KEY=VALUE")
    try:
        value = json.loads(said, parse_constant=_refuse)
        json.dumps(value, allow_nan=False)  # 1e999 is read as infinity, which JSON cannot say
    except (ValueError, RecursionError):
        return name, said
    return name, value


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _parser() -> _Parser:
    parser = _Parser(prog="%%agent", add_help=False, allow_abbrev=False, usage="%%agent [AGENT] [options]\nprompt")
    add = parser.add_argument
    add("agent", nargs="?", metavar="AGENT", help="a configured agent; without it the default one")
    add("-o", "--out", type=_name, metavar="VAR", help="bind the result to VAR too (it is always bound to _agent)")
    add("-s", "--session", type=_session, metavar="NAME",
        help="go on with the conversation NAME, which is made at first use")  # fmt: skip
    add("--new", action="store_true", help="begin the conversation of -s afresh")
    add("-p", "--param", type=_parameter, action="append", default=[], metavar="KEY=VALUE",
        help="a request parameter, repeatable; VALUE is JSON, or else a string")  # fmt: skip
    add("-b", "--background", action="store_true",
        help="the cell ends at once, its output goes on filling; the variable is the running result")  # fmt: skip
    add("--timeout", type=_seconds, metavar="SECONDS", help="the longest silence (default 60)")
    add("--max-time", type=_seconds, metavar="SECONDS", help="the longest the whole run may take")
    add("--retries", type=_count, metavar="N", help="reconnections in a row without progress (default 3)")
    add("--tape", choices=MODES, metavar="MODE",
        help="live (default), record (to tapes/), replay, or auto: replay where there is a tape")  # fmt: skip
    add("--raw", action="store_true", help="send the prompt as it stands, no {{ template }}")
    add("--dry-run", action="store_true", help="show what would be sent, and send nothing")
    add("-q", "--quiet", action="store_true", help="show nothing but errors")
    return parser


def parse_options(line: str) -> Options:
    """The options in `line`, split as a shell does. Raises `ConfigError`."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ConfigError(f"%%agent: The line cannot be split into words ({error}): {line!r}.") from None
    parser = _parser()
    found, rest = parser.parse_known_args(words)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    values = vars(found)
    parameters = dict(values.pop("param"))
    if found.new and found.session is None:
        raise ConfigError("%%agent: --new begins a conversation afresh; say which one with -s NAME.")
    return Options(parameters=parameters, **values)


def help_text() -> str:
    """The options as `%%agent?` shows them."""
    return _parser().format_help()
