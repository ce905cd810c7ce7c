"""The you-research wire, by You.com's pages on background requests and its SDK.

Its peer is this project's own stand-in, as the real one cannot be reached from here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent_magic._agent import Agent
from agent_magic._connection import check_request
from agent_magic._deck import replay
from agent_magic._history import Past
from agent_magic._journal import journal_folder, tapes
from agent_magic._keys import Secret
from agent_magic._request import AgentRequest, Task
from agent_magic._result import AgentResult
from agent_magic._stream import Policy
from agent_magic._tape import read_tape
from agent_magic._writer import flush_tapes
from agent_magic.errors import AgentError, ConfigError, LimitReached, ProtocolError, StreamLost
from agent_magic.events import (
    AgentEvent,
    Connecting,
    Done,
    Failed,
    Progress,
    Retrying,
    ServerSentEvent,
    Started,
    Unknown,
)
from agent_magic.protocols import HTTPRequest
from agent_magic.protocols.you_research import YouResearch, YouResearchDecoder
from agent_magic.testing import (
    Act,
    Connection,
    ProtocolContract,
    ScriptedServer,
    YouResearchService,
    event_stream,
    fold,
    head,
    run_against,
    says,
)

PIECES = ["The sky is blue, ", "as air scatters ", "short waves more \N{EM DASH} ", "so Rayleigh."]
TEXT = "".join(PIECES)
SERVICE = YouResearchService(PIECES)
TASK = SERVICE.name_of(0)
ASK = AgentRequest(prompt="Why?", base_url="https://api.you.com", agent="demo")
GOES_ON = (
    f"Only the reading has ended: research task {TASK} goes on at the server, and is charged. "
    "%agent recover RUN --resume reads the rest."
)
IS_COMPLETE = (
    f"Research task {TASK} is complete, but its result was not read. %agent recover RUN --resume reads the rest."
)
BEGUN, FINISHED = SERVICE.begun(TASK), SERVICE.finished(TASK)
FAST = Policy(timeout=5, backoff=0, max_wait=1)


class TestTask(ProtocolContract):
    """A task's name, its stream, its result."""

    protocol = YouResearch()
    recorded = SERVICE.recorded
    expected = TEXT
    leading = BEGUN
    following = FINISHED


class TestTextInTheStream(ProtocolContract):
    """A stream that has text, and whose last event has the result: nobody says so, and nobody says no."""

    documented = False
    protocol = YouResearch()
    recorded = event_stream(
        ("connected", {"task_id": TASK}),
        ("response.output_text.delta", {"task_id": TASK, "sequence": 1, "data": {"delta": "A draft \ud83e"}}),
        ("completed", {"task_id": TASK, "sequence": 2, "data": {"result": json.loads(FINISHED)["result"]}}),
    )
    expected = TEXT
    leading = BEGUN


def json_head(body: bytes) -> bytes:
    return head("application/json", "200 OK", f"Content-Length: {len(body)}") + body


def served(stream: Act | bytes = b"", begun: bytes = BEGUN, finished: bytes = FINISHED) -> Act:
    """A server of one task: the replies to the POST, to the stream's GETs, to the result's."""

    async def script(connection: Connection) -> None:
        if connection.head.startswith("POST"):
            await connection.send(json_head(begun))
        elif "/stream" in connection.head.split("\r\n")[0]:
            await (says(stream or SERVICE.recorded) if isinstance(stream, bytes) else stream)(connection)
        else:
            await connection.send(json_head(finished))

    return script


def lines(server: ScriptedServer) -> list[str]:
    """What was asked for, a line each."""
    return [request.split(b" HTTP")[0].decode() for request in server.requests]


STREAM, RESULT = f"GET /v1/research/{TASK}/stream", f"GET /v1/research/{TASK}"


