"""A stream written down as it arrives, and read back: the lines of a tape.

A tape is JSON Lines in UTF-8. The first line says what was asked, and of whom; no key and no header's
value stands in it. Then comes a line for each thing that happened, with `at`, the seconds since the
run's beginning: what the connection did, and what the run's decoder was called with. The last line is
the outcome. Calling a fresh decoder the same way gives the same events: see `_deck`.

Whoever dies while writing leaves a last line that is torn. It is read past, and so is all that
follows a line that is damaged, which is said. A line is for a person too: one event is one line, in
the server's own words.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from agent_magic import errors
from agent_magic._keys import Secret, strike_all
from agent_magic._request import AgentRequest, Said
from agent_magic._transcript import Status
from agent_magic.errors import AgentMagicError, ConfigError
from agent_magic.events import Usage

__all__ = [
    "VERSION",
    "Closed",
    "Dialled",
    "Entry",
    "Fault",
    "Flushed",
    "Header",
    "Heard",
    "Opened",
    "Outcome",
    "Question",
    "Recording",
    "Refused",
    "Replied",
    "Resumed",
    "Retried",
    "encode_lines",
    "microseconds",
    "parse_tape",
    "peek",
    "read_tape",
]

VERSION = 1
FORMAT = "agent_magic tape"
# A word of an error that is longer is cut, so that an outcome is found without reading the whole tape.
LONGEST_WORD = 10_000
OUTCOME_BYTES = 256 * 1024


class _Line(Struct, frozen=True, omit_defaults=True, tag_field="kind"):
    pass


class Question(Struct, frozen=True, omit_defaults=True):
    """An `AgentRequest` without its secrets: of the key the variable's name, of the headers their names."""

    prompt: str
    base_url: str
    agent: str
    parameters: dict[str, Any] = {}
    session_id: str | None = None
    system: str | None = None
    said: Sequence[Said] = ()
    headers: Sequence[str] = ()
    key_env: str | None = None
    auth: str | None = None

    @classmethod
    def of(cls, ask: AgentRequest) -> Question:
        """What of `ask` may be written down."""
        plain = {name: getattr(ask, name) for name in cls.__struct_fields__ if name not in {"headers", "said"}}
        # A server names its messages anew each time: of what was said a tape has the words.
        said = [Said(one.prompt, one.answer) for one in ask.said] or ()
        return cls(**plain, said=said, headers=tuple(ask.headers))

    def request(self, headers: dict[str, str | Secret] | None = None, key: Secret | None = None) -> AgentRequest:
        """The request again, with what was not written down."""
        plain = {name: getattr(self, name) for name in self.__struct_fields__ if name != "headers"}
        return AgentRequest(**plain, headers=headers or {}, key=key)


class Header(_Line, frozen=True, tag=FORMAT):
    """The first line. `policy` is what the run was allowed, `resumes` the run that it took up.

    A recorded tape, which goes into a repository, has neither `host` nor `pid`, and no `policy`.
    """

    version: int
    run: str
    agent: str
    protocol: str
    started: datetime
    question: Question
    host: str = ""
    pid: int = 0
    policy: dict[str, Any] = {}
    resumes: str | None = None


class Dialled(_Line, frozen=True, gc=False, tag="connecting"):
    """A connection to `host` was being made."""

    at: float
    host: str


class Opened(_Line, frozen=True, gc=False, tag="connected"):
    """The stream was open."""

    at: float


class Retried(_Line, frozen=True, gc=False, tag="retrying"):
    """The connection was lost, and attempt `attempt` followed."""

    at: float
    attempt: int
    retries: int
    delay: float
    reason: str


class Refused(_Line, frozen=True, gc=False, tag="refusal"):
    """The server answered `status`, and the first part of a body."""

    at: float
    status: int
    body: str
    retry_after: float | None = None


class Heard(_Line, frozen=True, gc=False, tag="event"):
    """A server-sent event, which went to the decoder's `decode`."""

    at: float
    event: str
    data: str
    id: str = ""


class Replied(_Line, frozen=True, gc=False, tag="reply"):
    """A JSON reply that was not streamed, which went to `whole`."""

    at: float
    body: str


class Closed(_Line, frozen=True, gc=False, tag="closed"):
    """The connection ended, which the decoder was told."""

    at: float


class Resumed(_Line, frozen=True, gc=False, tag="resume"):
    """The decoder was asked for the request that goes on."""

    at: float


class Flushed(_Line, frozen=True, gc=False, tag="flush"):
    """The decoder was asked for what it had left."""

    at: float


