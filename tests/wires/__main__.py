"""What each wire has been seen to carry: ``python -m tests.wires`` prints the README's table, ``--readme`` writes it there.

Nothing in it is said by hand. A wire carries what the recorded streams of its contract suite decode to; it resumes
where its decoder, in the middle of such a stream, has a request that goes on; and a stop ends the reading alone where
the decoder says so.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from pathlib import Path

import tests.protocols
from agent_magic.testing import Findings, ProtocolContract, findings

README = Path(__file__).parents[2] / "README.md"
PLACE = re.compile(r"(<!-- wires: python -m tests\.wires --readme -->\n).*?(<!-- /wires -->)", re.DOTALL)
HEAD = ("wire", "text", "usage", "reasoning", "tools", "sources", "sessions", "resume", "Stop ends")
KEEPERS = {"server": "the server", "client": "this kernel", "nobody": ""}
STOPS = {"connection": "the connection", "reading": "the reading; the task goes on, and the line says so"}


def contracts() -> dict[str, list[type[ProtocolContract]]]:
    """The contract suites of the built-in wires, by the wire's name."""
    found: dict[str, list[type[ProtocolContract]]] = {}
    for module in pkgutil.iter_modules(tests.protocols.__path__, f"{tests.protocols.__name__}."):
        for suite in vars(importlib.import_module(module.name)).values():
            is_suite = isinstance(suite, type) and issubclass(suite, ProtocolContract)
            if is_suite and suite.__module__ == module.name:
                found.setdefault(suite.protocol.name, []).append(suite)
    return found


def table() -> str:
    """The table, as Markdown."""
    rows = [_row(name, findings(suites)) for name, suites in sorted(contracts().items())]
    lines = [HEAD, tuple("---" for _ in HEAD), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _row(name: str, found: Findings) -> tuple[str, ...]:
    text = "in pieces" if found.pieces > 1 else "whole"
    tools = {(True, True): "yes", (True, False): "calls", (False, True): "results"}.get(
        (found.tool_calls, found.tool_results), ""
    )
    flags = ["yes" if flag else "" for flag in (found.usage, found.reasoning, found.sources, found.resumes)]
    usage, reasoning, sources, resumes = flags
    return f"`{name}`", text, usage, reasoning, tools, sources, KEEPERS[found.sessions], resumes, STOPS[found.stops]


def main() -> None:
    """Print the table, or put it into the README."""
    if "--readme" not in sys.argv[1:]:
        print(table(), end="")
        return
    README.write_text(PLACE.sub(lambda place: f"{place[1]}{table()}{place[2]}", README.read_text()))


if __name__ == "__main__":
    main()
