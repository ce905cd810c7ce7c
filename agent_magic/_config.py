"""Settings: TOML files to `Settings`, the nearest first.

``AGENT_MAGIC_CONFIG`` names the one file there is. Without it there are two: the project's, which is the
nearest ``agent_magic.toml``, or ``pyproject.toml`` with a table ``tool.agent_magic``, upwards of the working
folder; and the user's, ``agent_magic/config.toml`` in the folder of the user's settings. An agent is
described wholly in one of them, so that no file can change one word of what another has said. Without
any, there are the embedded agents alone. Above the files' agents stand those of ``%config AgentMagics.agents``, each
whole as well. A model's file is looked for beside the file that names it. Every mistake is one sentence that names
the file, the key and the nearest right one.
"""

from __future__ import annotations

import os
import re
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from agent_magic._check import SETTABLE, check_names, checked_agent, nearest, written
from agent_magic._layers import AGENTS, agents_said, default_said, journal_said
from agent_magic._local import AT_ITS_BEST, SMOLLM2, is_complete, model_name
from agent_magic._settings import AgentConfig, check_seconds, check_values
from agent_magic._trust import Trust, real_path
from agent_magic.errors import ConfigError

__all__ = [
    "AgentConfig",
    "Settings",
    "Source",
    "check_seconds",
    "check_values",
    "keeps_journal",
    "load_settings",
    "settings_files",
    "user_file",
]

FILE_NAME = "agent_magic.toml"
VARIABLE = "AGENT_MAGIC_CONFIG"
# What a file may hold beside its agents; the last three only one of the person's own.
SHARED, PERSONAL = ("agents", "default", "journal"), ("allow_hosts", "allow_keys", "allow_models")
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]+)?")


class Source(Struct, frozen=True):
    """Where an agent is described, and which of its settings are said there."""

    where: str
    says: frozenset[str] = frozenset()
    replaces_embedded: bool = False


class Settings(Struct, frozen=True):
    """All agents by name, the default one's name, the nearest file, and whom the person trusts.

    `projects` names the agents that a project's file describes, with that file; `sources` says of each agent
    where it came from, `default_from` of the default. `journal` is whether runs are written down: not where any
    file says no.
    """

    agents: dict[str, AgentConfig]
    default: str
    default_from: str
    sources: dict[str, Source]
    path: Path | None = None
    projects: dict[str, Path] = {}
    trust: Trust = Trust()
    journal: bool = True

    def agent(self, name: str | None) -> tuple[str, AgentConfig]:
        """The agent called `name`, or the default one. Raises `ConfigError` with the nearest name."""
        wanted = self.default if name is None else name
        found = self.agents.get(wanted)
        if found is None:
            said = "" if name is not None else f"{self.default_from}: "
            raise ConfigError(f"{said}There is no agent {wanted!r}; {nearest(wanted, self.agents)}{self._where()}")
        return wanted, found

    def _where(self) -> str:
        if self.path is not None:
            return f" Agents are named in {self.path}."
        return f" Name one of your own as [agents.{'name'}] in an {FILE_NAME}."


EMBEDDED = {
    # Its file has a system text, without which it is better.
    "local": AgentConfig(
        protocol="openai",
        agent=model_name(SMOLLM2),
        gguf=SMOLLM2,
        system="",
        parameters=AT_ITS_BEST,
        embedded=True,
    ),
    "demo": AgentConfig(protocol="runagent", embedded=True),
    "demo-you": AgentConfig(protocol="you", agent="advanced", embedded=True),
}


class _File(Struct, frozen=True):
    """One file's settings. `default` None where it names none, and has no agent to be it.

    `says` names what is said of each agent, `names_default` is whether the default is said, too.
    """

    path: Path
    agents: dict[str, AgentConfig]
    says: dict[str, frozenset[str]]
    default: str | None
    names_default: bool
    allow_hosts: list[str]
    allow_keys: list[str]
    allow_models: list[str]
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
    agents, sources = dict(EMBEDDED), dict.fromkeys(EMBEDDED, Source("embedded"))
    for file in reversed(files):
        agents |= file.agents
        sources |= {name: _source(str(file.path), name, file.says[name]) for name in file.agents}
    of_session = agents_said()
    agents |= {name: config for name, (config, _) in of_session.items()}
    sources |= {name: _source(AGENTS, name, says) for name, (_, says) in of_session.items()}
    default, default_from = _default(files, agents)
    projects = dict.fromkeys(project.agents, project.path) if project is not None else {}
    return Settings(
        agents,
        default,
        default_from,
        sources,
        files[0].path if files else None,
        {name: path for name, path in projects.items() if name not in of_session},
        _trust([*(own.agents.values() if own is not None else ()), *(config for config, _ in of_session.values())],
               own, own_path),
        journal=all(file.journal for file in files),
    )  # fmt: skip


