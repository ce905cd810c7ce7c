"""Record and replay: one tape for one question, read back through the whole way."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from agent_magic._agent import Agent
from agent_magic._request import Earlier, Said
from agent_magic._result import AgentResult
from agent_magic._run import spent
from agent_magic._tape import read_tape
from agent_magic.errors import AgentError, AgentMagicError, ConfigError, TapeMissing
from agent_magic.testing import ScriptedServer, event_stream, says

TEXT = "Because é 🌍 of Rayleigh."


def answer(text: str = TEXT) -> bytes:
    return event_stream(
        ("start", {"session_id": "s"}),
        *(("chunk", {"content": piece, "index": place}) for place, piece in enumerate(re.split("(?<= )", text))),
        ("done", {"message": "ok", "usage": {"total_tokens": 9}, "execution_time": 1.5}),
    )


def agent(url: str = "http://127.0.0.1:9", **settings: Any) -> Agent:
    """An agent at `url`, by default where nobody listens."""
    return Agent(protocol="runagent", base_url=url, key_env="", retries=0, **settings)


def record(prompt: str = "Why?", body: bytes | None = None, tape: str = "record", **settings: Any) -> AgentResult:
    with ScriptedServer(says(answer() if body is None else body)) as server:
        return agent(server.url, tape=tape, **settings).ask(prompt)


def tapes(folder: str = "tapes") -> list[Path]:
    return sorted(Path(folder).glob("*.jsonl"))


def test_a_replay_is_the_run() -> None:
    """The same text, events, usage and seconds, with no network; and nothing of it is counted as used."""
    recorded = record(price={"input": 1, "output": 2})
    before = len(spent())
    replayed = agent(tape="replay", price={"input": 1, "output": 2}).ask("Why?")
    assert (recorded.replayed, replayed.replayed) == (False, True)
    for name in ("text", "status", "usage", "sources", "session_id", "cost", "execution_time", "protocol", "prompt"):
        assert getattr(replayed, name) == getattr(recorded, name)
    assert [event for event in replayed.events if event.sent] == [event for event in recorded.events if event.sent]
    assert replayed.elapsed == pytest.approx(recorded.elapsed, abs=1e-5)
    assert 0 < (replayed.first_event or 0) <= (recorded.first_event or 0)
    assert len(spent()) == before
    assert replayed != recorded


def test_no_key_is_asked_for() -> None:
    """A replay needs neither the key nor its variable; to record does."""
    with ScriptedServer(says(answer())) as server:
        os.environ["THE_KEY"] = "secret-key-123"
        try:
            Agent(protocol="runagent", base_url=server.url, key_env="THE_KEY", tape="record").ask("Why?")
        finally:
            del os.environ["THE_KEY"]
    assert Agent(protocol="runagent", key_env="THE_KEY", tape="replay").ask("Why?").text == TEXT


def test_what_is_on_a_tape() -> None:
    """It can be read: a line for what was asked, and one for each event; nothing of the machine, the key or the place."""
    os.environ["THE_KEY"] = "secret-key-123"
    try:
        with ScriptedServer(says(answer("My key is secret-key-123 !"))) as server:
            asked = Agent(
                protocol="runagent", base_url=server.url, key_env="THE_KEY", tape="record", headers={"X-A": "b"}
            )
            asked.ask("Why is the sky blue, and not green, or violet?")
    finally:
        del os.environ["THE_KEY"]
    (path,) = tapes()
    assert path.name.startswith("runagent-why-is-the-sky-blue-and-not-gre-")
    assert path.stat().st_mode & 0o777 == 0o644
    header, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {name for name in header if name not in {"run", "started"}} == {
        "kind",
        "version",
        "agent",
        "protocol",
        "question",
    }
    assert header["question"] == {
        "prompt": "Why is the sky blue, and not green, or violet?",
        "base_url": "",
        "agent": "demo",
    }
    assert [line["kind"] for line in lines] == ["connecting", "connected", *["event"] * 7, "flush", "outcome"]
    assert "secret" not in path.read_text()


def test_written_anew_only_where_it_says_something_else() -> None:
    """The same answer leaves the file alone; another one takes its place."""
    record()
    (path,) = tapes()
    first = path.read_bytes()
    record()
    assert path.read_bytes() == first
    record(body=answer("Another one."))
    assert tapes() == [path]
    assert path.read_bytes() != first
    assert agent(tape="replay").ask("Why?").text == "Another one."


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "Why ?"},
        {"parameters": {"a": 1}},
        {"agent": "other"},
        {"said": [Said("Before?", "Yes.")]},
    ],
)
def test_found_by_what_is_asked(other: dict[str, Any]) -> None:
    """Prompt, parameters, agent and what was said before count; with another one there is no tape."""
    record(agent="mine")
    asked = agent(tape="replay", agent=other.get("agent", "mine"))
    earlier = Earlier(said=other.get("said", ()))
    with pytest.raises(TapeMissing) as caught:
        asked.begin(other.get("prompt", "Why?"), other.get("parameters"), earlier)
    assert "There is no tape among the 1 in" in str(caught.value)
    assert "--tape record" in str(caught.value)


def test_where_and_how_fast_do_not_count() -> None:
    """The host, the name in the settings, the timeouts and the price are each one's own."""
    record()
    assert (
        agent("http://127.0.0.1:10", tape="replay", timeout=1, price={"input": 1, "output": 1}).ask("Why?").text == TEXT
    )


