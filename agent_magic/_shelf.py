"""An agent's tapes: which one answers a question, and where a new one goes."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from agent_magic._keys import strike_all
from agent_magic._modes import Mode
from agent_magic._request import ALONE, AgentRequest, Earlier
from agent_magic._tape import Recording
from agent_magic._taping import address_of, find_tape, has_tape, tape_path
from agent_magic.errors import TapeMissing
from agent_magic.protocols import AgentProtocol

__all__ = ["Shelf"]


class Shelf(Struct, frozen=True):
    """The tapes of the agent called `agent`, used as `mode` says."""

    agent: str
    protocol: AgentProtocol
    mode: Mode

    @property
    def may_answer(self) -> bool:
        """Whether a tape may answer, so that neither a place nor a key is needed yet."""
        return self.mode in {"replay", "auto"}

    def has(self, ask: AgentRequest) -> bool:
        """Whether there is a tape that answers `ask`."""
        return has_tape(self._address(ask, ALONE))

    def find(self, ask: AgentRequest, earlier: Earlier) -> Recording | None:
        """The tape that answers `ask`, where one may. Raises `TapeMissing` where one must."""
        if not self.may_answer:
            return None
        found = find_tape(self._address(ask, earlier), self.agent, must=self.mode == "replay")
        if found is None and earlier.is_replayed and self.protocol.conversations == "server":
            raise TapeMissing(
                "The turns before this one were replayed, so the server's conversation cannot go on from them: run its "
                "first cell with --new and --tape record, and the others after it."
            )
        return found

    def new(self, ask: AgentRequest, earlier: Earlier) -> Path | None:
        """The file that a tape of `ask` goes to, where one is to be made; no key stands in its name."""
        if self.mode not in {"record", "auto"}:
            return None
        return tape_path(self.agent, strike_all(ask.prompt, ask.secrets), self._address(ask, earlier))

    def _address(self, ask: AgentRequest, earlier: Earlier) -> str:
        # What a server answered is its own affair; what goes along from here is a part of the question.
        goes_along = self.protocol.conversations == "client"
        said = [part for one in earlier.said for part in ([one.prompt, one.answer] if goes_along else [one.prompt])]
        return address_of(self.protocol.name, ask.agent, ask.prompt, ask.parameters, [ask.system or "", *said])
