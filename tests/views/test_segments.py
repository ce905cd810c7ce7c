"""A growing answer in segments: nothing moves, nothing vanishes, nothing stands twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_magic.demo._answers import Answer
from agent_magic.views._segments import COUNT, Budget, Segments, settled

LONG = "\n".join(
    Answer(f"Question {number} about {'many ' * number}things?", []).text.replace("## ", "#" * (number % 3 + 1) + " ")
    for number in range(40)
)


def grow(text: str, step: int) -> tuple[list[str], list[list[tuple[int, str]]]]:
    """The segments after `text` has grown by `step` characters at a time, and each update."""
    segments, shown, updates = Segments(), [""] * COUNT, []
    for end in range(step, len(text) + step, step):
        update = segments.update(text[:end])
        updates.append(update)
        for place, content in update:
            shown[place] = content
    return shown, updates


@pytest.mark.parametrize("step", [7, 200, 5000])
def test_text_on_the_page_never_moves(step: int) -> None:
    """A segment only grows, and once the next has begun it is left alone."""
    _, updates = grow(LONG, step)
    before: dict[int, str] = {}
    for update in updates:
        for place, content in update:
            assert content.startswith(before.get(place, ""))
            before[place] = content
        assert [place for place, _ in update] == sorted(place for place, _ in update)


def test_segments_join_to_the_answer() -> None:
    """All segments but the last unfinished piece are the answer, with nothing between them."""
    shown, _ = grow(LONG, 333)
    assert LONG.startswith("".join(shown))
    assert len(LONG) - len("".join(shown)) < 100
    assert sum(bool(segment) for segment in shown) > 8


def test_a_segment_begins_with_a_block() -> None:
    """No fence, list or table is torn apart between two segments."""
    shown, _ = grow(LONG, 100)
    for segment in filter(None, shown):
        assert segment.count("```") % 2 == 0
        assert not segment.startswith(("2.", " ", "\n", "|--"))
    for before in shown[: sum(map(bool, shown)) - 1]:
        assert before.endswith("\n\n")


def test_text_that_changes_begins_anew() -> None:
    """An answer that is replaced is painted from its start."""
    segments = Segments()
    segments.update(LONG)
    shown = dict(segments.update("Something else."))
    assert shown[0] == "Something else."
    assert all(content == "" for place, content in shown.items() if place)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Hello wor", "Hello wor"),
        ("See [the si", "See "),
        ("See [the site](http", "See "),
        ("See [the site](http://x)", "See [the site](http://x)"),
        ("See [1] and", "See [1] and"),
        ("An **import", "An "),
        ("An **important** word", "An **important** word"),
        ("`co", ""),
        ("`code` an", "`code` an"),
        ("`a ** b` an", "`a ** b` an"),
        ("2 * 3 = ", "2 * 3 = "),
        ("snake_case_name", "snake_case_name"),
        ("Text\n\n| a | b", "Text\n\n"),
        ("Text\n\n| a | b |\n|--", "Text\n\n"),
        ("| a | b |\n|---|---|\n", "| a | b |\n|---|---|\n"),
        ("| a | b |\n|---|---|\n| 1 |", "| a | b |\n|---|---|\n"),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n", "| a | b |\n|---|---|\n| 1 | 2 |\n"),
        ("Text\n\n``", "Text\n\n"),
        ("Text\n\n```py", "Text\n\n"),
        ("```py\nx = [1", "```py\nx = [1"),
        ("```py\nx\n``", "```py\nx\n"),
        ("```py\nx\n```\nEnd", "```py\nx\n```\nEnd"),
        ("Text\n\n#", "Text\n\n"),
        ("Text\n\n- ", "Text\n\n"),
        ("Text\n\n12", "Text\n\n"),
        ("The sum $\\sum_i", "The sum "),
        ("$$\n\\frac", ""),
        ("a &am", "a "),
        ("a <scri", "a "),
        ("costs $5 today", "costs "),
        ("x" * 10 + " **" + "y" * 500, "x" * 10 + " **" + "y" * 500),
    ],
)
def test_unfinished_markdown_waits(text: str, shown: str) -> None:
    """What may still turn into something else at the end is not shown yet."""
    assert settled(text) == shown


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab *_`[]()|-#>$\\\n<&!1.~", max_size=80))
def test_any_text_is_settled_to_a_part_of_it(text: str) -> None:
    """Whatever an agent writes, what is shown is a beginning of it."""
    assert text.startswith(settled(text))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(alphabet="ab *_`[]()|-#>\n$~&<!1.", max_size=400), max_size=30))
def test_any_growth_keeps_what_was_shown(pieces: list[str]) -> None:
    """Whatever grows, the segments stay a beginning of the text, in order, and each only grows."""
    segments, shown, text = Segments(), [""] * COUNT, ""
    for piece in pieces:
        text += piece
        for place, content in segments.update(text):
            assert content.startswith(shown[place])
            shown[place] = content
        assert text.startswith("".join(shown))


@pytest.mark.parametrize(
    "text",
    [
        "| a | b |\n|---|---|\n| 1 | 2 |\n\nEnd.",
        "It costs $5\nand more, or $6.\n\nEnd.",
        "***both*** ok\nx and **b** and *i* and `c` and [l](https://x).\n\nEnd.",
        "`a`` b` and _a_b_ and __c__ d\n\nEnd.",
        "Here is:\n| a | b |\n|---|---|\n| 1 | 2 |\n\n~5 km and ~~old~~ text.\n",
        LONG[:4000],
    ],
)
def test_every_prefix_is_settled_to_more_than_the_one_before(text: str) -> None:
    """Character by character, what is settled only grows: no guard has to hold it."""
    before = ""
    for end in range(len(text) + 1):
        now = settled(text[:end])
        assert now.startswith(before), (before[-40:], now[-40:])
        before = now


def test_the_budget_bounds_the_bytes() -> None:
    """Whatever the size of a paint, the paints of a second stay within the rate."""
    budget, now, spent = Budget(rate=1000, frames=10, overhead=0), 0.0, 0
    while now < 100:
        wait = budget.wait(now)
        if wait > 0:
            now += wait
            continue
        budget.spend(now, 500)
        spent += 500
    assert spent <= 1000 * 100 + 500


def test_small_paints_are_bounded_by_frames() -> None:
    """A small paint waits a frame and no longer."""
    budget = Budget(frames=10, overhead=0)
    budget.spend(0.0, 1)
    assert budget.wait(0.0) == pytest.approx(0.1)
