r"""Markdown that an agent wrote, made inert: it runs no script and fetches nothing where it is shown.

A front end trusts the output of a cell that was just run: in JupyterLab a ``<script>`` in it runs, and
a script in that page can run code in the kernel. So before an answer is displayed,

- a tag loses its ``<``; in TeX the sign becomes ``\lt``, which means the same,
- a link keeps its destination only if that is ``http``, ``https``, ``mailto`` or a place in the page,
- an image becomes a link to it (unless images are allowed), for showing it would fetch it,
- TeX commands that reach the page (``\href`` and its like) become text.

Code is shown as it stands. But parsers differ in what they take for code, and a front end that looks
for TeX first may pair a dollar before a fence with one inside it. So code is left alone only where
every reader sees it: in a fence that begins and ends at the margin (one without an end is given one),
and in a span on a line where nothing else could claim a backtick. In all other code a zero-width
space goes behind the sign that could begin something: it looks the same, and begins nothing. The
rules insert only what has no meaning to Markdown, so what is code before is code after; where a look
at the outcome finds otherwise, nothing in it counts as code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

__all__ = ["fences", "inert", "table_rows", "top_level_starts"]

# A destination in angle brackets has lost them by then, or is none that every parser reads alike.
SAFE_DESTINATION = re.compile(r"\s{0,3}(?:https?://|mailto:|#)", re.IGNORECASE)
AUTOLINK = re.compile(
    r"<((?:https?://|mailto:)[^\s<>\"'`\\]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+)>(?=[\s.,;:!?)]|$)", re.IGNORECASE
)
BACKTICKS = re.compile(r"`+")
BLANK = re.compile(r"[ \t]*")
# What binds as tightly as a backtick, or is looked for before it, and so may take one for its own.
RIVALS = re.compile(r"\]\(|\]\[|\]:|://|www\.|@|<", re.IGNORECASE)
RIVALS_ANYWHERE = re.compile(r"[$|\\]")
MATH_MARK = re.compile(r"\\\\|\\\$|\$\$|\$|\\[()\[\]]")
MATH_ENDS = {"$": "$", "$$": "$$", "\\(": "\\)", "\\[": "\\]"}
TEX_REACHING_OUT = re.compile(
    r"\\(?=(?:href|url|require|unicode|includegraphics|class|cssId|style|data|texttip|tooltip|mmlToken|toggle|html\w*"
    r"|csname|def|let|newcommand|renewcommand|newenvironment|renewenvironment|catcode|input|bbox)(?![A-Za-z]))",
    re.IGNORECASE,
)
BEGINS_TAG = re.compile(r"<(?=[A-Za-z/!?])")
BEGINS_ANYTHING = re.compile(r"(<(?=[A-Za-z/!?])|!(?=\[)|\](?=[(:]))")
ACTIVE = re.compile(r"(?P<tag>\\?<(?=[A-Za-z/!?]))|(?P<image>!(?=\[))|(?P<link>\](?=[(:]))")
MARGIN_FENCE = re.compile(r"(`{3,}|~{3,})")
LANGUAGE = re.compile(r"[A-Za-z0-9][\w+#.-]{0,30}|")
NOTHING = "\u200b"


@cache
def _parser(*, html: bool) -> MarkdownIt:
    # Blocks are all that is asked for; the inline rules would only cost time.
    return MarkdownIt("commonmark", {"html": html}).enable("table").disable("inline")


def _tokens(text: str, *, html: bool = False) -> list[Token]:
    try:
        return _parser(html=html).parse(text)
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
    given = text.replace("\r\n", "\n").replace("\r", "\n")
    tokens = _tokens(given)  # parsing is what takes the time; what these two do moves no fence
    text = _closed(_plainly_named(given, tokens), tokens)
    lines = text.split("\n")
    code = _fenced_lines(text, tokens if text == given else _tokens(text))
    shown: list[str] = []
    prose: list[str] = []

    def end_prose() -> None:
        if prose:
            shown.append(_inert_prose("\n".join(prose), images=images))
            prose.clear()

    for number, line in enumerate(lines):
        if number not in code:
            prose.append(line)
        else:
            end_prose()
            shown.append(line if code[number] else _inert_code(line))
    end_prose()
    outcome = "\n".join(shown)
    same_code = outcome == text or _fenced_lines(outcome, _tokens(outcome)) == code
    return outcome if same_code and not _has_html_block(outcome) else BEGINS_ANYTHING.sub(rf"\1{NOTHING}", outcome)


def _has_html_block(outcome: str) -> bool:
    """Whether a reader who knows HTML finds a block of it."""
    return any(token.type == "html_block" for token in _tokens(outcome, html=True))


def _plainly_named(text: str, tokens: list[Token]) -> str:
    """`text` with only a plain word behind a fence's mark: nbclassic makes of it the address of a script to load."""
    lines = text.split("\n")
    for token in tokens:
        if token.type == "fence" and token.map is not None and not LANGUAGE.fullmatch(token.info.strip()):
            before, mark, _ = lines[token.map[0]].partition(token.markup)
            named = LANGUAGE.fullmatch((token.info.split() or [""])[0])
            lines[token.map[0]] = before + mark + (named[0] if named else "")
    return "\n".join(lines)


