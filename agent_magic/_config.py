"""Settings: TOML files to `Settings`, the nearest first.

``AGENT_MAGIC_CONFIG`` names the one file there is. Without it there are two: the project's, which is the
nearest ``agent_magic.toml``, or ``pyproject.toml`` with a table ``tool.agent_magic``, upwards of the working
folder; and the user's, ``agent_magic/config.toml`` in the folder of the user's settings. An agent is
described wholly in one of them, so that no file can change one word of what another has said. Without
any, there are the embedded agents alone. Every mistake is one sentence that names the file, the key and the
nearest right one.
"""

from __future__ import annotations

import os
import re
import tomllib
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from agent_magic._settings import AgentConfig, check_seconds, check_values
from agent_magic._trust import Trust
from agent_magic.errors import ConfigError

__all__ = [
    "AgentConfig",
    "Settings",
    "check_seconds",
    "check_values",
    "keeps_journal",
    "load_settings",
    "settings_files",
    "user_file",
]

FILE_NAME = "agent_magic.toml"
VARIABLE = "AGENT_MAGIC_CONFIG"
JOURNAL_VARIABLE = "AGENT_MAGIC_JOURNAL"
JOURNAL_VALUES: dict[str, bool | None] = {"": None, "0": False, "no": False, "off": False, "false": False}
JOURNAL_VALUES |= {"1": True, "yes": True, "on": True, "true": True}
# What a file may hold beside its agents; the last two only one of the person's own.
SHARED, PERSONAL = ("agents", "default", "journal"), ("allow_hosts", "allow_keys")
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]+)?")


class Settings(Struct, frozen=True):
    """All agents by name, the default one's name, the nearest file, and whom the person trusts.

    `projects` names the agents that a project's file describes, with that file. `journal` is whether runs are
    written down: not where any file says no.
    """

    agents: dict[str, AgentConfig]
    default: str = "demo"
    path: Path | None = None
    projects: dict[str, Path] = {}
    trust: Trust = Trust()
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


class _File(Struct, frozen=True):
    """One file's settings. `default` None where it names none, and has no agent to be it."""

    path: Path
    agents: dict[str, AgentConfig]
    default: str | None
    allow_hosts: list[str]
    allow_keys: list[str]
    journal: bool


def user_file() -> Path:
    """Where the user's own settings are, or would be."""
    from platformdirs import user_config_path

    return user_config_path("agent_magic", appauthor=False) / "config.toml"


def load_settings(folder: Path | None = None) -> Settings:
    """The settings that hold in `folder` (the working folder). Raises `ConfigError`."""
    named = _named()
    if named is not None:
        return _merged(None, _read(named, _content(named), is_own=True), named)
    found = _project(folder or _working_folder())
    project = _read(*found, is_own=False) if found is not None else None
    own_path = user_file()
    own = _read(own_path, _content(own_path), is_own=True) if _is_there(own_path) else None
    return _merged(project, own, own_path)


def settings_files(folder: Path | None = None) -> list[Path]:
    """The files that `load_settings` reads, the nearest first. Raises `ConfigError`."""
    if named := _named():
        return [named]
    found = _project(folder or _working_folder())
    return [*([found[0]] if found else []), *([user_file()] if _is_there(user_file()) else [])]


def _merged(project: _File | None, own: _File | None, own_path: Path) -> Settings:
    files = [file for file in (project, own) if file is not None]
    agents = dict(EMBEDDED)
    for file in reversed(files):
        agents |= file.agents
    default = "demo"
    for file in reversed(files):
        if file.default is not None and file.default not in agents:
            raise ConfigError(
                f"{file.path}: default = {file.default!r} names no agent; {_nearest(file.default, agents)}"
            )
        default = file.default or default
    return Settings(
        agents,
        default,
        files[0].path if files else None,
        dict.fromkeys(project.agents, project.path) if project is not None else {},
        _trust(own, own_path),
        journal=all(file.journal for file in files),
    )