class TestRequest:
    """What is asked for."""

    @pytest.mark.parametrize(
        ("auth", "header"), [(None, ("X-API-Key", "k")), ("bearer", ("Authorization", "Bearer k"))]
    )
    def test_the_post(self, auth: str | None, header: tuple[str, str]) -> None:
        """Path and body as the pages have them; the key as in the SDK, or as the settings say."""
        ask = replace(ASK, parameters={"source_control": {"country": "DE"}}, key=Secret("k"), auth=auth)
        request = YouResearch().request(ask)
        assert (request.method, request.url, request.body) == (
            "POST",
            "https://api.you.com/v1/research",
            {"input": "Why?", "background": True, "source_control": {"country": "DE"}},
        )
        key = request.headers[header[0]]
        assert isinstance(key, Secret)
        assert key.reveal() == header[1]

    def test_the_effort(self) -> None:
        """The agent is the effort; a parameter goes before it, and no other agent is known."""
        deep = replace(ASK, agent="deep")
        asked = [YouResearch().request(ask).body for ask in (deep, replace(deep, parameters={"research_effort": "x"}))]
        assert [body and body["research_effort"] for body in asked] == ["deep", "x"]
        with pytest.raises(ConfigError, match="no agent 'dep': agent is the effort, lite, standard, deep"):
            YouResearch().request(replace(ASK, agent="dep"))

    @pytest.mark.parametrize("name", ["input", "background"])
    def test_own_fields_are_refused(self, name: str) -> None:
        """A parameter cannot take the place of a field that the wire fills."""
        with pytest.raises(ConfigError, match=name):
            YouResearch().request(replace(ASK, parameters={name: 1}))

    @pytest.mark.parametrize(
        ("task", "path"),
        [
            (Task("t"), "/t/stream"),
            (Task("t", 0), "/t/stream?from_id=0"),
            (Task("t", 7), "/t/stream?from_id=7"),
            (Task("t", 7, is_over=True), "/t"),
            (Task("../x?y#z"), "/..%2Fx%3Fy%23z/stream"),
        ],
    )
    def test_the_gets(self, task: Task, path: str) -> None:
        """A task goes on by a GET without a body; its name stays one segment of the path, whatever it is."""
        request = YouResearch().request(replace(ASK, task=task, key=Secret("k")))
        assert (request.method, request.url) == ("GET", f"https://api.you.com/v1/research{path}")
        assert (request.body, request.encoded_body()) == (None, b"")
        check_request(request, FAST)

    def test_a_key_does_not_go_over_http(self) -> None:
        """A GET is looked at as a POST is, before it is sent."""
        request = HTTPRequest("GET", "http://api.you.com/v1/research/t", {"X-API-Key": Secret("k")})
        with pytest.raises(ConfigError, match="https only"):
            check_request(request, FAST)


def decoder(*, begun: bool = True) -> YouResearchDecoder:
    made = YouResearch().decoder(ASK)
    if begun:
        assert list(made.whole(BEGUN))
        made.resume()
    return made


def step(number: int, name: str = "research.reading", **said: Any) -> ServerSentEvent:
    return ServerSentEvent(name, json.dumps({"task_id": TASK, "status": "running", **said}), str(number))


