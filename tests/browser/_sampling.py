"""A page sampled in each animation frame: what of an answer is seen, where it stands, how high it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Page

from tests.browser._front_ends import FrontEnd

# The words w00001, w00002 ... stand in the answer once each. A frame in which one is gone that was there before
# is a flash, and so is one in which one stands twice.
SAMPLER = r"""([cell, markdown, bar, scroller, place]) => {
    const asked = document.querySelectorAll(cell)[place];
    const box = asked.querySelector('.jp-Cell-outputArea, .output');
    const next = document.querySelectorAll(cell)[place + 1];
    const outer = document.querySelector(scroller);
    const found = window.sampled = {
        frames: 0, vanished: 0, doubled: 0, drop: 0, words: 0, moved: 0, scrolled: 0, bar_hidden: 0, next_rise: 0, last: 0,
        longest: 0, going: true };
    let height = 0, top = null, scroll = null, nextTop = null, before = performance.now();
    const look = now => {
        if (!found.going) return;
        found.frames += 1;
        found.longest = Math.max(found.longest, now - before);
        before = now;
        const counts = new Map();
        for (const part of box.querySelectorAll(markdown))
            for (const [word] of part.textContent.matchAll(/w\d{5}/g)) counts.set(word, (counts.get(word) ?? 0) + 1);
        if (counts.size < found.words) found.vanished += 1;
        if (counts.size > found.words) found.last = Date.now();
        if ([...counts.values()].some(count => count > 1)) found.doubled += 1;
        found.words = Math.max(found.words, counts.size);
        const tall = box.getBoundingClientRect().height;
        found.drop = Math.max(found.drop, height - tall);
        height = tall;
        const at = asked.getBoundingClientRect().top - outer.getBoundingClientRect().top + outer.scrollTop;
        if (top !== null) found.moved = Math.max(found.moved, Math.abs(at - top));
        top = at;
        if (scroll !== null && outer.scrollTop !== scroll) found.scrolled += 1;
        scroll = outer.scrollTop;
        const seat = box.querySelector(bar)?.getBoundingClientRect();
        const seen = outer.getBoundingClientRect();
        if (seat && (seat.bottom > seen.bottom + 1 || seat.top < seen.top - 1)) found.bar_hidden += 1;
        if (next) {
            const nextAt = next.getBoundingClientRect().top + outer.scrollTop;
            if (nextTop !== null) found.next_rise = Math.max(found.next_rise, nextTop - nextAt);
            nextTop = nextAt;
        }
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""


@dataclass(frozen=True)
class Sampled:
    """What the frames showed. Lengths in CSS pixels, times in milliseconds."""

    frames: int
    vanished: int  # frames in which text that was there was gone
    doubled: int  # frames in which text stood twice
    drop: float  # the largest drop of the outputs' height from one frame to the next
    words: int  # how many of the numbered words were seen
    moved: float  # how far the cell's own top moved in its page
    scrolled: int  # frames in which the page was scrolled by something
    bar_hidden: int  # frames in which the bar was not to be seen
    next_rise: float  # how far the cell below jumped up
    last: float  # when the last new word was seen, by the clock of the machine
    longest: float  # the longest time between two frames
    going: bool


def begin(page: Page, end: FrontEnd, place: int) -> None:
    """Sample the code cell at `place` from now on, in each frame."""
    markdown = ".jp-RenderedMarkdown, .output_markdown"
    page.evaluate(SAMPLER, [end.code_cell, markdown, ".agent-magic-bar", end.scroller, place])


def finish(page: Page) -> Sampled:
    """What was seen."""
    found: dict[str, Any] = page.evaluate("() => { window.sampled.going = false; return window.sampled; }")
    return Sampled(**found)


def numbered_markdown(size: int, *, fences: bool = True) -> str:
    """Headings, paragraphs, lists, tables, code and TeX, at least `size` characters, with numbered words in them."""
    blocks: list[str] = []
    number = 0

    def word() -> str:
        nonlocal number
        number += 1
        return f"w{number:05}"

    while sum(map(len, blocks)) < size:
        blocks.append(f"## About {word()}\n\n")
        blocks += [
            f"A paragraph *with* {word()} **strong** words and a [link](https://example.com/a). " for _ in range(8)
        ]
        blocks.append("\n\n")
        blocks += [f"- an item {word()} with `code`\n" for _ in range(4)]
        blocks.append("\n| name | value |\n|---|---|\n")
        blocks += [f"| {word()} | {row} |\n" for row in range(4)]
        if fences:
            blocks.append(f"\n```python\nx = '{word()}'\nfor each in x:\n    print(each)\n```\n")
        blocks.append(f"\nBy $a_{{i}} < b$ and {word()}:\n\n")
    return "".join(blocks)
