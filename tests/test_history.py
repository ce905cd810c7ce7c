"""The runs that were: listed, back as results, gone on with."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent_magic import _history
from agent_magic._agent import Agent
from agent_magic._deck import replay
from agent_magic._history import History, Past
from agent_magic._journal import journal_folder, run_of, tapes
from agent_magic._result import AgentResult
from agent_magic._tape import read_tape
from agent_magic._verbs import VERBS, manage, verbs_text
from agent_magic._writer import flush_tapes
from agent_magic.errors import AuthError, ConfigError, StreamLost
from agent_magic.testing import ScriptedServer, event_stream, head, says
from tests.test_stream import resuming, stream_from
from tests.test_tape import delta, you

TEXT = "Once upon a time."


def ask(url: str, prompt: str = "Why?", **settings: Any) -> AgentResult:
    """A result that has ended."""
    agent = Agent(**{"protocol": "runagent", "base_url": url, "key_env": "", "retries": 0, **settings})
    return agent.begin(prompt)[0].wait(30)


def cut_tape(run: str, lines: int) -> Path:
    """Leave so many lines of a run's tape, as if its process had been killed then."""
    (path,) = [path for path in tapes(journal_folder()) if run_of(path) == run]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))
    return path


@contextmanager
def resumable(cut: int) -> Iterator[tuple[ScriptedServer, AgentResult]]:
    """A server that resumes, and a run of it that was cut off behind the line `cut` of its tape."""
    with ScriptedServer(resuming([])) as server:
        result = ask(server.url)
        cut_tape(result.run_id, cut)
        yield server, result


