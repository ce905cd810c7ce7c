"""Settings, options, templates and keys: each mistake is one sentence, and nothing is sent."""

from __future__ import annotations

import json
import pickle
import re
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from agent_magic._agent import Agent
from agent_magic._config import AgentConfig, load_settings, user_file
from agent_magic._key_sources import find_key
from agent_magic._keys import Secret
from agent_magic._options import Options, parse_options
from agent_magic._template import fill
from agent_magic.errors import AuthError, ConfigError, PromptError
from agent_magic.testing import ScriptedServer, says

pytestmark = pytest.mark.usefixtures("nothing_said")

GOOD = """
default = "researcher"

[agents.researcher]
protocol = "you"
agent = "advanced"
key_env = "MY_KEY"
parameters = { verbosity = "high" }
timeout = 30
auth = "x-api-key"
"""


def settings(text: str, name: str = "agent_magic.toml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def one_sentence(error: BaseException) -> str:
    said = str(error)
    assert "\n" not in said
    assert said[-1] in ".?!"
    return said


def test_no_settings() -> None:
    """With nothing configured there is the embedded agent."""
    name, config = load_settings().agent(None)
    assert (name, config.embedded) == ("demo", True)


def test_the_nearest_file_upwards(tmp_path: Path) -> None:
    """Settings are found upwards of the working folder, the nearest first."""
    settings(GOOD)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    name, config = load_settings(below).agent(None)
    assert (name, config.protocol, config.parameters) == ("researcher", "you", {"verbosity": "high"})
    (tmp_path / "a" / "agent_magic.toml").write_text('[agents.near]\nprotocol = "runagent"\nagent = "x"\n')
    assert load_settings(below).agent(None)[0] == "near"
    assert load_settings(below).agent("demo")[1].embedded


def test_the_variable_names_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """AGENT_MAGIC_CONFIG names a file instead."""
    settings(GOOD)
    settings('[agents.other]\nprotocol = "runagent"\n', "other.toml")
    monkeypatch.setenv("AGENT_MAGIC_CONFIG", "other.toml")
    assert load_settings().agent(None)[0] == "other"
    monkeypatch.setenv("AGENT_MAGIC_CONFIG", "nowhere.toml")
    with pytest.raises(ConfigError, match=r"nowhere\.toml") as caught:
        load_settings()
    one_sentence(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[agents.a\n", "line 1"),
        ("x = 1\n\n= 2\n", "line 3"),
        ("defualt = 'x'\n", "did you mean 'default'"),
        ("default = 'nobody'\n", "nobody"),
        ("agents = 1\n", "[agents.NAME]"),
        ("[agents]\na = 1\n", "[agents.a]"),
        ("[agents.a]\nagent = 'x'\n", "no protocol"),
        ("[agents.a]\nprotocol = 'you'\nkey_evn = 'x'\n", "did you mean 'key_env'"),
        ("[agents.a]\nprotocol = 'you'\ntimeout = 'x'\n", "agents.a.timeout"),
        ("[agents.a]\nprotocol = 'you'\ntimeout = nan\n", "timeout"),
        ("[agents.a]\nprotocol = 'you'\ntimeout = -1\n", "timeout"),
        ("[agents.a]\nprotocol = 'you'\nmax_time = inf\n", "max_time"),
        ("[agents.a]\nprotocol = 'you'\nretries = -1\n", "retries"),
        ("[agents.a]\nprotocol = 'you'\nauth = 'basic'\n", "bearer"),
        ("[agents.a]\nprotocol = 'you'\nheaders = { 'a b' = 'x' }\n", "a b"),
        ("[agents.a]\nprotocol = 'you'\nheaders = { a = \"x\\n\" }\n", "header"),
        ("[agents.a]\nprotocol = 'you'\nembedded = true\n", "embedded"),
    ],
)
def test_a_broken_file(text: str, words: str) -> None:
    """A broken file is one sentence with the file and the line or the key."""
    settings(text)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    said = one_sentence(caught.value)
    assert "agent_magic.toml" in said
    assert words in said


def test_a_file_that_is_no_text() -> None:
    """Bytes that are no UTF-8 are said, with the file."""
    Path("agent_magic.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings()


@pytest.mark.parametrize(
    ("settings_of_agent", "words"),
    [
        ({"protocol": "yuo"}, "did you mean 'you'"),
        ({"protocol": "you", "base_url": "https://me:secret@x.example"}, "user or a password"),
        ({"protocol": "you", "base_url": "ftp://x.example"}, "http"),
        ({"protocol": "you", "base_url": "x.example"}, "http"),
        ({"protocol": "you", "base_url": "https://"}, "http"),
        ({"protocol": "you", "base_url": "https://x.example:port"}, "URL"),
        ({"protocol": "you", "base_url": "https://x.example?a=b"}, "query"),
        ({"protocol": "runagent", "agent": ".."}, "path"),
        ({"protocol": "you", "tiemout": 3}, "tiemout"),
        ({"protocol": "you", "timeout": "x"}, "timeout"),
        ({"protocol": "you", "parameters": {"stream": False}}, "'stream'"),
        ({"protocol": "you", "parameters": {"x": object()}}, "object"),
        ({"protocol": "you", "verify": "nowhere.pem"}, "nowhere.pem"),
    ],
)
def test_an_agent_that_cannot_be(settings_of_agent: dict[str, Any], words: str) -> None:
    """Each is one sentence, before anything is sent, and never quotes a password."""
    with pytest.raises(ConfigError) as caught:
        Agent(**{"key_env": "", **settings_of_agent}).ask("Why?")
    said = one_sentence(caught.value)
    assert words in said
    assert "secret" not in said


class TestKeys:
    """A key is found, checked, and never shown."""

    def test_missing(self) -> None:
        """A missing key is a sentence that names the variable."""
        with pytest.raises(AuthError, match="YDC_API_KEY"):
            Agent(protocol="you", agent="advanced").ask("Why?")

    @pytest.mark.parametrize("value", ["a b", "a\nb", "kéy", "\x00", "ключ", "a\tb"])
    def test_malformed(self, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A key that no header can carry is refused, unquoted."""
        monkeypatch.setattr("os.environ", {"MY_KEY": f"xx{value}xx"})
        with pytest.raises(AuthError, match="MY_KEY") as caught:
            find_key("MY_KEY")
        assert value not in str(caught.value)

    def test_stripped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A line end that came along with a copied key is dropped."""
        monkeypatch.setenv("MY_KEY", " key\n")
        assert find_key("MY_KEY").behind("Bearer ").reveal() == "Bearer key"

    def test_never_shown(self) -> None:
        """A secret prints as stars and is not pickled."""
        secret = Secret("key", "Bearer ")
        assert f"{secret!r} {secret} {[secret]}" == "Bearer *** Bearer *** [Bearer ***]"
        with pytest.raises(TypeError):
            pickle.dumps(secret)

    @pytest.mark.parametrize(
        "key", ["sk-0123456789abcdef", "a+b/c=\"d\\e'f&g?h", "/0123456789", "0123456789=", '\\\\\\"/012345678']
    )
    def test_struck_out_however_it_is_written(self, key: str) -> None:
        """A secret is found as it is, in JSON within JSON, percent-encoded, and in base64 at any place of a text."""
        secret = Secret(key)
        once = json.dumps(key)[1:-1]
        said = [key, once, json.dumps(once)[1:-1], key.replace("/", "\\/"), quote(key, safe=""), quote(key)]
        said += [re.sub("%..", lambda escape: escape[0].lower(), quote(key, safe=""))]
        said += ["".join(c if c.isalnum() else f"\\u{ord(c):04x}" for c in key)]
        assert [secret.strike(f"<{spelling}>") for spelling in said] == ["<***>"] * len(said)
        for before in ("", "a", "ab", "abc"):
            for encode in (b64encode, urlsafe_b64encode):
                encoded = encode(f"{before}{key}{before}".encode()).decode()
                assert secret.is_in(encoded)
                assert len(secret.strike(encoded).replace("***", "")) <= 12

    def test_a_server_cannot_make_it_slow(self) -> None:
        """A long run of what may stand before a sign costs no more than any other text."""
        for key in ("/0123456789", '"0123456789', "\\0123456789", '\\\\\\\\"x', "a\\\\b/c"):
            for text in ("\\" * 60_000, "a" + "\\" * 60_000, "%5c" * 20_000, "\\u005c" * 50_000):
                assert not Secret(key).is_in(text)

    def test_nothing_else_is_struck_out(self) -> None:
        """Texts without the secret stay as they are; a secret that is empty is in none."""
        for key, text in (("sk-0123456789", "sk-012345678"), ("abc", "YWIK ab c"), ("", "any"), ("a.c-d", "abc-d")):
            assert (Secret(key).is_in(text), Secret(key).strike(text)) == (False, text)


class TestOptions:
    """A line is split as a shell does."""

    def test_all(self) -> None:
        """Each option, long and short."""
        line = "me -o x -p a=1 --param 'b=[1, \"c d\"]' -p c=text -p d= --timeout 3 --max-time 1e2 --retries 0 --raw --dry-run -q"
        assert parse_options(line) == Options(
            "me",
            "x",
            {"a": 1, "b": [1, "c d"], "c": "text", "d": ""},
            3.0,
            100.0,
            0,
            raw=True,
            dry_run=True,
            quiet=True,
        )

    def test_none(self) -> None:
        """Nothing given is nothing set."""
        assert parse_options("") == Options()

    @pytest.mark.parametrize("value", ["NaN", "Infinity", "[1", "1 2", "null"])
    def test_what_is_no_json_is_text(self, value: str) -> None:
        """NaN is no JSON, so it is text; null is JSON."""
        expected = None if value == "null" else value
        assert parse_options(f"-p 'a={value}'").parameters == {"a": expected}

    @pytest.mark.parametrize(
        "line",
        ["-o", "-o class", "-o a.b", "-o 1", "-p", "-p a", "-p =1", "--timeout 0", "--timeout -1", "--timeout nan",
         "--timeout inf", "--timeout x", "--max-time 0", "--retries -1", "--retries 1.5", "--retires 3", "a b", "'", "--out",
         "--tim 3"],
    )  # fmt: skip
    def test_mistakes(self, line: str) -> None:
        """Each is one sentence that begins with the magic's name."""
        with pytest.raises(ConfigError) as caught:
            parse_options(line)
        assert one_sentence(caught.value).startswith("%%agent: ")


class TestTemplates:
    """`{{ }}` over the notebook's names; all other text stays as it is."""

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "a { b } ${c} {% if %} {# no #} $x",
            '{"a": {"b": 1}}',
            "\\frac{a}{b}",
            "}} }",
            "[x for x in y]",
            "a\r\nb\r\n",
        ],
    )
    def test_untouched(self, text: str) -> None:
        """Text without `{{` goes through to the byte."""
        assert fill(text, {}).text == text

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("{{ a }}", "1"),
            ("{{ a + 1 }} {%x%} {#y#} {z}\n", "2 {%x%} {#y#} {z}\n"),
            ("{{ rows[0].real }}{{ rows | length }}", "12"),
            (
                "{{ len(rows) }} {{ sum(rows) }} {{ max(rows) }} {{ sorted(rows) }} {{ round(1.26, 1) }}",
                "2 3 2 [1, 2] 1.3",
            ),
            ("{{ hostile }}", "{{ a }}"),
            ("{{ a }}\r\n", "1\r\n"),
            ("{{ '{{' }}", "{{"),
        ],
    )
    def test_filled(self, text: str, value: str) -> None:
        """Values go in once, and are never read as a template."""
        assert fill(text, {"a": 1, "rows": [1, 2], "hostile": "{{ a }}"}).text == value

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("x\n{{ naem }}", "Line 2"),
            ("{{ naem }}", "name"),
            ("{{ name.nope }}", "nope"),
            ("{{ name", "--raw"),
            ("{{ }}", "--raw"),
            ("{{ name.__class__.__mro__ }}", "unsafe"),
            ("{{ name | nofilter }}", "nofilter"),
            ("{{ (name | length) / 0 }}", "ZeroDivisionError"),
            ("{{ lipsum() }}", "lipsum"),
            ("{{ range(9) }}", "range"),
        ],
    )
    def test_mistakes(self, text: str, words: str) -> None:
        """Each is one sentence, with the line, the nearest names, or the way out."""
        with pytest.raises(PromptError) as caught:
            fill(text, {"name": "sky"})
        assert words in one_sentence(caught.value)