class Fault(Struct, frozen=True, omit_defaults=True):
    """An error: its kind, its sentence, and its other fields."""

    kind: str
    words: str
    facts: dict[str, Any] = {}

    @classmethod
    def of(cls, error: AgentMagicError) -> Fault:
        """`error`, without anything that is no plain value."""
        facts = {
            name: value[:LONGEST_WORD] if isinstance(value, str) else value
            for name, value in vars(error).items()
            if value is None or isinstance(value, str | int | float)
        }
        return cls(type(error).__name__, str(error)[:LONGEST_WORD], facts)

    def error(self) -> AgentMagicError:
        """The error again; one of a kind that is not known here is an `AgentMagicError`."""
        kind = getattr(errors, self.kind, AgentMagicError) if self.kind in errors.__all__ else AgentMagicError
        error: AgentMagicError = kind.__new__(kind, self.words)
        error.__dict__.update(self.facts)
        return error


class Outcome(_Line, frozen=True, tag="outcome"):
    """The last line. `missing` says why the lines before it are not all there were.

    What was used stands on it once more, so that it is known without the lines before it.
    """

    at: float
    status: Status
    error: Fault | None = None
    missing: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None

    def usage(self) -> Usage:
        """The tokens, as far as the server told them."""
        return Usage(input_tokens=self.input_tokens, output_tokens=self.output_tokens, total_tokens=self.total_tokens)


Entry = Dialled | Opened | Retried | Refused | Heard | Replied | Closed | Resumed | Flushed


class Recording(Struct, frozen=True):
    """A tape that was read. `outcome` is None where it has none (yet); `damaged`: lines in its middle are no lines."""

    header: Header
    entries: list[Entry]
    outcome: Outcome | None = None
    damaged: bool = False


class _Format(Struct):
    kind: str
    version: int


_ENCODER = msgspec.json.Encoder()
_HEADER = msgspec.json.Decoder(Header)
_FORMAT = msgspec.json.Decoder(_Format)
_ENTRY: msgspec.json.Decoder[Entry | Outcome] = msgspec.json.Decoder(Entry | Outcome)


def microseconds(seconds: float) -> float:
    """`seconds` without what is below a microsecond; `round` takes five times as long."""
    return int(seconds * 1e6) / 1e6


def encode_lines(lines: Iterable[Header | Entry | Outcome], secrets: Sequence[Secret]) -> bytes:
    """`lines` as a tape holds them, with `secrets` struck out, however a server wrote them."""
    lines = list(lines)
    encoded = _ENCODER.encode_lines(lines)
    said = encoded.decode() if secrets else ""
    found = [secret for secret in secrets if secret.is_in(said)]
    if not found:
        return encoded
    return _ENCODER.encode_lines([strike_all(msgspec.to_builtins(line), found) for line in lines])


def read_tape(path: Path) -> Recording:
    """What stands on the tape at `path`. Raises `ConfigError` where it is none, or a newer one than this can read."""
    return parse_tape(_bytes_of(path), path)


def parse_tape(content: bytes, path: Path) -> Recording:
    """What `content`, which stands or is to stand at `path`, says. Raises `ConfigError` as `read_tape` does."""
    first, *rest = content.split(b"\n")
    header = _header(first, path)
    entries: list[Entry] = []
    for number, line in enumerate(rest, 1):
        try:
            entry = _ENTRY.decode(line)
        except ValueError:
            # What follows the last line's end is torn, or nothing.
            return Recording(header, entries, damaged=number < len(rest))
        if isinstance(entry, Outcome):
            return Recording(header, entries, entry)
        entries.append(entry)
    return Recording(header, entries)


def peek(path: Path) -> tuple[Header, Outcome | None]:
    """The first line of the tape at `path`, and its outcome if it has one; what is between is not read.

    Raises `ConfigError` as `read_tape` does.
    """
    try:
        with path.open("rb") as file:
            header = _header(file.readline().rstrip(b"\n"), path)
            size = file.seek(0, io.SEEK_END)
            file.seek(max(0, size - OUTCOME_BYTES))
            last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        entry = _ENTRY.decode(last)
    except ValueError:
        return header, None
    return header, entry if isinstance(entry, Outcome) else None


def _header(line: bytes, path: Path) -> Header:
    try:
        found = _FORMAT.decode(line)
        if found.kind == FORMAT and found.version > VERSION:
            raise ConfigError(
                f"The tape {path.name} is of format {found.version}, from a newer agent_magic; this one reads "
                f"format {VERSION}: upgrade it with pip install -U agent-magic."
            )
        return _HEADER.decode(line)
    except ValueError:
        raise ConfigError(f"{path} is not a tape: its first line does not say what was asked.") from None


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"The tape {path} cannot be read: {error.strerror or type(error).__name__}.")
