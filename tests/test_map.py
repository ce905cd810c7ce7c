"""A map: many rows, in order, at most so many at once; none costs another, and none is lost."""

from __future__ import annotations

import asyncio
import io
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pandas
import polars
import pytest
from rich.console import Console

from agent_magic import Agent, Results
from agent_magic._batch import LocalBatch
from agent_magic._journal import journal_folder, tapes
from agent_magic._pace import Pace
from agent_magic._run import live_runs
from agent_magic._tally import Tally
from agent_magic._transcript import Transcript
from agent_magic._verbs import manage
from agent_magic.errors import AuthError, ConfigError, PromptError, RateLimited
from agent_magic.events import AgentEvent, Reasoning, Text
from agent_magic.testing import Act, Connection, ScriptedServer, event_stream, head, refuses, says
from agent_magic.views import _html
from agent_magic.views._rows import RowsCaption
from agent_magic.views.rows import TerminalRows, console_rows

NAN = float("nan")


def answer(prompt: str) -> bytes:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    said = ("chunk", {"content": f"re: {prompt}", "index": 0})
    return head() + event_stream(("start", {"session_id": "s"}), said, ("done", {"usage": usage}))


async def answers(connection: Connection) -> None:
    """Answer each prompt; one that says so fails."""
    prompt = connection.body()["query"]
    if "fail" in prompt:
        await refuses("400 Bad Request", b'{"error": {"code": "BAD", "message": "no"}}')(connection)
    else:
        await connection.send(answer(prompt))


def agent_at(url: str, **settings: Any) -> Agent:
    return Agent(**{"protocol": "runagent", "base_url": url, "key_env": "", "backoff": 0, **settings})


def asked(server: ScriptedServer) -> list[str]:
    return [body["query"] for body in server.bodies()]


class Throng:
    """Answers only when `size` clients are there at once, and notes the most that ever were."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._live = self.most = 0
        self._full: asyncio.Barrier | None = None

    async def script(self, connection: Connection) -> None:
        self._full = self._full or asyncio.Barrier(self._size)
        self._live += 1
        self.most = max(self.most, self._live)
        await self._full.wait()
        self._live -= 1
        await connection.send(answer(connection.body()["query"]))


def test_results_are_in_order_and_at_most_so_many_at_once() -> None:
    """Nine rows, three at once: never more, and each result stands where its prompt stood."""
    throng = Throng(3)
    with ScriptedServer(throng.script) as server:
        results = agent_at(server.url).map([f"{place}" for place in range(9)], concurrency=3, progress=False)
    assert throng.most == 3
    assert [(result.prompt, result.text, result.status) for result in results] == [
        (f"{place}", f"re: {place}", "done") for place in range(9)
    ]
    assert live_runs() == []


def test_a_failed_row_is_a_failed_result() -> None:
    """What is no prompt, and what the server refuses, fails by itself; the others are answered."""
    agent = agent_at("http://127.0.0.1:1", price={"input": 1, "output": 2})
    with ScriptedServer(answers) as server:
        agent.config = agent_at(server.url, price={"input": 1, "output": 2}).config
        results = agent.map(["a", " ", NAN, None, "fail", 7, "b"], progress=False)
        assert sorted(asked(server)) == ["a", "b", "fail"]
    assert [result.status for result in results] == ["done", *["failed"] * 5, "done"]
    assert [type(result.error).__name__ for result in results.failed] == [
        *["PromptError"] * 3,
        "AgentError",
        "PromptError",
    ]
    assert str(results[2].error) == "A prompt is a string, and nan is none; it was not sent."
    assert [(result.prompt, result.run_id, result.events, result.cost) for result in results[1:4]] == [
        (" ", "", [], None),
        ("", "", [], None),
        ("", "", [], None),
    ]
    assert results[0].cost == 5e-6
    assert agent.last_results is results


def test_a_mistake_in_the_settings_raises_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key, a bad number, a parameter of the wire's own, one prompt instead of many: nothing is sent."""
    with ScriptedServer(answers) as server:
        with pytest.raises(AuthError, match="MISSING_KEY"):
            agent_at(server.url, key_env="MISSING_KEY").map(["a"])
        agent = agent_at(server.url)
        for concurrency in (0, -1, 1.5, True, "8"):
            with pytest.raises(ConfigError, match="concurrency"):
                agent.map(["a"], concurrency=concurrency)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="query"):
            agent.map(["a"], query="other")
        for prompts, name in (
            ("abc", "str"),
            (pandas.DataFrame({"a": ["b"]}), "DataFrame"),
            ({"a": "b"}, "dict"),
            (7, "int"),
        ):
            with pytest.raises(PromptError, match=name):
                agent.map(prompts)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"distributed\.Client"):
            agent.map(["a"], client="tcp://127.0.0.1:8786")
        assert server.requests == []


