"""A key never shows: whatever a server does with it, whatever way a run ends, wherever one looks afterwards."""

from __future__ import annotations

import base64
import json
import logging
import os
import pickle
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

import nbformat
import pytest
from nbclient import NotebookClient
from rich.console import Console

from agent_magic import Agent, AgentResult
from agent_magic._deck import replay
from agent_magic._echo import guarded
from agent_magic._keys import Secret
from agent_magic._request import AgentRequest
from agent_magic._run import Run
from agent_magic._stream import Policy
from agent_magic._tape import read_tape
from agent_magic._taping import Taping
from agent_magic._transcript import Transcript
from agent_magic.errors import AgentMagicError, ConfigError
from agent_magic.events import AgentEvent, ServerSentEvent, Text
from agent_magic.protocols import AgentProtocol
from agent_magic.protocols.runagent import RunAgent, RunAgentDecoder
from agent_magic.protocols.you import You
from agent_magic.testing import Act, Certificates, Connection, ScriptedServer, event_stream, head, refuses, says
from agent_magic.views._base import Caption
from agent_magic.views.plain import PlainView
from agent_magic.views.terminal import TerminalView

# With every sign that one of the encodings writes in its own way.
KEY = "sk-Ab/9+z=&\"\\'~?xyz0123456789"
HEADER_KEY = "hidden/header+value=98765"
KEYS = (KEY, HEADER_KEY)
STATUSES = (400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504)
POLICY = Policy(timeout=10, retries=1, backoff=0, max_wait=1)
RUN_OF_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{12,}")


def spellings() -> Iterator[str]:
    """The keys in the ways in which a server may write them."""
    for key in KEYS:
        yield from (key, f"Bearer {key}", json.dumps(key)[1:-1], json.dumps(json.dumps(key)), quote(key, safe=""))
        yield from (quote(key), re.sub("%..", lambda found: found[0].lower(), quote(key, safe="")))
        for before in ("", "a", "ab", "Bearer "):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                yield encode(f"{before}{key}".encode()).decode()


def shown(artefact: str) -> list[str]:
    """The keys in `artefact`, however they are written; its base64 is decoded, at any offset, and not guessed."""
    readings = [artefact, unquote(artefact)]
    for found in RUN_OF_BASE64.findall(artefact):
        run = found.translate(str.maketrans("-_", "+/"))
        for start in range(4):
            piece = run[start:]
            decoded = base64.b64decode(piece + "A" * (-len(piece) % 4))
            readings.append(decoded.decode("latin-1"))
    bare = [re.sub(r"\\+(?:u00([0-9a-fA-F]{2}))?", _unescaped, reading) for reading in readings]
    wanted = {key: key.replace("\\", "") for key in KEYS}
    return [key for key, plain in wanted.items() if any(plain in reading for reading in bare)]


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)).replace("\\", "") if found[1] else ""


def test_the_scan_finds_what_it_is_to_find() -> None:
    """Each spelling is found, also in a text; a text without is not."""
    assert [said for said in spellings() if not shown(f"<{said}>")] == []
    assert shown(repr(KEY))
    assert not shown("sk-Ab/9 hidden/header " + base64.b64encode(b"another one altogether").decode())


ECHO = " ".join(spellings())
BODIES = {
    "JSON": json.dumps({"error": {"message": f"no {ECHO}", "code": KEY}, "request": {"headers": {KEY: ECHO}}}).encode(),
    "HTML": f"<html>Authorization: Bearer {ECHO}</html>".encode(),
    "straddling the cut": b"x" * (64 * 1024 - 20) + ECHO.encode(),
}


def chunks(*pieces: str) -> list[tuple[str, Any]]:
    return [("chunk", {"content": piece, "index": index}) for index, piece in enumerate(pieces)]


