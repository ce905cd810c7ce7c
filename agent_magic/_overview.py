"""What ``%agent`` shows: the agents, the default one, what is running."""

from __future__ import annotations

from html import escape

from agent_magic._config import AgentConfig, Source, load_settings
from agent_magic._listing import html_table, text_table
from agent_magic._local import missing
from agent_magic._request import host_of
from agent_magic._run import live_runs
from agent_magic.errors import ConfigError, visible
from agent_magic.protocols import get_protocol, protocol_names

__all__ = ["Overview"]

COLUMNS = ("agent", "protocol", "asks", "at", "described in")


class Overview:
    """A table of the agents and a line on each run, as they are at the moment it is made."""

    def __init__(self) -> None:
        settings = load_settings()
        self.default = visible(settings.default)
        self.default_from = visible(settings.default_from)
        self.rows = [
            tuple(map(visible, (name, config.protocol, config.agent, _place(config), _source(settings.sources[name]))))
            for name, config in settings.agents.items()
        ]
        self.running = [f"{run.agent}: {run.transcript.doing}, {run.transcript.elapsed:.0f} s" for run in live_runs()]

    def __repr__(self) -> str:
        rows = (("*" if row[0] == self.default else "", *row) for row in self.rows)
        running = [f"running: {line}" for line in self.running] or ["Nothing is running."]
        return "\n".join([text_table(("", *COLUMNS), rows), self._default(), self._known(), *running])

    def _repr_html_(self) -> str:
        running = escape(f"Running: {'; '.join(self.running)}" if self.running else "Nothing is running.")
        table = html_table(COLUMNS, map(self._cells, self.rows))
        return f"{table}<p>{escape(self._default())}<br>{escape(self._known())}</p><p>{running}</p>"

    def _known(self) -> str:
        return f"Protocols: {', '.join(protocol_names())}."

    def _default(self) -> str:
        there = "" if any(row[0] == self.default for row in self.rows) else ", and there is no such agent"
        return f"Without a name, {self.default} is asked ({self.default_from}){there}."

    def _cells(self, row: tuple[str, ...]) -> tuple[str, ...]:
        name, *rest = row
        return (f"{name} (default)" if name == self.default else name, *rest)


def _place(config: AgentConfig) -> str:
    if config.gguf is not None:
        return missing(config.gguf) or "in a process of its own"
    if config.embedded:
        return "in this process"
    try:
        return host_of(config.base_url or get_protocol(config.protocol).base_url) or "no base_url"
    except ConfigError as error:  # one agent's mistake is its own row's
        return str(error)


def _source(source: Source) -> str:
    return f"{source.where}, in place of the embedded one" if source.replaces_embedded else source.where
