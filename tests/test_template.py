"""What values become in a prompt: tables, collections, results; what is cut, and that it is said."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import msgspec
import numpy
import pandas
import polars
import pytest

from agent_magic._agent import Agent
from agent_magic._template import fill
from agent_magic.errors import PromptError

CITIES = {"city": ["Rome", "Oslo | Bergen", None], "people": [2.8, 0.1 + 0.2, float("nan")]}
TABLE = "| city | people |\n| --- | --- |\n| Rome | 2.8 |\n| Oslo \\| Bergen | 0.3 |\n|  |  |"


@dataclasses.dataclass
class Point:
    """A value with fields."""

    x: int
    label: str


class Plan(msgspec.Struct):
    """Another one."""

    steps: list[Point]


def put(value: Any, expression: str = "value", budget: int = 30_000) -> str:
    """What `value` becomes."""
    return fill(f"{{{{ {expression} }}}}", {"value": value}, budget).text


class TestForms:
    """Each kind of value in a form that a model reads."""

    @pytest.mark.parametrize("library", [pandas.DataFrame, polars.DataFrame])
    def test_a_frame(self, library: Any) -> None:
        """A frame is a Markdown table: empty cells empty, bars escaped, no digits that nobody wrote."""
        assert put(library(CITIES)) == TABLE

    def test_an_index(self) -> None:
        """An index that says something is a column, or several; one that counts is none."""
        grouped = pandas.DataFrame({"a": ["x", "x", "y"], "b": [1, 2, 2], "n": [5, 6, 7]}).set_index(["a", "b"])
        assert put(grouped).splitlines()[::2] == ["| a | b | n |", "| x | 1 | 5 |", "| y | 2 | 7 |"]
        assert put(grouped["n"].groupby("a").sum()).splitlines() == [
            "| a | n |",
            "| --- | --- |",
            "| x | 11 |",
            "| y | 7 |",
        ]
        wide = pandas.DataFrame([[1, 2]], columns=pd_columns())
        assert put(wide).splitlines()[0] == "| mean 2024 | mean 2025 |"

    @pytest.mark.parametrize(
        "series", [pandas.Series([1, 2], name="n"), polars.Series("n", [1, 2]), pandas.Series([1, 2]).rename("n")]
    )
    def test_a_series(self, series: Any) -> None:
        """A series is a table of one column; one without a name gets one."""
        assert put(series) == "| n |\n| --- |\n| 1 |\n| 2 |"
        assert put(series.rename(None) if hasattr(series, "index") else series.alias("")).startswith("| value |")

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ([1, "a", None, True], '[1, "a", null, true]'),
            (("é",), '["é"]'),
            ({"a": {1: [2]}}, '{"a": {"1": [2]}}'),
            ({3}, "[3]"),
            (range(3), "[0, 1, 2]"),
            (Point(1, "p"), '{"x": 1, "label": "p"}'),
            (Plan([Point(1, "p")]), '{"steps": [{"x": 1, "label": "p"}]}'),
            ([Point(1, "p"), numpy.float64(0.5), numpy.int64(3)], '[{"x": 1, "label": "p"}, 0.5, 3]'),
            ([pandas.DataFrame({"a": [1]})], '[[{"a": 1}]]'),
            (numpy.array([[1, 2], [3, 4]]), "[[1, 2], [3, 4]]"),
            (numpy.float64(1.5), "1.5"),
            ([object], "[\"<class 'object'>\"]"),
            ([], "[]"),
            (1.5, "1.5"),
            (None, "None"),
            ("{{ value }}", "{{ value }}"),
        ],
    )
    def test_all_else(self, value: Any, text: str) -> None:
        """Collections and objects with fields are JSON; a number or a text is itself."""
        assert put(value) == text

    def test_a_result(self) -> None:
        """A result is its text."""
        result = Agent("demo").ask("Why?", stream_delay_ms=0)
        assert put(result) == result.text


def pd_columns() -> pandas.MultiIndex:
    """Columns of two levels."""
    return pandas.MultiIndex.from_product([["mean"], [2024, 2025]])


class TestCuts:
    """What is longer than the budget is cut at a whole row or item, and that is said."""

    @pytest.mark.parametrize(
        ("value", "noun"),
        [
            (pandas.DataFrame({"n": range(1000)}), "rows"),
            (polars.DataFrame({"n": range(1000)}), "rows"),
            (list(range(1000)), "items"),
            ({str(n): n for n in range(1000)}, "items"),
            (numpy.arange(1000), "items"),
            ("x" * 1000, "characters"),
        ],
    )
    def test_it_is_cut(self, value: Any, noun: str) -> None:
        """The text stays within the budget but for the note, and both prompt and line have the same words."""
        filled = fill("Look: {{ value }}!", {"value": value}, 100)
        (said,) = filled.cuts()
        name, _, cut = said.partition(": ")
        assert name == "value"
        assert cut.endswith(f" of 1,000 {noun}")
        assert f"… ({cut})!" in filled.text
        assert 60 < len(filled.text) < 150

    def test_a_row_beyond_the_budget(self) -> None:
        """Of a first row that is too long by itself, its beginning is kept."""
        text = put(["y" * 1000, "z"], budget=100)
        assert "y…]" in text
        assert text.endswith("… (1 of 2 items)")

    def test_what_fits_is_whole(self) -> None:
        """Nothing is said of what is not cut; the cut of one value is not that of another."""
        filled = fill("{{ short }} {{ long | upper }}", {"short": [1], "long": "x" * 50}, 20)
        assert filled.cuts() == ["long | upper: 20 of 50 characters"]
        assert [str(each) for each in filled.put] == [
            "{{ short }}: list of length 1; 3 characters",
            "{{ long | upper }}: text of length 50, cut to 20 of 50 characters; 44 characters",
        ]


class TestTried:
    """What somebody new to it tried."""

    def test_a_wide_frame(self) -> None:
        """Of a frame whose very head is beyond the budget, the first columns are kept, with their rows."""
        filled = fill("{{ df }}", {"df": pandas.DataFrame([range(20_000)] * 3)}, 1000)
        assert filled.cuts() == ["df: 33 of 20,000 columns, 3 of 3 rows"]
        assert len(filled.text) < 1100
        assert filled.text.splitlines()[2].startswith("| 0 | 1 | 2 |")

    def test_an_index(self) -> None:
        """An index by itself is a list."""
        frame = pandas.DataFrame({"a": [1, 2]})
        assert put(frame, "value.columns") == '["a"]'
        assert put(frame, "value.index") == "[0, 1]"

    def test_what_json_has_no_word_for(self) -> None:
        """Times are text, and what is no number is null, wherever it stands."""
        frame = pandas.DataFrame({"when": [pandas.Timestamp("2026-01-02"), None], "n": [float("nan"), 1.5]})
        assert json.loads(put(frame, "value | json")) == [
            {"when": "2026-01-02 00:00:00", "n": None},
            {"when": None, "n": 1.5},
        ]
        assert put(numpy.array([[1.0, float("nan")]])) == "[[1.0, null]]"

    @pytest.mark.parametrize("expression", ["value.head", "value | csv | head('3')", "{'a': value} | csv", "len"])
    def test_half_a_call(self, expression: str) -> None:
        """A function that was not called, a number that is none: one sentence, and nothing is sent."""
        with pytest.raises(PromptError, match=r"function|whole number|list of rows"):
            put(pandas.DataFrame({"a": [1]}), expression)


class TestFilters:
    """Ways to put in less, or in another form."""

    @pytest.mark.parametrize("library", [pandas.DataFrame, polars.DataFrame])
    def test_of_a_frame(self, library: Any) -> None:
        """Rows from either end, CSV, JSON, the columns' types."""
        frame = library(CITIES)
        assert put(frame, "value | head(1)").splitlines()[2:] == ["| Rome | 2.8 |"]
        assert put(frame, "value | tail(1)").splitlines()[2:] == ["|  |  |"]
        assert put(frame, "value | head(2) | csv") == "city,people\nRome,2.8\nOslo | Bergen,0.30000000000000004\n"
        assert json.loads(put(frame, "value | json"))[::2] == [
            {"city": "Rome", "people": 2.8},
            {"city": None, "people": None},
        ]
        assert [line.split(":")[0] for line in put(frame, "value | schema").splitlines()] == ["city", "people"]

    @pytest.mark.parametrize(
        ("value", "expression", "text"),
        [
            ([1, 2, 3], "value | head(2)", "[1, 2]"),
            ([1, 2, 3], "value | tail(0)", "[]"),
            ("a\nb\nc", "value | head(2)", "a\nb"),
            ({"a": 1, "b": 2}, "value | head(1)", '{"a": 1}'),
            ([{"a": 1}, {"b": "x,y"}], "value | csv", 'a,b\n1,\n,"x,y"\n'),
            ([[1, 2], 3], "value | csv", "1,2\n3\n"),
            ({"a": [1]}, "value | json(2)", '{\n  "a": [\n    1\n  ]\n}'),
            ("x = 1\n", "value | code('python')", "```python\nx = 1\n```"),
            ("```", "value | code", "````\n```\n````"),
        ],
    )
    def test_of_all_else(self, value: Any, expression: str, text: str) -> None:
        """The same filters on what is no table."""
        assert put(value, expression) == text

    @pytest.mark.parametrize("expression", ["value | schema", "value | head(-1)", "value | csvv"])
    def test_mistakes(self, expression: str) -> None:
        """Each is one sentence."""
        with pytest.raises(PromptError) as caught:
            put([1], expression)
        assert "\n" not in str(caught.value)