class TestDecoder:
    """What a task says."""

    def test_the_name_of_a_task(self) -> None:
        """The POST's reply names the task and leads on to its stream; it is begun, and no answer."""
        made = YouResearch().decoder(ASK)
        events = list(made.whole(BEGUN))
        sent = ServerSentEvent("", BEGUN.decode())
        assert events == [Started(run_id=TASK, sent=sent), Progress(message="queued", sent=sent)]
        assert made.leads_on
        assert made.resume() == replace(ASK, task=Task(TASK))
        assert not made.leads_on

    def test_the_answer(self) -> None:
        """Text, sources, warnings and the seconds that the task took are in its result."""
        task = json.loads(FINISHED)
        task["result"]["warnings"] = ["One site\nwas closed."]
        transcript = fold(list(decoder().whole(json.dumps(task).encode())))
        assert (transcript.text, transcript.execution_time) == (TEXT, 90)
        (source,) = transcript.sources
        assert (source.url, source.title, source.snippet) == (
            "https://a.example/sky",
            "Sky",
            "Blue light scatters more.\nSo it is blue.",
        )
        assert transcript.notices == ["The server warns: One site was closed."]

    def test_an_answer_that_is_an_object(self) -> None:
        """An answer to an output_schema is JSON."""
        said = {"output": {"content": {"a": ["é"]}, "content_type": "object", "sources": []}}
        transcript = fold(list(decoder(begun=False).whole(json.dumps(said).encode())))
        assert (transcript.text, transcript.is_complete) == ('{"a": ["é"]}', True)

    @pytest.mark.parametrize("name", ["response.done", "complete", "completed"])
    def test_a_stream_that_is_complete(self, name: str) -> None:
        """It leads on to the result, also where its data cannot be read."""
        made = decoder()
        (event,) = made.decode(ServerSentEvent(name, "{", "9"))
        assert (type(event), made.leads_on) == (Progress, True)
        assert made.resume() == replace(ASK, task=Task(TASK, 9, is_over=True))

    @pytest.mark.parametrize(
        ("name", "data", "message", "code"),
        [
            ("error", '{"error": "Too deep", "data": {"code": "E1"}}', "Too deep", "E1"),
            ("error", '{"type": "error", "message": "internal error"}', "internal error", "error"),
            ("failed", '{"error": {"message": "No sources"}}', "No sources", "failed"),
            ("failed", "{", "{", "failed"),
            ("cancelled", '{"error": null}', "the task was cancelled", "cancelled"),
        ],
    )
    def test_a_task_that_failed(self, name: str, data: str, message: str, code: str) -> None:
        """Its reason is the error's, and there is nothing left to take up, or to say."""
        made = decoder()
        sent = ServerSentEvent(name, data)
        assert list(made.decode(sent)) == [Failed(message=message, code=code, sent=sent)]
        assert (made.resume(), list(made.flush())) == (None, [])

    def test_a_failed_task_that_is_asked_for(self) -> None:
        """A task whose status is that it failed is a failure."""
        said = {"id": TASK, "status": "failed", "error": "No sources", "result": None}
        (event,) = decoder().whole(json.dumps(said).encode())
        assert isinstance(event, Failed)
        assert (event.message, event.code) == ("No sources", "failed")

    def test_steps(self) -> None:
        """A step of any name is kept as it came, and says what goes on: in its own words, or by its name."""
        events = [
            event
            for sent in (step(1), step(2, data={"message": "Reading\n3 pages"}))
            for event in decoder().decode(sent)
        ]
        assert [event.message for event in events if isinstance(event, Progress)] == [
            "research.reading",
            "Reading 3 pages",
        ]
        assert [event.name for event in events if isinstance(event, Unknown)] == ["research.reading"] * 2

    def test_what_had_come_is_dropped(self) -> None:
        """After a cut: whether the event of from_id comes again or not, each event is taken once."""
        made = decoder()
        assert [bool(list(made.decode(step(number)))) for number in (1, 2, 3)] == [True] * 3
        assert made.resume() == replace(ASK, task=Task(TASK, 3))
        again = [list(made.decode(step(number))) for number in (2, 3, 4)]
        assert [bool(events) for events in again] == [False, False, True]
        assert list(made.decode(step(0, "connected")))
        assert fold([event for events in again for event in events]).notices == []

    def test_a_gap(self) -> None:
        """After a cut, events that the server skipped are said; where its numbers had gaps before, none can be told."""
        made, other = decoder(), decoder()
        list(made.decode(step(1)))
        list(other.decode(step(1)))
        list(other.decode(step(3)))
        for one in (made, other):
            one.resume()
        assert fold(list(made.decode(step(4)))).notices == ["Events 2 to 3 are missing here: the server skipped them."]
        assert fold(list(other.decode(step(6)))).notices == []

    def test_a_sequence_goes_before_an_id(self) -> None:
        """An event without an id is not taken for the one whose id stands still."""
        made = decoder()
        list(made.decode(step(1, sequence=1)))
        made.resume()
        assert list(made.decode(step(1, sequence=2)))

    @pytest.mark.parametrize("name", [".", "..", "", 7, None, "x" * 201])
    def test_a_name_that_is_none(self, name: object) -> None:
        """What cannot stand in a URL's path is no task."""
        with pytest.raises(ProtocolError, match="neither a task nor its result"):
            list(decoder(begun=False).whole(json.dumps({"task_id": name, "status": "queued"}).encode()))

    def test_a_result_that_is_none(self) -> None:
        """A complete task leads to its result; one that has none breaks the protocol."""
        complete = json.dumps({"id": TASK, "status": "completed", "result": None}).encode()
        made = decoder()
        assert list(made.whole(complete))
        assert made.leads_on
        with pytest.raises(ProtocolError, match="no result"):
            list(made.whole(complete))

    @pytest.mark.parametrize(
        ("heard", "words"),
        [([], GOES_ON), ([step(1)], GOES_ON), ([step(1, "response.done")], IS_COMPLETE)],
    )
    def test_last_words(self, heard: list[ServerSentEvent], words: str) -> None:
        """A run that ends before its task says what it ended, and how the rest is had."""
        made = decoder()
        events = [event for sent in heard for event in made.decode(sent)]
        assert fold([*events, *made.flush()]).notices == [words]

    def test_no_last_words(self) -> None:
        """There is nothing to say where no task has begun, nor where the answer is whole."""
        whole = decoder()
        assert isinstance(list(whole.whole(FINISHED))[-1], Done)
        assert [list(one.flush()) for one in (decoder(begun=False), whole)] == [[], []]


