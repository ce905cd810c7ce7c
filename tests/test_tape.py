"""A tape: what a run heard, written down, read back, and played to the same transcript."""

from __future__ import annotations

import json
import pickle
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_magic._deck import replay
from agent_magic._journal import tapes
from agent_magic._request import AgentRequest
from agent_magic._result import AgentResult
from agent_magic._run import Run
from agent_magic._stream import Policy
from agent_magic._tape import Fault, Flushed, Header, Outcome, peek, read_tape
from agent_magic._taping import Taping
from agent_magic._transcript import Transcript
from agent_magic._writer import flush_tapes
from agent_magic.errors import AgentMagicError, ConfigError, RateLimited, StreamLost
from agent_magic.protocols import AgentProtocol
from agent_magic.protocols.runagent import RunAgent
from agent_magic.protocols.you import You
from agent_magic.testing import Act, Script, ScriptedServer, event_stream, head, says
from tests.test_stream import resuming, statuses, stream_from

FAST = Policy(timeout=5, backoff=0, max_wait=1)
RUNAGENT_REPLY = {"result": "Once.", "usage": {"total_tokens": 3}, "metadata": {"execution_time": 0.5}}
YOU_REPLY = {
    "output": [
        {"type": "web_search.results", "content": [{"url": "https://a.b"}]},
        {"type": "message.answer", "text": "Once."},
    ]
}


def recorded(tmp_path: Path, script: Script | Act, protocol: AgentProtocol, policy: Policy = FAST) -> tuple[Run, Path]:
    """A run that has ended, and its tape."""
    with ScriptedServer(script) as server:
        run = Run(protocol, AgentRequest("Why?", server.url, "demo"), policy, "test", Taping(tmp_path / "journal"))
        run.start()
        assert run.wait(60)
    (path,) = [path for path in tapes(tmp_path / "journal") if path.name.endswith(f"{run.id}.jsonl")]
    return run, path


def facts(transcript: Transcript) -> dict[str, Any]:
    """All of a transcript but its clock and the times that it read there."""
    left_out = {
        "_lock",
        "_clock",
        "_joined",
        "began",
        "ended",
        "first_event",
        "first_text",
        "retry_at",
        "error",
        "_steps",
    }
    known = {name: value for name, value in vars(transcript).items() if name not in left_out}
    error = transcript.error
    steps = [msgspec.structs.replace(step, seconds=None) for step in transcript.steps]
    return {**known, "steps": steps, "text": transcript.text, "error": error and (type(error), str(error), vars(error))}


def you(*events: tuple[str, Any]) -> bytes:
    return event_stream(*((name, {"seq_id": 0, "type": name, "response": response}) for name, response in events))


def delta(text: str, item: int = 0) -> tuple[str, Any]:
    return "response.output_text.delta", {"output_index": item, "type": "message.answer", "delta": text}


def capacity(pieces_before: int, *, times: int) -> Script | Act:
    """A server that lacks capacity for its first answers, after some pieces, and then resumes."""

    def script(connection: socket.socket, request: bytes, number: int) -> None:
        start = json.loads(request.partition(b"\r\n\r\n")[2]).get("parameters", {}).get("resume_from_index", 0)
        failed = {"error": "Overloaded", "code": "CAPACITY_ERROR", "retry_after": 0}
        begun = stream_from(start, end=False, pieces=["Once ", "upon "][:pieces_before])
        connection.sendall(head() + (begun + event_stream(("error", failed)) if number < times else stream_from(start)))

    return script


