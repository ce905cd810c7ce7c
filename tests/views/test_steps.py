"""Steps, folded: as HTML, as lines, in slots."""

from __future__ import annotations

import re

import pytest

from agent_magic._steps import Step
from agent_magic.views._steps import (
    MOST,
    MOST_IN_ALL,
    MOST_LIVE,
    SLOTS,
    Ended,
    Slots,
    step_lines,
    steps_folded,
    steps_in_text,
)

THOUGHT = Step("thought", made="So be it.", seconds=1.25)
TOOL = Step("tool", "search", '{"query": "sky", "limit": 3}', '[{"n": 1}]', 0.5)
HOSTILE = "<img src=x onerror=alert(1)></pre></summary><script>x</script>"


def test_lines() -> None:
    """A step is its title, and indented what it was given and what came of it; JSON is laid out."""
    assert step_lines(THOUGHT) == ["thought · 1.2 s", "    So be it."]
    assert step_lines(TOOL) == [
        'search(query="sky", limit=3) · 0.5 s',
        "    {",
        '      "query": "sky",',
        '      "limit": 3',
        "    }",
        "    [",
        "      {",
        '        "n": 1',
        "      }",
        "    ]",
    ]


def test_titles() -> None:
    """A title says what goes on, in one line, short, and no more than is known."""
    steps = [
        Step("thought", made="Hm", is_open=True),
        Step("tool", "now", "{}", is_open=True),
        Step("tool", "run", "not\nJSON"),
        Step("tool", "", "", "42", 0.0),
        Step("tool", "long", f'{{"a": "{"x" * 80}"}}'),
        Step("artifact", "report", "text/csv", "a"),
        Step("artifact", "report\nof two lines"),
    ]
    assert [step_lines(step)[0] for step in steps] == [
        "thinking…",
        "now()…",
        "run(not JSON)",
        "a tool() · 0.0 s",
        f'long(a="{"x" * 56}…)',
        "report (text/csv)",
        "report of two lines",
    ]


def test_data_that_nobody_can_read() -> None:
    """Of an image or the like there is its size, and not its letters; of a text, or an address, what it says."""
    assert step_lines(Step("artifact", "plot", "image/png", "iVBO" * 250)) == [
        "plot (image/png)",
        "    1,000 characters of data, in the variable",
    ]
    for kind, made in (
        ("text/csv", "a,b"),
        ("application/json", "{}"),
        ("", "as it is"),
        ("image/png", "https://a.example/p"),
    ):
        assert step_lines(Step("artifact", "it", kind, made))[1:] == [f"    {made}"]


def test_everything_is_text() -> None:
    """Name, arguments, result, thought and artifact are escaped, and stand where no front end looks for TeX."""
    steps = [
        Step("thought", made=HOSTILE),
        Step("tool", HOSTILE, HOSTILE, HOSTILE),
        Step("artifact", HOSTILE, HOSTILE, HOSTILE),
    ]
    html = steps_folded(steps)
    assert set(re.findall(r"<(\w+)", html)) == {"details", "summary", "pre"}
    assert (html.count("</pre>"), html.count("</summary>")) == (4, 3)


@pytest.mark.parametrize("half", ["\ud83e", r'"\ud83e"', r'{"a": "\ud83e"}'])
def test_half_a_surrogate_pair_can_be_sent(half: str) -> None:
    """What no message can hold becomes U+FFFD, also where it is an escape in JSON; as HTML and as lines."""
    steps = [Step("tool", half, half, half), Step("thought", made=half), Step("artifact", half, "", half)]
    for said in (steps_folded(steps), "".join(html for _, html in Slots().update(steps)), *steps_in_text(steps)):
        said.encode()


def test_lines_steer_no_terminal() -> None:
    """What stands in the plain text of an output may be printed by a terminal's front end."""
    steps = [Step("tool", "a\x1b[2J", "b\x9b", "c\x1b]0;pwn\x07"), Step("thought", made="d\u202e")]
    assert not set("".join(steps_in_text(steps))) & {"\x1b", "\x9b", "\x07", "\u202e"}