def test_nothing_to_ask() -> None:
    """No prompts are no results."""
    agent = agent_at("http://127.0.0.1:1")
    assert (len(agent.map([])), repr(agent.map([]))) == (0, "<Results 0 results: none>")


def test_parameters_go_to_every_row() -> None:
    """Further keywords are parameters, as with `ask`."""
    with ScriptedServer(answers) as server:
        results = agent_at(server.url, parameters={"a": 1}).map(["x", "y"], progress=False, depth=2)
        assert [body["parameters"] for body in server.bodies()] == [{"a": 1, "depth": 2}] * 2
    assert [result.parameters for result in results] == [{"a": 1, "depth": 2}] * 2


def test_retry_asks_again_what_is_not_done() -> None:
    """`retry` gives new results, the failed rows asked again in their places; the earlier ones stay as they are."""
    fails = True

    async def script(connection: Connection) -> None:
        prompt = connection.body()["query"]
        await (refuses("400 Bad Request") if fails and prompt in "bd" else answers)(connection)

    with ScriptedServer(script) as server:
        first = agent_at(server.url).map(iter("abcd"), progress=False)
        fails = False
        second = pickle.loads(pickle.dumps(first)).retry()
        third = asyncio.run(first.aretry())
        assert sorted(asked(server)[4:]) == ["b", "b", "d", "d"]
        assert [result.text for result in second.retry()] == [f"re: {prompt}" for prompt in "abcd"]
        assert len(server.requests) == 8
    assert [result.status for result in first] == ["done", "failed", "done", "failed"]
    assert [result.status for result in second] == [result.status for result in third] == ["done"] * 4
    assert third[0] is first[0]


def test_a_pandas_column() -> None:
    """A Series keeps its index in the frame of the results, and its gaps."""
    column = pandas.Series(["a", None, "fail"], index=["x", "y", "z"], name="question")
    with ScriptedServer(answers) as server:
        results = agent_at(server.url).map(column, progress=False)
    frame = results.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.index) == ["x", "y", "z"]
    assert list(frame["prompt"].fillna("gap")) == ["a", "gap", "fail"]
    assert list(frame["text"]) == ["re: a", "", ""]
    assert list(frame["status"]) == ["done", "failed", "failed"]
    assert list(frame["error"].isna()) == [True, False, False]
    assert list(frame["total_tokens"].fillna(-1)) == [3, -1, -1]
    assert list(frame.columns) == [
        "prompt", "text", "status", "error", "input_tokens", "output_tokens", "total_tokens", "cost", "elapsed",
        "retries", "session_id", "run_id",
    ]  # fmt: skip
    part = results[1:].to_frame()
    assert isinstance(part, pandas.DataFrame)
    assert list(part.index) == ["y", "z"]


def test_a_polars_column_and_others() -> None:
    """Of a polars Series the frame is polars'; a generator's has a plain index."""
    with ScriptedServer(answers) as server:
        agent = agent_at(server.url)
        frame = agent.map(polars.Series(["a", None]), progress=False).to_frame()
        plain = agent.map((prompt for prompt in "ab"), progress=False).to_frame()
        empty = agent.map(polars.Series([], dtype=polars.String), progress=False).to_frame()
    assert isinstance(frame, polars.DataFrame)
    assert isinstance(empty, polars.DataFrame)
    assert frame["text"].to_list() == ["re: a", ""]
    assert frame["total_tokens"].to_list() == [3, None]
    assert frame.schema == empty.schema
    assert isinstance(plain, pandas.DataFrame)
    assert plain["text"].to_dict() == {0: "re: a", 1: "re: b"}