@pytest.mark.parametrize("prompt", ["", " ", "\n\t\n"])
def test_a_blank_prompt(prompt: str) -> None:
    """A blank prompt is refused before anything is sent."""
    with pytest.raises(PromptError, match="blank"):
        Agent("demo").ask(prompt)


@pytest.mark.parametrize(
    ("settings_of_agent", "words"),
    [
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": -1.0}, "timeout"),
        ({"retries": -1}, "retries"),
        ({"auth": "foo"}, "auth"),
        ({"headers": {"X": "é"}}, "header"),
        ({"key_env": "sk-live-123456"}, "key_env"),
        ({"base_url": "http://h?"}, "base_url"),
        ({"base_url": "http://exa\nmple.com"}, "base_url"),
        ({"base_url": "http://ho st"}, "base_url"),
        ({"base_url": "http://192.0.2.1", "headers": {"Authorization": "Bearer sk-live-1"}}, "https"),
    ],
)
def test_an_agent_from_python_is_checked_too(settings_of_agent: dict[str, Any], words: str) -> None:
    """What a file may not hold, `Agent(...)` may not be given; and it is said before a run begins."""
    with pytest.raises(ConfigError) as caught:
        Agent(**{"protocol": "runagent", "key_env": "", **settings_of_agent}).begin("Why?")
    said = str(caught.value)
    assert words in said
    assert "sk-live" not in said