class TestRun:
    """A task from its beginning to its result, over real sockets."""

    def test_a_run(self) -> None:
        """Three requests, one behind the other, none of them a retry; the key goes with each, and nowhere else."""
        begun = json.dumps({**json.loads(BEGUN), "stream_url": "http://127.0.0.1:1/elsewhere"}).encode()
        with ScriptedServer(served(begun=begun)) as server:
            run = run_against(server.url, YouResearch(), key=Secret("the-key-of-the-test"))
        assert (run.transcript.status, run.transcript.text, run.transcript.run_id) == ("done", TEXT, TASK)
        assert (run.transcript.notices, run.transcript.retries) == ([], 0)
        assert lines(server) == ["POST /v1/research", STREAM, RESULT]
        assert all(b"x-api-key: the-key-of-the-test\r\n" in request.lower() for request in server.requests)
        assert [b"content-type" in request.lower() for request in server.requests] == [True, False, False]

    def test_a_cut(self) -> None:
        """The stream goes on behind the last event that came, and not by a second task."""
        place = SERVICE.reply.index(b"id: 3\n") + 10
        with ScriptedServer(SERVICE.cut_at(place)) as server:
            run = run_against(server.url, YouResearch())
        assert (run.transcript.status, run.transcript.text, run.transcript.retries) == ("done", TEXT, 1)
        assert lines(server) == ["POST /v1/research", STREAM, f"{STREAM}?from_id=2", RESULT]

    def test_steps_renew_the_budget(self) -> None:
        """A stream that breaks off behind every step gets to its end, however few retries there are."""
        number = 0

        async def stream(connection: Connection) -> None:
            nonlocal number
            number += 1
            await connection.send(head() + (SERVICE.events[0] + SERVICE.events[number]))

        with ScriptedServer(served(stream)) as server:
            run = run_against(server.url, YouResearch(), Policy(timeout=5, backoff=0, retries=1))
        assert (run.transcript.status, run.transcript.text, run.transcript.retries) == ("done", TEXT, len(PIECES))

    def test_nothing_new(self) -> None:
        """A stream that only greets is lost after the usual retries, and the task is not said to have ended."""
        with ScriptedServer(served(SERVICE.events[0])) as server:
            run = run_against(server.url, YouResearch(), FAST)
        assert isinstance(run.transcript.error, StreamLost)
        assert (len(server.requests), run.transcript.notices) == (1 + 1 + 3, [GOES_ON])

    def test_a_result_that_is_late(self) -> None:
        """The stream has ended and the task says that it runs: the result is asked for again, at intervals."""
        replies = iter([{"id": TASK, "status": "running"}, json.loads(FINISHED)])

        async def script(connection: Connection) -> None:
            if "/stream" in connection.head or connection.head.startswith("POST"):
                await served()(connection)
            else:
                await connection.send(json_head(json.dumps(next(replies)).encode()))

        with ScriptedServer(script) as server:
            run = run_against(server.url, YouResearch())
        assert (run.transcript.status, run.transcript.text) == ("done", TEXT)
        assert lines(server) == ["POST /v1/research", STREAM, RESULT, RESULT]
        assert [event.attempt for event in run.transcript.events if isinstance(event, Retrying)] == [1]

    def test_a_result_that_is_cut_short(self) -> None:
        """A result whose length nobody stated, and of which only a part came, is asked for again."""
        replies = iter([FINISHED[:-40], FINISHED])

        async def script(connection: Connection) -> None:
            if "/stream" in connection.head or connection.head.startswith("POST"):
                await served()(connection)
            else:
                await connection.send(head("application/json") + next(replies))

        with ScriptedServer(script) as server:
            run = run_against(server.url, YouResearch())
        assert (run.transcript.status, run.transcript.text, run.transcript.retries) == ("done", TEXT, 1)

    def test_a_result_that_never_comes(self) -> None:
        """A task that says for ever that it runs is asked no oftener than a lost connection is made anew."""
        with ScriptedServer(served(finished=b'{"id": "t", "status": "running"}')) as server:
            run = run_against(server.url, YouResearch(), FAST)
        assert "answered without the rest of the answer" in str(run.transcript.error)
        assert isinstance(run.transcript.error, StreamLost)
        assert (lines(server)[2:], run.transcript.notices) == ([RESULT] * 4, [IS_COMPLETE])

    @pytest.mark.parametrize("body", [FINISHED, json.dumps({"id": TASK, "status": "completed"}).encode()])
    def test_a_stream_that_is_answered_whole(self, body: bytes) -> None:
        """A GET of the stream that gives the finished task is the answer, or leads to it."""
        with ScriptedServer(served(says(body, content_type="application/json"))) as server:
            run = run_against(server.url, YouResearch())
        assert (run.transcript.status, run.transcript.text, run.transcript.retries) == ("done", TEXT, 0)

    def test_a_post_that_waits(self) -> None:
        """A server that does not know of tasks answers the POST with the answer."""
        body = json.dumps(json.loads(FINISHED)["result"]).encode()
        with ScriptedServer(says(body, content_type="application/json")) as server:
            run = run_against(server.url, YouResearch())
        assert (run.transcript.status, run.transcript.text, len(server.requests)) == ("done", TEXT, 1)

    def test_a_reply_that_is_nothing(self) -> None:
        """A POST's reply that names no task is a broken protocol, and is not asked for again."""
        with ScriptedServer(says(b"{}", content_type="application/json")) as server:
            run = run_against(server.url, YouResearch())
        assert isinstance(run.transcript.error, ProtocolError)
        assert len(server.requests) == 1

    def test_an_end_that_stays_open(self) -> None:
        """The last event is the stream's end, also where the server leaves the connection open."""

        async def stream(connection: Connection) -> None:
            await connection.send(head() + SERVICE.recorded)
            await connection.stall()

        with ScriptedServer(served(stream)) as server:
            run = run_against(server.url, YouResearch())
        assert (run.transcript.status, run.transcript.text) == ("done", TEXT)

    def test_a_forgotten_task(self) -> None:
        """A task that the server no longer knows is a lost stream, and no new task is begun."""
        with ScriptedServer(SERVICE.cut_at(900, resume="forgot")) as server:
            run = run_against(server.url, YouResearch())
        assert "404: Task not found" in str(run.transcript.error)
        assert sum(line.startswith("POST") for line in lines(server)) == 1

    def test_a_failed_task(self) -> None:
        """What the task failed with is the run's error."""
        failed = event_stream(("failed", {"task_id": TASK, "status": "failed", "error": "No sources"}))
        with ScriptedServer(served(failed)) as server:
            run = run_against(server.url, YouResearch())
        error = run.transcript.error
        assert isinstance(error, AgentError)
        assert (error.message, run.transcript.notices) == ("No sources", [])

    def test_a_limit(self) -> None:
        """`max_time` ends the reading; that the task goes on is said."""

        async def stream(connection: Connection) -> None:
            await connection.send(head() + SERVICE.events[0])
            await connection.stall()

        with ScriptedServer(served(stream)) as server:
            run = run_against(server.url, YouResearch(), Policy(max_time=0.3))
        assert isinstance(run.transcript.error, LimitReached)
        assert run.transcript.notices == [GOES_ON]

    def test_text_that_is_too_long(self) -> None:
        """Text in the stream that reaches its limit ends the reading; that the task goes on is said, and replayed."""
        delta = ("response.output_text.delta", {"task_id": TASK, "sequence": 1, "data": {"delta": "x" * 3000}})
        with ScriptedServer(served(event_stream(delta))) as server:
            agent = Agent(protocol="you-research", base_url=server.url, key_env="", max_text=1000)
            result = agent.begin("Why?")[0].wait(30)
        assert isinstance(result.error, LimitReached)
        assert result.notices[-1] == GOES_ON
        flush_tapes()
        (path,) = tapes(journal_folder())
        assert replay(read_tape(path), live=False).notices == result.notices