SCRIPTS: dict[str, tuple[Script | Act, AgentProtocol, Policy]] = {
    "whole": (says(stream_from(0)), RunAgent(), FAST),
    "refused at first": (statuses(("503 Busy", b'{"error": "busy"}', []), ("429 Slow", b"{}", ["Retry-After: 0"])), RunAgent(), FAST),
    "an empty JSON reply": (says(b"", content_type="application/json"), RunAgent(), FAST),
    "no key": (statuses(("401 No", b'{"detail": "no"}', [])), RunAgent(), FAST),
    "redirected": (statuses(("302 Found", b"", ["Location: /x"])), You(), FAST),
    "capacity": (capacity(1, times=1), RunAgent(), FAST),
    "capacity, given up": (capacity(1, times=99), RunAgent(), msgspec.structs.replace(FAST, retries=2)),
    "capacity before anything, given up": (capacity(0, times=99), RunAgent(), FAST),
    "a wait too long": (says(event_stream(("start", {"session_id": "s"}), ("chunk", {"content": "a", "index": 0}), ("error", {"error": "Full", "code": "CAPACITY_ERROR", "retry_after": 9}))), RunAgent(), FAST),
    "failed": (says(event_stream(("chunk", {"content": "a"}), ("error", {"error": "No", "code": "STREAM_ERROR"}), ("chunk", {"content": "b"}))), RunAgent(), FAST),
    "not resumable": (says(event_stream(("chunk", {"content": "a"}))), RunAgent(), FAST),
    "given up": (says(event_stream(("start", {"session_id": "s"}), ("chunk", {"content": "a", "index": 0}))), RunAgent(), FAST),
    "a gap": (says(event_stream(*(("chunk", {"content": "a", "index": index}) for index in (0, 2, 2, 1, 7)), ("done", {}))), RunAgent(), FAST),
    "half a character": (says(event_stream(("chunk", {"content": "a\ud83e"}))), RunAgent(), FAST),
    "broken data": (says(event_stream(("chunk", {"content": "a"}), ("chunk", "{"))), RunAgent(), FAST),
    "another kind of content": (says(b"<html>", content_type="text/html"), RunAgent(), FAST),
    "too large": (says(event_stream(("chunk", {"content": "a"}), ("chunk", {"content": "b" * 2000}))), RunAgent(), msgspec.structs.replace(FAST, max_event=1000)),
    "unknown": (says(b"id: 7\nevent: new\ndata: a\ndata: \xe2\x80\xa8\xf0\x9f\x98\x80\n\n" + stream_from(0)), RunAgent(), FAST),
    "a JSON reply": (says(json.dumps(RUNAGENT_REPLY).encode(), content_type="application/json"), RunAgent(), FAST),
    "a JSON reply of You.com": (says(json.dumps(YOU_REPLY).encode(), content_type="application/json"), You(), FAST),
    "a broken JSON reply": (says(b"{\xff", content_type="application/json"), You(), FAST),
    "You.com": (says(you(("response.created", None), delta("b", 1), delta("a"), ("response.output_content.full", {"type": "web_search.results", "full": [{"url": "https://a.b"}]}), ("response.done", {"finished": False}))), You(), FAST),
    "You.com, cut": (says(you(delta("a\ud83e"))), You(), FAST),
    "You.com, broken": (says(you(delta("a"), ("response.output_text.delta", 3))), You(), FAST),
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_replay_is_the_run(name: str, tmp_path: Path) -> None:
    """Played, a tape gives the transcript of its run: events, text, notices, status and error."""
    run, path = recorded(tmp_path, *SCRIPTS[name])
    tape = read_tape(path)
    assert facts(replay(tape, live=False)) == facts(run.transcript)
    assert peek(path) == (tape.header, tape.outcome)
    assert run.transcript.status != "running"


@pytest.mark.parametrize("back", [0, 1, 99])
def test_a_resumed_run(back: int, tmp_path: Path) -> None:
    """Cut twice, and resumed exactly, one chunk early or from the beginning, a run and its replay are the same."""
    whole = stream_from(0)
    for cut in range(whole.index(b"\n\n") + 2, len(whole) - 1, 11):
        run, path = recorded(tmp_path, resuming([cut, cut], back), RunAgent())
        assert run.transcript.text == "Once upon a time."
        assert facts(replay(read_tape(path), live=False)) == facts(run.transcript), cut


def test_the_times_are_on_the_tape(tmp_path: Path) -> None:
    """A replay takes no time of its own: its seconds are those of the run."""
    run, path = recorded(tmp_path, resuming([100]), RunAgent())
    again = replay(read_tape(path), live=False)
    assert again.elapsed == pytest.approx(run.transcript.elapsed, abs=1e-6)
    assert again.first_event is not None
    assert again.first_text is not None
    assert 0 < again.first_event <= again.first_text <= again.elapsed


def test_a_stopped_run(tmp_path: Path) -> None:
    """A run that was stopped comes back as stopped, with what it had."""

    def script(connection: socket.socket, _request: bytes, _number: int) -> None:
        connection.sendall(head() + stream_from(0, end=False))
        connection.recv(1)

    with ScriptedServer(script) as server:
        run = Run(RunAgent(), AgentRequest("Why?", server.url, "demo"), FAST, "test", Taping(tmp_path / "journal"))
        run.listen(lambda: run.stop() if run.transcript.text.endswith(".") else None)
        run.start()
        assert run.wait(10)
    (path,) = tapes(tmp_path / "journal")
    again = replay(read_tape(path), live=False)
    assert (again.status, again.text, again.error) == ("stopped", "Once upon a time.", None)
    assert facts(again) == facts(run.transcript)


def test_what_is_on_a_tape(tmp_path: Path) -> None:
    """One line each: what was asked, what the connection did, each event as it was sent, the outcome."""
    _, path = recorded(tmp_path, resuming([120]), RunAgent())
    header, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert (header["kind"], header["version"], header["question"]["prompt"]) == ("agent_magic tape", 1, "Why?")
    assert [line["kind"] for line in lines] == [
        "connecting", "connected", "event", "event", "closed", "resume", "retrying",
        "connecting", "connected", "event", "event", "event", "event", "event", "event", "flush", "outcome",
    ]  # fmt: skip
    assert lines[3]["data"] == '{"content": "Once ", "index": 0}'
    assert lines[-1]["status"] == "done"
    times = [line["at"] for line in lines]
    assert times == sorted(times)


def test_torn_at_every_byte(tmp_path: Path) -> None:
    """Cut off anywhere, a tape reads back what stands before: never less, never anything else."""
    run, path = recorded(tmp_path, resuming([120], back=1), RunAgent())
    data, whole = path.read_bytes(), read_tape(path)
    torn = tmp_path / path.name
    first_line = data.index(b"\n")
    for cut in range(len(data)):
        torn.write_bytes(data[:cut])
        if cut < first_line:
            with pytest.raises(ConfigError, match="not a tape"):
                read_tape(torn)
            continue
        tape = read_tape(torn)
        # A line without its line end is whole all the same.
        complete = max(0, data[: cut + 1].count(b"\n") - 1)
        assert tape.entries == whole.entries[:complete]
        assert (tape.outcome, tape.damaged) == (whole.outcome if cut == len(data) - 1 else None, False)
        assert peek(torn) == (whole.header, tape.outcome)
        transcript = replay(tape, live=False)
        assert run.transcript.text.startswith(transcript.text)
        assert transcript.status == ("done" if transcript.is_complete else "failed")


def test_cut_off_by_the_end_of_its_process(tmp_path: Path) -> None:
    """A tape without an outcome is a failed run that says how to go on, where that can be."""
    _, path = recorded(tmp_path, resuming([120]), RunAgent())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]))
    lost = replay(read_tape(path), live=False)
    assert (lost.status, lost.text, type(lost.error)) == ("failed", "Once ", StreamLost)
    assert "--resume" in str(lost.error)
    path.write_bytes(b"".join(lines[:3]))
    assert "--resume" not in str(replay(read_tape(path), live=False).error)
    running = replay(read_tape(path), live=True)
    assert (running.status, running.error) == ("running", None)


