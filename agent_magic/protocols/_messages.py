"""Messages that a server names and sends in pieces: each an item, in the order they begin, a paragraph of its own."""

from __future__ import annotations

from agent_magic.events import AgentEvent, Reasoning, Replace, ServerSentEvent, Text
from agent_magic.protocols._json import well_formed
from agent_magic.protocols._pieces import Joiner

__all__ = ["Messages"]

BREAK = "\n\n"


class _Message:
    """One message: `lead` is what stands before it."""

    def __init__(self, item: int) -> None:
        self.item = item
        self.lead = ""
        self.pieces: list[str] = []
        self.is_open = True
        self.joiner = Joiner()

    @property
    def said(self) -> str:
        """What it says, as far as it has come."""
        return well_formed("".join(self.pieces))


class Messages:
    """The messages of one run, by the server's ids: its words (`Text`) or its thoughts (`Reasoning`)."""

    def __init__(self, kind: type[Text | Reasoning]) -> None:
        self._kind = kind
        self._known: dict[str, _Message] = {}

    def __contains__(self, identity: str) -> bool:
        return identity in self._known

    def __bool__(self) -> bool:
        """Whether anything has been said."""
        return any(map(_has_words, self._known.values()))

    def begin(self, identity: str) -> None:
        """A message begins; one that is known goes on."""
        self._known.setdefault(identity, _Message(len(self._known))).is_open = True

    def piece(self, identity: str, words: str, sent: ServerSentEvent) -> Text | Reasoning:
        """A piece of a message, as far as its characters are whole."""
        self.begin(identity)
        message = self._known[identity]
        joined = message.joiner.feed(words)
        if words and not _has_words(message):
            message.lead = self._lead(message)
            joined = message.lead + joined
        message.pieces.append(words)
        return self._event(message, joined, sent)

    def end(self, identity: str) -> list[AgentEvent]:
        """A message is over: the replacement of half a character that nothing followed."""
        if identity not in self._known:
            return []
        message = self._known[identity]
        message.is_open = False
        rest = message.joiner.flush()
        return [self._event(message, rest)] if rest else []

    def whole(self, identity: str, words: str, sent: ServerSentEvent) -> list[AgentEvent]:
        """All that a message says: nothing new, a correction, or what had not been streamed.

        The same words under another id are no news: some servers name a message anew when it is complete.
        """
        message = self._known.get(identity)
        if message is None:
            is_told = not words or any(known.said == words for known in self._known.values())
            return [] if is_told else [self.piece(identity, words, sent), *self.end(identity)]
        if message.said == words:
            return []
        if not _has_words(message):
            message.lead = self._lead(message)
        message.pieces, message.joiner = [words], Joiner()
        # Thoughts cannot be taken back, and need not be.
        return [Replace(text=message.lead + words, item=message.item, sent=sent)] if self._kind is Text else []

    def flush(self) -> list[AgentEvent]:
        """The halves of characters that messages ended in."""
        return [event for identity in self._known for event in self.end(identity)]

    def _lead(self, message: _Message) -> str:
        before = (known for known in self._known.values() if known.item < message.item)
        return BREAK if any(known.is_open or _has_words(known) for known in before) else ""

    def _event(self, message: _Message, words: str, sent: ServerSentEvent | None = None) -> Text | Reasoning:
        if self._kind is Text:
            return Text(text=words, item=message.item, sent=sent)
        return Reasoning(text=words, sent=sent)


def _has_words(message: _Message) -> bool:
    return any(message.pieces)