def test_secret_headers_are_not_shown() -> None:
    """A header whose name says that it is a secret prints as stars."""
    agent = Agent(
        protocol="runagent", key_env="", base_url="http://127.0.0.1:1", headers={"X-Token": "t", "X-Mine": "m"}
    )
    shown = {name: str(value) for name, value in agent.request("Why?").headers.items()}
    assert (shown["X-Token"], shown["X-Mine"]) == ("***", "m")


def test_the_embedded_agents_settings_hold() -> None:
    """A base_url that is given to `demo` is the one that is asked."""
    assert Agent("demo", base_url="http://127.0.0.1:1").request("Why?").url.startswith("http://127.0.0.1:1/")


@pytest.mark.parametrize("text", ["default = ['a']\n", "default = {}\n", "default = 1\n"])
def test_a_default_that_is_no_name(text: str) -> None:
    """A default of another type is one sentence."""
    settings(text)
    with pytest.raises(ConfigError, match="default"):
        load_settings()


@pytest.mark.parametrize("expression", ["(" * 5000, "1" + "+1" * 3000, "9" * 5000])
def test_templates_without_end(expression: str) -> None:
    """An expression that nobody could read is one sentence."""
    with pytest.raises(PromptError):
        fill(f"{{{{ {expression} }}}}", {})