def test_any_damage(tmp_path: Path) -> None:
    """Whatever became of a tape's bytes, it is read as far as it goes, or said to be no tape."""
    _, path = recorded(tmp_path, resuming([120], back=1), RunAgent())
    data = path.read_bytes()
    damaged = tmp_path / path.name
    bits = st.tuples(st.integers(0, len(data) - 1), st.binary(max_size=5), st.integers(0, 40))

    @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(bits, min_size=1, max_size=4))
    def check(changes: list[tuple[int, bytes, int]]) -> None:
        said = data
        for place, new, gone in changes:
            said = said[:place] + new + said[place + gone :]
        damaged.write_bytes(said)
        with suppress(ConfigError):
            tape = read_tape(damaged)
            assert peek(damaged)[0] == tape.header
            result = AgentResult.of_tape(tape.header, replay(tape, live=False))
            assert result.status != "running"
            assert repr(result)

    check()


def test_a_damaged_line(tmp_path: Path) -> None:
    """What stands behind a line that is no line is left out, and that is said."""
    _, path = recorded(tmp_path, says(stream_from(0)), RunAgent())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], b"\0\0\0\n", *lines[6:]]))
    transcript = replay(read_tape(path), live=False)
    assert (transcript.status, transcript.text) == ("failed", "Once ")
    assert ["damaged" in notice for notice in transcript.notices] == [True]