def test_all_of_them_share_what_a_notebook_gets() -> None:
    """Thousands of long results do not make a file that nobody can open; each step is there, and says what is left out."""
    steps = [Step("tool", f"f{number}", "", "x" * 18_000, 1.0) for number in range(2000)]
    html, text = steps_folded(steps), "\n".join(steps_in_text(steps))
    assert len(html) < MOST_IN_ALL + 2000 * 1000
    assert len(text) < MOST_IN_ALL + 2000 * 100
    assert html.count("<pre") == text.count("\nf") + 1 == 2000
    assert text.count("18,000 characters more in the variable") == 2000 - 12


def test_what_has_ended_is_not_drawn_again() -> None:
    """A row that is the same is the one that was drawn."""
    slots, steps = Slots(), [TOOL, Step("thought", made="a", is_open=True)]
    slots.update(steps)
    drawn = slots._rows[0][1]
    steps = [TOOL, Step("thought", made="ab", is_open=True)]
    assert "ab</pre>" in slots.update(steps)[0][1]
    assert slots._rows[0][1] is drawn


def test_a_huge_field_is_cut_and_says_so() -> None:
    """Of one field so many characters go into the notebook; the variable has the rest, and the line says so."""
    html = steps_folded([Step("thought", made="x" * (MOST + 1234))])
    assert html.count("x" * MOST) == 1
    assert "1,234 characters more in the variable" in html


def test_many_steps_are_folded_once_more() -> None:
    """Up to six lines; beyond that one, that opens to them."""
    assert steps_folded([TOOL] * 6).count("<details") == 6
    folded = steps_folded([TOOL] * 7)
    assert folded.count("<details") == 8
    assert folded.index("7 steps") < folded.index("search")


def test_slots_leave_alone_what_has_ended() -> None:
    """Only the last slot changes, and what is sent for a step is bounded, whatever their number; the newest are seen."""
    slots, steps = Slots(), []
    for number in range(300):
        steps.append(Step("tool", f"f{number}", "", "x" * 1000, 1.0))
        changed = slots.update(steps)
        assert len(changed) == 1
        assert f"f{number}(" in changed[0][1]
        assert len(changed[0][1]) < 30_000
    assert "steps, to be seen at the end" in changed[0][1]
    assert slots.update(steps) == []
    at_once = Slots().update(steps)
    assert len(at_once) == SLOTS
    assert max(len(html) for _, html in at_once) < 30_000


def test_slots_show_each_step_once() -> None:
    """Put together, the slots show all steps in order, whatever goes on in which."""
    slots, shown, steps = Slots(), [""] * SLOTS, []
    for number in range(40):
        steps.append(Step("tool", f"f{number:02}", "", "x" * (number % 7) * 700, is_open=True))
        for place, html in slots.update(steps):
            shown[place] = html
        steps[-1] = Step("tool", f"f{number:02}", "", "x" * (number % 7) * 700, 1.0)
        for place, html in slots.update(steps):
            shown[place] = html
    assert re.findall(r"f\d\d\(", "".join(shown)) == [f"f{number:02}(" for number in range(40)]
    assert len([html for html in shown if html]) > 3


def test_a_thought_that_goes_on_shows_its_end() -> None:
    """While it is written the last of it is shown; when it is whole, its beginning."""
    text = "".join(f"{number} " for number in range(2000))
    live = Slots().update([Step("thought", made=text, is_open=True)])[0][1]
    assert text[-MOST_LIVE:] in live
    assert "0 1 2 3" not in live
    assert "0 1 2 3" in Slots().update([Step("thought", made=text)])[0][1]


def test_what_has_ended_is_printed_once_and_in_order() -> None:
    """A step that still goes on holds back those behind it, and at the end all come."""
    going = Step("tool", "f", is_open=True)
    ended = Ended()
    assert ended.ended([THOUGHT, going, TOOL]) == [THOUGHT]
    assert ended.ended([THOUGHT, going, TOOL]) == []
    assert ended.rest([THOUGHT, going, TOOL]) == [going, TOOL]
    assert ended.rest([THOUGHT, going, TOOL]) == []