def _closed(text: str, tokens: list[Token]) -> str:
    """`text` with an end to a fence at the margin that has none, as while it is still being written."""
    fence = next((token for token in reversed(tokens) if token.type == "fence" and token.level == 0), None)
    if fence is None or fence.map is None:
        return text
    lines = text.split("\n")
    rest = [line for line in lines[fence.map[0] + 1 + _height(fence) :] if line.strip()]
    return text if rest else f"{text.rstrip(chr(10))}\n{fence.markup}\n"


def _fenced_lines(text: str, tokens: list[Token]) -> dict[int, bool]:
    """The lines that are the content of a fence, each with whether every reader sees it so."""
    lines: dict[int, bool] = {}
    source = text.split("\n")
    for token in tokens:
        if token.type != "fence" or token.map is None:
            continue
        first = token.map[0]
        last = first + 1 + _height(token)
        closed = last < len(source) and source[last].rstrip() == token.markup
        certain = token.level == 0 and bool(MARGIN_FENCE.match(source[first])) and closed
        lines.update(dict.fromkeys(range(first + 1, last), certain))
    return lines


def _height(fence: Token) -> int:
    """How many lines a fence holds; the last of one without an end may have no line feed."""
    return fence.content.count("\n") + (not fence.content.endswith("\n") and bool(fence.content))


def _inert_code(code: str) -> str:
    return BEGINS_ANYTHING.sub(rf"\1{NOTHING}", code)


def _inert_prose(prose: str, *, images: bool) -> str:
    pieces = []
    for kind, piece in _code_spans(prose):
        match kind:
            case "text":
                pieces.append(_inert_text(piece, images=images))
            case "code":
                pieces.append(piece)
            case _:
                pieces.append(_inert_code(piece))
    return "".join(pieces)


def _code_spans(prose: str) -> Iterator[tuple[str, str]]:
    """`prose` in pieces: text, code that every parser sees, and what some parsers take for code."""
    done = 0
    for start, end, certain in _spans(prose):
        yield "text", prose[done:start]
        yield "code" if certain else "perhaps", prose[start:end]
        done = end
    yield "text", prose[done:]


def _spans(prose: str) -> Iterator[tuple[int, int, bool]]:
    """Spans that open and close on one line, in a paragraph in which no other run of backticks is open.

    A span is certain where nothing else on its line could claim one of its backticks.
    """
    offset = 0
    open_runs: set[int] = set()
    for line in prose.split("\n"):
        if BLANK.fullmatch(line):
            open_runs.clear()
        elif "`" in line:
            spans, left = _spans_in_line(line)
            if not open_runs:
                certain = not RIVALS_ANYWHERE.search(line) and not RIVALS.search(_without(line, spans))
                yield from ((offset + start, offset + end, certain) for start, end in spans)
            open_runs |= left
        offset += len(line) + 1