def test_numbers_that_json_cannot_say() -> None:
    """A number beyond all bounds is text, not a null on the wire."""
    assert parse_options("-p a=1e999").parameters == {"a": "1e999"}


def own(text: str) -> Path:
    """The person's own file, with this in it."""
    path = user_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class TestFiles:
    """Which files there are, and which one wins."""

    NEAR = '[agents.near]\nprotocol = "you"\n'
    OWN = 'default = "mine"\n[agents.mine]\nprotocol = "runagent"\n[agents.near]\nprotocol = "runagent"\n'

    def test_the_users_file(self) -> None:
        """Without a project's file the user's own holds."""
        path = own(self.OWN)
        found = load_settings()
        assert (found.agent(None)[0], found.path, found.projects) == ("mine", path, {})

    def test_the_nearest_first(self) -> None:
        """A project's agent stands before the user's of the same name, wholly; the others are there too."""
        own(self.OWN)
        path = settings(self.NEAR)
        found = load_settings()
        assert found.agent(None) == ("near", AgentConfig(protocol="you"))
        assert found.agent("mine")[1].protocol == "runagent"
        assert found.projects == {"near": Path.cwd() / path}

    def test_a_project_may_name_the_users_agent(self) -> None:
        """The default of a project may be an agent of the user's."""
        own(self.OWN)
        settings('default = "mine"\n')
        assert load_settings().agent(None)[0] == "mine"

    def test_pyproject(self, tmp_path: Path) -> None:
        """A table in pyproject.toml is as good; agent_magic.toml beside it stands before it."""
        settings("[tool.agent_magic.agents.tool]\nprotocol = 'you'\n", "pyproject.toml")
        below = tmp_path / "below"
        below.mkdir()
        assert load_settings(below).agent(None)[0] == "tool"
        settings(self.NEAR)
        assert load_settings(below).agent(None)[0] == "near"

    @pytest.mark.parametrize("text", ["[tool.other]\nx = 1\n", "[[[ agent_magi", "[tool]\nagent_magic = 1\n", ""])
    def test_a_pyproject_of_others(self, text: str) -> None:
        """A pyproject.toml without the table, or that is another tool's trouble, is passed by."""
        settings(text, "pyproject.toml")
        assert load_settings().path is None

    def test_mistakes_in_pyproject(self) -> None:
        """A mistake in the table is a sentence that names the file."""
        settings("[tool.agent_magic]\ndefualt = 'x'\n", "pyproject.toml")
        with pytest.raises(ConfigError, match=r"pyproject\.toml.*did you mean 'default'"):
            load_settings()

    def test_the_variable_names_the_only_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """AGENT_MAGIC_CONFIG is instead of both, and the person's own."""
        own(self.OWN)
        settings(self.NEAR)
        settings('allow_hosts = ["a.example"]\n[agents.other]\nprotocol = "you"\n', "other.toml")
        monkeypatch.setenv("AGENT_MAGIC_CONFIG", "other.toml")
        found = load_settings()
        assert sorted(found.agents) == ["demo", "demo-you", "local", "other"]
        assert found.projects == {}

    def test_an_agent_in_place_reads_no_file(self) -> None:
        """`Agent(protocol=…)` does not fail for a file that it does not need."""
        settings("[broken")
        assert Agent(protocol="you", key_env="").name == "you"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("allow_hosts = 1\n", "list of texts"),
            ("allow_hosts = [1]\n", "list of texts"),
            ("allow_hosts = ['https://a.example']\n", "a host looks like"),
            ("allow_hosts = ['a.example/x']\n", "a host looks like"),
            ("allow_hosts = ['*']\n", "a host looks like"),
            ("allow_keys = 'X'\n", "list of texts"),
            ("allow_host = []\n", "did you mean 'allow_hosts'"),
        ],
    )
    def test_mistakes_in_the_users_file(self, text: str, words: str) -> None:
        """Each is one sentence that names the file."""
        path = own(text)
        with pytest.raises(ConfigError) as caught:
            load_settings()
        said = one_sentence(caught.value)
        assert str(path) in said
        assert words in said