class _Endless:
    """A decoder that leads on for ever."""

    def __init__(self) -> None:
        self.leads_on = False

    def decode(self, sent: ServerSentEvent) -> list[AgentEvent]:
        self.leads_on = True
        return [Progress(message="on", sent=sent)]

    def whole(self, body: bytes) -> list[AgentEvent]:
        return self.decode(ServerSentEvent("", body.decode()))

    def closed(self) -> list[AgentEvent]:
        return []

    def flush(self) -> list[AgentEvent]:
        return []

    def resume(self) -> AgentRequest:
        self.leads_on = False
        return ASK


class Endless(YouResearch):
    def request(self, ask: AgentRequest) -> HTTPRequest:  # noqa: ARG002 (every question is the same)
        return HTTPRequest("GET", self.base_url, {})

    def decoder(self, ask: AgentRequest) -> Any:  # noqa: ARG002 (as above)
        return _Endless()


@pytest.mark.parametrize(("kind", "body"), [("application/json", b"{}"), ("text/event-stream", b"data: x\n\n")])
def test_nobody_leads_on_for_ever(kind: str, body: bytes) -> None:
    """A server whose every reply leads to another is asked a few times, and no more."""
    with ScriptedServer(says(body, content_type=kind)) as server:
        wire = Endless()
        wire.base_url = server.url
        run = run_against(server.url, wire, FAST)
    assert "led from one reply to the next and to no answer" in str(run.transcript.error)
    assert len(server.requests) == sum(isinstance(one, Connecting) for one in run.transcript.events) == 5 + 3


