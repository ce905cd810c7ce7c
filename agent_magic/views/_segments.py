"""A growing answer in segments: which part of it goes where, and when.

The answer is painted into a row of displays made beforehand. Each is filled in turn and then left
alone, so text on the page never moves. A new segment begins where a top-level block begins, once the
one before is large enough. The part of the text that is still unfinished Markdown (half a link, the
first row of a table) waits until it is whole: what was shown does not turn into something else.

Painting costs bytes: a display is sent whole each time. `Budget` spaces the paints so that the bytes
a second stay bounded, whatever the length of the answer.
"""

from __future__ import annotations

import re

from agent_magic.views._markdown import top_level_starts

__all__ = ["Budget", "Segments", "settled"]

# JupyterLab folds a cell's outputs from the 51st on; the bar is one of them.
COUNT = 40
LEAST = 2048
SHARE = 10
# A mark that has waited this long for its other half is shown as it is: it was no markup.
LONGEST_WAIT = 400

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
# A last line that may yet become another kind of block: a fence, a list item, a rule, a heading.
UNDECIDED = re.compile(r"^\s*(?:`+[^\n`]{0,80}|~+|~{3,}[^\n]{0,80}|[-+*>#=_ \t]+|\d{1,9}[.)]?\s*)$")
DELIMITER_ROW = re.compile(r"^\s*\|?[\s:|-]*$")
MARK = re.compile(r"\\.|`+|\*+|~~+|(?<!\w)_+(?=\w)|(?<=\w)_+(?!\w)|\$\$|\$|!?\[|\]\(|\)|\]", re.DOTALL)
# At the very end a mark may go on, or turn out to be none.
HALF_MARK = re.compile(r"(?:[\\!<]|[`*_~$]+|&[#\w]{0,10}|<[^<>\s]{0,100})$")


class Budget:
    """When the next paint may be. `rate` in bytes a second, `overhead` in bytes a message."""

    def __init__(self, rate: float = 28_000, frames: float = 12, overhead: int = 1000) -> None:
        self._rate = rate
        self._frame = 1 / frames
        self._overhead = overhead
        self._next = 0.0

    def wait(self, now: float) -> float:
        """Seconds until a paint is allowed; 0 or less means now."""
        return self._next - now

    def spend(self, now: float, size: int) -> None:
        """Take note of a paint of `size` bytes."""
        self._next = now + max(self._frame, (size + self._overhead) / self._rate)


class Segments:
    """The answer so far, cut into at most `count` pieces of which only the last ones change."""

    def __init__(self, count: int = COUNT) -> None:
        self._count = count
        self._starts = [0]
        self._shown = [""] * count
        self._last = ""

    def update(self, text: str) -> list[tuple[int, str]]:
        """The segments that `text` changes, each with its new content, first to last.

        `text` is the whole answer. Where it no longer continues what was shown, all begins anew.
        """
        if not text.startswith("".join(self._shown)):
            self._starts = [0]
            self._last = ""
        self._split(text)
        ends = [*self._starts[1:], len(text)]
        contents = [text[start:end] for start, end in zip(self._starts, ends, strict=True)]
        # What was shown stays, also where it has turned out to be the beginning of something else.
        contents[-1] = self._last = max(settled(contents[-1]), self._last, key=len)
        contents += [""] * (self._count - len(contents))
        changed = [(place, new) for place, new in enumerate(contents) if new != self._shown[place]]
        self._shown = contents
        return changed

    def _split(self, text: str) -> None:
        while len(self._starts) < self._count:
            start = self._starts[-1]
            enough = max(LEAST, start // SHARE)
            if len(text) - start <= enough:
                return
            cut = _cut(text[start:], max(enough, len(self._last)))
            if cut is None:
                return
            self._starts.append(start + cut)
            self._last = ""


def _cut(segment: str, enough: int) -> int | None:
    """Where the next segment begins: the first top-level block from `enough` characters on.

    A last line that may yet become part of the block before it is not looked at.
    """
    last_line = segment.rfind("\n") + 1
    decided = segment[:last_line] if UNDECIDED.match(segment[last_line:]) else segment
    if len(decided) <= enough:
        return None
    offsets = [0]
    for line in decided.split("\n"):
        offsets.append(offsets[-1] + len(line) + 1)
    return next((offsets[start] for start in top_level_starts(decided) if offsets[start] >= enough), None)


def settled(text: str) -> str:
    """`text` without what may still turn into something else at its end."""
    paragraph, in_fence = _tail(text)
    last_line = text.rfind("\n") + 1
    if in_fence:
        may_close = re.fullmatch(r" {0,3}[`~]*", text[last_line:])
        return text[:last_line] if may_close else text
    if last_line < len(text) and UNDECIDED.match(text[last_line:]):
        # A line of marks may make a heading or a table of the line before it, too.
        return text[: paragraph + _whole_marks(text[paragraph:last_line])]
    tail = text[paragraph:]
    table = _table(tail)
    return text[: paragraph + (_whole_marks(tail) if table is None else table)]


def _tail(text: str) -> tuple[int, bool]:
    """Where the last paragraph begins, and whether `text` ends inside a fence."""
    fence: str | None = None
    start = offset = 0
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        following = offset + len(line) + 1
        mark = FENCE.match(line)
        if fence is not None:
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence, start = None, following
        elif number == len(lines):
            break  # the last line has no end yet: it may become anything
        elif mark:
            fence = mark[1]
        elif not line.strip(" \t"):
            start = following
        offset = following
    return min(start, len(text)), fence is not None


def _table(tail: str) -> int | None:
    """How much of a table at the end may be shown: none of it before its delimiter row, then whole rows."""
    lines = tail.split("\n")
    first = next((place for place, line in enumerate(lines) if line.lstrip().startswith("|")), None)
    if first is None:
        first = len(lines) - 2 if len(lines) > 1 and "|" in lines[-2] and DELIMITER_ROW.match(lines[-1]) else None
    if first is None:
        return None
    rows = lines[first:]
    if len(rows) > 2 and not ("-" in rows[1] and DELIMITER_ROW.match(rows[1])):
        return None
    before = sum(len(line) + 1 for line in lines[:first])
    return before if len(rows) <= 2 else len(tail) - len(lines[-1])


def _whole_marks(tail: str) -> int:
    """How much of a paragraph may be shown: all before the first mark whose other half is not there yet."""
    open_marks: list[tuple[str, int]] = []
    closing = {"](": ")", "[": "]", "![": "]"}
    for match in MARK.finditer(tail):
        mark, place = match[0], match.start()
        if mark.startswith("\\"):
            continue
        verbatim = open_marks and open_marks[-1][0].startswith(("`", "$"))
        if open_marks and mark == closing.get(open_marks[-1][0], open_marks[-1][0]):
            if mark != ")" and match.end() == len(tail):
                break  # what follows decides: a ( behind a ], one more backtick
            open_marks.pop()
        elif mark == "](" and open_marks and open_marks[-1][0] in {"[", "!["}:
            open_marks[-1] = ("](", open_marks[-1][1])
        elif not verbatim and mark not in {"](", ")", "]"} and not _is_loose(tail, match):
            open_marks.append((mark, place))
    waiting = [place for _, place in open_marks if len(tail) - place <= LONGEST_WAIT]
    half = HALF_MARK.search(tail)
    return min([*waiting, half.start() if half else len(tail), len(tail)])


def _is_loose(tail: str, match: re.Match[str]) -> bool:
    """Whether a mark that could open stands before a space, and so opens nothing."""
    following = tail[match.end() : match.end() + 1]
    return match[0] in {"*", "**", "_", "__", "~~", "$"} and following.isspace()