EVIL = "https://evil.example"


class TestTrust:
    """A project's file does not decide who gets a key of the person's."""

    @pytest.fixture(autouse=True)
    def _keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("YDC_API_KEY", "RUNAGENT_API_KEY", "AWS_SECRET_ACCESS_KEY", "TEAM_KEY"):
            monkeypatch.setenv(name, f"sk-{name.lower()}")

    def _refused(self, text: str, *words: str, **given: Any) -> str:
        settings(f"[agents.a]\n{text}")
        with pytest.raises(ConfigError) as caught:
            Agent("a", **given).prepare("Why?")
        said = one_sentence(caught.value)
        assert "sk-" not in said
        assert "agent_magic.toml" in said
        for word in words:
            assert word in said
        return said

    def _sent(self, text: str, **given: Any) -> str:
        settings(f"[agents.a]\n{text}")
        header = Agent("a", **given).request("Why?").headers.get("Authorization")
        return header.reveal() if isinstance(header, Secret) else ""

    @pytest.mark.parametrize(
        "url",
        [
            EVIL, "https://api.you.com.evil.example", "https://api.you.com:8443", "http://api.you.com", "https://api.run-agent.ai",
            "http://127.0.0.1:8888", "http://localhost", "http://[::1]:1", "https://api.you.com.",
        ],
    )  # fmt: skip
    def test_a_host_of_the_projects_choosing(self, url: str) -> None:
        """Another host than the wire's own gets no key, this machine included, and the way to allow it is said."""
        said = self._refused(
            f'protocol = "you"\nbase_url = "{url}"\n', "YDC_API_KEY", "allow_hosts = [", str(user_file())
        )
        allowed = said.partition("allow_hosts = ")[2].partition(" into ")[0]
        own(f"allow_hosts = {allowed}\n")
        if url != "http://api.you.com":  # which is refused for its http
            assert self._sent(f'protocol = "you"\nbase_url = "{url}"\n') == "Bearer sk-ydc_api_key"

    @pytest.mark.parametrize(
        "url", ["", 'base_url = "https://api.you.com"\n', 'base_url = "https://API.you.com:443/"\n']
    )
    def test_the_services_own_host(self, url: str) -> None:
        """The wire's own service gets the wire's own key, however the host is written."""
        assert self._sent(f'protocol = "you"\n{url}') == "Bearer sk-ydc_api_key"
        assert self._sent(f'protocol = "you"\n{url}key_env = "YDC_API_KEY"\n') == "Bearer sk-ydc_api_key"

    def test_a_server_that_wants_no_key(self) -> None:
        """Without a key any host may be asked."""
        assert self._sent(f'protocol = "you"\nbase_url = "{EVIL}"\nkey_env = ""\n') == ""

    @pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "RUNAGENT_API_KEY", "HOME", "NOT_EVEN_SET"])
    def test_a_variable_of_the_projects_choosing(self, name: str) -> None:
        """Another variable than the wire's own is sent to nobody, and is not even read."""
        text = f'protocol = "you"\nkey_env = "{name}"\n'
        self._refused(text, name, f'allow_keys = ["{name}"]')
        if name == "AWS_SECRET_ACCESS_KEY":
            own(f'allow_keys = ["{name}"]\n')
            assert self._sent(text) == "Bearer sk-aws_secret_access_key"

    def test_what_an_agent_of_ones_own_names(self) -> None:
        """A host and a variable that the person's own agent names are trusted."""
        own('[agents.mine]\nprotocol = "you"\nbase_url = "https://team.example"\nkey_env = "TEAM_KEY"\n')
        text = 'protocol = "runagent"\nbase_url = "https://team.example"\nkey_env = "TEAM_KEY"\n'
        assert self._sent(text) == "Bearer sk-team_key"

    def test_the_persons_agent_is_the_persons(self) -> None:
        """An agent of one's own may ask whom it likes, whatever the project's file says beside it."""
        own(f'[agents.mine]\nprotocol = "you"\nbase_url = "{EVIL}"\nkey_env = "TEAM_KEY"\n')
        settings('[agents.other]\nprotocol = "you"\n')
        header = Agent("mine").request("Why?").headers["Authorization"]
        assert isinstance(header, Secret)
        assert header.reveal() == "Bearer sk-team_key"

    def test_a_project_changes_no_word_of_the_persons_agent(self) -> None:
        """An agent of the same name in the project's file takes nothing from the person's: no key, no header."""
        own('[agents.a]\nprotocol = "you"\nkey_env = "TEAM_KEY"\nheaders = { X-Token = "sk-mine" }\n')
        text = f'protocol = "you"\nbase_url = "{EVIL}"\n'
        self._refused(text, "YDC_API_KEY")
        settings(f'[agents.a]\n{text}key_env = ""\n')
        assert Agent("a").request("Why?").headers == {"Accept": "text/event-stream"}

    def test_what_is_given_in_place_is_the_persons(self) -> None:
        """`Agent("a", base_url=…)` and `key_env=…` are the person's own words, each for itself."""
        text = f'protocol = "you"\nbase_url = "{EVIL}"\nkey_env = "AWS_SECRET_ACCESS_KEY"\n'
        self._refused(text, "allow_keys", base_url="https://team.example")
        self._refused(text, "allow_hosts", key_env="TEAM_KEY")
        assert self._sent(text, base_url="https://team.example", key_env="TEAM_KEY") == "Bearer sk-team_key"
        assert self._sent(text, key_env="") == ""

    def test_a_secret_header_given_in_place(self) -> None:
        """A secret header that the person gives does not go to the project's host either."""
        text = f'protocol = "you"\nbase_url = "{EVIL}"\nkey_env = ""\n'
        self._refused(text, "a secret header", headers={"X-Token": "sk-x"})
        settings(f"[agents.a]\n{text}")
        assert Agent("a", headers={"X-Mine": "1"}).request("Why?").headers["X-Mine"] == "1"

    @pytest.mark.parametrize("name", ["verify = 'ca.pem'", "insecure_http = true"])
    def test_the_way_of_a_key(self, name: str) -> None:
        """A project's file does not say whose certificates hold, nor that none are needed."""
        self._refused(f'protocol = "you"\n{name}\n', name.partition(" ")[0], "only settings of your own may")

    @pytest.mark.parametrize("name", ["allow_hosts", "allow_keys"])
    def test_a_project_trusts_nobody(self, name: str) -> None:
        """What allows is not allowed in a project's file."""
        settings(f'{name} = ["x"]\n')
        with pytest.raises(ConfigError, match="only in settings of your own") as caught:
            load_settings()
        assert str(user_file()) in one_sentence(caught.value)

    @pytest.mark.parametrize(
        "name", ["Host", "content-length", "Transfer-Encoding", "CONNECTION", "Proxy-Authorization"]
    )
    def test_headers_that_route(self, name: str) -> None:
        """No settings file may frame or route a request: a Host of another's passes the key on behind the front door."""
        settings(f'[agents.a]\nprotocol = "you"\nheaders = {{ {name} = "evil.example" }}\n')
        with pytest.raises(ConfigError, match="set by the connection itself"):
            load_settings()

    def test_a_key_is_sent_once(self) -> None:
        """A header of the settings does not stand beside the key's own, in whatever case it is written."""
        with ScriptedServer(says(b"")) as server:
            agent = Agent(
                protocol="you",
                base_url=server.url,
                key_env="TEAM_KEY",
                headers={"authorization": "x", "ACCEPT": "y"},
                retries=0,
            )
            agent.begin("Why?")[0].wait(20)
        (request,) = server.requests
        assert request.lower().count(b"authorization:") == request.lower().count(b"accept:") == 1
        assert b"Bearer sk-team_key" in request


def test_insecure_http_is_a_setting_by_name() -> None:
    """A key goes over plain http to another machine only where that agent's own settings say so."""
    agent = {"protocol": "runagent", "base_url": "http://192.0.2.1", "headers": {"X-Token": "t"}, "key_env": ""}
    with pytest.raises(ConfigError, match="insecure_http"):
        Agent(**agent).prepare("Why?")
    assert Agent(**agent, insecure_http=True).prepare("Why?").base_url == "http://192.0.2.1"
