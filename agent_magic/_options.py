"""A magic's line to `Options`. One argparse specification for the magic, its help and its errors."""

from __future__ import annotations

import argparse
import builtins
import json
import math
import re
import shlex
from dataclasses import dataclass, field
from difflib import get_close_matches
from keyword import iskeyword
from typing import Any, NoReturn

from agent_magic._modes import MODES
from agent_magic.errors import ConfigError

__all__ = ["Options", "help_text", "known_options", "parse_options"]

IPYTHONS_OWN = ("In", "Out")


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
    help: bool = False


class _Once(argparse.Action):
    """Keeps a value; twice given is a mistake, as only one of the two could hold."""

    _is_given = False

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if self._is_given:
            parser.error(f"{option_string} is given twice")
        self._is_given = True
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    """A parser that knows its `actions`, and whose errors are `ConfigError`."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.actions: list[argparse.Action] = []
        self.register("action", None, _Once)

    def add_argument(self, *args: Any, **named: Any) -> argparse.Action:
        self.actions.append(super().add_argument(*args, **named))
        return self.actions[-1]

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"%%agent: {_plain(message, self)}")


def _plain(message: str, parser: _Parser) -> str:
    """Argparse's message as a sentence, with the nearest option for one that does not exist."""
    unknown = message.removeprefix("unrecognized arguments: ")
    if (chosen := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)) is not None:
        choices = re.findall(r"[a-z]+", chosen[2])
        near = get_close_matches(chosen[1], choices, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(choices)}."
        return f"{_option_in(message)} is not {chosen[1]!r}; {hint}"
    if message.endswith("expected one argument"):
        return f"{_option_in(message)} wants a value behind it."
    if unknown == message:
        return f"{message[0].upper()}{message[1:]}."
    word = unknown.split()[0].partition("=")[0]
    if not word.startswith("-"):
        return f"{word!r} is one word too many: the prompt belongs into the lines below."
    known = _long_options(parser)
    near = get_close_matches(word, known, n=1) or [name for name in known if name.startswith(f"-{word}")][:1]
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}."
    return f"There is no option {word}; {hint}"


def _option_in(message: str) -> str:
    """The option that argparse complains of, by its long name."""
    return message.partition(":")[0].removeprefix("argument ").rpartition("/")[2]


def _long_options(parser: _Parser) -> list[str]:
    return [name for action in parser.actions for name in action.option_strings if name.startswith("--")]


def _check_dashes(words: list[str], parser: _Parser) -> None:
    """Raise `ConfigError` for ``-out``: argparse takes it for ``-o ut``, and a person means ``--out``."""
    for word in words:
        said = word.partition("=")[0]
        if re.fullmatch("-[a-z-]{3,}", said) and any(name.startswith(f"-{said}") for name in _long_options(parser)):
            parser.error(f"unrecognized arguments: {word}")


def _name(value: str) -> str:
    if not value.isidentifier() or iskeyword(value):
        raise argparse.ArgumentTypeError(f"{value!r} cannot be a variable's name")
    if hasattr(builtins, value) or value in IPYTHONS_OWN:
        raise argparse.ArgumentTypeError(f"{value!r} is Python's own name, which the result would hide; take another")
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
    parser = _Parser(
        prog="%%agent",
        add_help=False,
        allow_abbrev=False,
        usage="%%%%agent [AGENT] [options]\nprompt",  # argparse formats it
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=110),
    )
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
    add("-h", "--help", action="store_true", help="show this, and send nothing")
    return parser


def parse_options(line: str) -> Options:
    """The options in `line`, split as a shell does. Raises `ConfigError`."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ConfigError(f"%%agent: The line cannot be split into words ({error}): {line!r}.") from None
    parser = _parser()
    _check_dashes(words, parser)
    found, rest = parser.parse_known_args(words)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    values = vars(found)
    parameters = dict(values.pop("param"))
    if found.new and found.session is None:
        raise ConfigError("%%agent: --new begins a conversation afresh; say which one with -s NAME.")
    return Options(parameters=parameters, **values)


def known_options() -> list[argparse.Action]:
    """The specification, for completion: the agent first, then the options in their order."""
    return _parser().actions


def help_text() -> str:
    """The options as `%%agent?` shows them."""
    return _parser().format_help()
