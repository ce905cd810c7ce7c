"""AG-UI, the Agent User Interaction Protocol: ``POST`` of a ``RunAgentInput`` to an agent's own endpoint.

The format is that of https://ag-ui.com/spec/1.0 and of the package ``ag-ui-protocol``; what 0.x servers say otherwise
(``THINKING_*``, names in snake case) is read as well. There is no service: `base_url` is the agent's whole endpoint.
The rules of this room:

- Events have no name; the ``type`` in the data counts. What belongs to an application's own front end (state,
  activities, custom and raw events) is kept, and is no part of the answer.
- A message is an item of the answer, in the order in which messages begin, and a paragraph of its own. What a
  subagent says is part of the answer: it is often the agent's only word.
- A snapshot of the messages corrects what this run has said, and tells what it had not streamed. Earlier turns stay
  out of it: it counts only behind the question that was asked. Servers strip that, cut off old turns and name messages
  anew: where nothing else was said, what no earlier turn has said is the answer, or it is told that there is none.
- The conversation goes along, and so does its thread. What the agent said goes back as the messages that it came in; a
  question's id follows from its thread, place and text. So a server that remembers a thread knows them all again.
- Nothing can be resumed; the end is ``RUN_FINISHED`` or ``RUN_ERROR``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

from agent_magic._request import AgentRequest, HTTPRequest, check_base_url
from agent_magic.errors import AgentError, AgentMagicError
from agent_magic.events import (
    AgentEvent,
    ServerSentEvent,
    Text,
)
from agent_magic.protocols._ag_ui_conversation import conversation
from agent_magic.protocols._ag_ui_decoder import AGUIDecoder
from agent_magic.protocols._ag_ui_history import History, camel
from agent_magic.protocols._asking import key_header, refuse_fields
from agent_magic.protocols._base import HTTPFailure, Keeper
from agent_magic.protocols._ends import error_of
from agent_magic.protocols._json import object_or_empty

__all__ = ["AGUI", "AGUIDecoder"]

OWN_FIELDS = frozenset({"messages", "threadId", "thread_id", "runId", "run_id"})
# Parameters that are fields of the input; all others are the application's own, and go into `forwardedProps`.
INPUT_FIELDS = frozenset({"state", "tools", "context", "resume", "parentRunId", "protocolVersion"})


class AGUI:
    """The AG-UI wire. Parameters go into ``forwardedProps``, those named like a field of the input into that field."""

    name = "ag-ui"
    base_url = ""
    key_env: str | None = None
    conversations: Keeper = "client"
    has_system = True

    def request(self, ask: AgentRequest) -> HTTPRequest:
        """The POST that begins a run, in the session's thread or in a new one.

        0.x servers want each of the fields that are always there, and refuse one that they do not know: the version of
        the protocol goes along only as a parameter.
        """
        refuse_fields(ask.parameters, OWN_FIELDS, self.name)
        check_base_url(ask.base_url)
        thread = ask.session_id or str(uuid4())
        fields = {name: value for name, value in ask.parameters.items() if name in INPUT_FIELDS}
        return HTTPRequest(
            method="POST",
            url=ask.base_url,
            headers={**ask.headers, **key_header(ask), "Accept": "text/event-stream"},
            body={
                "threadId": thread,
                "runId": str(uuid4()),
                "state": {},
                "messages": conversation(ask, thread),
                "tools": [],
                "context": [],
                **fields,
                "forwardedProps": _forwarded(ask.parameters),
            },
        )

    def decoder(self, ask: AgentRequest) -> AGUIDecoder:
        """A decoder for one run."""
        return AGUIDecoder(ask)

    def messages(self, events: Iterable[AgentEvent]) -> list[dict[str, Any]]:
        """A run's own messages as they came, with the server's ids: a server that remembers them knows them again.

        Calls without a result are left out, as no model takes them back; so are thoughts, which 0.x servers refuse.
        """
        sent: list[ServerSentEvent] = []
        for event in events:
            if event.sent is None and isinstance(event, Text):
                return []  # nothing is kept of how it came
            if event.sent is not None and not (sent and sent[-1] is event.sent):
                sent.append(event.sent)
        history = History()
        for one in sent:
            history.hear(camel(object_or_empty(one.data)))
        return history.messages()

    def error(self, failure: HTTPFailure) -> AgentMagicError:
        """The error of a failed reply; where nothing is at base_url, it says what base_url is."""
        error = error_of(failure)
        if failure.status in {404, 405} and isinstance(error, AgentError):
            said = str(error).partition(" Check the ")[0]
            return AgentError(f"{said} Set base_url to the agent's whole endpoint.", error.code, error.message)
        return error


def _forwarded(parameters: Mapping[str, Any]) -> Any:
    """What the application is told; a parameter `forwardedProps` is all of it, or a part."""
    own = {name: value for name, value in parameters.items() if name not in {*INPUT_FIELDS, "forwardedProps"}}
    whole = parameters.get("forwardedProps", {})
    return {**whole, **own} if isinstance(whole, dict) else own or whole