def _without(line: str, spans: list[tuple[int, int]]) -> str:
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), len(line)]
    return "`".join(line[end:start] for end, start in zip(ends, starts, strict=True))


def _spans_in_line(line: str) -> tuple[list[tuple[int, int]], set[int]]:
    """The code spans of one line, and the lengths of the backtick runs that it leaves open."""
    runs = list(BACKTICKS.finditer(line))
    if "\\`" in line:
        return [], {len(run[0]) for run in runs}
    later: dict[int, list[int]] = {}
    for place, run in enumerate(runs):
        later.setdefault(len(run[0]), []).append(place)
    spans: list[tuple[int, int]] = []
    left: set[int] = set()
    place = 0
    while place < len(runs):
        same = later[len(runs[place][0])]
        while same and same[0] <= place:
            same.pop(0)
        if same:
            spans.append((runs[place].start(), runs[same[0]].end()))
            place = same[0] + 1
        else:
            left.add(len(runs[place][0]))
            place += 1
    return spans, left


def _inert_text(piece: str, *, images: bool) -> str:
    piece = AUTOLINK.sub(r"\1", piece)
    shown: list[str] = []
    done = 0
    for start, end in _math_spans(piece):
        shown += [_inert_markup(piece[done:start], images=images), _inert_math(piece[start:end])]
        done = end
    shown.append(_inert_markup(piece[done:], images=images))
    return "".join(shown)


def _math_spans(piece: str) -> Iterator[tuple[int, int]]:
    """TeX between its marks, in one pass: as Pandoc has it, so that $5 and $6 are prices."""
    opened: re.Match[str] | None = None
    for mark in MATH_MARK.finditer(piece):
        if opened is not None and "\n\n" in piece[opened.end() : mark.start()]:
            opened = None
        if opened is not None and mark[0] == MATH_ENDS[opened[0]] and _closes(piece, opened, mark):
            yield opened.start(), mark.end()
            opened = None
        elif mark[0] in MATH_ENDS and (opened is None or opened[0] != "$$") and _opens(piece, mark):
            opened = mark


def _opens(piece: str, mark: re.Match[str]) -> bool:
    return mark[0] != "$" or not piece[mark.end() : mark.end() + 1].isspace()


def _closes(piece: str, opened: re.Match[str], mark: re.Match[str]) -> bool:
    if mark[0] != "$":
        return True
    inner = piece[opened.end() : mark.start()]
    return bool(inner) and "\n" not in inner and not inner[-1].isspace() and not piece[mark.end() :][:1].isdigit()


def _inert_math(math: str) -> str:
    math = TEX_REACHING_OUT.sub(r"\\text{\\textbackslash}", math)
    return _inert_markup(BEGINS_TAG.sub(r"\\lt ", math), images=False)


def _inert_markup(piece: str, *, images: bool) -> str:
    piece = TEX_REACHING_OUT.sub("&#92;", piece)

    def replacement(match: re.Match[str]) -> str:
        escaped = _is_escaped(piece, match.start())
        match match.lastgroup:
            case "tag":
                # A backslash that escapes the sign goes; one that is itself escaped stays.
                return f"{match[0][:-1]}&lt;" if escaped else "&lt;"
            case "image":
                return "!" if images or escaped else "&#33;"
            case _:
                return "]" if SAFE_DESTINATION.match(piece, match.end() + 1) else "&#93;"

    return ACTIVE.sub(replacement, piece)


def _is_escaped(text: str, place: int) -> bool:
    """Whether an odd number of backslashes stands before `place`."""
    start = place
    while start and text[start - 1] == "\\":
        start -= 1
    return (place - start) % 2 == 1
