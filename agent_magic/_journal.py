"""The journal: the folder of the tapes of all runs, of all kernels.

The folder is the person's alone (0700, files 0600). A file's name begins with the run's start, so names
sort by time, and ends with the run's id. A process holds an exclusive lock on each tape that it writes,
and the system takes the lock back however the process ends: a tape without an outcome is a run that is
alive where its lock is held, and one that died where it is not.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import portalocker
from platformdirs import user_state_path
from portalocker.exceptions import AlreadyLocked, LockException

from agent_magic._tape import Header, peek
from agent_magic.errors import ConfigError

__all__ = ["create_tape", "is_live", "journal_folder", "prune", "run_of", "tapes"]

VARIABLE = "AGENT_MAGIC_STATE"
# What the folder keeps to; a run that is live may stand above it until it has ended.
FOLDER_BYTES = 256 * 1024 * 1024
FOLDER_TAPES = 10_000
SUFFIX = ".jsonl"
# Readers share a lock, so two of them do not take each other for a writer. Windows has no shared lock without pywin32.
_PROBE = portalocker.LockFlags.SHARED if os.name == "posix" else portalocker.LockFlags.EXCLUSIVE


def journal_folder() -> Path:
    """Where the tapes are: below ``AGENT_MAGIC_STATE``, or in the user's state folder. It need not exist."""
    named = os.environ.get(VARIABLE)
    home = Path(named) if named else user_state_path("agent_magic", appauthor=False)
    with suppress(RuntimeError):  # a user that does not exist
        home = home.expanduser()
    return home.absolute() / "journal"


def create_tape(folder: Path, header: Header) -> tuple[Path, int]:
    """A new file for the run of `header`, locked, and its descriptor. Raises `OSError`."""
    for place in (folder.parent, folder):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name == "posix" and folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    path = folder / f"{header.started:%Y%m%dT%H%M%S%f}Z-{header.run}{SUFFIX}"
    binary = getattr(os, "O_BINARY", 0)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | binary, 0o600)
    # A lock that a reader holds for a moment is waited for. Some network folders have no locks; see `is_live`.
    with suppress(LockException):
        portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE)
    return path, file


def tapes(folder: Path) -> list[Path]:
    """The tapes in `folder`, newest first."""
    try:
        with os.scandir(folder) as found:
            return sorted((Path(entry.path) for entry in found if entry.name.endswith(SUFFIX)), reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"The journal {folder} cannot be read: {error.strerror or type(error).__name__}.") from None


def run_of(path: Path) -> str:
    """The id of the run whose tape is at `path`."""
    return path.name.removesuffix(SUFFIX).rpartition("-")[2]


def is_live(path: Path, header: Header) -> bool:
    """Whether a process is still writing the tape at `path`.

    Where the folder's file system has no locks, only a run of this machine whose process is gone is
    known to have died.
    """
    try:
        with _opened(path) as file:
            portalocker.lock(file, _PROBE | portalocker.LockFlags.NON_BLOCKING)
    except AlreadyLocked:
        return True
    except LockException:
        return header.host != socket.gethostname() or _process_exists(header.pid)
    except OSError:
        return False
    return False


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        yield file
    finally:
        os.close(file)


def _process_exists(pid: int) -> bool:
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def prune(folder: Path, keep: Collection[Path], most: int = FOLDER_BYTES, runs: int = FOLDER_TAPES) -> None:
    """Where `folder` holds more than `most` bytes or `runs` tapes, delete the oldest until it is well below.

    Runs that ended go first, then those that died; never one that is live, here (`keep`) or elsewhere.
    """
    sizes = {path: _size(path) for path in reversed(tapes(folder))}
    excess, surplus = sum(sizes.values()) - most, len(sizes) - runs
    if excess <= 0 and surplus <= 0:
        return
    excess, surplus = excess + most // 8, surplus + runs // 8
    for dead in (False, True):
        for path, size in list(sizes.items()):
            if excess <= 0 and surplus <= 0:
                return
            if path not in keep and _may_go(path, dead=dead):
                path.unlink(missing_ok=True)
                del sizes[path]
                excess, surplus = excess - size, surplus - 1


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # another process deleted it just now
        return 0


def _may_go(path: Path, *, dead: bool) -> bool:
    """Whether the tape at `path` is of a run that ended, or, with `dead`, of one that is not live."""
    try:
        header, outcome = peek(path)
    except ConfigError:
        # It is no tape, or of another version; an empty one is just being made.
        return dead and _size(path) > 0
    return not is_live(path, header) and (dead or outcome is not None)