def keeps_journal() -> bool:
    """Whether runs are written down: ``AGENT_MAGIC_JOURNAL``, or else the file's `journal`. Raises `ConfigError`."""
    said = os.environ.get(JOURNAL_VARIABLE, "").strip().lower()
    if said not in JOURNAL_VALUES:
        raise ConfigError(f"{JOURNAL_VARIABLE} is 0 (no journal) or 1; {said!r} is neither.")
    wanted = JOURNAL_VALUES[said]
    return load_settings().journal if wanted is None else wanted


def _trust(own: _File | None, own_path: Path) -> Trust:
    if own is None:
        return Trust(own_file=own_path)
    trust = Trust(frozenset(own.allow_hosts), frozenset(own.allow_keys), own_path)
    for config in own.agents.values():
        trust = trust.naming(config.base_url, config.key_env)
    return trust


def _named() -> Path | None:
    """The file that the environment names."""
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    path = Path(named)
    with suppress(RuntimeError):  # a user that does not exist
        path = path.expanduser()
    if not path.is_file():
        raise ConfigError(f"{VARIABLE} names {path}, which is no file.")
    return path


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except OSError:
        raise ConfigError("The working folder is gone; go to another one with os.chdir.") from None


def _project(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The nearest file upwards of `folder` that has settings, and these."""
    for parent in (folder, *folder.parents):
        path = parent / FILE_NAME
        if _is_there(path):
            return path, _content(path)
        path = parent / "pyproject.toml"
        if _is_there(path) and (table := _table_of_tool(path)) is not None:
            return path, table
    return None


def _is_there(path: Path) -> bool:
    """Whether `path` is a file, as far as this process may know: in a folder that is closed to it there is none."""
    try:
        return path.is_file()
    except PermissionError:
        return False


def _table_of_tool(path: Path) -> dict[str, Any] | None:
    """The table ``tool.agent_magic``; None where there is none, also in a file that is another tool's trouble."""
    try:
        if "agent_magic" not in path.read_text(encoding="utf-8"):
            return None
    except (OSError, UnicodeDecodeError):
        return None
    tools = _content(path).get("tool")
    table = tools.get("agent_magic") if isinstance(tools, dict) else None
    return table if isinstance(table, dict) else None


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {str(error).rstrip('.')}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deep.") from None


def _read(path: Path, content: dict[str, Any], *, is_own: bool) -> _File:
    for name in PERSONAL:
        if name in content and not is_own:
            raise ConfigError(f"{path}: {name} stands only in settings of your own; write it into {user_file()}.")
    _check_names(path, "", content, SHARED + PERSONAL if is_own else SHARED)
    tables = content.get("agents", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: agents is a table; write [agents.NAME].")
    agents = {name: _agent(path, name, table) for name, table in tables.items()}
    default = content.get("default", next(iter(tables), None))
    if default is not None and not isinstance(default, str):
        raise ConfigError(f"{path}: default = {default!r} names no agent; it is an agent's name.")
    hosts = [host.lower() for host in _texts(path, content, "allow_hosts")]
    for host in hosts:
        if not HOST.fullmatch(host):
            raise ConfigError(
                f"{path}: allow_hosts holds {host!r}; a host looks like api.example.com or localhost:8000."
            )
    journal = content.get("journal", True)
    if not isinstance(journal, bool):
        raise ConfigError(f"{path}: journal = {journal!r} is neither true nor false.")
    return _File(path, agents, default, hosts, _texts(path, content, "allow_keys"), journal)


def _texts(path: Path, content: dict[str, Any], name: str) -> list[str]:
    value = content.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ConfigError(f'{path}: {name} is a list of texts, such as {name} = ["…"].')
    return value


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


def _check_names(path: Path, prefix: str, table: dict[str, Any], known: tuple[str, ...]) -> None:
    for name in table:
        if name not in known:
            raise ConfigError(f"{path}: there is no setting {prefix}{name}; {_nearest(name, known)}")


def _nearest(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known))}."