def _source(where: str, name: str, says: frozenset[str]) -> Source:
    return Source(where, says, replaces_embedded=name in EMBEDDED)


def _default(files: list[_File], agents: dict[str, AgentConfig]) -> tuple[str, str]:
    """The default agent's name, and why it is that one. The session's may be nobody's, which harms no other agent."""
    default, default_from = "demo", "nothing names another one"
    if is_complete():
        default, default_from = "local", "nothing names another one, and its parts are installed"
    for file in reversed(files):
        if file.default is None:
            continue
        if file.default not in agents:
            raise ConfigError(
                f"{file.path}: default = {file.default!r} names no agent; {nearest(file.default, agents)}"
            )
        default = file.default
        default_from = f"default in {file.path}" if file.names_default else f"the first agent in {file.path}"
    said = default_said()
    return (default, default_from) if said is None else (said.value, said.where)


def keeps_journal() -> bool:
    """Whether runs are written down: what the session says, or else the files' `journal`. Raises `ConfigError`."""
    said = journal_said()
    return load_settings().journal if said is None else bool(said.value)


def _trust(agents: list[AgentConfig], own: _File | None, own_path: Path) -> Trust:
    """Whom the person trusts: what their own file allows, and what `agents`, their own, name."""
    trust = Trust(own_file=own_path)
    if own is not None:
        models = frozenset(map(real_path, own.allow_models))
        trust = Trust(frozenset(own.allow_hosts), frozenset(own.allow_keys), own_path, models)
    for config in agents:
        trust = trust.naming(config.base_url, config.key_env, config.gguf)
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
    if "tool" in content:
        raise ConfigError(
            f"{path}: tool is a table of pyproject.toml; here, write [agents.NAME] and nothing before it."
        )
    for name, value in content.items():
        if name in SETTABLE and not (name == "agent" and isinstance(value, dict)):  # which is agents, misspelt
            raise ConfigError(f"{path}: {name} is an agent's setting; write it below [agents.NAME].")
    check_names(f"{path}: ", "", content, SHARED + PERSONAL if is_own else SHARED)
    tables = content.get("agents", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: agents is a table; write [agents.NAME].")
    agents = {name: _agent(path, name, table) for name, table in tables.items()}
    default = content.get("default", next(iter(tables), None))
    if default is not None and not isinstance(default, str):
        raise ConfigError(f"{path}: default = {written(default)} names no agent; it is an agent's name.")
    hosts = [host.lower() for host in _texts(path, content, "allow_hosts")]
    for host in hosts:
        if not HOST.fullmatch(host):
            raise ConfigError(
                f"{path}: allow_hosts holds {host!r}; a host looks like api.example.com or localhost:8000."
            )
    journal = content.get("journal", True)
    if not isinstance(journal, bool):
        raise ConfigError(f"{path}: journal = {written(journal)} is neither true nor false.")
    says = {name: frozenset(table) for name, table in tables.items()}
    keys = _texts(path, content, "allow_keys")
    models = _texts(path, content, "allow_models")
    return _File(path, agents, says, default, "default" in content, hosts, keys, models, journal)


def _texts(path: Path, content: dict[str, Any], name: str) -> list[str]:
    value = content.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ConfigError(f'{path}: {name} is a list of texts, such as {name} = ["…"].')
    return value


def _agent(path: Path, name: str, table: object) -> AgentConfig:
    for key in table if isinstance(table, dict) else ():
        if key in SHARED + PERSONAL:
            raise ConfigError(f"{path}: {key} stands below [agents.{name}]; write it at the top of the file.")
    config = checked_agent(str(path), name, table)
    if config.gguf is None or config.gguf == SMOLLM2 or config.gguf.startswith("~"):
        return config
    return structs.replace(config, gguf=str(path.parent / config.gguf))
