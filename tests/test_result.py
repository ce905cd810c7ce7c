"""What lands in the variable, and the verbs that look at it."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import pandas
import pytest

from agent_magic._agent import Agent
from agent_magic._result import AgentResult
from agent_magic._run import spent
from agent_magic._usage import COLUMNS, Tally, tally
from agent_magic._verbs import manage
from agent_magic.errors import AgentError, ConfigError
from agent_magic.testing import ScriptedServer, event_stream, says
from tests.test_run import begun, endless

BLOCKS = "Two:\n\n```python\nx = 1\n```\n\n```bash\nls -l\n```\n"
SOURCES = [
    {"url": "https://a.example/x?y=1&z=(2)", "title": "A [b](javascript:alert(1)) <script>*c* $d$ `e`"},
    {"url": "https://a.example/x?y=1&z=(2)", "title": "the same again"},
    {"url": "javascript:alert(1)", "title": "no link"},
]


def answered(text: str, *, usage: dict[str, int] | None = None) -> bytes:
    done = {"message": "ok"} | ({"usage": usage} if usage else {})
    return event_stream(("start", {"session_id": "s"}), ("chunk", {"content": text}), ("done", done))


def ask(text: str, **settings: Any) -> AgentResult:
    """The result of a run whose answer is `text`."""
    with ScriptedServer(says(answered(text, usage=settings.pop("usage", None)))) as server:
        return Agent(protocol="runagent", base_url=server.url, key_env="", **settings).ask("Why?")


def with_sources() -> AgentResult:
    def sent(kind: str, number: int, **response: object) -> tuple[str, Any]:
        return (kind, {"seq_id": number, "type": kind, "response": response})

    body = event_stream(
        sent("response.created", 0),
        sent("response.output_content.full", 1, output_index=0, type="web_search.results", full=SOURCES),
        sent("response.output_text.delta", 2, output_index=1, type="message.answer", delta="See **there**."),
        sent("response.done", 3, run_time_ms="1", finished=True),
    )
    with ScriptedServer(says(body)) as server:
        return Agent(protocol="you", base_url=server.url, key_env="").ask("Why?")


class TestEquality:
    """A result equals its copies and its pickles, and no other run's result."""

    def test_a_finished_one(self) -> None:
        """Copied, copied in depth or pickled, it is the same result, and the same key of a dict."""
        result, other = ask("a"), ask("a")
        twins = [copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))]
        assert [twin == result for twin in twins] == [True, True, True]
        assert {result: 1}[twins[2]] == 1
        assert result != other
        assert result != "a"

    def test_a_running_one(self) -> None:
        """A copy of a run that goes on grows with it."""
        with ScriptedServer(lambda connection, _request, _number: endless(server, connection)) as server:
            result, run = begun(server.url)
            twins = [copy.copy(result), copy.deepcopy(result)]
            assert [(twin.status, twin.text, twin == result) for twin in twins] == [("running", "a", True)] * 2
            twins[0].stop()
            assert [twin.wait(10).status for twin in twins] == ["stopped", "stopped"]
        assert result.status == "stopped"
        assert run.is_over


class TestShown:
    """How a result shows itself."""

    def test_markdown_with_sources(self) -> None:
        """The answer, then each source once, numbered; nothing in a title is markup, and no link leads off the web."""
        shown = with_sources()._repr_markdown_()
        text, first, second = shown.replace("\u200b", "").split("\n\n")[0], *shown.splitlines()[-2:]
        assert text == "See **there**."
        assert first.startswith("1. [A \\[b\\]\\(javascript\\:alert\\(1\\)\\)")
        assert first.endswith("](https://a.example/x?y=1&z=%282%29)")
        assert "<script" not in first
        assert second == "2. no link"

    def test_repr(self) -> None:
        """One line, whatever the answer; the usage shows what it is and not what was sent."""
        result = ask("a\nb " * 100, usage={"total_tokens": 3})
        assert repr(result).startswith("<AgentResult runagent done 400 characters: 'a b a b")
        assert "\n" not in repr(result)
        assert "sent=None" in repr(result.usage)

    def test_in_a_template_it_is_its_text(self) -> None:
        """`{{ answer }}` is the text, as it came."""
        from agent_magic._template import fill

        assert fill("Shorter: {{ answer }}", {"answer": ask("a {{ b }}")}).text == "Shorter: a {{ b }}"


