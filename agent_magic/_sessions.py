"""Conversations by name, of this kernel: what was said in each, by which cell, and what a turn sends along.

Some servers keep a conversation and are sent its id; then a cell that is run again is one more turn there. Where
the conversation is kept here, it takes the place of its own former turn, and the turns behind it, which
answered to that one, are marked stale: they stay, for nobody has said that they are wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from agent_magic._agent import Agent
from agent_magic._listing import html_table, one_line, text_table
from agent_magic._request import Earlier, Said
from agent_magic._result import AgentResult
from agent_magic.errors import ConfigError
from agent_magic.protocols import KeepsMessages, get_protocol

__all__ = ["Conversation", "Place", "Sessions", "conversation", "remember", "session_names"]

COLUMNS = ("session", "agent", "turns", "stale", "kept by", "last prompt")
PROMPT_LENGTH = 60
_CONVERSATIONS: dict[str, Conversation] = {}


class Turn(Struct):
    """One question, its answer, and the cell that asked, where that is known."""

    cell: str | None
    result: AgentResult
    is_stale: bool = False
    # A long answer is put together from its events once, and not for each turn that follows.
    kept: Said | None = None

    @property
    def said(self) -> Said | None:
        """What it adds to a conversation; nothing without an answer."""
        if self.kept is not None:
            return self.kept
        result = self.result
        # A run that goes on while this is put together is not kept as it is now.
        is_over = result.status != "running"
        if result.status == "failed" or not result.text:
            return None
        said = Said(result.prompt, result.text, messages_of(result.protocol, result))
        if is_over:
            self.kept = said
        return said


class Place(Struct, frozen=True):
    """Where a cell's turn goes: at `number`, in the place of an old one or behind the last.

    `again` is where the cell's former turn stands, if it has one.
    """

    number: int
    again: int | None
    earlier: Earlier


class Conversation:
    """What was said under one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.agent = ""
        self.keeper = ""
        self.turns: list[Turn] = []
        # The server's names of what was said otherwise since.
        self._left: set[str | None] = set()

    def running(self, cell: str | None) -> list[AgentResult]:
        """The results that a turn of `cell` has to wait for; its own former run is not one."""
        before = self.turns[: self._number(cell)] if self.keeper == "client" else self.turns
        others = (turn for turn in before if cell is None or turn.cell != cell)
        return [turn.result for turn in others if turn.result.status == "running"]

    def place(self, agent: Agent, cell: str | None) -> Place:
        """Where the turn of `cell` goes that asks `agent`. Raises `ConfigError` where there is none."""
        keeper = agent.conversations
        if keeper == "nobody":
            raise ConfigError(
                f"The agent {agent.name!r} has no conversations: its protocol, {agent.config.protocol}, has no place "
                "for what was said before. Ask it without -s, and put earlier answers into the prompt: {{ answer }}."
            )
        if self.turns and (self.agent, self.keeper) != (agent.name, keeper):
            raise ConfigError(
                f"The session {self.name!r} is with {self.agent!r} and not with {agent.name!r}; "
                "give it another name, or begin it afresh with --new."
            )
        number, again = self._number(cell), self._of(cell)
        # A tape is found by what stood before the cell, wherever a server has put its turn.
        said = [said for turn in self.turns[:number] if (said := turn.said)]
        if keeper == "client":
            return Place(number, again, Earlier(self._thread(number), said))
        named = (turn.result.session_id for turn in reversed(self.turns) if turn.result.session_id)
        is_replayed = any(turn.result.replayed for turn in self.turns)
        return Place(len(self.turns), again, Earlier(next(named, None), said, is_replayed))

    def _thread(self, number: int) -> str | None:
        """What a server calls the conversation as it was before turn `number`, where it has a name for it.

        A thread that had turns which are no longer said is not gone on with: a server that remembers it would answer
        to those, or refuse to go back; all that is said goes along into a new one. The name on a tape is not taken
        up either: whoever replays that tape would share one conversation there.
        """
        live = (turn.result for turn in reversed(self.turns[:number]) if not turn.result.replayed)
        thread = next((result.session_id for result in live if result.session_id), None)
        return None if thread in self._left | {turn.result.session_id for turn in self.turns[number:]} else thread

    def put(self, place: Place, agent: Agent, cell: str | None, result: AgentResult) -> list[str]:
        """The turn has begun. What is to be said of its place."""
        self.agent, self.keeper = agent.name, agent.conversations
        number = place.number if place.again is None or not result.replayed else place.again
        self._left |= {turn.result.session_id for turn in self.turns[number : number + 1]} - {None}
        self.turns[number : number + 1] = [Turn(cell, result)]
        notes = [f"session {self.name}, turn {number + 1}"]
        if self.keeper == "server" and place.again is not None and not result.replayed:
            notes.append("added again: the server keeps the conversation")
        later = self.turns[number + 1 :]
        if later and not result.replayed:
            for turn in later:
                turn.is_stale = True
            notes.append(f"{len(later)} later turn{'s' * (len(later) != 1)} now stale")
        elif any(turn.is_stale for turn in self.turns[:number]):
            notes.append("earlier turns are stale")
        return notes

    def row(self) -> tuple[str, ...]:
        """What stands under `COLUMNS`."""
        stale = sum(turn.is_stale for turn in self.turns)
        prompt = one_line(self.turns[-1].result.prompt, PROMPT_LENGTH) if self.turns else ""
        keeper = {"server": "the server", "client": "this kernel"}.get(self.keeper, "")
        return (self.name, self.agent, str(len(self.turns)), str(stale or ""), keeper, prompt)

    def _of(self, cell: str | None) -> int | None:
        """The place of the turn that `cell` had."""
        if cell is None:
            return None
        return next((number for number, turn in enumerate(self.turns) if turn.cell == cell), None)

    def _number(self, cell: str | None) -> int:
        own = self._of(cell)
        return len(self.turns) if own is None else own


def conversation(name: str, *, new: bool = False) -> Conversation:
    """The conversation called `name`; where there is none, or with `new`, an empty one that is not yet known by it."""
    return Conversation(name) if new or name not in _CONVERSATIONS else _CONVERSATIONS[name]


def remember(found: Conversation) -> None:
    """Have `found` be the conversation of its name."""
    _CONVERSATIONS[found.name] = found


def session_names() -> list[str]:
    """The names of the conversations, the one that was begun last at the end."""
    return list(_CONVERSATIONS)


def messages_of(protocol: str, result: AgentResult) -> Sequence[dict[str, Any]]:
    """What `result` was in the messages of its wire; none where a wire knows only words."""
    wire = get_protocol(protocol)
    return wire.messages(result.events) if isinstance(wire, KeepsMessages) else ()


class Sessions:
    """All conversations, as a table."""

    def __init__(self) -> None:
        self._found = list(_CONVERSATIONS.values())

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Conversation]:
        return iter(self._found)

    def __repr__(self) -> str:
        return text_table(COLUMNS, self._rows()) if self._found else NONE

    def _repr_html_(self) -> str:
        return html_table(COLUMNS, self._rows()) if self._found else f"<p>{NONE}</p>"

    def _rows(self) -> Iterator[tuple[str, ...]]:
        return (found.row() for found in self._found)


NONE = "There are no conversations yet; %%agent -s NAME begins one."
