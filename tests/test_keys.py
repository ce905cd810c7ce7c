"""Where a key comes from: the environment, the keyring, Colab's secrets, one hidden prompt; and what is said without one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import keyring
import pytest
from keyring import errors
from keyring.backend import KeyringBackend

from agent_magic import Agent, AgentResult
from agent_magic import _keyring as rooms_keyring
from agent_magic._history import Past
from agent_magic._key_sources import find_key, forget_keys, held_key, look_up
from agent_magic._keys import Secret
from agent_magic._prompt import ask_with
from agent_magic._question import show_request
from agent_magic._show import Shown
from agent_magic._template import Filled
from agent_magic._verbs import manage
from agent_magic.errors import AgentMagicError, AuthError, ConfigError
from agent_magic.testing import ScriptedServer, event_stream, in_turn, refuses, says

DONE = says(event_stream(("chunk", {"content": "Hi", "index": 0}), ("done", {})))
NAMES = SimpleNamespace(user_ns={})


class FileKeyring(KeyringBackend):
    """A keyring in a file; `trouble` is what it raises instead."""

    priority = 1

    def __init__(self, path: Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path = path
        self.trouble: Callable[[], BaseException] | None = None
        self.asked = 0

    def _held(self) -> dict[str, str]:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble()
        held: dict[str, str] = json.loads(self.path.read_text()) if self.path.exists() else {}
        return held

    def get_password(self, service: str, username: str) -> str | None:
        return self._held().get(f"{service}/{username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self.path.write_text(json.dumps(self._held() | {f"{service}/{username}": password}))

    def delete_password(self, service: str, username: str) -> None:
        held = self._held()
        del held[f"{service}/{username}"]
        self.path.write_text(json.dumps(held))


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[FileKeyring]:
    """The machine's keyring, for one test."""
    before = keyring.get_keyring()
    backend = FileKeyring(tmp_path / "ring.json")
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