WHOLE = event_stream(
    ("start", {"session_id": KEY}),
    *chunks("Here: ", *(f"<{said}>" for said in spellings()), " end."),
    ("unheard-of", {"echo": [ECHO, {KEY: KEY}]}),
    (KEY, KEY),
    ("done", {"usage": {"input_tokens": 1, KEY: ECHO}, "metadata": {"usage": {"raw": ECHO}}}),
)
CUT_SMALL = event_stream(*chunks("Here: ", *(sign for key in KEYS for sign in f"{key} "), "end."), ("done", {}))
CUT_IN_TWO = event_stream(
    *chunks(*(part for said in spellings() for cut in (1, len(said) // 2, len(said) - 1) for part in (said[:cut], f"{said[cut:]}\n"))),
    ("done", {}),
)  # fmt: skip
UNICODE = "".join(f"\\u{ord(sign):04x}" for sign in KEY)
ESCAPED = (
    b'event: start\ndata: {"session_id": "%b"}\n\nevent: chunk\ndata: {"content": "%b", "index": 0}\n\nevent: done\ndata: {}\n\n'
    % (UNICODE.encode(), UNICODE.encode())
)


def raw(reply: bytes) -> Act:
    async def script(connection: Connection) -> None:
        await connection.send(reply)

    return script


def silent(sent: bytes) -> Act:
    async def script(connection: Connection) -> None:
        await connection.send(head() + sent)
        await connection.stall()

    return script


class _Defective(RunAgentDecoder):
    def decode(self, sent: ServerSentEvent) -> list[AgentEvent]:
        super().decode(sent)
        raise RuntimeError(f"cannot read {sent.data}, {sent.event}, {KEY}")


class Defective(RunAgent):
    """A wire with a defect in its decoder, whose error quotes everything."""

    def decoder(self, ask: AgentRequest) -> RunAgentDecoder:
        return _Defective(ask)


@dataclass(frozen=True)
class Ending:
    """A way for a run to end."""

    script: Act
    status: str = "failed"
    policy: Policy = POLICY
    protocol: AgentProtocol = field(default_factory=RunAgent)
    tls: bool = False
    stop: Literal["stopped", "interrupted"] | None = None


def endings() -> Iterator[tuple[str, Ending]]:
    """Every kind of ending that there is."""
    yield "done", Ending(says(WHOLE), "done")
    yield "done, a sign a chunk", Ending(says(CUT_SMALL), "done")
    yield "done, each spelling in two chunks", Ending(says(CUT_IN_TWO), "done")
    yield "done, in escapes", Ending(says(ESCAPED), "done")
    reply = json.dumps({"result": ECHO, "session_id": KEY, "usage": {"a": ECHO}}).encode()
    yield "done, not streamed", Ending(says(reply, content_type="application/json"), "done")
    for way in ("stopped", "interrupted"):
        yield way, Ending(silent(WHOLE[: WHOLE.rindex(b"event: done")]), way, stop=way)
    for status in STATUSES:
        for kind, body in BODIES.items():
            yield (
                f"{status} {kind}",
                Ending(refuses(f"{status} {KEY}", body, f"X-Echo: {KEY} {ECHO}", f"Retry-After: {KEY}")),
            )
    for status in (301, 307, 308):
        yield (
            f"{status}",
            Ending(refuses(f"{status} Moved", b"", f"Location: https://{quote(KEY, safe='')}/?key={KEY}")),
        )
    yield "a page", Ending(says(BODIES["HTML"], content_type="text/html"))
    yield "a long page", Ending(says(b"x" * 9_990 + ECHO.encode(), content_type="text/html"))
    yield "a kind that is none", Ending(says(b"", content_type=KEY))
    yield "a coding that is none", Ending(says(b"", extra=[f"Content-Encoding: {KEY}", f"Set-Cookie: {ECHO}"]))
    yield "a cut coding", Ending(says(b"", extra=[f"Content-Encoding: {'x' * 30}{KEY}"]))
    yield "an error event", Ending(says(event_stream(*chunks("Hi"), ("error", {"error": ECHO, "code": KEY}))))
    yield "an error event of text", Ending(says(event_stream(("error", ECHO))))
    passing = {"error": ECHO, "code": "CAPACITY_ERROR", "retry_after": 0}
    yield "an error that passes", Ending(says(event_stream(("error", passing))))
    yield "cut", Ending(says(WHOLE[: WHOLE.index(b"unheard-of")]))
    yield "cut in the key", Ending(says(event_stream(*chunks(f"Here: {KEY[:-1]}"))))
    yield "a status line that is none", Ending(raw(f"HTTP/9 {KEY}\r\n\r\n".encode()))
    yield "a header that is none", Ending(raw(f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n".encode()))
    yield "a chunk size that is none", Ending(says(KEY.encode(), extra=["Transfer-Encoding: chunked"]))
    yield "damaged", Ending(says(KEY.encode(), extra=["Content-Encoding: gzip"]))
    yield "TLS", Ending(says(WHOLE), tls=True)
    yield "no JSON", Ending(says(event_stream(*chunks("Hi"), ("chunk", f"{{{ECHO}"))))
    yield "no text", Ending(says(event_stream(("chunk", {"content": {KEY: ECHO}}))))
    yield "a defect", Ending(says(WHOLE), protocol=Defective())
    limits: dict[str, Any] = {"max_text": 50, "max_events": 5, "max_data": 300, "max_event": 100}
    for name, value in limits.items():
        yield name, Ending(says(WHOLE), policy=Policy(**{name: value}, retries=0))
    yield "max_time", Ending(silent(event_stream(*chunks(f"Hi {KEY}"))), policy=Policy(max_time=0.3))
    yield "silence", Ending(silent(event_stream(*chunks(f"Hi {KEY}"))), policy=Policy(timeout=0.3, retries=0))


ENDINGS = dict(endings())
CERTIFICATES = Certificates()


def served(ending: Ending) -> ScriptedServer:
    return ScriptedServer(ending.script, tls=CERTIFICATES.good() if ending.tls else None)


def finished(ending: Ending, url: str, journal: Path) -> Run:
    headers: dict[str, str | Secret] = {"X-Token": Secret(HEADER_KEY, "Bearer "), "X-Plain": "plain"}
    ask = AgentRequest("Why?", url, "demo", key=Secret(KEY), key_env="MY_KEY", headers=headers)
    run = Run(ending.protocol, ask, ending.policy, "test", Taping(journal))
    run.start()
    if ending.stop is not None:
        while "end." not in run.transcript.text:
            time.sleep(0.005)
        run.stop(ending.stop)
    assert run.wait(30)
    return run


def artefacts(run: Run, journal: Path) -> Iterator[tuple[str, str]]:
    """All that is left of a run, each with its name."""
    result = AgentResult(run, {})
    yield from _of_result("result", result)
    yield "vars(run)", repr(vars(run)) + repr(run.ask)
    pickled = pickle.dumps(result)
    yield "pickle", pickled.decode("latin-1")
    yield from _of_result("unpickled", pickle.loads(pickled))
    for event in result.events:
        yield "event", pickle.dumps(event).decode("latin-1") + repr(pickle.loads(pickle.dumps(event)))
    for path in journal.rglob("*"):
        if path.is_file():
            yield "tape", path.read_bytes().decode("latin-1")
            yield "replay", repr(vars(replay(read_tape(path), live=False)))
            yield "replayed text", replay(read_tape(path), live=False).text
    console = Console(file=StringIO(), force_terminal=True, width=200)
    terminal = TerminalView(run, Caption(run, "answer"), console)
    terminal.open()
    terminal.close()
    yield "terminal", console.file.getvalue()  # type: ignore[attr-defined]


def _of_result(name: str, result: AgentResult) -> Iterator[tuple[str, str]]:
    yield f"{name}.text", result.text
    yield f"{name} as it shows", f"{result!r}{result}{result._repr_markdown_()}"
    yield f"vars({name})", repr(vars(result)) + repr(vars(result._transcript))
    yield f"{name}'s lists", repr([result.events, result.notices, result.sources, result.usage, result.session_id])
    if (error := result.error) is not None:
        yield from _of_error(name, error)


def _of_error(name: str, error: BaseException) -> Iterator[tuple[str, str]]:
    chain: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is not None and one not in chain:
            chain.append(one)
            todo += [one.__cause__, one.__context__]
    for one in chain:
        yield f"{name}'s error {type(one).__name__}", f"{one}{one!r}{one.args!r}{vars(one)!r}"
        told = traceback.TracebackException.from_exception(one, capture_locals=True)
        # The frames of this file hold the key by right.
        for at in told.stack:
            at.locals = None if at.filename == __file__ else at.locals
        yield f"{name}'s traceback", "".join(told.format())


@pytest.fixture
def logged() -> Iterator[StringIO]:
    """All that is logged, at DEBUG."""
    written = StringIO()
    handler = logging.StreamHandler(written)
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield written
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.parametrize("name", ENDINGS)
def test_an_ending(
    name: str, tmp_path: Path, logged: StringIO, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a run ends, nothing that is left of it shows the key."""
    monkeypatch.setenv("MY_KEY", KEY)
    ending = ENDINGS[name]
    with served(ending) as server:
        run = finished(ending, server.url, tmp_path)
    assert run.transcript.status == ending.status, run.transcript.error
    view = PlainView(run, Caption(run, "answer"))
    view.show()
    view.close()
    left = list(artefacts(run, tmp_path))
    captured = capsys.readouterr()
    left += [("plain", captured.out + captured.err), ("log", logged.getvalue())]
    left += [("URL", request.split(b"\r\n")[0].decode("latin-1")) for request in server.requests]
    assert [(what, shown(said)) for what, said in left if shown(said)] == []
    assert "httpcore" not in name or logged.getvalue()


def test_nothing_but_the_key_is_struck_out(tmp_path: Path) -> None:
    """An answer that holds what a key begins with, and much else, comes exactly as it was sent."""
    pieces = ["s", "k", "-", "Ab/", "9", "+ sk", "-A", "c2", "s", "hidden", "/head", "er", " sk-Ab"]
    ending = Ending(says(event_stream(*chunks(*pieces), ("done", {}))), "done")
    with served(ending) as server:
        assert finished(ending, server.url, tmp_path).transcript.text == "".join(pieces)


def test_the_text_without_the_key_is_exact(tmp_path: Path) -> None:
    """Cut at every sign, an echoed key is the one thing that is missing."""
    ending = ENDINGS["done, a sign a chunk"]
    with served(ending) as server:
        assert finished(ending, server.url, tmp_path).transcript.text == "Here: *** *** end."


def test_a_key_that_ends_as_a_string_does() -> None:
    """A piece of such a key, with the quotation mark behind it that ends the string, is still JSON once it is struck."""
    key = Secret('!!!!!!!!!!!"')
    decoder, transcript = (
        guarded(RunAgent().decoder(AgentRequest("Why?", "http://127.0.0.1:1", "demo")), [key]),
        Transcript(),
    )
    for _, data in chunks("aa\n!!!!!!!!!!!", '" b'):
        for event in decoder.decode(ServerSentEvent("chunk", json.dumps(data))):
            transcript.apply(event)
    for event in decoder.flush():
        transcript.apply(event)
    assert transcript.text == "aa\n*** b"


def test_most_of_a_key_is_a_key(tmp_path: Path) -> None:
    """A stream that is cut within a key shows not even its beginning."""
    ending = ENDINGS["cut in the key"]
    with served(ending) as server:
        assert finished(ending, server.url, tmp_path).transcript.text == "Here: ***"


def test_the_limit_is_the_end_of_the_text(tmp_path: Path) -> None:
    """What waited to be known as no key does not stand behind the place where max_text cut."""
    ending = Ending(says(event_stream(*chunks("abs", "k-defs"))), policy=Policy(max_text=5, retries=0))
    with served(ending) as server:
        assert finished(ending, server.url, tmp_path).transcript.text == "absk-"


def test_a_short_key_is_no_reason_to_change_an_answer(tmp_path: Path) -> None:
    """A key that is a word of any text (a test server's) is struck out of errors, not of answers."""
    stream = event_stream(*chunks("a secret"), ("done", {}))
    with ScriptedServer(says(stream)) as server:
        run = Run(RunAgent(), AgentRequest("Why?", server.url, "demo", key=Secret("secret")), POLICY, "test")
        run.start()
        assert run.wait(30)
    assert run.transcript.text == "a secret"


MALFORMED = {
    "a space": {"MY_KEY": f"{KEY} {KEY}"},
    "a line end": {"MY_KEY": f"{KEY}\n{KEY}"},
    "a letter outside ASCII": {"MY_KEY": f"{KEY}ä"},
    "no variable": {"key_env": KEY},
    "in the URL": {"base_url": f"http://me:{quote(KEY, safe='')}@127.0.0.1:1"},
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_mistake(name: str, monkeypatch: pytest.MonkeyPatch, logged: StringIO) -> None:
    """A key that cannot be sent, or stands in the wrong place, is not quoted."""
    said = MALFORMED[name]
    monkeypatch.setenv("MY_KEY", said.get("MY_KEY", KEY))
    with pytest.raises(AgentMagicError) as raised:
        Agent(
            protocol="runagent",
            base_url=said.get("base_url", "http://127.0.0.1:1"),
            key_env=said.get("key_env", "MY_KEY"),
        ).ask("Why?")
    told = [one for one in _of_error(name, raised.value) if "MY_KEY" in said or "traceback" not in one[0]]
    left = [*told, ("log", logged.getvalue())]
    assert [(what, shown(one)) for what, one in left if shown(one)] == []


def test_a_defect_that_quotes_no_key_keeps_its_cause(tmp_path: Path) -> None:
    """Whoever mends a defect gets the traceback, where no key stands in it."""

    class Decoder(RunAgentDecoder):
        def decode(self, sent: ServerSentEvent) -> list[AgentEvent]:
            raise LookupError(sent.event)

    class Wire(RunAgent):
        def decoder(self, ask: AgentRequest) -> RunAgentDecoder:
            return Decoder(ask)

    ending = Ending(says(event_stream(("start", {}))), protocol=Wire())
    with served(ending) as server:
        error = finished(ending, server.url, tmp_path).transcript.error
    assert error is not None
    assert isinstance(error.__cause__, LookupError)


SHELL = """
import logging
logging.basicConfig(level=logging.DEBUG)
%load_ext agent_magic
%xmode Verbose
"""
SHOWN = ("done", "done, a sign a chunk", "401 JSON", "500 HTML", "307", "a page", "an error event", "cut", "a header that is none", "TLS", "no JSON", "max_text")  # fmt: skip


def settings(urls: dict[str, str]) -> str:
    return "".join(
        f'[agents."a{number}"]\nprotocol = "runagent"\nbase_url = "{url}"\nkey_env = "MY_KEY"\nretries = 1\nbackoff = 0\n'
        f"max_text = {50 if name == 'max_text' else 100000}\nheaders = {{ X-Token = 'Bearer {HEADER_KEY}' }}\n"
        for number, (name, url) in enumerate(urls.items())
    )


def cells(number: int) -> list[str]:
    agent = f"a{number}"
    return [
        f"%%agent {agent} --dry-run -p key=7\nWhy?",
        f"%%agent {agent} -o r\nWhy?",
        "r",
        "print(vars(r), r.events, repr(r.error), r.text); import traceback; traceback.print_exception(r.error) if r.error else None",
        f"def ask(agent):\n    answer = agent.ask('Why?', **{{}})\n    return 1 / 0\nfrom agent_magic import Agent\nask(Agent('{agent}'))",
        "raise RuntimeError(r) from r.error",
        f"%agent show {agent}",
        "%agent history 1",
        "%tb",
    ]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The cells of a session that has every ending in it, with its servers running."""
    with ExitStack() as stack:
        urls = {name: stack.enter_context(served(ENDINGS[name])).url for name in SHOWN}
        config = tmp_path / "config.toml"
        config.write_text(settings(urls))
        monkeypatch.setenv("AGENT_MAGIC_CONFIG", str(config))
        monkeypatch.setenv("MY_KEY", KEY)
        yield [SHELL, *(cell for number in range(len(urls)) for cell in cells(number))]


def test_a_saved_notebook(asked: list[str]) -> None:
    """In a kernel, with %xmode Verbose and logs at DEBUG, no output and no saved notebook shows the key."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in asked])  # type: ignore[no-untyped-call]
    pause = lambda **_: time.sleep(0.25)  # noqa: E731 (a kernel aborts what comes within a moment of a failure)
    NotebookClient(notebook, timeout=60, allow_errors=True, on_cell_error=pause).execute()
    said = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    assert said.count("ZeroDivisionError") >= 2
    assert "AuthError" in said
    assert shown(said) == []


def test_a_terminal(asked: list[str], tmp_path: Path) -> None:
    """The same in IPython without a kernel."""
    script = (
        "import sys, json, warnings\nfrom IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\nfor cell in json.load(sys.stdin): shell.run_cell(cell)\n"
    )
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.stdout.count("ZeroDivisionError") >= 2
    assert "httpcore" in done.stderr + done.stdout
    assert shown(done.stdout) == []
    assert shown(done.stderr) == []


class TestReviewed:
    """Ways out for a key that a review found."""

    def test_across_two_items(self, tmp_path: Path) -> None:
        """A key that begins in one output item and ends in the next is one in the answer, and struck."""
        half = len(KEY) // 2
        deltas = [
            (
                "response.output_text.delta",
                {"response": {"output_index": item, "type": "message.answer", "delta": text}},
            )
            for item, text in enumerate([f"Here: {KEY[:half]}", KEY[half : half + 2], f"{KEY[half + 2 :]} end."])
        ]
        ending = Ending(says(event_stream(*deltas, ("response.done", {"response": {}}))), "done", protocol=You())
        with served(ending) as server:
            run = finished(ending, server.url, tmp_path)
        assert run.transcript.text == "Here: *** end."
        assert [(what, shown(said)) for what, said in artefacts(run, tmp_path) if shown(said)] == []

    @pytest.mark.parametrize("pieces", [("Here", ": "), ("Here: s", "ome"), ("sk", "y", "sk", "-"), ("s", "s", "s")])
    def test_items_without_a_key_are_whole(self, pieces: tuple[str, ...]) -> None:
        """What looks like the beginning of a key at an item's end stays in its place."""
        guard = guarded(You().decoder(AgentRequest("Why?", "http://127.0.0.1:1", "demo")), [Secret("sk-12345678")])
        transcript = Transcript()
        for item, text in enumerate(pieces):
            data = {"response": {"output_index": item, "type": "message.answer", "delta": text}}
            for event in guard.decode(ServerSentEvent("response.output_text.delta", json.dumps(data))):
                transcript.apply(event)
        for event in guard.flush():
            transcript.apply(event)
        assert transcript.text == "".join(pieces)

    def test_events_do_not_keep_the_pieces(self, tmp_path: Path) -> None:
        """What the server sent is forgotten where it holds a key in pieces; what it meant is not."""
        ending = ENDINGS["done, a sign a chunk"]
        with served(ending) as server:
            result = pickle.loads(pickle.dumps(AgentResult(finished(ending, server.url, tmp_path), {})))
        assert [event.sent for event in result.events if event.sent is not None] == []
        assert "".join(event.text for event in result.events if isinstance(event, Text)) == result.text

    def test_a_short_key_is_a_word(self, tmp_path: Path) -> None:
        """A placeholder such as "test" spoils neither the answer nor the tape."""
        with ScriptedServer(says(WHOLE)) as server:
            ask = AgentRequest("Why?", server.url, "demo", key=Secret("event"), headers={"X-Author": Secret("at")})
            run = Run(RunAgent(), ask, Policy(), "test", Taping(tmp_path))
            run.start()
            assert run.wait(30)
        (path,) = tmp_path.rglob("*.jsonl")
        assert replay(read_tape(path), live=False).text == run.transcript.text

    def test_basic_credentials(self) -> None:
        """Of a user and a password behind Basic, the two and the password are struck out as well."""
        secret = Secret(base64.b64encode(b"bob:hunter2hunter2").decode(), "Basic ")
        assert secret.strike("you are bob:hunter2hunter2, password hunter2hunter2") == "you are ***, password ***"

    def test_settings_do_not_print_headers(self) -> None:
        """Neither an agent's settings nor a variable's name that is a key are quoted."""
        assert "sk-live" not in repr(Agent("demo", headers={"Authorization": "Bearer sk-live-1"}).config)
        Path("agent_magic.toml").write_text('[agents.a]\nprotocol = "you"\nkey_env = "sk-live-12345678"\n')
        with pytest.raises(ConfigError) as caught:
            Agent("a").prepare("Why?")
        assert "sk-live" not in str(caught.value)

    @pytest.mark.parametrize("proxy", ["http://bob:hunter2/x@proxy:3128", "http://bob:p#w@proxy:1"])
    def test_a_proxy_that_is_no_url(self, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A password in a proxy's URL is not quoted."""
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        agent = Agent(protocol="you", base_url="https://example.invalid", key_env="", retries=0)
        error = agent.begin("Why?")[0].wait(30).error
        assert "proxy" in str(error)
        assert not {"bob", "hunter2", "p#w"} & set(re.findall(r"[\w#]+", str(error)))
