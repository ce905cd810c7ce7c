"""Text that comes in pieces, which a server may have cut in the middle of a character."""

from __future__ import annotations

from agent_magic.events import AgentEvent, Reasoning, ServerSentEvent, Text
from agent_magic.protocols._json import well_formed

__all__ = ["Joiner", "Joiners"]


class Joiner:
    """Text in pieces that were cut by a server that counts in UTF-16.

    Such a server may cut between the two halves of a surrogate pair; JSON carries each half as an
    escape of its own. The halves are put together again; one that stays alone becomes U+FFFD.
    """

    def __init__(self) -> None:
        self._half = ""

    def feed(self, piece: str) -> str:
        """`piece` as far as its characters are whole."""
        if not self._half and piece.isascii():
            return piece
        piece = self._half + piece
        self._half = piece[-1] if piece and "\ud800" <= piece[-1] <= "\udbff" else ""
        return well_formed(piece[: len(piece) - len(self._half)])

    def flush(self) -> str:
        """The replacement of a half that nothing followed."""
        half, self._half = self._half, ""
        return well_formed(half)

    def rest(self) -> list[AgentEvent]:
        """The same as what there is to say: mostly nothing."""
        half = self.flush()
        return [Text(text=half)] if half else []


class Joiners:
    """The joiners of a stream whose text and thoughts come in items, each by its number."""

    def __init__(self) -> None:
        self._joiners: dict[tuple[type[Text | Reasoning], int], Joiner] = {}

    @property
    def items(self) -> set[int]:
        """The items that have been fed."""
        return {item for _, item in self._joiners}

    def text(self, piece: str, item: int, sent: ServerSentEvent) -> Text:
        """A piece of an item's text, as far as its characters are whole."""
        return Text(text=self._feed(Text, item, piece), item=item, sent=sent)

    def thought(self, piece: str, item: int, sent: ServerSentEvent) -> Reasoning:
        """A piece of what was thought for an item."""
        return Reasoning(text=self._feed(Reasoning, item, piece), sent=sent)

    def flush(self, item: int | None = None) -> list[AgentEvent]:
        """The replacements of halves that nothing followed, of one item or of all."""
        left: list[AgentEvent] = []
        for (kind, place), joiner in self._joiners.items():
            if item in {None, place} and (rest := joiner.flush()):
                left.append(Text(text=rest, item=place) if kind is Text else Reasoning(text=rest))
        return left

    def _feed(self, kind: type[Text | Reasoning], item: int, piece: str) -> str:
        return self._joiners.setdefault((kind, item), Joiner()).feed(piece)