@contextmanager
def halfway(then: Callable[[AgentResult], object]) -> Iterator[tuple[ScriptedServer, AgentResult]]:
    """A task of which half has been read when `then` happens; it goes on meanwhile, and the rest is there."""

    async def stream(connection: Connection) -> None:
        asked = connection.head.split(" ", 2)[1].partition("from_id=")[2]
        if asked:
            await SERVICE.take_up(connection, int(asked), "repeats")
        else:
            await connection.send(head() + b"".join(SERVICE.events[:3]))
            await connection.stall()

    with ScriptedServer(served(stream)) as server:
        result, run = Agent(protocol="you-research", base_url=server.url, key_env="").begin("Why?")

        def act() -> None:
            if run.transcript.doing == "step 2":
                then(result)

        run.listen(act)
        yield server, result.wait(30)


def test_stopped_and_gone_on_with() -> None:
    """A stop says what it stopped; what was stopped is gone on with where it ended, and by no second task."""
    with halfway(lambda result: result.stop()) as (server, result):
        assert (result.status, result.text, result.notices) == ("stopped", "", [GOES_ON])
        past = Past.find(result.run_id)
        assert past.result().notices == [GOES_ON]
        whole = past.resumed().wait(30)
        assert (whole.status, whole.text, whole.notices) == ("done", TEXT, [])
        assert lines(server) == ["POST /v1/research", STREAM, f"{STREAM}?from_id=2", RESULT]


def test_killed_at_each_line_of_its_tape() -> None:
    """Wherever a run was cut off behind the task's name, it goes on to the same answer, and with the same task."""
    with ScriptedServer(SERVICE.cuts(lambda _body: None, lambda _body: "FIN", "repeats")) as server:
        agent = Agent(protocol="you-research", base_url=server.url, key_env="")
        result = agent.begin("Why?")[0].wait(30)
        flush_tapes()
        (path,) = tapes(journal_folder())
        written = path.read_bytes().splitlines(keepends=True)
        named = next(place for place, line in enumerate(written) if b'"kind":"reply"' in line) + 1
        ended = max(place for place, line in enumerate(written) if b'"kind":"reply"' in line)
        for kept in range(named, ended + 1):
            path.write_bytes(b"".join(written[:kept]))
            cut_off = Past.find(result.run_id)
            said = cut_off.result().notices
            assert [notice in {GOES_ON, IS_COMPLETE} for notice in said] == [True]
            whole = cut_off.resumed().wait(30)
            assert (whole.status, whole.text, whole.notices) == ("done", TEXT, []), kept
    assert sum(line.startswith("POST") for line in lines(server)) == 1


def test_the_committed_tape(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tape of this project's own stand-in for You.com (a real one cannot be reached) gives its answer again."""
    shutil.copytree(Path(__file__).parent / "tapes" / "you-research", tmp_path / "tapes")
    monkeypatch.setenv("AGENT_MAGIC_TAPES", str(tmp_path / "tapes"))
    result = Agent(protocol="you-research", agent="deep", key_env="", tape="replay").ask("Why is the sky blue?")
    assert (result.status, result.text, result.replayed) == ("done", TEXT, True)
    assert [source.url for source in result.sources] == ["https://a.example/sky"]
