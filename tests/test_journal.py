"""The journal: beside the stream, whatever the disk does; the person's alone; without a key; of a stated size."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from portalocker.exceptions import LockException

from agent_magic import _reel, _writer
from agent_magic._agent import Agent
from agent_magic._deck import replay
from agent_magic._journal import create_tape, is_live, journal_folder, prune, run_of, tapes
from agent_magic._keys import Secret
from agent_magic._reel import Reel
from agent_magic._request import AgentRequest
from agent_magic._run import Run
from agent_magic._stream import Policy
from agent_magic._tape import Header, Outcome, Question, encode_lines, peek, read_tape
from agent_magic._taping import Taping
from agent_magic._writer import flush_tapes
from agent_magic.errors import AuthError, ConfigError
from agent_magic.protocols.runagent import RunAgent
from agent_magic.testing import ScriptedServer, event_stream, head, says
from agent_magic.views._base import Caption
from tests.test_stream import stream_from

FAST = Policy(timeout=10, backoff=0, max_wait=1)
TEXT = "Once upon a time."


def asked(url: str, folder: Path, **request: Any) -> Run:
    """A run that is written down in `folder`, and has begun."""
    run = Run(RunAgent(), AgentRequest("Why?", url, "demo", **request), FAST, "test", Taping(folder))
    run.start()
    return run


def finished(url: str, folder: Path, **request: Any) -> Run:
    run = asked(url, folder, **request)
    assert run.wait(30)
    return run


def make_tape(folder: Path, second: int, size: int = 1000, *, ended: bool = True) -> Path:
    """A tape of a run that began at `second`, and is not live."""
    header = header_of(second)
    path, file = create_tape(folder, header)
    outcome = [Outcome(1.0, "done")] if ended else []
    said = encode_lines([header], []) + encode_lines(outcome, [])
    os.write(file, encode_lines([header], []) + b" " * (size - len(said) - 1) + b"\n" + encode_lines(outcome, []))
    os.close(file)
    return path


def header_of(second: int) -> Header:
    started = datetime.fromtimestamp(second, UTC)
    question = Question("Why?", "http://127.0.0.1:1", "demo")
    return Header(1, f"{second:012x}", "test", "runagent", started, question, socket.gethostname(), os.getpid())


def until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A disk that takes nothing until the event is set."""
    go_on = threading.Event()
    append = Reel._append

    def wait_and_append(reel: Reel, descriptor: int, data: bytes) -> None:
        go_on.wait()
        append(reel, descriptor, data)

    monkeypatch.setattr(Reel, "_append", wait_and_append)
    yield go_on
    go_on.set()
    flush_tapes(10)


