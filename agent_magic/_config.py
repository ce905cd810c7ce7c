"""Settings: TOML files to an `AgentConfig`.

``AGENT_MAGIC_CONFIG`` names the file; without it, the nearest ``agent_magic.toml`` upwards of the
working folder; without that, the embedded agents alone. Every mistake is one sentence that names
the file, the key and the nearest right one.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from agent_magic.errors import ConfigError

__all__ = ["AgentConfig", "Settings", "check_seconds", "check_values", "keeps_journal", "load_settings"]

FILE_NAME = "agent_magic.toml"
VARIABLE = "AGENT_MAGIC_CONFIG"
JOURNAL_VARIABLE = "AGENT_MAGIC_JOURNAL"
JOURNAL_VALUES: dict[str, bool | None] = {"": None, "0": False, "no": False, "off": False, "false": False}
JOURNAL_VALUES |= {"1": True, "yes": True, "on": True, "true": True}
AUTHS = ("bearer", "x-api-key")
# RFC 9110, 5.6.2: what a header's name may hold.
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class AgentConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One agent's settings. Times in seconds; see the README for each.

    `base_url` None is the protocol's own default; `embedded` is the agent of this process.
    """

    protocol: str = "runagent"
    agent: str = "demo"
    base_url: str | None = None
    key_env: str | None = None
    auth: str | None = None
    parameters: dict[str, Any] = {}
    headers: dict[str, str] = {}
    timeout: float = 60.0
    max_time: float | None = None
    retries: int = 3
    backoff: float = 2.0
    max_wait: float = 120.0
    verify: str | None = None
    images: bool = False
    embedded: bool = False


class Settings(Struct, frozen=True):
    """All agents by name, the default one's name, the file they came from, and whether runs are written down."""

    agents: dict[str, AgentConfig]
    default: str = "demo"
    path: Path | None = None
    journal: bool = True

    def agent(self, name: str | None) -> tuple[str, AgentConfig]:
        """The agent called `name`, or the default one. Raises `ConfigError` with the nearest name."""
        wanted = self.default if name is None else name
        found = self.agents.get(wanted)
        if found is None:
            raise ConfigError(f"There is no agent {wanted!r}; {_nearest(wanted, self.agents)}{self._where()}")
        return wanted, found

    def _where(self) -> str:
        if self.path is not None:
            return f" Agents are named in {self.path}."
        return f" Name one of your own as [agents.{'name'}] in an {FILE_NAME}."


EMBEDDED = {
    "demo": AgentConfig(protocol="runagent", embedded=True),
    "demo-you": AgentConfig(protocol="you", agent="advanced", embedded=True),
}


def load_settings(folder: Path | None = None) -> Settings:
    """The settings that hold in `folder` (the working folder). Raises `ConfigError`."""
    path = _find(folder or Path.cwd())
    if path is None:
        return Settings(EMBEDDED)
    return _read(path)


def keeps_journal() -> bool:
    """Whether runs are written down: ``AGENT_MAGIC_JOURNAL``, or else the file's `journal`. Raises `ConfigError`."""
    said = os.environ.get(JOURNAL_VARIABLE, "").strip().lower()
    if said not in JOURNAL_VALUES:
        raise ConfigError(f"{JOURNAL_VARIABLE} is 0 (no journal) or 1; {said!r} is neither.")
    wanted = JOURNAL_VALUES[said]
    return load_settings().journal if wanted is None else wanted


def check_seconds(name: str, value: float, *, zero: bool = False) -> float:
    """`value` where it is a finite time; raises `ConfigError` for NaN, infinity and what is negative."""
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        least = "0 or more" if zero else "more than 0"
        raise ConfigError(f"{name} is a number of seconds, {least}; {value:g} is not.")
    return value


def _find(folder: Path) -> Path | None:
    named = os.environ.get(VARIABLE)
    if named:
        path = Path(named)
        with suppress(RuntimeError):  # a user that does not exist
            path = path.expanduser()
        if not path.is_file():
            raise ConfigError(f"{VARIABLE} names {path}, which is no file.")
        return path
    candidates = (parent / FILE_NAME for parent in (folder, *folder.parents))
    return next((path for path in candidates if path.is_file()), None)


def _read(path: Path) -> Settings:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {str(error).rstrip('.')}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None
    _check_names(path, "", content, ("agents", "default", "journal"))
    tables = content.get("agents", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: agents is a table; write [agents.NAME].")
    agents = EMBEDDED | {name: _agent(path, name, table) for name, table in tables.items()}
    default = content.get("default", next(iter(tables), "demo"))
    if not isinstance(default, str) or default not in agents:
        raise ConfigError(f"{path}: default = {default!r} names no agent; {_nearest(str(default), agents)}")
    journal = content.get("journal", True)
    if not isinstance(journal, bool):
        raise ConfigError(f"{path}: journal = {journal!r} is neither true nor false.")
    return Settings(agents, default, path, journal)


def _agent(path: Path, name: str, table: object) -> AgentConfig:
    where = f"agents.{name}"
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {where} is a table; write [{where}].")
    settable = tuple(field for field in AgentConfig.__struct_fields__ if field != "embedded")
    _check_names(path, f"{where}.", table, settable)
    if "protocol" not in table:
        raise ConfigError(f'{path}: {where} has no protocol; name one, such as protocol = "runagent".')
    try:
        config = msgspec.convert(table, AgentConfig)
        check_values(config)
    except msgspec.ValidationError as error:
        key = re.search(r"`\$\.?([^`]*)`", str(error))
        place = f"{where}.{key[1]}" if key and key[1] else where
        raise ConfigError(f"{path}: {place}: {str(error).partition(' - at')[0]}.") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {where}: {error}") from None
    return config


def check_values(config: AgentConfig) -> None:
    """Raise `ConfigError` for a value that no run could use."""
    check_seconds("timeout", config.timeout)
    check_seconds("backoff", config.backoff, zero=True)
    check_seconds("max_wait", config.max_wait, zero=True)
    if config.max_time is not None:
        check_seconds("max_time", config.max_time)
    if config.retries < 0:
        raise ConfigError("retries is a whole number from 0 up.")
    if config.auth is not None and config.auth not in AUTHS:
        raise ConfigError(f"auth is one of {', '.join(AUTHS)}.")
    for name, value in config.headers.items():
        if not HEADER_NAME.fullmatch(name) or not value.isprintable() or not value.isascii():
            raise ConfigError(f"the header {name!r} cannot be sent; names and values are printable ASCII.")


def _check_names(path: Path, prefix: str, table: dict[str, Any], known: tuple[str, ...]) -> None:
    for name in table:
        if name not in known:
            raise ConfigError(f"{path}: there is no setting {prefix}{name}; {_nearest(name, known)}")


def _nearest(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known))}."