CELLS = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in (
    "%load_ext agent_magic",
    "rows = list(range(20_000)); name = 'sky'",
    "%%agent --dry-run\\nWhy is the {{ name }} like {{ rows }}?",
    "%%agent -p stream_delay_ms=0\\nWhy is the {{ name }} like {{ rows }}?",
    "print(len(_agent.prompt))",
):
    shell.run_cell(cell).raise_error()
for name in ("open", "get_ipython"):
    print(shell.run_cell("%%agent --dry-run\\n{{ " + name + "('x') }}").error_in_exec)
"""


def test_a_cut_is_said_in_a_cell() -> None:
    """The request that is shown lists what was put in, and the line of a cell says what was left out."""
    done = subprocess.run([sys.executable, "-c", CELLS], capture_output=True, text=True, timeout=120, check=True)
    told = done.stdout.splitlines()
    assert "{{ name }}: text of length 3; 3 characters" in told
    assert "{{ rows }}: list of length 20,000, cut to 5,185 of 20,000 items; 30,026 characters" in told
    assert [
        line
        for line in done.stderr.splitlines()
        if "done" in line and "cut in the prompt: rows: 5,185 of 20,000 items" in line
    ]
    assert "30047" in told
    for name in ("open", "get_ipython"):
        assert [said for said in told if said.startswith(f"Line 1 of the prompt uses {name!r}")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            r"\frac{{1}}{2}",
            "Line 1 of the prompt has {{ with no variable in it. If the braces are part of the text, use --raw.",
        ),
        (
            "a\n{{ [1, -2] }}",
            "Line 2 of the prompt has {{ with no variable in it. If the braces are part of the text, use --raw.",
        ),
        ("{{ x | hed(2) }}", "Line 1 of the prompt: there is no filter 'hed'; did you mean head?"),
        ("{{ x | zzzzzz }}", "Line 1 of the prompt: there is no filter 'zzzzzz'; beside Jinja2's own there are "),
    ],
)
def test_braces_that_are_not_ours(text: str, words: str) -> None:
    """Braces that name no variable are somebody else's, and a filter that is not there gets the nearest."""
    with pytest.raises(PromptError) as caught:
        fill(text, {"x": [1, 2, 3]})
    assert str(caught.value).startswith(words)
