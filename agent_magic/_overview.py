"""What ``%agent`` shows: the agents, the default one, what is running."""

from __future__ import annotations

from html import escape

from agent_magic._config import load_settings
from agent_magic._listing import html_table
from agent_magic._request import host_of
from agent_magic._run import live_runs
from agent_magic.protocols import get_protocol

__all__ = ["Overview"]

COLUMNS = ("agent", "protocol", "asks", "at")


class Overview:
    """A table of the agents and a line on each run, as they are at the moment it is made."""

    def __init__(self) -> None:
        settings = load_settings()
        self.default = settings.default
        self.rows = [
            (
                name,
                config.protocol,
                config.agent,
                self._place(config.protocol, config.base_url, embedded=config.embedded),
            )
            for name, config in settings.agents.items()
        ]
        self.running = [f"{run.agent}: {run.transcript.doing}, {run.transcript.elapsed:.0f} s" for run in live_runs()]

    def _place(self, protocol: str, base_url: str | None, *, embedded: bool) -> str:
        return "in this process" if embedded else host_of(base_url or get_protocol(protocol).base_url)

    def __repr__(self) -> str:
        lines = [
            f"{'*' if name == self.default else ' '} {name:<16} {protocol:<12} {agent:<20} {place}"
            for name, protocol, agent, place in self.rows
        ]
        running = [f"running: {line}" for line in self.running] or ["nothing is running"]
        return "\n".join([*lines, *running])

    def _repr_html_(self) -> str:
        running = escape("; ".join(self.running) or "nothing is running")
        return (
            f"{html_table(('agent', 'protocol', 'asks', 'at'), map(self._cells, self.rows))}<p>Running: {running}</p>"
        )

    def _cells(self, row: tuple[str, str, str, str]) -> tuple[str, ...]:
        name, *rest = row
        return (f"{name} (default)" if name == self.default else name, *rest)