def test_the_conversation_counts() -> None:
    """The same prompt behind another one has a tape of its own, whatever the server answered."""
    said = Earlier(session_id="s", said=[Said("One?", "1.")])
    with ScriptedServer(says(answer("two"))) as server:
        result, _ = agent(server.url, tape="record").begin("Why?", None, said)
        result.wait(10)
    record(body=answer("alone"))
    replays = agent(tape="replay")
    assert replays.ask("Why?").text == "alone"
    result, _ = replays.begin("Why?", None, Earlier(said=[Said("One?", "something else")]))
    assert result.wait(10).text == "two"


def test_auto() -> None:
    """What is there is replayed, what is not is recorded."""
    with ScriptedServer(says(answer())) as server:
        asked = agent(server.url, tape="auto")
        assert [asked.ask("Why?").replayed for _ in range(3)] == [False, True, True]
        assert len(server.requests) == 1


def test_the_environment_sets_it_for_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``AGENT_MAGIC_TAPE`` is the mode where nobody says another, ``AGENT_MAGIC_TAPES`` the folder."""
    monkeypatch.setenv("AGENT_MAGIC_TAPES", str(tmp_path / "of the notebook"))
    monkeypatch.setenv("AGENT_MAGIC_TAPE", "auto")
    with ScriptedServer(says(answer())) as server:
        assert [agent(server.url).ask("Why?").replayed for _ in range(2)] == [False, True]
        assert not agent(server.url, tape="live").ask("Why?").replayed
    assert len(tapes(str(tmp_path / "of the notebook"))) == 1
    monkeypatch.setenv("AGENT_MAGIC_TAPE", "repaly")
    with pytest.raises(
        ConfigError, match="AGENT_MAGIC_TAPE = \"repaly\" is no way to use tapes; did you mean 'replay'"
    ):
        agent().ask("Why?")


def test_only_whole_answers_are_recorded() -> None:
    """A failure would be replayed for ever; so it is not kept, and a tape that is there stays."""
    failed = event_stream(("chunk", {"content": "a"}), ("error", {"error": "No"}))
    with pytest.raises(AgentError):
        record(body=failed)
    assert tapes() == []
    record()
    with pytest.raises(AgentError):
        record(body=failed)
    assert agent(tape="replay").ask("Why?").text == TEXT


def test_a_folder_that_takes_no_file() -> None:
    """What was asked for and could not be done is said; the answer is whole."""
    Path("tapes").write_text("a file")
    result = record()
    assert (result.text, result.status) == (TEXT, "done")
    assert [notice.startswith("No tape was recorded (") for notice in result.notices] == [True]


def test_a_key_in_pieces_makes_no_tape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server sends the key back in pieces, nothing of the run is kept."""
    monkeypatch.setenv("THE_KEY", "secret-key-123")
    with ScriptedServer(says(answer("secret-ke y-123 !").replace(b"-ke ", b"-ke"))) as server:
        asked = Agent(protocol="runagent", base_url=server.url, key_env="THE_KEY", tape="record")
        result = asked.ask("Why?")
    assert result.text == "*** !"
    assert tapes() == []
    assert "No tape was recorded (the server sent a key back in pieces); the run itself is whole." in result.notices


def test_a_resumed_stream() -> None:
    """A stream that broke and was taken up again is replayed with its break."""
    from agent_magic.testing import RunAgentService

    service = RunAgentService(["a", "b", "c"])
    with ScriptedServer(service.cut_at(len(service.reply) // 2)) as server:
        recorded = Agent(protocol="runagent", base_url=server.url, key_env="", backoff=0, tape="record").ask("Why?")
    replayed = agent(tape="replay").ask("Why?")
    assert (replayed.text, replayed.status) == (recorded.text, "done") == ("abc", "done")
    kinds = [type(event).__name__ for event in replayed.events]
    assert kinds == [type(event).__name__ for event in recorded.events]
    assert "Retrying" in kinds


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda lines: lines[:-1], "is damaged; record it anew"),
        (lambda lines: [lines[0], "{", *lines[1:]], "is damaged; record it anew"),
        (lambda lines: ["x", *lines[1:]], "is not a tape"),
        (lambda lines: [lines[0], *lines[4:5], *lines[-1:]], "no longer ends in an answer"),
    ],
)
def test_a_tape_that_is_none(spoil: Any, words: str) -> None:
    """A tape that was damaged, or is read otherwise today, is said to be so, in one sentence."""
    record()
    (path,) = tapes()
    path.write_text("\n".join([*spoil(path.read_text().splitlines()), ""]))
    with pytest.raises(AgentMagicError, match=words):
        agent(tape="replay").ask("Why?")


