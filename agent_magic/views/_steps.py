"""What the agent did on its way, folded: each step one quiet line that opens on a click.

Arguments, results and thoughts are the server's words. They are shown as text, in ``<pre>``, where no front end
looks for Markdown, tags or TeX.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from textwrap import indent

from agent_magic._steps import Step
from agent_magic.errors import visible
from agent_magic.protocols import json_or_none, well_formed

__all__ = ["QUIET", "SLOTS", "SUMMARY", "Ended", "Slots", "step_lines", "steps_folded", "steps_in_text"]

# Of one field, and of all of them, what a saved notebook gets; the variable has the whole.
MOST, MOST_IN_ALL = 20_000, 200_000
# And what is sent again and again while the run goes on.
MOST_LIVE = 2_000
# Steps beyond these are folded into one line.
SHOWN = 6
LONGEST_PREVIEW = 60
# Kinds of data that a person can read.
READABLE = re.compile(r"text/|application/(.*\+)?(json|xml|yaml|javascript|sql)\b|$")
SLOTS = 6
# A slot that has so many characters, and as many as all before it, or so many, is left alone from then on.
LEAST_SLOT, LARGEST_SLOT = 4_000, 20_000
# The last slot takes all that comes. While the run goes on it shows the newest; at the end all are there.
MOST_IN_LAST_SLOT = 12

QUIET = "color: var(--jp-ui-font-color2, var(--vscode-descriptionForeground, #6b6b6b)); font-size: 0.85em"
FONT = "font-family: var(--jp-ui-font-family, system-ui, sans-serif)"
STEP = f"{QUIET}; {FONT}; margin: 0; line-height: 1.6; overflow-wrap: anywhere; font-variant-numeric: tabular-nums"
# nbclassic's style takes the triangle away.
SUMMARY = "display: list-item; cursor: pointer"
INNER = "margin: 0 0 0 1.2em"
PRE = (
    "margin: 2px 0 6px 1.2em; padding: 4px 8px; max-height: 20em; overflow: auto; white-space: pre-wrap; "
    "overflow-wrap: anywhere; word-break: normal; color: inherit; font-size: inherit; line-height: 1.4; "
    "border: 0; border-left: 2px solid var(--jp-border-color2, #8884); background: none"
)
# A thought is prose; only in a <pre> does no front end look for TeX.
PROSE = f"{PRE}; {FONT}"


def step_lines(step: Step, most: int = MOST) -> list[str]:
    """A step as lines of text that steer no terminal: what it was, then what it was given and what came of it."""
    bodies = [_cut(said, most) for said in _bodies(step, most)]
    lines = [_title(step), *(line for said in bodies for line in indent(said, "    ").splitlines())]
    return [visible(line) for line in lines]


def steps_in_text(steps: Sequence[Step]) -> list[str]:
    """All steps as lines of text."""
    return [line for step, most in _shares(steps) for line in step_lines(step, most)]


def steps_folded(steps: Sequence[Step]) -> str:
    """All steps as HTML, each folded; many of them folded once more."""
    rows = "".join(_folded(step, key, most) for key, (step, most) in enumerate(_shares(steps)))
    if len(steps) <= SHOWN:
        return rows
    return (
        f'<details data-agent-step="all" style="{STEP}"><summary style="{SUMMARY}">{len(steps)} steps</summary>'
        f'<div style="{INNER}">{rows}</div></details>'
    )


def _shares(steps: Sequence[Step]) -> Iterator[tuple[Step, int]]:
    """Each step, and how much of a field of it there is room for: in a notebook that is saved all have to share it."""
    left = MOST_IN_ALL
    for step in steps:
        most = min(MOST, max(left, 0))
        left -= min(len(step.given), most) + min(len(step.made or ""), most)
        yield step, most


class Slots:
    """The steps so far, in at most `SLOTS` displays of which only the last ones change."""

    def __init__(self) -> None:
        self._starts = [0]
        self._shown = [""] * SLOTS
        # What has ended stays as it is, and is not drawn again each time.
        self._rows: dict[int, tuple[Step, str]] = {}

    def update(self, steps: Sequence[Step]) -> list[tuple[int, str]]:
        """The slots that `steps` change, each with its new HTML."""
        changed = []
        rows = [self._row(step, key) for key, step in enumerate(steps)]
        self._split(steps, [len(row) for row in rows])
        ends = [*self._starts[1:], len(steps)]
        for place, (start, end) in enumerate(zip(self._starts, ends, strict=True)):
            left_out = max(0, end - start - MOST_IN_LAST_SLOT) if place == SLOTS - 1 else 0
            html = _left_out(left_out) + "".join(rows[start + left_out : end])
            if html != self._shown[place]:
                self._shown[place] = html
                changed.append((place, html))
        return changed

    def _row(self, step: Step, key: int) -> str:
        if key not in self._rows or self._rows[key][0] != step:
            self._rows[key] = step, _folded(step, key, MOST_LIVE)
        return self._rows[key][1]

    def _split(self, steps: Sequence[Step], sizes: Sequence[int]) -> None:
        """Begin the next slot behind each full one in which nothing will change."""
        size = 0
        for number in range(self._starts[-1], len(steps)):
            size += sizes[number]
            if steps[number].is_open or len(self._starts) == SLOTS:
                return
            before = sum(sizes[: self._starts[-1]])
            if size > min(max(LEAST_SLOT, before), LARGEST_SLOT):
                self._starts.append(number + 1)
                size = 0


class Ended:
    """Gives each step once, when it has ended, in the order of their beginnings: for what is printed for good."""

    def __init__(self) -> None:
        self._count = 0

    def ended(self, steps: Sequence[Step]) -> list[Step]:
        """The steps that have ended since the last call; one that still goes on holds those behind it back."""
        first = self._count
        while self._count < len(steps) and not steps[self._count].is_open:
            self._count += 1
        return [*steps[first : self._count]]

    def rest(self, steps: Sequence[Step]) -> list[Step]:
        """All that have not been given yet."""
        first, self._count = self._count, len(steps)
        return [*steps[first:]]


def _left_out(number: int) -> str:
    return f'<div style="{STEP}">… {number} steps, to be seen at the end</div>' if number else ""


def _folded(step: Step, key: int, most: int) -> str:
    """One step as HTML. The page knows it by `key` when it is drawn anew, and keeps it open."""
    cut, style = (_tail if step.is_open else _cut, PROSE) if step.kind == "thought" else (_cut, PRE)
    bodies = "".join(
        f'<pre class="mathjax_ignore tex2jax_ignore" style="{style}">{escape(cut(said, most))}</pre>'
        for said in _bodies(step, most)
    )
    return (
        f'<details data-agent-step="{key}" style="{STEP}">'
        f'<summary class="mathjax_ignore tex2jax_ignore" style="{SUMMARY}">'
        f"{escape(_title(step))}</summary>{bodies}</details>"
    )


def _title(step: Step) -> str:
    match step.kind:
        case "thought":
            said = "thinking…" if step.is_open else "thought"
        case "tool":
            said = f"{step.name or 'a tool'}({_preview(step.given)}){'…' * step.is_open}"
        case "artifact":
            said = " ".join([step.name, f"({step.given})" if step.given else ""]).strip()
    seconds = "" if step.seconds is None else f" · {step.seconds:.1f} s"
    return f"{' '.join(well_formed(said).split())}{seconds}"


def _preview(given: str) -> str:
    """A tool's arguments in some words."""
    found = json_or_none(given)
    if isinstance(found, dict):
        given = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in found.items())
    line = " ".join(given.split())
    return line if len(line) <= LONGEST_PREVIEW else f"{line[: LONGEST_PREVIEW - 1]}…"


def _bodies(step: Step, most: int) -> list[str]:
    """What a step was given and what came of it, where there is anything; JSON as it is read best.

    What is to be cut to `most` characters in any case is not laid out.
    """
    made = step.made or ""
    match step.kind:
        case "tool":
            given = "" if step.given.strip() == "{}" else step.given
            bodies = [_laid_out(said) if len(said) <= most else said for said in (given, made)]
        case "artifact" if made and not (made.startswith("http") or READABLE.match(step.given)):
            bodies = [f"{len(made):,} characters of data, in the variable"]
        case _:
            bodies = [made]
    # An escape of half a character is one half when it has been read, which no message can hold.
    return [well_formed(said) for said in bodies if said]


def _laid_out(said: str) -> str:
    found = json_or_none(said)
    return json.dumps(found, indent=2, ensure_ascii=False) if isinstance(found, dict | list) else said


def _cut(said: str, most: int) -> str:
    if len(said) <= most:
        return said
    return f"{said[:most]}\n… {len(said) - most:,} characters more in the variable".lstrip("\n")


def _tail(said: str, most: int) -> str:
    return said if len(said) <= most else f"…{said[-most:]}"