class TestWriting:
    """Events reach the disk while the stream goes on, and the stream never waits for it."""

    def test_an_event_is_on_disk_while_the_stream_goes_on(self, tmp_path: Path) -> None:
        """What has arrived can be read from the tape before anything else comes."""

        def script(connection: socket.socket, _request: bytes, _number: int) -> None:
            connection.sendall(head() + stream_from(0, end=False))
            server.wait_for_disconnect(connection)

        with ScriptedServer(script) as server:
            run = asked(server.url, tmp_path)
            until(lambda: tapes(tmp_path) and b"time" in tapes(tmp_path)[0].read_bytes())
            (path,) = tapes(tmp_path)
            assert is_live(path, read_tape(path).header)
            assert replay(read_tape(path), live=True).status == "running"
            run.stop()
            assert run.wait(10)
        assert not is_live(path, read_tape(path).header)
        assert replay(read_tape(path), live=False).status == "stopped"

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        """Where nothing can be written the run goes on; it is said once, in the cell's line too."""
        (tmp_path / "file").touch()
        for folder in (tmp_path / "file" / "journal", Path("/proc/agent_magic/journal")):
            with ScriptedServer(says(stream_from(0))) as server:
                run = finished(server.url, folder)
            assert (run.transcript.status, run.transcript.text) == ("done", TEXT)
            (notice,) = run.transcript.notices
            assert "journal is not whole" in notice
            assert str(folder.parent) in notice
            assert notice in Caption(run, "answer").final()

    def test_a_folder_that_is_read_only(self, tmp_path: Path) -> None:
        """A folder without the right to write is such a case; root, who may write anywhere, first becomes nobody."""
        script = """
            import os, sys
            from agent_magic import Agent
            agent = Agent(protocol="runagent", base_url=sys.argv[1], key_env="")
            os.environ["AGENT_MAGIC_JOURNAL"] = "0"
            agent.ask("Is all that is needed imported?")
            del os.environ["AGENT_MAGIC_JOURNAL"]
            if os.geteuid() == 0:
                os.seteuid(65534)
            answer = agent.ask("Why?")
            print(len(answer.text), len(answer.notices), "Permission denied" in answer.notices[0])
        """
        folder = tmp_path / "read-only"
        folder.mkdir(mode=0o500)
        with ScriptedServer(says(stream_from(0))) as server:
            environment = {**os.environ, "AGENT_MAGIC_STATE": str(folder / "state")}
            done = subprocess.run(
                [sys.executable, "-c", textwrap.dedent(script), server.url],
                env=environment,
                capture_output=True,
                text=True,
            )
        assert (done.stdout, done.stderr) == (f"{len(TEXT)} 1 True\n", "")

    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk without room for a single byte is said once."""
        monkeypatch.setattr(_reel, "create_tape", lambda *_: (tmp_path / "full", os.open("/dev/full", os.O_RDWR)))
        with ScriptedServer(says(stream_from(0))) as server:
            run = finished(server.url, tmp_path)
        assert (run.transcript.status, run.transcript.text) == ("done", TEXT)
        (notice,) = run.transcript.notices
        assert "No space left on device" in notice

    def test_a_disk_that_fills_up(self) -> None:
        """A file that can grow no more keeps whole lines and the outcome; the text in the kernel is whole."""
        script = """
            import os, resource, signal, sys
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
            from agent_magic import Agent
            agent = Agent(protocol="runagent", base_url=sys.argv[1], key_env="")
            answer = agent.ask("Why?")
            print(len(answer.text), len(answer.notices), "File too large" in answer.notices[0])
        """
        chunks = [("chunk", {"content": "word " * 20, "index": index}) for index in range(1000)]

        def send(connection: socket.socket, _request: bytes, _number: int) -> None:
            connection.sendall(head() + event_stream(*chunks[:100]))
            until(lambda: tapes(journal_folder()) and b'"index\\": 99' in tapes(journal_folder())[0].read_bytes())
            connection.sendall(event_stream(*chunks[100:], ("done", {})))

        with ScriptedServer(send) as server:
            done = subprocess.run(
                [sys.executable, "-W", "error", "-c", textwrap.dedent(script), server.url],
                capture_output=True, text=True, timeout=60,
            )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "100000 1 True\n", "")
        tape = read_tape(tapes(journal_folder())[0])
        transcript = replay(tape, live=False)
        assert (transcript.status, transcript.text) == ("done", ("word " * 20) * (len(transcript.text) // 100))
        assert 100 <= len(transcript.text) // 100 < 1000
        (notice,) = transcript.notices
        assert "File too large" in notice

    def test_a_blocked_disk(self, tmp_path: Path, blocked: threading.Event) -> None:
        """A disk that takes nothing does not hold a run up; what waits is written when it takes it."""
        with ScriptedServer(says(stream_from(0))) as server:
            runs = [finished(server.url, tmp_path) for _ in range(3)]
        for run in runs:
            assert (run.transcript.status, run.transcript.text) == ("done", TEXT)
            (notice,) = run.transcript.notices
            assert "its disk is too slow" in notice
        blocked.set()
        flush_tapes(10)
        assert [replay(read_tape(path), live=False).text for path in tapes(tmp_path)] == [TEXT] * 3

    def test_only_the_first_run_waits_for_a_blocked_disk(self, tmp_path: Path, blocked: threading.Event) -> None:
        """A disk that let one run wait in vain is not waited for again until it has taken something."""
        with ScriptedServer(says(stream_from(0))) as server:
            finished(server.url, tmp_path)
            assert _writer._writer().patience() == 0
            blocked.set()
            flush_tapes(10)
            assert _writer._writer().patience() == _writer.END_SECONDS
            assert finished(server.url, tmp_path).transcript.notices == []

    def test_a_queue_that_is_full(
        self, tmp_path: Path, blocked: threading.Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a blocked disk does not take is kept up to a limit; then the rest is left out, and that is said."""
        monkeypatch.setattr(_writer, "QUEUE_SIZE", 20_000)
        chunks = [("chunk", {"content": "word ", "index": index}) for index in range(1000)]
        with ScriptedServer(says(event_stream(*chunks, ("done", {})))) as server:
            run = finished(server.url, tmp_path)
        assert (run.transcript.status, run.transcript.text) == ("done", "word " * 1000)
        (notice,) = run.transcript.notices
        assert "its disk was too slow" in notice
        writer = _writer._writer()
        assert writer.heard - writer.written < 25_000
        blocked.set()
        flush_tapes(10)
        (path,) = tapes(tmp_path)
        transcript = replay(read_tape(path), live=False)
        assert transcript.status == "done"
        assert 0 < len(transcript.text) < 1000 * 5
        assert ["not whole" in notice for notice in transcript.notices] == [True]
        assert writer.heard == writer.written

    def test_a_run_without_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """One run's tape has a largest size; the run goes on without it."""
        monkeypatch.setattr(_reel, "TAPE_BYTES", 20_000)
        chunks = [("chunk", {"content": "word " * 10, "index": index}) for index in range(1000)]
        with ScriptedServer(says(event_stream(*chunks, ("done", {})))) as server:
            run = finished(server.url, tmp_path)
        assert (run.transcript.status, len(run.transcript.text)) == ("done", 50_000)
        (notice,) = run.transcript.notices
        assert "at most" in notice
        (path,) = tapes(tmp_path)
        assert path.stat().st_size < 21_000
        transcript = replay(read_tape(path), live=False)
        assert (transcript.status, transcript.text[:5]) == ("done", "word ")

    def test_a_defect_in_the_writer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever goes wrong with one tape, the thread lives on and the next one is written."""
        monkeypatch.setattr(_reel, "entry_of", lambda *_: 1 / 0)
        with ScriptedServer(says(stream_from(0))) as server:
            run = finished(server.url, tmp_path)
            assert ["ZeroDivisionError" in notice for notice in run.transcript.notices] == [True]
            monkeypatch.undo()
            assert finished(server.url, tmp_path).transcript.notices == []

    def test_a_listener_that_fails(self, tmp_path: Path) -> None:
        """A run whose listener fails when it is told of the trouble ends all the same, and so does the next."""

        def fail() -> None:
            if threading.current_thread().name == "agent_magic journal":
                raise ValueError

        (tmp_path / "file").touch()
        with ScriptedServer(says(stream_from(0))) as server:
            run = Run(
                RunAgent(),
                AgentRequest("Why?", server.url, "demo"),
                FAST,
                "test",
                Taping(tmp_path / "file" / "journal"),
            )
            run.listen(fail)
            run.start()
            assert run.wait(30)
            assert len(run.transcript.notices) == 1
            assert finished(server.url, tmp_path).transcript.notices == []

    def test_one_thread_for_all(self, tmp_path: Path) -> None:
        """Many runs at once share one writing thread, and each has its own tape, whole."""
        with ScriptedServer(says(stream_from(0))) as server:
            runs = [asked(server.url, tmp_path) for _ in range(50)]
            assert all(run.wait(30) for run in runs)
        assert [thread.name for thread in threading.enumerate()].count("agent_magic journal") == 1
        assert {run_of(path) for path in tapes(tmp_path)} == {run.id for run in runs}
        assert {replay(read_tape(path), live=False).text for path in tapes(tmp_path)} == {TEXT}

    @pytest.mark.parametrize("busy", [False, True])
    def test_a_plain_script(self, busy: bool) -> None:
        """The journal of a script that ends is whole; where an answer was on its way, it is as one that was cut off."""
        script = (
            "from agent_magic import Agent\n"
            f"result, run = Agent('demo').begin('Why?', {{'stream_delay_ms': {10_000 if busy else 0}}})\n"
            + ("" if busy else "result.wait()\n")
        )
        subprocess.run([sys.executable, "-W", "error", "-X", "dev", "-c", script], check=True, timeout=60)
        (path,) = tapes(journal_folder())
        tape = read_tape(path)
        assert not tape.damaged
        assert (tape.outcome and tape.outcome.status) == (None if busy else "done")


class TestFolder:
    """Where it is, whose it is, how large it is."""

    def test_where_it_is(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The variable names the folder; without it, it is in the user's state folder."""
        assert journal_folder() == tmp_path / "state" / "journal"
        monkeypatch.setenv("AGENT_MAGIC_STATE", "~/there")
        assert journal_folder() == Path.home() / "there" / "journal"
        monkeypatch.delenv("AGENT_MAGIC_STATE")
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
        assert journal_folder() == tmp_path / "xdg" / "agent_magic" / "journal"

    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
    def test_it_is_the_persons_alone(self, umask: int, tmp_path: Path) -> None:
        """Folders are 0700 and files 0600, whatever the umask; one that was open before is closed."""
        before = os.umask(umask)
        try:
            for place in (tmp_path / "new" / "journal", tmp_path / "old" / "journal"):
                if place.parent.name == "old":
                    place.mkdir(parents=True)
                    place.chmod(0o755)
                with ScriptedServer(says(stream_from(0))) as server:
                    finished(server.url, place)
                (path,) = tapes(place)
                assert (place.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
            assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
        finally:
            os.umask(before)

    def test_it_keeps_to_its_size(self, tmp_path: Path) -> None:
        """The oldest runs that ended go first, then those that died; what is within the size stays."""
        ended = [make_tape(tmp_path, second) for second in range(8)]
        dead = make_tape(tmp_path, 100, ended=False)
        prune(tmp_path, [], most=9000, runs=100)
        assert tapes(tmp_path) == [dead, *ended[::-1]]
        prune(tmp_path, [], most=8000, runs=100)
        assert tapes(tmp_path) == [dead, *ended[:1:-1]]
        prune(tmp_path, [], most=10_000, runs=4)
        assert tapes(tmp_path) == [dead, *ended[:4:-1]]
        prune(tmp_path, [], most=100, runs=100)
        assert tapes(tmp_path) == []

    def test_the_dead_stay_longest(self, tmp_path: Path) -> None:
        """A run that can still be recovered is kept while there are others to delete, however old it is."""
        dead = make_tape(tmp_path, 1, ended=False)
        make_tape(tmp_path, 2)
        prune(tmp_path, [], most=1500, runs=100)
        assert tapes(tmp_path) == [dead]

    def test_a_live_run_is_never_deleted(self, tmp_path: Path) -> None:
        """Neither a run of this process, nor one whose lock is held, nor a file that is just being made."""
        own = make_tape(tmp_path, 1, ended=False)
        path, file = create_tape(tmp_path, header_of(2))
        os.write(file, encode_lines([header_of(2)], []))
        born, other = create_tape(tmp_path, header_of(3))
        (tmp_path / "20200101T000000000000Z-x.jsonl").write_text("no tape")
        prune(tmp_path, [own], most=1, runs=1)
        assert tapes(tmp_path) == [born, path, own]
        os.close(file)
        os.close(other)
        prune(tmp_path, [], most=1, runs=1)
        assert tapes(tmp_path) == [born]

    def test_runs_prune_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The folder is looked at by the runs themselves, as they write."""
        monkeypatch.setattr(_writer, "prune", partial(prune, most=10_000))
        monkeypatch.setattr(_writer, "PRUNE_BYTES", 1)
        with ScriptedServer(says(stream_from(0))) as server:
            for _ in range(20):
                finished(server.url, tmp_path)
        assert sum(path.stat().st_size for path in tapes(tmp_path)) < 12_000
        assert len(tapes(tmp_path)) > 3

    @pytest.mark.parametrize(
        ("variable", "settings", "kept"),
        [(None, None, True), ("0", None, False), ("off", None, False), (None, "false", False), ("1", "false", True), ("0", "true", False), ("", "false", False)],
    )  # fmt: skip
    def test_switched_off(
        self, variable: str | None, settings: str | None, kept: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The variable stands above the settings; without a journal no file and no folder is made."""
        if variable is not None:
            monkeypatch.setenv("AGENT_MAGIC_JOURNAL", variable)
        if settings is not None:
            Path("agent_magic.toml").write_text(f"journal = {settings}\n")
        with ScriptedServer(says(stream_from(0))) as server:
            answer = Agent(protocol="runagent", base_url=server.url, key_env="").ask("Why?")
        assert (answer.text, answer.notices) == (TEXT, [])
        assert (tmp_path / "state").exists() == kept

    def test_switched_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A switch in no position is a mistake, in either place."""
        monkeypatch.setenv("AGENT_MAGIC_JOURNAL", "maybe")
        with pytest.raises(ConfigError, match="AGENT_MAGIC_JOURNAL is 0"):
            Agent("demo").begin("Why?")
        monkeypatch.delenv("AGENT_MAGIC_JOURNAL")
        Path("agent_magic.toml").write_text('journal = "no"\n')
        with pytest.raises(ConfigError, match="neither true nor false"):
            Agent("demo")


ASK_AND_HANG = """
    import os, sys, time
    from agent_magic import Agent
    agent = Agent(protocol="runagent", base_url=sys.argv[1], key_env="")
    result, run = agent.begin("Why?")
    from agent_magic._writer import flush_tapes
    while "time" not in result.text:
        time.sleep(0.005)
    flush_tapes()
    if "fork" in sys.argv:
        child_runs, tell = os.pipe()
        if os.fork() == 0:
            os.write(tell, b"x")
            os.close(1)
            time.sleep(60)
        os.read(child_runs, 1)
    print("ready", flush=True)
    time.sleep(60)
"""


def endless(connection: socket.socket, _request: bytes, _number: int) -> None:
    connection.sendall(head() + stream_from(0, end=False))
    connection.recv(1)


class TestOtherProcesses:
    """Several kernels write at once, and one is not taken for dead by another."""

    def test_several_at_once(self, demo_url: str) -> None:
        """The tapes of several processes do not mix."""
        script = """
            import sys
            from agent_magic import Agent
            agent = Agent(protocol="runagent", base_url=sys.argv[1], key_env="")
            results = [agent.begin("Why?")[0] for _ in range(10)]
            print(*{result.wait(60).text for result in results}, [n for result in results for n in result.notices])
        """
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), demo_url]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        said = {process.communicate(timeout=120)[0] for process in processes}
        assert len(said) == 1
        assert len(tapes(journal_folder())) == 30
        texts = {replay(read_tape(path), live=False).text for path in tapes(journal_folder())}
        assert {f"{text} []\n" for text in texts} == said

    @pytest.mark.parametrize("how", ["alone", "fork"])
    def test_a_run_of_another_process(self, how: str) -> None:
        """It is live while its process is, and dead as soon as that is killed, also if a forked child lives on."""
        with ScriptedServer(endless) as server:
            command = [sys.executable, "-c", textwrap.dedent(ASK_AND_HANG), server.url, how]
            with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
                assert process.stdout is not None
                try:
                    assert process.stdout.readline() == b"ready\n"
                    (path,) = tapes(journal_folder())
                    header = read_tape(path).header
                    assert is_live(path, header)
                    assert header.pid == process.pid
                    prune(path.parent, [], most=1, runs=1)
                    assert path.exists()
                    process.kill()
                    process.wait()
                    assert not is_live(path, header)
                    assert replay(read_tape(path), live=False).text == TEXT
                finally:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)

    def test_a_forked_child(self, demo_url: str) -> None:
        """A child of a process that has a journal writes its own tapes, and the parent goes on with its own."""
        script = """
            import os, sys, warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            from agent_magic import Agent
            agent = Agent(protocol="runagent", base_url=sys.argv[1], key_env="")
            agent.ask("Why?")
            child = os.fork()
            assert agent.ask("Why?").notices == []
            if not child:
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(script), demo_url], check=True, timeout=60)
        assert [peek(path)[1] is not None for path in tapes(journal_folder())] == [True] * 3
        assert len({peek(path)[0].pid for path in tapes(journal_folder())}) == 2

    def test_a_file_system_without_locks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without locks, a run is taken for dead only where its process is known to be gone."""

        def refuse(*_: object) -> None:
            raise LockException("No locks available")

        with subprocess.Popen([sys.executable, "-c", "pass"]) as gone:
            pass
        monkeypatch.setattr("portalocker.lock", refuse)
        path = make_tape(tmp_path, 1, ended=False)
        header = peek(path)[0]
        assert is_live(path, header)
        assert not is_live(path, _replaced(header, pid=gone.pid))
        assert is_live(path, _replaced(header, pid=gone.pid, host="elsewhere"))
        assert is_live(path, _replaced(header, pid=1))
        path.unlink()
        assert not is_live(path, header)


def _replaced(header: Header, **changes: Any) -> Header:
    from msgspec.structs import replace

    return replace(header, **changes)


KEY = "sk-Ab/9+z=&\"\\'~?xyz0123456789"


def spellings(key: str) -> set[str]:
    """The key in all the ways in which it could be told from a file."""
    plain = {key, json.dumps(key)[1:-1], json.dumps(json.dumps(key))[3:-3], key.replace("/", "\\/")}
    url = {quote(key, safe=""), quote(key), re.sub("%..", lambda escape: escape[0].lower(), quote(key, safe=""))}
    texts = [key, f"Bearer {key}", f"a:{key}", f"ab{key}!", f"{key}tail"]
    in_base64 = {base64.b64encode(text.encode()).decode() for text in texts}
    in_base64 |= {base64.urlsafe_b64encode(text.encode()).decode() for text in texts}
    return plain | url | in_base64


class TestTheKey:
    """It stands on no tape, however a server sends it back."""

    def test_every_echo_is_struck_out(self, tmp_path: Path) -> None:
        """In text, names, ids and errors, as it is, in JSON, percent-encoded and in base64."""
        echoes = sorted(spellings(KEY))
        chunks = [("chunk", {"content": f"<{said}>", "index": index}) for index, said in enumerate(echoes)]
        stream = event_stream(*chunks, (KEY, f"{KEY} {KEY}"), ("error", {"error": KEY, "code": KEY}))
        with ScriptedServer(says(f"id: {KEY}\n".encode() + stream)) as server:
            headers = {"X-Token": Secret("another-secret", "Bearer ")}
            asked = {"key": Secret(KEY), "parameters": {"a": [KEY]}, "key_env": "MY_KEY", "headers": headers}
            run = finished(server.url, tmp_path, **asked)
        assert (run.transcript.status, run.transcript.notices) == ("failed", [])
        (path,) = tapes(tmp_path)
        self.scan(path.read_text())
        again = replay(read_tape(path), live=False)
        assert again.text.count("***") >= len(echoes)
        assert again.status == "failed"
        assert read_tape(path).header.question.headers == ("X-Token",) or read_tape(path).header.question.headers == [
            "X-Token"
        ]

    def test_an_echo_in_a_refusal(self, tmp_path: Path) -> None:
        """What a server says of a request that it refused stands on the tape without the key."""
        body = json.dumps({"detail": f"Bearer {KEY} and another-secret are wrong"}).encode()

        def script(connection: socket.socket, _request: bytes, _number: int) -> None:
            connection.sendall(head("application/json", "401 No") + body)

        with ScriptedServer(script) as server:
            headers = {"X-Token": Secret("another-secret")}
            run = finished(server.url, tmp_path, key=Secret(KEY), headers=headers)
        assert isinstance(run.transcript.error, AuthError)
        (path,) = tapes(tmp_path)
        self.scan(path.read_text())
        assert "another-secret" not in path.read_text()
        assert '"refusal"' in path.read_text()

    def test_headers_are_named_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No header's value stands on a tape; the scheme before a secret in one is not part of the secret."""
        monkeypatch.setenv("MY_KEY", KEY)
        said = event_stream(("chunk", {"content": "hidden-value plain-value"}), ("done", {}))
        with ScriptedServer(says(said)) as server:
            headers = {"X-Auth": "Bearer hidden-value", "X-Plain": "organisation 7"}
            Agent(protocol="runagent", base_url=server.url, key_env="MY_KEY", headers=headers).ask("Why?")
        (path,) = tapes(journal_folder())
        self.scan(path.read_text())
        assert "hidden-value" not in path.read_text()
        assert "organisation" not in path.read_text()
        assert {"X-Auth", "X-Plain", "MY_KEY"} <= set(path.read_text().replace('"', " ").replace(",", " ").split())

    def scan(self, said: str) -> None:
        for spelling in spellings(KEY):
            assert spelling not in said
            assert spelling.encode() not in said.encode().replace(b"\\\\", b"\\")