class Later:
    """Answers 429 to the first client, and to the second only when the first has read that; notes the times."""

    def __init__(self) -> None:
        self.read: asyncio.Event | None = None
        self.refused_at = 0.0
        self.asked_at: list[float] = []

    async def script(self, connection: Connection) -> None:
        self.read = self.read or asyncio.Event()
        self.asked_at.append(monotonic())
        if connection.number == 0:
            await refuses("429 Too Many Requests", b"", "Retry-After: 1")(connection)
            self.refused_at = monotonic()
            await connection.stall()
            self.read.set()
        else:
            if connection.number == 1:
                await self.read.wait()
            await connection.send(answer(connection.body()["query"]))


def test_all_rows_wait_when_one_is_told_to() -> None:
    """After a 429 with Retry-After no row asks, the refused one or another, before that moment."""
    later = Later()
    with ScriptedServer(later.script) as server:
        results = agent_at(server.url).map(["a", "b", "c", "d", "e", "f"], concurrency=2, progress=False)
    assert [result.status for result in results] == ["done"] * 6
    assert len(later.asked_at) == 7
    assert min(later.asked_at[2:]) - later.refused_at >= 0.9
    assert sum(result.retries for result in results) == 1


def test_a_lack_of_capacity_holds_all_rows(demo_url: str) -> None:
    """A CAPACITY_ERROR with retry_after is waited for by all rows, and each is answered whole."""
    agent = agent_at(demo_url)
    results = agent.map(list("abcdef"), concurrency=3, progress=False, fail="CAPACITY_ERROR", retry_after=0.05)
    assert [(result.status, result.retries) for result in results] == [("done", 1)] * 6


def test_a_row_that_is_told_to_wait_keeps_its_budget_while_others_get_through() -> None:
    """`retries` counts what a row is refused while nobody gets through: that others stand before it is not its fault."""
    through: list[asyncio.Event] = []

    async def script(connection: Connection) -> None:
        prompt = connection.body()["query"]
        through.extend(asyncio.Event() for _ in range(5 - len(through)))
        number = sum(said == "last" for said in asked(server))
        if prompt == "last" and number <= 4:
            await through[number - 1].wait()
            await refuses("429 Too Many Requests")(connection)
        else:
            await connection.send(answer(prompt))
            await connection.close()
            if prompt != "last":
                through[int(prompt)].set()

    with ScriptedServer(script) as server:
        results = agent_at(server.url, retries=1).map(["last", *"0123"], concurrency=2, progress=False)
    assert [result.status for result in results] == ["done"] * 5
    assert results[0].retries == 4


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (refuses("429 Too Many Requests", b"", "Retry-After: 3600"), RateLimited),
        (refuses("401 Unauthorized"), AuthError),
    ],
)
def test_a_server_that_wants_no_more_is_not_asked_again(script: Act, error: type[Exception]) -> None:
    """A wait beyond `max_wait`, and a key that is refused at the first row, hold for the rows that have not begun."""
    with ScriptedServer(script) as server:
        results = agent_at(server.url).map(list("abcd"), concurrency=1, progress=False)
        assert asked(server) == ["a"]
    assert [(result.status, type(result.error)) for result in results] == [("failed", error)] * 4
    assert [str(result.error).startswith("Not sent, ") for result in results] == [False, True, True, True]


def test_a_pace_holds_until_the_last_moment_named() -> None:
    """A hold that comes while others wait counts for them, and an earlier moment shortens nothing."""

    async def scenario() -> float:
        pace = Pace()
        began = monotonic()
        pace.hold(0.05)
        pace.hold(0.01)
        waiting = asyncio.create_task(pace.wait())
        await asyncio.sleep(0)
        pace.hold(0.1)
        await waiting
        assert pace.held == 0
        await pace.wait()
        return monotonic() - began

    assert asyncio.run(scenario()) >= 0.1


class Half:
    """Answers the first row; of the others it says a word, and then nothing. `there` is set when two are so far."""

    def __init__(self) -> None:
        self.then: Callable[[], None] = threading.Event().set
        self._waiting = 0

    async def script(self, connection: Connection) -> None:
        if connection.body()["query"] == "0":
            await connection.send(answer("0"))
            return
        await connection.send(head() + event_stream(("chunk", {"content": "half", "index": 0})))
        self._waiting += 1
        if self._waiting == 2:
            await asyncio.to_thread(halves_have_arrived)
            self.then()
        await connection.stall()


def halves_have_arrived() -> None:
    """Wait until both halves are in their results."""
    both = threading.Event()
    runs = live_runs()
    forget = [run.listen(lambda: both.set() if all(r.transcript.text for r in runs) else None) for run in runs]
    assert both.wait(10)
    for end in forget:
        end()