class TestHistory:
    """A list of results that shows itself and reads what it is asked for."""

    def test_newest_first(self) -> None:
        """The newest run is the first; an index, a slice and the end of the list are as in any list."""
        with ScriptedServer(says(stream_from(0))) as server:
            runs = [ask(server.url, f"Question {number}").run_id for number in range(5)][::-1]
        history = History.newest(4)
        assert len(history) == 4
        assert [result.run_id for result in history] == runs[:4]
        assert (history[0].prompt, history[-1].prompt, history[0].text) == ("Question 4", "Question 1", TEXT)
        assert [result.run_id for result in history[1:3]] == runs[1:3]
        assert history[0] is history[0]
        with pytest.raises(IndexError):
            history[4]

    def test_every_attribute_is_there(self) -> None:
        """A result that was read back answers to all that the run's own result answers to, the cost included."""
        script = says(
            event_stream(("chunk", {"content": "Hi", "index": 0}), ("done", {"usage": {"output_tokens": 1_000}}))
        )
        with ScriptedServer(script) as server:
            result = ask(server.url, price={"input": 1, "output": 2000})
        read = History.newest(1)[0]
        names = [name for name in dir(AgentResult) if isinstance(getattr(AgentResult, name), property)]
        # The times of a tape are rounded; tables need pandas; events carry the time of the reading side.
        exact = sorted({*names} - {"elapsed", "first_event", "tables", "events"})
        assert {name: getattr(read, name) for name in exact} == {name: getattr(result, name) for name in exact}
        assert (read.cost, len(read.events)) == (2.0, len(result.events))

    def test_it_is_read_lazily(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The table reads no events; a result is read when it is asked for, once."""
        with ScriptedServer(says(stream_from(0))) as server:
            for _ in range(3):
                ask(server.url)
        read = []

        def counted(path: Path) -> Any:
            read.append(path)
            return read_tape(path)

        monkeypatch.setattr(_history, "read_tape", counted)
        history = History.newest(20)
        assert (len(history), repr(history).count("done"), history._repr_html_().count("done")) == (3, 3, 3)
        assert read == []
        assert history[1].text == history[1].text == TEXT
        assert read == [tapes(journal_folder())[1]]

    def test_nothing_from_a_tape_acts(self) -> None:
        """What a prompt and a name hold is shown: no HTML, no control character, one line each."""
        hostile = "<script>alert(1)</script>\x1b[2J\u202e\n\n| a |" + "long " * 50
        with ScriptedServer(says(stream_from(0))) as server:
            ask(server.url, hostile)
        history = History.newest(20)
        html, plain = history._repr_html_(), repr(history)
        assert "<script>" not in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt;␛[2J&lt;U+202E&gt;" in html
        assert not set(html + plain) & {"\x1b", "\u202e"}
        assert plain.count("\n") == 1
        assert max(map(len, plain.splitlines())) < 160

    def test_an_empty_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nothing was written down it says where it looked, and whether that is switched off."""
        assert str(journal_folder()) in repr(History.newest(20))
        assert "No runs" in History.newest(20)._repr_html_()
        monkeypatch.setenv("AGENT_MAGIC_JOURNAL", "0")
        assert "journal is off" in repr(History.newest(20))

    def test_tapes_that_cannot_be_read(self) -> None:
        """A tape of a newer format, or one that is none, has a row, and its result raises why."""
        with ScriptedServer(says(stream_from(0))) as server:
            newer, torn, good = (ask(server.url).run_id for _ in range(3))
        cut_tape(torn, 0)
        (path,) = [path for path in tapes(journal_folder()) if run_of(path) == newer]
        path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":9'))
        history = History.newest(20)
        assert repr(history).count("unreadable") == 2
        assert history[0].run_id == good
        with pytest.raises(ConfigError, match="not a tape"):
            history[1]
        with pytest.raises(ConfigError, match="newer"):
            history[2]
        with pytest.raises(ConfigError, match="newer"):
            Past.find(newer)
        assert Past.newest_cut_off() is None

    def test_a_run_that_is_still_going(self) -> None:
        """A run of this process is in the list as itself: it grows, and can be stopped."""

        def endless(connection: socket.socket, _request: bytes, _number: int) -> None:
            connection.sendall(head() + stream_from(0, end=False))
            server.wait_for_disconnect(connection)

        with ScriptedServer(endless) as server:
            result, run = Agent(protocol="runagent", base_url=server.url, key_env="").begin("Why?")
            flush_tapes()
            history = History.newest(20)
            assert "running" in repr(history)
            growing = history[0]
            assert (growing.status, Past.newest_cut_off()) == ("running", None)
            with pytest.raises(ConfigError, match="still going"):
                Past.find(run.id).resumed()
            growing.stop()
            assert (result.wait(10).status, growing.wait(10).status) == ("stopped", "stopped")


class TestRecover:
    """A run by its id, or the last that was cut off."""

    def test_by_id_and_by_its_beginning(self) -> None:
        """An id may be cut short as long as it is the only one that begins so."""
        with ScriptedServer(says(stream_from(0))) as server:
            run = ask(server.url).run_id
        assert Past.find(run).result().text == Past.find(run[:5]).result().text == TEXT

    def test_a_wrong_id(self) -> None:
        """A wrong id gets the nearest, and one that is not clear the candidates."""
        with ScriptedServer(says(stream_from(0))) as server:
            runs = [ask(server.url).run_id for _ in range(2)]
        wrong = runs[0][:-1] + ("0" if runs[0][-1] != "0" else "1")
        with pytest.raises(ConfigError, match=f"did you mean {runs[0]}"):
            Past.find(wrong)
        with pytest.raises(ConfigError, match="%agent history lists the runs"):
            Past.find("zzz")
        with pytest.raises(ConfigError, match="all begin with ''"):
            Past.find("")

    def test_the_last_that_was_cut_off(self) -> None:
        """Without an id it is the newest run that has no outcome, not the newest run."""
        with ScriptedServer(says(stream_from(0))) as server:
            older, cut, _ = (ask(server.url).run_id for _ in range(3))
        assert Past.newest_cut_off() is None
        cut_tape(older, 5)
        cut_tape(cut, 6)
        past = Past.newest_cut_off()
        assert past is not None
        result = past.result()
        assert (result.run_id, result.status, result.text) == (cut, "failed", "Once upon ")
        assert isinstance(result.error, StreamLost)
        assert "cut off" in repr(History.newest(20))

    def test_a_run_that_ends_while_it_is_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run of another kernel that ends between a look at its tape and one at its lock was not cut off."""
        with ScriptedServer(says(stream_from(0))) as server:
            run = ask(server.url).run_id
        (path,) = tapes(journal_folder())
        whole = path.read_bytes()
        cut_tape(run, 5)

        def ends(*_: object) -> bool:
            path.write_bytes(whole)
            return False

        monkeypatch.setattr(_history, "is_live", ends)
        assert Past.newest_cut_off() is None
        assert Past.find(run).status == "done"


class TestResume:
    """Where the wire can, a run goes on as a new one."""

    @pytest.mark.parametrize("lines", range(4, 10))
    def test_it_goes_on(self, lines: int) -> None:
        """Whatever had arrived, the new run has the whole answer, and asks only for what is missing."""
        with resumable(lines) as (server, cut):
            before = Past.find(cut.run_id).result()
            result = Past.find(cut.run_id).resumed().wait(10)
            assert (result.status, result.text) == ("done", TEXT)
            assert result.text.startswith(before.text)
            assert result.run_id != cut.run_id
            assert server.bodies()[1] == {
                "query": "Why?",
                "session_id": "s",
                "parameters": {"resume_from_index": lines - 4},
            }
            assert result.parameters == {}
        again = Past.find(result.run_id)
        assert (again.header.resumes, again.status) == (cut.run_id, "done")
        assert again.result().text == TEXT
        assert again.result().events == result.events

    def test_its_tape_needs_no_other(self) -> None:
        """The new tape holds all that the old one had, so it can be resumed in turn when the old one is gone."""
        with resumable(6) as (_, cut):
            second = Past.find(cut.run_id).resumed().wait(10)
            (path,) = [path for path in tapes(journal_folder()) if run_of(path) == cut.run_id]
            path.unlink()
            cut_tape(second.run_id, 12)
            assert Past.find(second.run_id).result().text == "Once upon a "
            third = Past.find(second.run_id).resumed().wait(10)
        assert (third.status, third.text) == ("done", TEXT)
        tape = read_tape(tapes(journal_folder())[0])
        assert replay(tape, live=False).text == TEXT
        assert [entry for entry in tape.entries if type(entry).__name__ == "Flushed"] == tape.entries[-1:]

    def test_a_stopped_run_goes_on(self) -> None:
        """What was stopped, half a character included, can be taken up too."""
        halves = ["a\ud83e", "\udd14b"]

        def script(connection: socket.socket, request: bytes, number: int) -> None:
            connection.sendall(head() + stream_from(number, pieces=halves[: number + 1], end=number > 0))
            if number == 0:
                server.wait_for_disconnect(connection)

        with ScriptedServer(script) as server:
            result, run = Agent(protocol="runagent", base_url=server.url, key_env="").begin("Why?")
            run.listen(lambda: run.stop() if run.transcript.text else None)
            assert result.wait(10).text == "a\ufffd"
            resumed = Past.find(run.id).resumed().wait(10)
        assert (resumed.status, resumed.text) == ("done", "a\U0001f914b")
        assert Past.find(resumed.run_id).result().text == resumed.text

    def test_a_lost_connection_while_it_goes_on(self) -> None:
        """The new run is a run like any other: it is taken up again where its connection breaks."""
        with ScriptedServer(resuming([])) as server:
            cut = ask(server.url, retries=3, backoff=0)
        cut_tape(cut.run_id, 6)
        whole = stream_from(0)
        with ScriptedServer(resuming([whole.index(b"time") - 60] * 2)) as server:
            (path,) = tapes(journal_folder())
            header = json.loads(path.read_bytes().splitlines()[0])
            header["question"]["base_url"] = server.url
            path.write_bytes(json.dumps(header).encode() + b"\n" + path.read_bytes().partition(b"\n")[2])
            result = Past.find(cut.run_id).resumed().wait(10)
        assert (result.status, result.text) == ("done", TEXT)
        assert Past.find(result.run_id).result().events == result.events

    def test_where_it_cannot_be(self) -> None:
        """Nothing is asked where the wire cannot go on, the answer is whole, or the agent itself had failed."""
        failed = event_stream(
            ("start", {"session_id": "s"}), ("chunk", {"content": "a", "index": 0}), ("error", {"error": "No"})
        )
        cases = [
            (says(you(delta("a"))), "you", "cannot be taken up again"),
            (says(event_stream(("chunk", {"content": "a"}))), "runagent", "cannot be taken up again"),
            (says(b""), "runagent", "cannot be taken up again"),
            (says(stream_from(0)), "runagent", "came to its end"),
            (says(failed), "runagent", "came to its end"),
        ]
        for script, protocol, words in cases:
            with ScriptedServer(script) as server:
                run = ask(server.url, protocol=protocol).run_id
                asked = len(server.requests)
                with pytest.raises(ConfigError, match=words):
                    Past.find(run).resumed()
                assert len(server.requests) == asked
        assert len(tapes(journal_folder())) == len(cases)

    def test_the_key_is_read_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The tape has the key's variable and no key: without it, it is asked for; with it, it is sent."""
        monkeypatch.setenv("MY_KEY", "first-key")
        with ScriptedServer(resuming([])) as server:
            run = ask(server.url, key_env="MY_KEY", auth="x-api-key").run_id
            cut_tape(run, 6)
            monkeypatch.delenv("MY_KEY")
            with pytest.raises(AuthError, match="MY_KEY"):
                Past.find(run).resumed()
            monkeypatch.setenv("MY_KEY", "second-key")
            assert Past.find(run).resumed().wait(10).text == TEXT
            assert b"x-api-key: second-key" in server.requests[1].lower()

    def test_headers_come_from_the_settings(self) -> None:
        """A header's value is not on the tape: it is in the agent's settings, or it is missing."""
        settings = Path("agent_magic.toml")
        with ScriptedServer(resuming([])) as server:
            said = f'[agents.mine]\nprotocol = "runagent"\nagent = "x"\nbase_url = "{server.url}"\nkey_env = ""\n'
            settings.write_text(f'{said}headers = {{ X-Org = "seven" }}\n')
            run = Agent("mine").begin("Why?")[0].wait(10).run_id
            cut_tape(run, 6)
            assert Past.find(run).resumed().wait(10).text == TEXT
            assert b"x-org: seven" in server.requests[1].lower()
            settings.write_text(said)
            with pytest.raises(ConfigError, match="X-Org"):
                Past.find(run).resumed()
            settings.write_text(f'{said}headers = {{ X-Org = "seven" }}\n'.replace('"x"', '"y"'))
            with pytest.raises(ConfigError, match="X-Org"):
                Past.find(run).resumed()

    def test_without_a_journal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run goes on without being written down, where that is switched off."""
        with resumable(6) as (_, cut):
            monkeypatch.setenv("AGENT_MAGIC_JOURNAL", "0")
            assert Past.find(cut.run_id).resumed().wait(10).text == TEXT
        assert len(tapes(journal_folder())) == 1

    def test_a_header_stays_at_its_place(self) -> None:
        """An agent of the same name at another place has a secret header of its own, which the run's server never sees."""
        with ScriptedServer(says(stream_from(0, end=False))) as server:
            text = f'[agents.a]\nprotocol = "runagent"\nbase_url = "{server.url}"\nkey_env = ""\nretries = 0\n'
            Path("agent_magic.toml").write_text(f'{text}headers = {{ Authorization = "Bearer dummy" }}\n')
            cut = Agent("a").begin("Why?")[0].wait(30)
            other = text.replace(server.url, "https://example.invalid")
            Path("agent_magic.toml").write_text(f'{other}headers = {{ Authorization = "Bearer real-secret" }}\n')
            with pytest.raises(ConfigError, match="Authorization"):
                Past.find(cut.run_id).resumed()
            assert not any(b"real-secret" in request for request in server.requests)

    def test_after_a_kill(self, demo_url: str) -> None:
        """A process killed in mid-stream, and the same server still there: the answer is completed."""
        script = """
            import os, signal, sys
            from agent_magic import Agent
            from agent_magic._writer import flush_tapes
            agent = Agent(protocol="runagent", base_url=sys.argv[1], key_env="")
            result, run = agent.begin("Why?", {"stream_delay_ms": 5})
            def kill():
                if len(result.text) > 200:
                    flush_tapes()
                    os.kill(os.getpid(), signal.SIGKILL)
            run.listen(kill)
            result.wait()
        """
        killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script), demo_url], timeout=60)
        assert killed.returncode == -9
        past = Past.newest_cut_off()
        assert past is not None
        before = past.result()
        assert len(before.text) > 200
        result = past.resumed()
        assert result.wait(60).status == "done"
        whole = Agent(protocol="runagent", base_url=demo_url, key_env="").ask("Why?")
        assert (result.text, result.usage.total_tokens) == (whole.text, whole.usage.total_tokens)
        assert Past.find(result.run_id).result().text == whole.text