class Person:
    """Somebody at a prompt, with these answers in order; `prompts` is what they were asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.prompts: list[str] = []
        ask_with(self.ask)

    def ask(self, prompt: str) -> Secret:
        self.prompts.append(prompt)
        return Secret(self.answers.pop(0))


def agent(url: str, variable: str = "TEAM_KEY") -> Agent:
    return Agent(protocol="runagent", base_url=url, key_env=variable, retries=0)


def key_row() -> tuple[str, str]:
    """What `%agent show a` says of the key: the value, and where from."""
    return {name: (value, where) for name, value, where in Shown.of("a").rows}["key"]


def sent_key(request: bytes) -> str:
    line = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"authorization:"))
    return line.partition(b"Bearer ")[2].decode()


class TestOrder:
    """The first source that has a key is the one, and the ones behind it are not asked."""

    def test_the_environment_stands_above_all(self, ring: FileKeyring, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable that is set is the key; the keyring is not even looked at, and nobody is asked."""
        person = Person("typed")
        ring.set_password("agent_magic", "TEAM_KEY", "of-the-ring")
        asked = ring.asked
        monkeypatch.setenv("TEAM_KEY", "of-the-environment")
        with ScriptedServer(DONE) as server:
            agent(server.url).ask("Why?")
        assert (sent_key(server.requests[0]), ring.asked, person.prompts) == ("of-the-environment", asked, [])

    def test_the_keyring(self, ring: FileKeyring) -> None:
        """Under the service "agent_magic" and the variable's name; read once, and again after a server refused it."""
        person = Person()
        ring.set_password("agent_magic", "TEAM_KEY", "of-the-ring\n")
        asked = ring.asked
        with ScriptedServer(in_turn(DONE, DONE, refuses("401 No"), DONE)) as server:
            for _ in range(2):
                agent(server.url).ask("Why?")
            assert ring.asked == asked + 1
            with pytest.raises(AuthError, match="It came from the keyring, where %agent login stores another one"):
                agent(server.url).ask("Why?")
            ring.set_password("agent_magic", "TEAM_KEY", "another")
            agent(server.url).ask("Why?")
        assert [sent_key(request) for request in server.requests] == ["of-the-ring"] * 3 + ["another"]
        assert person.prompts == []

    def test_colab(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where `google.colab.userdata` exists its secret of that name is the key. (A stand-in: untried in Colab.)"""
        person = Person("typed")
        secrets = {"TEAM_KEY": "of-colab"}
        userdata = ModuleType("google.colab.userdata")
        userdata.get = secrets.__getitem__  # type: ignore[attr-defined]
        for name, module in (("google", ModuleType("google")), ("google.colab", ModuleType("google.colab"))):
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setitem(sys.modules, "google.colab.userdata", userdata)
        assert find_key("TEAM_KEY", "h").reveal() == "of-colab"
        secrets.clear()
        forget_keys()
        assert find_key("TEAM_KEY", "h").reveal() == "typed"
        assert len(person.prompts) == 1

    def test_the_prompt(self, ring: FileKeyring) -> None:
        """It names the host and the variable; one answer is for all agents with that variable, and not for the environment."""
        person = Person("typed")
        with ScriptedServer(in_turn(DONE, DONE)) as server:
            agent(server.url).ask("Why?")
            agent(server.url).ask("Why?")
        host = server.url.removeprefix("http://")
        assert person.prompts == [f"Key for {host} (TEAM_KEY), kept for this session only: "]
        assert [sent_key(request) for request in server.requests] == ["typed", "typed"]
        assert not ring.path.exists()
        assert subprocess.run([sys.executable, "-c", "import os; print(os.environ.get('TEAM_KEY'))"],
                              capture_output=True, text=True, check=True).stdout == "None\n"  # fmt: skip

    def test_a_typed_key_that_is_refused(self) -> None:
        """After a 401 it is forgotten, the sentence says so, and the next question asks again; a later one stays."""
        person = Person("wrong", "right")
        with ScriptedServer(in_turn(refuses("401 No"), DONE, DONE)) as server:
            with pytest.raises(AuthError, match="The key that was typed is forgotten; the next cell asks for it again"):
                agent(server.url).ask("Why?")
            agent(server.url).ask("Why?")
            agent(server.url).ask("Why?")
        assert [sent_key(request) for request in server.requests] == ["wrong", "right", "right"]
        assert len(person.prompts) == 2

    @pytest.mark.parametrize(
        ("typed", "words"), [("", "No key was typed for h (TEAM_KEY)"), ("a b", "TEAM_KEY (this session)")]
    )
    def test_an_answer_that_is_no_key(self, typed: str, words: str) -> None:
        """Nothing, or what no header carries, is one sentence; it is not kept, so the next question asks again."""
        person = Person(typed, "good")
        with pytest.raises(AuthError) as caught:
            find_key("TEAM_KEY", "h")
        assert words in str(caught.value)
        assert find_key("TEAM_KEY", "h").reveal() == "good"
        assert len(person.prompts) == 2

    def test_only_the_main_thread_asks(self) -> None:
        """No prompt comes up from a thread, where no front end would show it."""
        person, said = Person("typed"), list[str]()

        def work() -> None:
            try:
                find_key("TEAM_KEY", "h")
            except AuthError as error:
                said.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert (len(said), person.prompts) == (1, [])


class TestWithout:
    """No key, and nobody to ask: one sentence with the variable, and the keyring's trouble in a word."""

    @pytest.mark.parametrize(
        ("trouble", "words"),
        [
            (lambda: errors.NoKeyringError("…"), "There is no key (keyring: no backend): set the environment variable TEAM_KEY,"),
            (lambda: errors.KeyringLocked("…"), "There is no key (keyring: locked): set"),
            (lambda: OSError("sk-live-1"), "There is no key (keyring: OSError): set"),
            (lambda: SystemExit(1), "There is no key (keyring: SystemExit): set"),
            (lambda: ModuleNotFoundError("x", name="dbus"), "There is no key (keyring: ModuleNotFoundError): set"),
            (None, "There is no key: set the environment variable TEAM_KEY,"),
        ],
    )  # fmt: skip
    def test_the_keyrings_trouble(
        self, trouble: Callable[[], BaseException] | None, words: str, ring: FileKeyring
    ) -> None:
        """A keyring that is broken counts as not there; what it said is not quoted."""
        ring.trouble = trouble
        with pytest.raises(AuthError) as caught:
            find_key("TEAM_KEY")
        assert str(caught.value).startswith(words)
        assert "sk-live" not in str(caught.value)

    def test_a_keyring_that_does_not_answer(self, ring: FileKeyring, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is waited for so long and no longer."""
        never = threading.Event()
        monkeypatch.setattr(ring, "get_password", lambda *_: never.wait())
        monkeypatch.setattr(rooms_keyring, "PATIENCE", 0.05)
        with pytest.raises(AuthError, match=r"There is no key \(keyring: no answer in 0.05 s\)"):
            find_key("TEAM_KEY")
        never.set()

    def test_without_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the library is not installed there is no word of it; `%agent login` says how to get it."""
        monkeypatch.setitem(sys.modules, "keyring", None)
        with pytest.raises(AuthError, match=r"^There is no key: set the environment variable TEAM_KEY"):
            find_key("TEAM_KEY")
        Person("typed")
        Path("agent_magic.toml").write_text('[agents.a]\nprotocol = "you"\n')
        for verb in ("login a", "logout a"):
            with pytest.raises(
                ConfigError, match=r"^The keyring needs the extra: pip install 'agent-magic\[keyring\]'\.$"
            ):
                manage(verb, NAMES)

    def test_a_script(self) -> None:
        """A script has no prompt, also where it stands in a pipe: the sentence is the last line, whoever catches it."""
        script = "from agent_magic import Agent\ntry:\n    Agent(protocol='you').ask('Why?')\nexcept Exception as error:\n    print(error)\n"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.startswith("There is no key: set the environment variable YDC_API_KEY, for example")
        assert done.stderr == ""


class TestWhoIsNotAsked:
    """Nobody is asked before it is known that the key may go there, nor where nothing is sent."""

    def test_a_request_that_cannot_be_sent(self) -> None:
        """Trust first, then the request as it stands, then the key."""
        person = Person("typed")
        Path("agent_magic.toml").write_text('[agents.a]\nprotocol = "you"\nbase_url = "https://evil.example"\n')
        for one, parameters in ((Agent("a"), {}), (Agent(protocol="you"), {"stream": False}),
                                (Agent(protocol="you", base_url="http://192.0.2.1"), {})):  # fmt: skip
            with pytest.raises(ConfigError):
                one.prepare("Why?", parameters)
        assert person.prompts == []

    def test_a_dry_run(self, capsys: pytest.CaptureFixture[str]) -> None:
        """It shows the header with stars, says that there is no key, and asks nobody."""
        person = Person("typed")
        show_request(Agent(protocol="you", agent="advanced"), Filled("Why is it so?"), {})
        shown = capsys.readouterr().out
        assert "\nAuthorization: Bearer ***\n" in shown
        assert '"input": "Why is it so?"' in shown
        assert shown.endswith("\nThere is no key yet: YDC_API_KEY is not set.\n")
        assert person.prompts == []

    def test_a_dry_run_with_a_key(self, ring: FileKeyring, capsys: pytest.CaptureFixture[str]) -> None:
        """With a key, here of the keyring, it is struck out of the prompt as well."""
        ring.set_password("agent_magic", "YDC_API_KEY", "sk-of-the-ring")
        show_request(Agent(protocol="you", agent="advanced"), Filled("Why sk-of-the-ring?"), {})
        shown = capsys.readouterr().out
        assert '"input": "Why ***?"' in shown
        assert "no key" not in shown

    def test_a_dry_run_with_a_key_that_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What no header can carry is said there, too."""
        monkeypatch.setenv("YDC_API_KEY", "a b")
        with pytest.raises(AuthError, match="The key in YDC_API_KEY has a character"):
            Agent(protocol="you").request("Why?")

    def test_looking_back(self, ring: FileKeyring) -> None:
        """History and recover read a tape without a prompt and without the keyring; going on asks."""
        person = Person("typed", "again")
        cut = says(event_stream(("start", {"session_id": "s"}), ("chunk", {"content": "Hi", "index": 0})))
        rest = says(event_stream(("chunk", {"content": " there", "index": 1}), ("done", {})))
        with ScriptedServer(in_turn(cut, rest)) as server:
            run = agent(server.url).begin("Why?")[0]
            run.wait(20)
            forget_keys()
            asked = ring.asked
            found = manage("history 1", NAMES)
            assert repr(found)
            assert Past.find(run.run_id).result().text == "Hi"
            assert (len(person.prompts), ring.asked) == (1, asked)
            resumed = manage(f"recover {run.run_id} --resume", NAMES)
            assert isinstance(resumed, AgentResult)
            assert resumed.wait(20).text == "Hi there"
        assert [sent_key(request) for request in server.requests] == ["typed", "again"]

    def test_a_typed_key_is_for_its_host(self) -> None:
        """What was typed for one host is not sent to another one: that one is asked for by its own name."""
        person = Person("typed", "typed")
        variable = "OPENAI_API_KEY"
        for host in ("mine.example", "mine.example", "other.example"):
            assert find_key(variable, host).reveal() == "typed"
        assert [prompt.split()[2] for prompt in person.prompts] == ["mine.example", "other.example"]
        assert held_key(variable) is None

    def test_show_does_not_ask(self, ring: FileKeyring) -> None:
        """`%agent show` says whether there is a key and from where; it asks nobody."""
        person = Person("typed")
        Path("agent_magic.toml").write_text('[agents.a]\nprotocol = "you"\n')
        shown = []
        for trouble in (errors.KeyringLocked, None):
            ring.trouble = trouble
            shown.append(key_row())
        ring.set_password("agent_magic", "YDC_API_KEY", "sk-1")
        shown.append(key_row())
        ring.delete_password("agent_magic", "YDC_API_KEY")
        assert person.prompts == []
        find_key("YDC_API_KEY", "api.you.com")
        shown.append(key_row())
        assert shown == [
            ("there is none", "keyring: locked"),
            ("there is none", ""),
            ("***", "keyring"),
            ("***", "this session"),
        ]


@pytest.mark.usefixtures("nothing_said")
class TestLogin:
    """``%agent login`` and ``logout``."""

    @pytest.fixture(autouse=True)
    def _agent(self) -> None:
        Path("agent_magic.toml").write_text('default = "a"\n[agents.a]\nprotocol = "you"\n')

    def test_in_and_out(
        self, ring: FileKeyring, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It is stored under the variable's name, used at once, and deleted; a variable above it is said."""
        person = Person("sk-mine", "sk-other")
        manage("login", NAMES)
        assert json.loads(ring.path.read_text()) == {"agent_magic/YDC_API_KEY": "sk-mine"}
        assert find_key("YDC_API_KEY").reveal() == "sk-mine"
        monkeypatch.setenv("YDC_API_KEY", "sk-above")
        manage("login a", NAMES)
        manage("logout a", NAMES)
        monkeypatch.delenv("YDC_API_KEY")
        manage("logout", NAMES)
        assert (json.loads(ring.path.read_text()), look_up("YDC_API_KEY")) == ({}, None)
        assert person.prompts == ["Key for api.you.com (YDC_API_KEY), to be stored in the keyring: "] * 2
        above = " The environment variable YDC_API_KEY is set, and stands above the keyring."
        assert capsys.readouterr().out.splitlines() == [
            "The key for api.you.com is in the keyring, as YDC_API_KEY.",
            f"The key for api.you.com is in the keyring, as YDC_API_KEY.{above}",
            f"The keyring holds YDC_API_KEY no longer.{above}",
            "The keyring held no YDC_API_KEY.",
        ]

    @pytest.mark.usefixtures("ring")
    def test_logout_forgets_what_was_typed(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Also a key that was never stored."""
        Person("typed")
        find_key("YDC_API_KEY", "h")
        manage("logout a", NAMES)
        assert capsys.readouterr().out == "The keyring held no YDC_API_KEY. The one of this session is forgotten.\n"
        assert look_up("YDC_API_KEY") is None

    @pytest.mark.parametrize("typed", ["", "a b", "ключ"])
    def test_what_is_no_key(self, typed: str, ring: FileKeyring) -> None:
        """It is not stored, and not quoted."""
        Person(typed)
        with pytest.raises(
            AuthError, match=r"^What was typed (is empty|has a character that .*); nothing was stored\.$"
        ):
            manage("login a", NAMES)
        assert not ring.path.exists()

    def test_without_a_keyring(self, ring: FileKeyring) -> None:
        """Nobody types a key that cannot be stored."""
        person = Person("typed")
        ring.trouble = errors.NoKeyringError
        with pytest.raises(ConfigError, match=r"^The keyring cannot be used here \(no backend\); set"):
            manage("login a", NAMES)
        assert person.prompts == []

    def test_a_keyring_that_keeps_nothing(self) -> None:
        """What says that it stored a key and did not is found out."""
        Person("typed")
        with pytest.raises(ConfigError, match=r"^The keyring cannot be used here \(it keeps nothing\)"):
            manage("login a", NAMES)

    @pytest.mark.usefixtures("ring")
    def test_nobody_to_ask(self) -> None:
        """Headless, it is one sentence with the variable."""
        with pytest.raises(AuthError, match=r"nobody can answer here; set the environment variable YDC_API_KEY\.$"):
            manage("login a", NAMES)

    @pytest.mark.usefixtures("ring")
    def test_for_whom(self) -> None:
        """An agent without a key, and one of a project that may not have it, are refused before anything is typed."""
        person = Person("typed")
        Path("agent_magic.toml").write_text('[agents.a]\nprotocol = "you"\nbase_url = "https://evil.example"\n')
        for line, words in (
            ("login demo", "wants no key"),
            ("login a", "your own settings"),
            ("login b", "no agent 'b'"),
        ):
            with pytest.raises(AgentMagicError, match=words):
                manage(line, NAMES)
        assert person.prompts == []
