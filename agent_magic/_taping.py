"""Record and replay: which tape answers a question, where it is, and when it is written anew.

A tape is found by what was asked: protocol, agent, prompt, parameters, and what was said before in its
conversation. Where it came from, when, and how fast is not part of that, so a notebook's tapes serve
whoever runs it, with neither key nor network. A tape that says the same as before is left as it is: a folder of
them changes in a repository only where an answer has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import msgspec
from msgspec import Struct, structs

from agent_magic._deck import replay
from agent_magic._keys import Secret
from agent_magic._tape import Recording, encode_lines, parse_tape, read_tape
from agent_magic.errors import AgentMagicError, ConfigError, TapeMissing

__all__ = [
    "Taping",
    "address_of",
    "find_tape",
    "has_tape",
    "keep_tape",
    "tape_path",
    "tapes_folder",
]

FOLDER_VARIABLE = "AGENT_MAGIC_TAPES"
# Of a prompt, what a person may know a file by.
NAME_LENGTH = 40


class Taping(Struct, frozen=True):
    """What tapes have to do with a run.

    `journal` is the folder that it is written down in, if any; `records` the file that a tape of it goes to when
    it is done; `replays` a tape that answers in the server's place.
    """

    journal: Path | None = None
    records: Path | None = None
    replays: Recording | None = None


def tapes_folder() -> Path:
    """Where recorded tapes are: ``AGENT_MAGIC_TAPES``, or ``tapes`` in the working folder."""
    return Path(os.environ.get(FOLDER_VARIABLE) or "tapes").expanduser().absolute()


def address_of(protocol: str, agent: str, prompt: str, parameters: dict[str, Any], before: Sequence[str]) -> str:
    """What a tape is found by; `before` is the system text, and what was said before in the conversation.

    Raises `ConfigError` for parameters that JSON cannot hold.
    """
    try:
        plain = msgspec.json.decode(msgspec.json.encode([protocol, agent, prompt, parameters, list(before)]))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"What is asked cannot be written as JSON: {error}.") from None
    return sha256(msgspec.json.encode(plain, order="deterministic")).hexdigest()[:12]


def tape_path(agent: str, prompt: str, address: str) -> Path:
    """The file of the tape for `address`: the one that there is, or a new one, named for a person's eye."""
    if (known := _listed(tapes_folder()).get(address)) is not None:
        return known
    words = re.sub(r"[^a-z0-9]+", "-", f"{agent} {prompt}"[:200].lower()).strip("-")
    return tapes_folder() / f"{words[:NAME_LENGTH].rstrip('-') or 'tape'}-{address}.jsonl"


def find_tape(address: str, agent: str, *, must: bool) -> Recording | None:
    """The tape for `address`; where there is none, None, or with `must` a `TapeMissing`. Raises `ConfigError`."""
    folder = tapes_folder()
    known = _listed(folder)
    if (path := known.get(address)) is not None:
        tape = read_tape(path)
        if tape.outcome is None or tape.damaged:
            raise ConfigError(f"The tape {_short(path)} is damaged; record it anew with --tape record.")
        return tape
    if must:
        others = len(known)
        said = f"among the {others} in {_short(folder)}" if others else f"in {_short(folder)}"
        raise TapeMissing(
            f"There is no tape {said} for what {agent!r} is asked here (its prompt, its parameters and what was said "
            "before count); run the cell once with --tape record, or with --tape auto."
        )
    return None


def has_tape(address: str) -> bool:
    """Whether there is a tape for `address`."""
    return address in _listed(tapes_folder())


# The folder that was listed last: its path, when it was changed, and its tapes by address.
_LISTING: list[tuple[Path, int, dict[str, Path]]] = []


def _listed(folder: Path) -> dict[str, Path]:
    """The tapes in `folder` by address. A map asks for each of its rows, so the folder is read when it has changed."""
    try:
        changed = folder.stat().st_mtime_ns
    except OSError:
        return {}
    if not _LISTING or _LISTING[0][:2] != (folder, changed):
        found = {path.stem.rpartition("-")[2]: path for path in sorted(folder.glob("*-*.jsonl"))}
        _LISTING[:] = [(folder, changed, found)]
    return _LISTING[0][2]


def _short(folder: Path) -> Path:
    """`folder` as seen from the working folder, where it is below it: the sentence may stand in a saved notebook."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def keep_tape(path: Path, tape: Recording, secrets: Sequence[Secret]) -> bool:
    """Write `tape` to `path`, unless what is there says the same; whether it was written. Raises `OSError`."""
    written = encode_lines([tape.header, *tape.entries, *filter(None, [tape.outcome])], secrets)
    if _says(path, written):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside it and put in its place: a reader, or a crash, never meets half a tape.
    with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".tmp", delete=False) as file:
        try:
            file.write(written)
            file.close()
            Path(file.name).chmod(0o644)  # it is for a repository, unlike the journal
            Path(file.name).replace(path)
            _LISTING.clear()  # a clock of a file system may be too coarse to tell
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return True


def _says(path: Path, written: bytes) -> bool:
    """Whether the tape at `path` gives the answer that `written` does.

    A service names each answer anew and dates it. That is no news; what a person gets of it is.
    """
    try:
        return _content(read_tape(path)) == _content(parse_tape(written, path))
    except AgentMagicError:
        return False


def _content(tape: Recording) -> list[object]:
    """What `tape` is found by, and what comes of it."""
    question, known = structs.replace(tape.header.question, base_url="", session_id=None), replay(tape, live=False)
    told = [known.text, known.reasoning, known.usage, known.notices, known.reason, known.execution_time]
    plain = [structs.replace(one, sent=None) for one in (*known.sources, *known.artifacts)]
    calls = [[one and structs.replace(one, sent=None) for one in pair] for pair in known.tool_calls]
    return [tape.header.protocol, tape.header.agent, question, known.status, *told, plain, calls]
