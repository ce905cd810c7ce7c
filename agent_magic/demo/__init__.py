"""The embedded agent: a real HTTP server on loopback that speaks the RunAgent and the You.com wire.

`embedded_url` starts it once in this process; ``python -m agent_magic.demo`` runs it alone.
"""

from __future__ import annotations

from functools import cache

from agent_magic.demo._server import DemoServer

__all__ = ["DemoServer", "embedded_url"]


@cache
def embedded_url() -> str:
    """The base URL of this process's embedded agent, started at the first call, on a free port."""
    return DemoServer().start()
