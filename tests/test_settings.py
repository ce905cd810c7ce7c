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
from agent_magic._config import load_settings
from agent_magic._keys import Secret, find_key
from agent_magic._options import Options, parse_options
from agent_magic._template import render
from agent_magic.errors import AuthError, ConfigError, PromptError

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
        assert render(text, {}) == text

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
        assert render(text, {"a": 1, "rows": [1, 2], "hostile": "{{ a }}"}) == value

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
            ("{{ 1 / 0 }}", "ZeroDivisionError"),
            ("{{ lipsum() }}", "lipsum"),
            ("{{ range(9) }}", "range"),
        ],
    )
    def test_mistakes(self, text: str, words: str) -> None:
        """Each is one sentence, with the line, the nearest names, or the way out."""
        with pytest.raises(PromptError) as caught:
            render(text, {"name": "sky"})
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
        render(f"{{{{ {expression} }}}}", {})


def test_numbers_that_json_cannot_say() -> None:
    """A number beyond all bounds is text, not a null on the wire."""
    assert parse_options("-p a=1e999").parameters == {"a": "1e999"}
