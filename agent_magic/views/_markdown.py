r"""Markdown that an agent wrote, made inert: it runs no script and fetches nothing where it is shown.

A front end trusts the output of a cell that was just run: in JupyterLab a ``<script>`` in it runs, and
a script in that page can run code in the kernel. So before an answer is displayed,

- a tag loses its ``<``; in TeX the sign becomes ``\lt``, which means the same,
- a link keeps its destination only if that is ``http``, ``https``, ``mailto`` or a place in the page,
- an image becomes a link to it (unless images are allowed), for showing it would fetch it,
- TeX commands that reach the page (``\href`` and its like) become text.

Code is shown as it stands. But parsers differ in what they take for code, so only code that every one
sees is left alone: fences, and spans within a line that no other backtick can claim. The rules only
ever insert characters that mean nothing in Markdown, so what is code before is code after.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

__all__ = ["fences", "inert", "table_rows", "top_level_starts"]

SAFE_DESTINATION = re.compile(r"\s{0,3}<?(?:https?://|mailto:|#)", re.IGNORECASE)
AUTOLINK = re.compile(
    r"<((?:https?://|mailto:)[^\s<>\"'`\\]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+)>(?=[\s.,;:!?)]|$)", re.IGNORECASE
)
BACKTICKS = re.compile(r"`+")
# As Pandoc has it: no space inside the dollars, no digit behind them; so $5 and $6 are prices.
MATH = re.compile(r"\$\$.+?\$\$|(?<![\\$])\$(?=[^\s$])[^$\n]*?(?<=[^\s\\])\$(?!\d)|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)
TEX_REACHING_OUT = re.compile(
    r"\\(?=(?:href|url|require|unicode|includegraphics|class|cssId|style|data|texttip|tooltip|mmlToken|toggle|html\w*"
    r"|csname|def|let|newcommand|renewcommand|newenvironment|renewenvironment|catcode|input|bbox)(?![A-Za-z]))",
    re.IGNORECASE,
)
ACTIVE = re.compile(
    r"(?P<tag>\\?<(?=[A-Za-z/!?]))"
    r"|(?P<image>(?<!\\)!(?=\[))"
    r"|(?P<link>\](?=\())"
    r"|(?P<definition>\](?=:))"
)


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"])


def _tokens(text: str) -> list[Token]:
    try:
        return _parser().parse(text)
    except RecursionError:  # nested beyond what the parser can follow: nothing in it counts as code
        return []


def fences(text: str) -> list[tuple[str, str]]:
    """The language and the source of each fenced block in `text`."""
    return [((token.info.split() or [""])[0], token.content) for token in _tokens(text) if token.type == "fence"]


def table_rows(text: str) -> list[list[list[str]]]:
    """Each table in `text` as its rows of cells, the heading first."""
    tables: list[list[list[str]]] = []
    for before, token in pairwise(_tokens(text)):
        if before.type == "table_open":
            tables.append([])
        if token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline" and before.type in {"th_open", "td_open"}:
            tables[-1][-1].append(token.content)
    return tables


def top_level_starts(text: str) -> list[int]:
    """The line on which each top-level block of `text` begins."""
    return [token.map[0] for token in _tokens(text) if token.level == 0 and token.map and token.nesting >= 0]


def inert(text: str, *, images: bool = False) -> str:
    """`text` in a form that shows the same and does nothing; with `images`, images are let through."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    code = _fenced_lines(text)
    shown: list[str] = []
    prose: list[str] = []
    for number, line in enumerate(lines):
        if number in code:
            if prose:
                shown.append(_inert_prose("\n".join(prose), images=images))
            shown.append(line)
            prose = []
        else:
            prose.append(line)
    if prose:
        shown.append(_inert_prose("\n".join(prose), images=images))
    return "\n".join(shown)


def _fenced_lines(text: str) -> set[int]:
    """The numbers of the lines that are the content of a fence."""
    lines: set[int] = set()
    for token in _tokens(text):
        if token.type == "fence" and token.map:
            count = token.content.count("\n")
            lines.update(range(token.map[0] + 1, token.map[0] + 1 + count))
    return lines


def _inert_prose(prose: str, *, images: bool) -> str:
    return "".join(piece if is_code else _inert_text(piece, images=images) for is_code, piece in _code_spans(prose))


def _code_spans(prose: str) -> Iterator[tuple[bool, str]]:
    """`prose` in pieces, each with whether it is a code span that every parser sees."""
    done = 0
    for start, end in _certain_spans(prose):
        yield False, prose[done:start]
        yield True, prose[start:end]
        done = end
    yield False, prose[done:]


def _certain_spans(prose: str) -> Iterator[tuple[int, int]]:
    """Spans that open and close on one line, in a paragraph in which no other run of backticks is open."""
    offset = 0
    open_runs: set[int] = set()
    for line in prose.split("\n"):
        if not line.strip():
            open_runs.clear()
        spans, left = _spans_in_line(line)
        if not open_runs and "|" not in line:
            yield from ((offset + start, offset + end) for start, end in spans)
        open_runs |= left
        offset += len(line) + 1


def _spans_in_line(line: str) -> tuple[list[tuple[int, int]], set[int]]:
    """The code spans of one line, and the lengths of the backtick runs that it leaves open."""
    runs = [match for match in BACKTICKS.finditer(line) if not _is_escaped(line, match.start())]
    spans: list[tuple[int, int]] = []
    left: set[int] = set()
    place = 0
    while place < len(runs):
        length = len(runs[place][0])
        closing = next((later for later in range(place + 1, len(runs)) if len(runs[later][0]) == length), None)
        if closing is None:
            left.add(length)
            place += 1
        else:
            spans.append((runs[place].start(), runs[closing].end()))
            place = closing + 1
    if any("\\`" in line[start:end] for start, end in spans) or "\\`" in line:
        return [], left | {len(run[0]) for run in runs}
    return spans, left


def _is_escaped(line: str, place: int) -> bool:
    before = line[:place]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _inert_text(piece: str, *, images: bool) -> str:
    piece = AUTOLINK.sub(r"\1", piece)
    shown: list[str] = []
    done = 0
    for math in MATH.finditer(piece):
        shown += [_inert_markup(piece[done : math.start()], images=images), _inert_math(math[0])]
        done = math.end()
    shown.append(_inert_markup(piece[done:], images=images))
    return "".join(shown)


def _inert_math(math: str) -> str:
    math = TEX_REACHING_OUT.sub(r"\\text{\\textbackslash}", math)
    math = re.sub(r"<(?=[A-Za-z/!?])", r"\\lt ", math)
    return _inert_markup(math, images=False)


def _inert_markup(piece: str, *, images: bool) -> str:
    piece = TEX_REACHING_OUT.sub("&#92;", piece)

    def replacement(match: re.Match[str]) -> str:
        match match.lastgroup:
            case "tag":
                return "&lt;"
            case "image":
                return "!" if images else "&#33;"
            case _:
                return "]" if SAFE_DESTINATION.match(piece, match.end() + 1) else "&#93;"

    return ACTIVE.sub(replacement, piece)
