"""Messages that a server names and sends in pieces: each an item, in the order they begin, a paragraph of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
        self._messages: list[_Message] = []
        # A message has a second id where the server names it anew.
        self._known: dict[str, _Message] = {}

    def __contains__(self, identity: str) -> bool:
        return identity in self._known

    def __bool__(self) -> bool:
        """Whether anything has been said."""
        return any(map(_has_words, self._messages))

    def begin(self, identity: str) -> None:
        """A message begins; one that is known goes on."""
        if identity not in self._known:
            self._known[identity] = _Message(len(self._messages))
            self._messages.append(self._known[identity])
        self._known[identity].is_open = True

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

    def told(self, whole: Mapping[str, str]) -> set[str]:
        """Those of `whole`, all that messages say by id, whose words are known under another id or in other pieces.

        Some servers name a message anew when it is complete, strip it, or make one of several. A message that has its
        own id in `whole` stands for itself alone, and each of the others for its words once.
        """
        own = {self._known[identity].item for identity in whole if identity in self._known}
        free = [known for known in self._messages if known.item not in own and _bare(known.said)]
        new = [identity for identity, words in whole.items() if identity not in self._known and _bare(words)]
        pairs = _same([_bare(whole[identity]) for identity in new], [_bare(known.said) for known in free])
        for one, other in pairs:
            if len(one) == len(other) == 1:
                self._known[new[one[0]]] = free[other[0]]
        used = {place for _, other in pairs for place in other}
        left = [known for place, known in enumerate(free) if place not in used]
        found = {new[place] for one, _ in pairs for place in one}
        unknown = [identity for identity in new if identity not in found]
        if len(left) == len(unknown) == 1 and whole[unknown[0]].lstrip().startswith(left[0].said.strip()):
            self._known[unknown[0]] = left[0]  # the whole of what was cut off
        return found

    def whole(self, identity: str, words: str, sent: ServerSentEvent) -> list[AgentEvent]:
        """All that a message says: nothing new, a correction, or what had not been streamed."""
        message = self._known.get(identity)
        if message is None:
            return [self.piece(identity, words, sent), *self.end(identity)] if words.strip() else []
        if message.said.strip() == words.strip():
            return []
        if self._kind is Reasoning:
            return self._thought_on(message, words, sent)
        if not _has_words(message):
            message.lead = self._lead(message)
        message.pieces, message.joiner = [words], Joiner()
        return [Replace(text=message.lead + words, item=message.item, sent=sent)]

    def _thought_on(self, message: _Message, words: str, sent: ServerSentEvent) -> list[AgentEvent]:
        """The rest of a thought. What was thought cannot be taken back: a correction of it is not told."""
        said, whole = message.said.strip(), words.lstrip()
        if not whole.startswith(said):
            return []
        is_behind = any(map(_has_words, self._messages[message.item + 1 :]))
        lead = BREAK if is_behind else "" if said else self._lead(message)
        message.pieces, message.joiner = [words], Joiner()
        return [Reasoning(text=lead + (whole if is_behind else whole[len(said) :]), sent=sent)]

    def flush(self) -> list[AgentEvent]:
        """The halves of characters that messages ended in."""
        return [event for identity in self._known for event in self.end(identity)]

    def _lead(self, message: _Message) -> str:
        before = self._messages[: message.item]
        return BREAK if any(known.is_open or _has_words(known) for known in before) else ""

    def _event(self, message: _Message, words: str, sent: ServerSentEvent | None = None) -> Text | Reasoning:
        if self._kind is Text:
            return Text(text=words, item=message.item, sent=sent)
        return Reasoning(text=words, sent=sent)


def _has_words(message: _Message) -> bool:
    return any(message.pieces)


def _bare(words: str) -> str:
    """Words without white space: it is what servers change when they put messages together."""
    return "".join(words.split())


def _same(new: Sequence[str], known: Sequence[str]) -> list[tuple[range, range]]:
    """Where a row of `new` joined is a row of `known` joined, each of which counts once."""
    found: list[tuple[range, range]] = []
    used: set[int] = set()
    begin = 0
    while begin < len(new):
        alike = (other for other, words in enumerate(known) if other not in used and _alike(words, new[begin]))
        rows = (_row(new, begin, known, other) for other in alike)
        row = next((row for row in rows if row and used.isdisjoint(row[1])), None)
        if row is not None:
            found.append(row)
            used.update(row[1])
        begin = row[0].stop if row else begin + 1
    return found


def _alike(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _row(new: Sequence[str], begin: int, known: Sequence[str], other: int) -> tuple[range, range] | None:
    """The shortest rows from `begin` and from `other` that say the same."""
    end, stop = begin + 1, other + 1
    one, two = new[begin], known[other]
    while one != two:
        if len(one) < len(two) and end < len(new) and two.startswith(one):
            one, end = one + new[end], end + 1
        elif len(two) < len(one) and stop < len(known) and one.startswith(two):
            two, stop = two + known[stop], stop + 1
        else:
            return None
    return range(begin, end), range(other, stop)