def test_a_newer_format(tmp_path: Path) -> None:
    """A tape of a newer format is not guessed at: one sentence says what to do."""
    _, path = recorded(tmp_path, says(stream_from(0)), RunAgent())
    path.write_bytes(path.read_bytes().replace(b'"version":1,', b'"version":2,"new":true,', 1))
    for read in (read_tape, peek):
        with pytest.raises(ConfigError, match=r"newer agent_magic.*upgrade"):
            read(path)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"{}", b"[1]\n", b"\xff\n", b'{"kind": "agent_magic tape", "version": 1}\n']
)
def test_no_tape(content: bytes, tmp_path: Path) -> None:
    """A file that is no tape is said to be none."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    for read in (read_tape, peek):
        with pytest.raises(ConfigError, match="not a tape"):
            read(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_tape(tmp_path / "nothing")


def test_a_recovered_result_is_any_result(tmp_path: Path) -> None:
    """A result from a tape has what it had in its run, and pickles."""
    run, path = recorded(tmp_path, resuming([120]), RunAgent())
    tape = read_tape(path)
    result = AgentResult.of_tape(tape.header, replay(tape, live=False))
    live = AgentResult(run, {})
    for one in (result, pickle.loads(pickle.dumps(result))):
        assert [getattr(one, name) for name in ("text", "status", "events", "usage", "session_id", "run_id", "prompt", "agent", "protocol", "parameters", "notices")] == \
               [getattr(live, name) for name in ("text", "status", "events", "usage", "session_id", "run_id", "prompt", "agent", "protocol", "parameters", "notices")]  # fmt: skip
        assert one.wait() is one
        one.stop()
        assert one._repr_markdown_() == live._repr_markdown_()


@pytest.mark.parametrize(
    "make", [lambda: RateLimited("Wait.", 3.0), lambda: StreamLost("x" * 20_000), lambda: AgentMagicError("?")]
)
def test_errors_come_back(make: Callable[[], AgentMagicError]) -> None:
    """An error comes back as what it was, with its fields; words without end are cut."""
    error = make()
    again = Fault.of(error).error()
    assert (type(again), str(again), vars(again)) == (type(error), str(error)[:10_000], vars(error))


def test_an_error_of_another_version() -> None:
    """A kind of error that is not known here keeps its words, and names no other thing of the module."""
    for kind in ("Overheated", "re", "_restore"):
        error = Fault(kind, "Too hot.").error()
        assert (type(error), str(error)) == (AgentMagicError, "Too hot.")


def test_no_run_changes_the_tape_of_another(tmp_path: Path) -> None:
    """Each run has a tape of its own, and its name sorts by the run's start."""
    names = [recorded(tmp_path, says(stream_from(0)), RunAgent())[1].name for _ in range(3)]
    flush_tapes()
    assert names == sorted(names)
    assert [path.name for path in tapes(tmp_path / "journal")] == names[::-1]
    assert all(isinstance(read_tape(path).header, Header) for path in tapes(tmp_path / "journal"))
    assert all(isinstance(peek(path)[1], Outcome) for path in tapes(tmp_path / "journal"))
    assert all(isinstance(read_tape(path).entries[-1], Flushed) for path in tapes(tmp_path / "journal"))
