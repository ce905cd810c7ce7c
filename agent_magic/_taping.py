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
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import msgspec
from msgspec import Struct, structs

from agent_magic._keys import Secret
from agent_magic._options import MODES, Mode
from agent_magic._tape import Dialled, Header, Outcome, Recording, encode_lines, parse_tape, read_tape
from agent_magic.errors import ConfigError, TapeMissing

__all__ = [
    "Taping",
    "address_of",
    "find_tape",
    "keep_tape",
    "tape_mode",
    "tape_path",
    "tapes_folder",
]

MODE_VARIABLE, FOLDER_VARIABLE = "AGENT_MAGIC_TAPE", "AGENT_MAGIC_TAPES"
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


def tape_mode(said: str | None, where: str = "tape") -> Mode:
    """The mode that `said` names, or ``AGENT_MAGIC_TAPE``, or "live". Raises `ConfigError`."""
    if said is None:
        said, where = os.environ.get(MODE_VARIABLE, "").strip() or "live", MODE_VARIABLE
    for mode in MODES:
        if said == mode:
            return mode
    near = get_close_matches(said, MODES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it is one of {', '.join(MODES)}."
    raise ConfigError(f"{where} = {said!r} is no way to use tapes; {hint}")


def tapes_folder() -> Path:
    """Where recorded tapes are: ``AGENT_MAGIC_TAPES``, or ``tapes`` in the working folder."""
    return Path(os.environ.get(FOLDER_VARIABLE) or "tapes").expanduser().absolute()


def address_of(protocol: str, agent: str, prompt: str, parameters: dict[str, Any], before: Sequence[str]) -> str:
    """What a tape is found by; `before` are the earlier prompts of the conversation, and its system text."""
    asked = msgspec.json.encode([protocol, agent, prompt, parameters, list(before)], order="deterministic")
    return sha256(asked).hexdigest()[:12]


def tape_path(agent: str, prompt: str, address: str) -> Path:
    """The file for a new tape, named for a person's eye; `address` is what counts."""
    words = re.sub(r"[^a-z0-9]+", "-", f"{agent} {prompt}"[:200].lower()).strip("-")
    return tapes_folder() / f"{words[:NAME_LENGTH].rstrip('-') or 'tape'}-{address}.jsonl"


def find_tape(address: str, agent: str, *, must: bool) -> Recording | None:
    """The tape for `address`; where there is none, None, or with `must` a `TapeMissing`. Raises `ConfigError`."""
    folder = tapes_folder()
    found = sorted(folder.glob(f"*-{address}.jsonl"))
    if found:
        tape = read_tape(found[0])
        if tape.outcome is None or tape.damaged:
            raise ConfigError(f"The tape {found[0]} is damaged; record it anew with --tape record.")
        return tape
    if must:
        others = sum(1 for _ in folder.glob("*.jsonl"))
        said = f"among the {others} in {_short(folder)}" if others else f"in {_short(folder)}"
        raise TapeMissing(
            f"There is no tape {said} for what {agent!r} is asked here (its prompt, its parameters and what was said "
            "before count); run the cell once with --tape record, or with --tape auto."
        )
    return None


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
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return True


def _says(path: Path, written: bytes) -> bool:
    """Whether the tape at `path` says what `written` does."""
    try:
        old = read_tape(path)
    except ConfigError:
        return False
    return _content(old) == _content(parse_tape(written, path))


def _content(tape: Recording) -> list[object]:
    """What `tape` says, without when and where it was made."""
    question = structs.replace(tape.header.question, base_url="")
    entries = [
        structs.replace(entry, at=0, host="") if isinstance(entry, Dialled) else structs.replace(entry, at=0)
        for entry in tape.entries
    ]
    outcome: Outcome | None = None if tape.outcome is None else structs.replace(tape.outcome, at=0)
    header: Header = tape.header
    return [header.protocol, header.agent, question, entries, outcome, tape.damaged]