def test_the_journal_has_no_replays() -> None:
    """A run that nobody was asked in is not written down."""
    from agent_magic._journal import journal_folder
    from agent_magic._journal import tapes as journalled
    from agent_magic._writer import flush_tapes

    record()
    agent(tape="replay").ask("Why?")
    flush_tapes()
    assert len(journalled(journal_folder())) == 1


def test_a_tape_is_a_tape() -> None:
    """The format is the journal's, with its version in the first line."""
    record()
    (path,) = tapes()
    tape = read_tape(path)
    assert (tape.header.version, tape.header.host, tape.header.pid) == (1, "", 0)
    assert tape.outcome is not None


def test_no_key_stands_in_a_tapes_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt that holds the key names its file without it."""
    monkeypatch.setenv("THE_KEY", "secret-key-123")
    with ScriptedServer(says(answer())) as server:
        Agent(protocol="runagent", base_url=server.url, key_env="THE_KEY", tape="record").ask(
            "My key is secret-key-123."
        )
    (path,) = tapes()
    assert path.name.startswith("runagent-my-key-is-")
    assert "secret" not in path.name


def test_the_environment_stands_above_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """CI that says `replay` asks nobody, whatever the project's file says; the line stands above both."""
    with ScriptedServer(says(answer())) as server:
        Path("agent_magic.toml").write_text(
            f'[agents.a]\nprotocol = "runagent"\nbase_url = "{server.url}"\nkey_env = ""\ntape = "auto"\n'
        )
        monkeypatch.setenv("AGENT_MAGIC_TAPE", "replay")
        with pytest.raises(TapeMissing):
            Agent("a").ask("Why?")
        assert server.requests == []
        assert Agent("a", tape="record").ask("Why?").text == TEXT
    assert Agent("a").ask("Why?").replayed


def test_parameters_of_any_kind() -> None:
    """What JSON can hold has an address, also with numbers for names; what it cannot is one sentence."""
    with ScriptedServer(says(answer())) as server:
        asked = agent(server.url, tape="auto")
        bias = {"logit_bias": {50256: -100}}
        assert [asked.ask("Why?", **bias).replayed for _ in range(2)] == [False, True]
        assert agent(server.url).ask("Why?", **bias).text == TEXT
        for mode in ("live", "auto"):
            with pytest.raises(ConfigError, match="cannot be written as JSON"):
                agent(server.url, tape=mode).ask("Why?", odd=object())


def test_one_tape_for_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded by an agent of another name, the new answer takes the old one's place."""
    for name, text in (("alpha", "old"), ("beta", "new")):
        with ScriptedServer(says(answer(text))) as server:
            Path("agent_magic.toml").write_text(
                f'[agents.{name}]\nprotocol = "runagent"\nagent = "same"\nbase_url = "{server.url}"\nkey_env = ""\n'
            )
            Agent(name, tape="record").ask("Why?")
    assert len(tapes()) == 1
    assert Agent("beta", tape="replay").ask("Why?").text == "new"


def test_a_name_and_a_date_are_no_news() -> None:
    """A service names each answer anew: a tape is written again only where a person would get something else."""

    def chunks(identity: str, text: str) -> bytes:
        said = [{"id": identity, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]}]
        return "".join(f"data: {json.dumps(one)}\n\n" for one in said).encode() + b"data: [DONE]\n\n"

    written = []
    for identity, text in (("a", "same"), ("b", "same"), ("c", "other")):
        with ScriptedServer(says(chunks(identity, text))) as server:
            Agent(protocol="openai", agent="m", base_url=server.url, key_env="", tape="record").ask("Why?")
        written.append(tapes()[0].read_bytes())
    assert [written[0] == written[1], written[1] == written[2]] == [True, False]


def test_what_goes_along_is_asked() -> None:
    """Where the conversation is kept here, another earlier answer is another question."""

    def asked(earlier: str, mode: str, url: str = "http://127.0.0.1:9") -> AgentResult:
        one = Agent(protocol="openai", agent="m", base_url=url, key_env="", tape=mode)
        return one.begin("Why?", None, Earlier(said=[Said("Where?", earlier)]))[0].wait(10)

    body = b'data: {"choices": [{"delta": {"content": "so"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    with ScriptedServer(says(body)) as server:
        asked("Paris", "record", server.url)
    assert asked("Paris", "replay").text == "so"
    with pytest.raises(TapeMissing):
        asked("Rome", "replay")


def test_a_server_is_not_asked_to_go_on_from_a_replay() -> None:
    """It knows nothing of turns that a tape answered, or what it knows has changed since."""
    with ScriptedServer(says(answer())) as server, pytest.raises(TapeMissing, match="with --new and --tape record"):
        agent(server.url, tape="auto").begin("And?", None, Earlier("s", [Said("Why?", TEXT)], is_replayed=True))
    assert server.requests == []