class TestVerbs:
    """``%agent history`` and ``%agent recover``, as they are typed."""

    def test_history(self) -> None:
        """A number is how many; without one it is twenty."""
        with ScriptedServer(says(stream_from(0))) as server:
            for _ in range(22):
                ask(server.url)
        lists = [manage(line, SimpleNamespace(user_ns={})) for line in ("history", "history 3", "history 999")]
        assert [len(found) for found in lists if isinstance(found, History)] == [20, 3, 22]

    def test_recover(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A result is given and bound; where no run was cut off, a sentence says so and nothing is bound."""
        names: dict[str, Any] = {}
        assert manage("recover", SimpleNamespace(user_ns=names)) is None
        assert "No run was cut off" in capsys.readouterr().out
        with ScriptedServer(resuming([])) as server:
            run = ask(server.url).run_id
            assert manage("recover --resume", SimpleNamespace(user_ns=names)) is None
            assert names == {}
            found = manage(f"recover {run}", SimpleNamespace(user_ns=names))
            assert isinstance(found, AgentResult)
            assert (names, found.text) == ({"_agent": found}, TEXT)
            for line in (f"recover {run} --resume", f"recover --resume {run[:6]}", "recover --resume"):
                cut_tape(run, 6)
                resumed = manage(line, SimpleNamespace(user_ns=names))
                assert isinstance(resumed, AgentResult)
                assert names["_agent"] is resumed
                assert resumed.wait(10).text == TEXT

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("histroy", "did you mean %agent history [N]?"),
            ("history 0", "did you mean %agent history [N]?"),
            ("history -1", "did you mean %agent history [N]?"),
            ("history five", "did you mean %agent history [N]?"),
            ("history 1 2", "did you mean %agent history [N]?"),
            ("recovr", "did you mean %agent recover [RUN] [--resume]?"),
            ("recover --resum", "did you mean %agent recover [RUN] [--resume]?"),
            ("recover a b", "did you mean %agent recover [RUN] [--resume]?"),
            ("stop al", "did you mean %agent stop [all]?"),
            ("fly", f"there are: %agent, {', '.join(f'%agent {verb.form}' for verb in VERBS.values())}."),
        ],
    )
    def test_mistakes(self, line: str, words: str) -> None:
        """A wrong word gets the nearest right one."""
        with pytest.raises(ConfigError) as caught:
            manage(line, SimpleNamespace(user_ns={}))
        assert str(caught.value) == f"There is no `%agent {line}`; {words}"

    def test_the_help_names_them(self) -> None:
        """``%agent?`` shows every verb."""
        assert [
            verb for verb in ("stop [all]", "history [N]", "recover [RUN] [--resume]") if verb not in verbs_text()
        ] == []
