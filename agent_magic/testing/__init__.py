r"""For authors of protocols: a contract that every decoder keeps, and a server that misbehaves as it is told.

::

    from agent_magic.testing import ProtocolContract

    class TestMine(ProtocolContract):
        protocol = Mine()
        recorded = b"event: start\ndata: {}\n\n…"       # a stream as the service sends it
        expected = "Hello"                                 # the text in it

A pytest class that inherits from `ProtocolContract` runs the whole contract. Needs hypothesis.

::

    from agent_magic.testing import ScriptedServer, falls_silent, run_against

    with ScriptedServer(falls_silent(b"event: start\ndata: {")) as server:
        run = run_against(server.url, Mine(), Policy(timeout=0.2, retries=0))

There is one server. What it does is a script: one of the ready ones (`says`, `breaks_off`, `drips`,
`floods`, …), a `Service` that understands its wire and resumes well or badly, or a function of your own. A wire
that is a WebSocket has a `SocketContract` to keep and a server that speaks in frames, `ScriptedSockets`.
"""

from __future__ import annotations

from agent_magic.testing._certificates import Certificates
from agent_magic.testing._contract import ProtocolContract, SocketContract
from agent_magic.testing._findings import Findings, findings
from agent_magic.testing._research import YouResearchService
from agent_magic.testing._runs import begin_against, run_against, run_together
from agent_magic.testing._scripts import (
    Cut,
    breaks_off,
    drips,
    falls_silent,
    floods,
    in_turn,
    pings,
    redirects,
    refuses,
    says,
)
from agent_magic.testing._server import Act, Connection, Script, ScriptedServer, head
from agent_magic.testing._services import Resume, RunAgentService, Service, YouService
from agent_magic.testing._sockets import Play, ScriptedSockets, Socket, frames_in_pieces, tells
from agent_magic.testing._streams import event_stream, fold, split_events

__all__ = [
    "Act",
    "Certificates",
    "Connection",
    "Cut",
    "Findings",
    "Play",
    "ProtocolContract",
    "Resume",
    "RunAgentService",
    "Script",
    "ScriptedServer",
    "ScriptedSockets",
    "Service",
    "Socket",
    "SocketContract",
    "YouResearchService",
    "YouService",
    "begin_against",
    "breaks_off",
    "drips",
    "event_stream",
    "falls_silent",
    "findings",
    "floods",
    "fold",
    "frames_in_pieces",
    "head",
    "in_turn",
    "pings",
    "redirects",
    "refuses",
    "run_against",
    "run_together",
    "says",
    "split_events",
    "tells",
]