ENDED = [("done", "re: 0"), ("{}", "half"), ("{}", "half"), ("{}", ""), ("{}", "")]


def ends(results: Results | None) -> list[tuple[str, str]]:
    assert results is not None
    return [(result.status, result.text) for result in results]


def ended(how: str) -> list[tuple[str, str]]:
    return [(status.format(how), text) for status, text in ENDED]


def test_an_interrupt_keeps_what_has_arrived(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends a blocking map with KeyboardInterrupt; what has arrived is in `last_results`, and can be gone on with."""
    half = Half()
    half.then = lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    with ScriptedServer(half.script) as server:
        agent = agent_at(server.url)
        with pytest.raises(KeyboardInterrupt):
            agent.map(list("01234"), concurrency=2)
        assert ends(agent.last_results) == ended("interrupted")
        assert len(server.requests) == 3
    assert capsys.readouterr().err.startswith("runagent · interrupted, 1 of 5 rows done · 3 tokens · ")
    assert live_runs() == []


def test_a_cancellation_keeps_what_has_arrived() -> None:
    """A cancelled `amap` raises CancelledError, and what has arrived is in `last_results`."""
    half = Half()

    async def cancelled(agent: Agent) -> None:
        asking = asyncio.create_task(agent.amap(list("01234"), concurrency=2, progress=False))
        loop = asyncio.get_running_loop()
        half.then = lambda: (loop.call_soon_threadsafe(asking.cancel), None)[1]
        with pytest.raises(asyncio.CancelledError):
            await asking

    with ScriptedServer(half.script) as server:
        agent = agent_at(server.url)
        asyncio.run(cancelled(agent))
    assert ends(agent.last_results) == ended("interrupted")


def test_a_stop_ends_a_map_well() -> None:
    """A stop, from any thread, more than once: live rows keep what they have, the others are not begun."""
    half = Half()
    with ScriptedServer(half.script) as server:
        agent = agent_at(server.url)
        batch = LocalBatch(agent, agent.prepare("?"), "01234", 2)
        half.then = batch.stop
        batch.start()
        batch.wait()
        batch.stop()
        assert [(result.status, result.text) for result in batch.results()] == ended("stopped")
        tally = batch.tally()
        assert (tally.status, tally.done, tally.left, tally.remaining) == ("stopped", 1, 4, None)


def stop_newest() -> None:
    manage("stop", None)


def test_a_row_that_is_stopped_by_itself_stops_the_map() -> None:
    """`%agent stop` ends the newest run, or all: of a map the whole, or another row would take its place."""
    half = Half()
    half.then = stop_newest
    with ScriptedServer(half.script) as server:
        results = agent_at(server.url).map(list("01234"), concurrency=2, progress=False)
        assert len(server.requests) == 3
    assert ends(results) == ended("stopped")


def test_a_stop_while_all_rows_wait() -> None:
    """Rows that wait as the server asks are stopped at once."""
    with ScriptedServer(refuses("429 Too Many Requests", b"", "Retry-After: 100")) as server:
        agent = agent_at(server.url)
        batch = LocalBatch(agent, agent.prepare("?"), list("abc"), 2)
        batch.start()
        held = threading.Event()
        while not held.is_set():
            for run in live_runs():
                run.listen(lambda run=run: held.set() if run.transcript.retry_at else None)()  # type: ignore[misc]
        assert 90 < batch.tally().held <= 100
        batch.stop()
        batch.wait()
    assert [result.status for result in batch.results()] == ["stopped"] * 3


def test_a_stop_before_the_beginning() -> None:
    """A map that is stopped at once sends nothing."""
    with ScriptedServer(answers) as server:
        agent = agent_at(server.url)
        batch = LocalBatch(agent, agent.prepare("?"), ["a", " ", "b"], 2)
        batch.stop()
        batch.start()
        batch.wait()
        assert [result.status for result in batch.results()] == ["stopped", "failed", "stopped"]
        assert server.requests == []


def test_maps_from_many_threads_and_in_one_loop(demo_url: str) -> None:
    """Maps do not get into each other's way."""
    agent = agent_at(demo_url)
    threads = [
        threading.Thread(target=agent.map, args=(["a", "b", "c"],), kwargs={"progress": False}) for _ in range(3)
    ]
    for thread in threads:
        thread.start()

    async def together() -> list[Results]:
        return await asyncio.gather(*(agent.amap([f"{place}a", f"{place}b"], progress=False) for place in range(3)))

    results = asyncio.run(together())
    for thread in threads:
        thread.join()
    assert [[result.prompt for result in part] for part in results] == [
        [f"{place}a", f"{place}b"] for place in range(3)
    ]
    assert {result.status for part in results for result in part} == {"done"}


def test_every_row_is_written_down() -> None:
    """A row is a run like any other: there is a tape of each that was sent."""
    with ScriptedServer(answers) as server:
        results = agent_at(server.url).map(["a", "", "fail"], progress=False)
    written = {path.name.removesuffix(".jsonl").rpartition("-")[2] for path in tapes(journal_folder())}
    assert written == {results[0].run_id, results[2].run_id}


def test_a_row_is_an_ordinary_result(demo_url: str) -> None:
    """A row has all that an answer by itself has, though its events are kept packed."""
    agent = agent_at(demo_url)
    row, single = agent.map(["Why?"], progress=False)[0], agent.ask("Why?")
    assert (row.text, row.usage.raw, row.code, row.notices) == (
        single.text,
        single.usage.raw,
        single.code,
        single.notices,
    )
    assert [type(event) for event in row.events] == [type(event) for event in single.events]
    twin = pickle.loads(pickle.dumps(row))
    assert (twin.events, twin.text, twin.wait(), twin.elapsed) == (row.events, row.text, twin, row.elapsed)


def test_packed_events_come_back_as_they_were() -> None:
    """Half a surrogate pair, thoughts and items that came out of order: packing changes nothing that can be read."""
    said: list[AgentEvent] = [
        Text(text="b", item=1),
        Reasoning(text="so"),
        Text(text="a\ud83d", item=0),
        Reasoning(text=" it is"),
    ]
    plain, packed = Transcript(), Transcript()
    for transcript in (plain, packed):
        for event in said:
            transcript.apply(event)
    packed.pack()
    assert packed.events == said  # it goes on, so nothing is packed
    for transcript in (plain, packed):
        transcript.close("done")
    packed.pack()
    packed.pack()
    assert (packed.text, packed.reasoning, packed.events) == (plain.text, plain.reasoning, plain.events)
    assert (packed.text, packed.reasoning) == ("a\ud83db", "so it is")
    assert pickle.loads(pickle.dumps(packed)).events == said


def test_an_agent_pickles_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent is its settings; the key is read where it asks, and one that holds a secret itself is not pickled."""
    monkeypatch.setenv("MAP_KEY", "k-0123456789abcdef")
    with ScriptedServer(answers) as server:
        agent = agent_at(server.url, key_env="MAP_KEY", headers={"X-Team": "a"})
        results = agent.map(["a"], progress=False)
        packed = pickle.dumps((agent, results))
        twin, same = pickle.loads(packed)
        assert (repr(twin), twin.config, twin.last_results) == (repr(agent), agent.config, None)
        assert twin.ask("b").text == "re: b"
        assert (same[0].text, same.retry()[0].text) == ("re: a", "re: a")
        assert b"authorization: bearer k-0123456789abcdef" in server.requests[1].lower()
    assert b"0123456789" not in packed
    with pytest.raises(ConfigError, match=r"'X-Api-Key' holds a secret.*key_env") as raised:
        pickle.dumps(agent_at("http://127.0.0.1:1", headers={"X-Api-Key": "0123456789"}))
    assert "0123456789" not in str(raised.value)


def test_results_of_an_agent_with_a_secret_pickle_without_it() -> None:
    """What was answered always pickles; only asking again needs the agent."""
    with ScriptedServer(answers) as server:
        results = agent_at(server.url, headers={"X-Api-Key": "0123456789"}).map(["a"], progress=False)
    packed = pickle.dumps(results)
    assert b"0123456789" not in packed
    twin = pickle.loads(packed)
    assert twin[0].text == "re: a"
    with pytest.raises(ConfigError, match="without their agent"):
        twin.retry()


def test_what_results_look_like() -> None:
    """One line, and a table whose words are escaped."""
    with ScriptedServer(answers) as server:
        results = agent_at(server.url).map(["<b>hi</b>", "fail", *"x" * 30], progress=False)
    shown = results._repr_html_()
    assert repr(results) == "<Results 32 results: 31 done, 1 failed>"
    assert "re: &lt;b&gt;hi&lt;/b&gt;" in shown
    assert "<b>" not in shown
    assert "BAD" not in shown or "no" in shown
    assert "and 12 more" in shown


FIGURES = Tally(
    status="running",
    total=1200,
    done=10,
    failed=2,
    retries=1,
    tokens=4210,
    cost=0.01234,
    elapsed=70,
    remaining=95,
    held=3,
)


def test_the_words_of_a_map() -> None:
    """The bar says rows, failures, retries, tokens, cost, the wait and the time left; the line how it ended, and why."""
    caption = RowsCaption("it", lambda: FIGURES)
    assert caption.live() == [
        "it", "12 of 1,200 rows", "2 failed", "1 retry", "4,210 tokens", "cost 0.01234", "all wait 3 s, as the server asks", "2 min left",
    ]  # fmt: skip
    assert caption.state == "it: all rows wait, as the server asks, some have failed"
    assert caption.fraction == 0.01
    failed = Tally(status="failed", total=3, done=2, failed=1, elapsed=4000, reason="<b>no</b>")
    said = RowsCaption("it", lambda: failed).final()
    assert said == ["it", "2 of 3 rows done", "1 failed", "1 h 7 min", "such as: <b>no</b>"]
    assert "<b>" not in _html.line("failed", said)
    assert RowsCaption("it", lambda: Tally(status="done", total=1, done=1)).final() == ["it", "1 row done", "0.0 s"]
    stopped = Tally(status="stopped", total=2, done=1, left=1, elapsed=12)
    assert RowsCaption("it", lambda: stopped).final() == ["it", "stopped, 1 of 2 rows done", "12 s"]


def test_a_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal the bar is drawn by rich, its words are taken as they stand, and the line stays."""
    out = io.StringIO()
    view = TerminalRows(RowsCaption("[bold]it", lambda: FIGURES), Console(file=out, force_terminal=True, width=120))
    view.open()
    assert view.show() < 1
    assert "[bold]it · 12 of 1,200 rows" in out.getvalue()
    view.close()
    assert "10 of 1,200 rows done" in out.getvalue().splitlines()[-1]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(console_rows(RowsCaption("it", lambda: FIGURES)), TerminalRows)


def test_a_script_without_a_terminal_hears_of_the_end(demo_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stderr, nothing on stdout; nothing at all with `progress=False`."""
    agent = agent_at(demo_url)
    agent.map(["a", "b"])
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), err.startswith("runagent · 2 rows done · ")) == ("", 1, True)
    agent.map(["a"], progress=False)
    assert capsys.readouterr() == ("", "")


def test_importing_an_agent_imports_no_front_end(tmp_path: Path) -> None:
    """A map in a script imports neither IPython nor ipywidgets, pandas or distributed."""
    import subprocess

    code = (
        "import sys; from agent_magic import Agent\n"
        "results = Agent('demo').map(['a', 'b'], chunk_size=1000)\n"
        "print([r.status for r in results], {'IPython', 'ipywidgets', 'pandas', 'polars', 'distributed'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("['done', 'done'] set()\n", 0)


class TestTapes:
    """A map and tapes: each row has its own."""

    def test_rows_are_recorded_and_replayed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is there is replayed, what is not is asked; with all there, neither server nor key is needed."""
        body = event_stream(("start", {"session_id": "s"}), ("chunk", {"content": "ok"}), ("done", {}))
        monkeypatch.setenv("TAPED_KEY", "a-key-of-eight")
        with ScriptedServer(says(body)) as server:
            settings = {"protocol": "runagent", "base_url": server.url, "key_env": "TAPED_KEY"}
            asked = Agent(**settings, tape="auto")
            assert [row.replayed for row in asked.map(["a", "b"], progress=False)] == [False, False]
            assert [row.replayed for row in asked.map(["b", "c", "a"], progress=False)] == [True, False, True]
            assert len(server.requests) == 3
        monkeypatch.delenv("TAPED_KEY")
        for mode in ("auto", "replay"):
            rows = Agent(**settings, tape=mode).map(["a", "b", "c"], progress=False)
            assert [(row.text, row.replayed) for row in rows] == [("ok", True)] * 3
        rows = Agent(**settings, tape="replay").map(["a", "new"], progress=False)
        assert [(row.status, type(row.error).__name__) for row in rows] == [
            ("done", "NoneType"),
            ("failed", "TapeMissing"),
        ]