class TestCode:
    """``%agent code [N]``."""

    def shell(self, answer: object) -> Any:
        cells: list[str] = []
        return SimpleNamespace(user_ns={"_agent": answer}, set_next_input=cells.append, cells=cells)

    def test_a_block_becomes_the_next_cell(self) -> None:
        """Python as it is; what is meant for a shell as a cell that goes to one."""
        shell = self.shell(ask(BLOCKS))
        for line in ("code 1", "code 2"):
            assert manage(line, shell) is None
        assert shell.cells == ["x = 1", "%%bash\nls -l"]

    def test_one_block_needs_no_number(self) -> None:
        """Where there is one, it is that."""
        shell = self.shell(ask("```\ny\n```\n"))
        manage("code", shell)
        assert shell.cells == ["y"]

    @pytest.mark.parametrize(
        ("line", "answer", "words"),
        [
            ("code", BLOCKS, "Which block is it to be? The last answer has: 1 python, 2 bash. Write %agent code N."),
            ("code 3", BLOCKS, "There is no block 3. The last answer has: 1 python, 2 bash. Write %agent code N."),
            ("code 0", BLOCKS, "There is no block 0. The last answer has: 1 python, 2 bash. Write %agent code N."),
            ("code", "none", "There is no block of code to take: the last answer has none."),
            ("code one", "none", "There is no `%agent code one`; did you mean %agent code [N]?"),
        ],
    )
    def test_mistakes(self, line: str, answer: str, words: str) -> None:
        """A number that is none of them, or none where there are several, gets the list."""
        with pytest.raises(ConfigError) as caught:
            manage(line, self.shell(ask(answer)))
        assert str(caught.value) == words

    def test_no_answer_yet(self) -> None:
        """Before the first answer there is nothing to take."""
        with pytest.raises(ConfigError, match="There is no block"):
            manage("code", SimpleNamespace(user_ns={}))


class TestUsage:
    """``%agent usage``."""

    def test_sums_by_agent(self) -> None:
        """Runs, tokens, seconds and cost, of this kernel and of the journal; the sums are each run's own."""
        before = len(spent())
        price = {"input": 1.0, "output": 2.0}
        results = [
            ask("a", agent="tallied", usage={"input_tokens": 10, "output_tokens": 5}, price=price) for _ in range(2)
        ]
        with ScriptedServer(says(event_stream(("error", {"error": "no"})))) as server, pytest.raises(AgentError):
            Agent(protocol="runagent", agent="tallied", base_url=server.url, key_env="").ask("Why?")
        frame = manage("usage", SimpleNamespace(user_ns={}))
        assert isinstance(frame, pandas.DataFrame)
        assert list(frame.columns) == list(COLUMNS)
        assert len(spent()) == before + 3
        for place in ("kernel", "history"):
            (row,) = frame[(frame.of == place) & (frame.agent == "tallied")].to_dict("records")
            assert [row[name] for name in COLUMNS[2:7]] == [3, 1, 20, 10, 30]
            assert row["cost"] == pytest.approx(sum(result.cost or 0 for result in results))
            assert row["seconds"] >= sum(result.elapsed for result in results) - 0.002

    def test_without_pandas(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without pandas it is a table that shows itself."""
        ask("a", agent="plain <b>")
        monkeypatch.setitem(__import__("sys").modules, "pandas", None)
        found = tally()
        assert isinstance(found, Tally)
        assert ("kernel", "plain <b>", 1, 0) in [row[:4] for row in found.rows]
        assert "plain &lt;b&gt;" in found._repr_html_()
        assert repr(found).splitlines()[0].split() == list(COLUMNS)

    def test_figures_beyond_all_bounds(self) -> None:
        """A server may tell any number of tokens; the sums are there all the same."""
        ask("a", agent="boundless", usage={"total_tokens": 10**30})
        frame = manage("usage", SimpleNamespace(user_ns={}))
        assert isinstance(frame, pandas.DataFrame)
        assert 10**30 in list(frame[frame.agent == "boundless"].total_tokens)

    def test_words_behind_it(self) -> None:
        """It takes none."""
        with pytest.raises(ConfigError, match="did you mean %agent usage"):
            manage("usage now", SimpleNamespace(user_ns={}))
