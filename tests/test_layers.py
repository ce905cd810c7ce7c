"""What stands above what: files, the environment, ``%config AgentMagics``, the line; and each value says where it came from."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from agent_magic import Agent
from agent_magic._config import keeps_journal, load_settings, user_file
from agent_magic._overrides import override, overrides
from agent_magic._overview import Overview
from agent_magic._show import Shown
from agent_magic._verbs import manage
from agent_magic.errors import ConfigError
from agent_magic.protocols import BUILT_IN

pytestmark = pytest.mark.usefixtures("nothing_said")

FILE = 'default = "mine"\n[agents.mine]\nprotocol = "you"\ntimeout = 1\nretries = 1\nbackoff = 1\n[agents.other]\nprotocol = "runagent"\n'


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    """An IPython in this process."""
    shell = InteractiveShell.instance()
    yield shell
    InteractiveShell.clear_instance()


@pytest.fixture
def loaded(shell: InteractiveShell) -> Iterator[InteractiveShell]:
    """The same, with the extension loaded for one test."""
    shell.run_line_magic("load_ext", "agent_magic")
    yield shell
    shell.run_line_magic("unload_ext", "agent_magic")


def project(text: str) -> Path:
    path = Path.cwd() / "agent_magic.toml"
    path.write_text(text)
    return path


def refused(text: str) -> str:
    path = project(text)
    with pytest.raises(ConfigError) as caught:
        Agent("a")
    return one_sentence(str(caught.value)).replace(str(path), "FILE")


def one_sentence(said: str) -> str:
    assert "\n" not in said
    assert said[-1] in ".?"
    return said


def config(shell: InteractiveShell, line: str) -> None:
    shell.run_line_magic("config", f"AgentMagics.{line}")


class TestLayers:
    """Each layer stands above the one before."""

    def test_in_order(self, loaded: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
        """Defaults, the file, the environment, %config, and what is given in place."""
        path = project(FILE)
        for name in ("retries", "backoff", "max_wait", "max_time"):
            monkeypatch.setenv(f"AGENT_MAGIC_{name.upper()}", "2")
        for name in ("backoff", "max_wait", "max_time"):
            config(loaded, f"{name} = 3")
        agent = Agent("mine", max_time=4)
        names = ("max_event", "timeout", "retries", "backoff", "max_time")
        assert {name: (getattr(agent.config, name), agent.origins.get(name)) for name in names} == {
            "max_event": (16 * 1024 * 1024, None),
            "timeout": (1, str(path)),
            "retries": (2, "AGENT_MAGIC_RETRIES"),
            "backoff": (3, "%config AgentMagics.backoff"),
            "max_time": (4, "Agent(...)"),
        }

    def test_they_hold_for_every_agent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also for the embedded one, and for one that is described in place, which reads no file."""
        project("[broken")
        monkeypatch.setenv("AGENT_MAGIC_TIMEOUT", "7.5")
        assert Agent(protocol="you").config.timeout == 7.5
        Path("agent_magic.toml").unlink()
        assert Agent("demo").config.timeout == 7.5

    def test_what_a_run_may_cost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A cost for all agents asks each for its price, but for the embedded one, which has none."""
        monkeypatch.setenv("AGENT_MAGIC_MAX_COST", "0.5")
        assert Agent("demo").config.max_cost is None
        assert Agent(protocol="you", price={"input": 1, "output": 2}).config.max_cost == 0.5
        with pytest.raises(ConfigError, match=r"^AGENT_MAGIC_MAX_COST: max_cost needs a price"):
            Agent(protocol="you")

    def test_the_default(self, loaded: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
        """The agent that is asked without a name, and why it is that one."""
        said = [(load_settings().default, load_settings().default_from)]
        path = project(FILE.partition("\n")[2])
        said.append((load_settings().default, load_settings().default_from))
        project(FILE)
        said.append((load_settings().default, load_settings().default_from))
        monkeypatch.setenv("AGENT_MAGIC_DEFAULT", "other")
        said.append((load_settings().default, load_settings().default_from))
        config(loaded, "default = 'demo'")
        said.append((load_settings().default, load_settings().default_from))
        assert said == [
            ("demo", "nothing names another one"),
            ("mine", f"the first agent in {path}"),
            ("mine", f"default in {path}"),
            ("other", "AGENT_MAGIC_DEFAULT"),
            ("demo", "%config AgentMagics.default"),
        ]

    def test_a_default_of_the_session_that_is_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is refused where it is needed, with the variable and the nearest name; an agent by name is asked."""
        project(FILE)
        monkeypatch.setenv("AGENT_MAGIC_DEFAULT", "othre")
        assert Agent("mine").name == "mine"
        with pytest.raises(
            ConfigError, match=r"^AGENT_MAGIC_DEFAULT: There is no agent 'othre'; did you mean 'other'\?"
        ):
            Agent()

    def test_the_journal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """%config stands above the environment, and that above the file."""
        kept = [keeps_journal()]
        project("journal = false\n")
        kept.append(keeps_journal())
        monkeypatch.setenv("AGENT_MAGIC_JOURNAL", "1")
        kept.append(keeps_journal())
        override("journal", False)
        kept.append(keeps_journal())
        assert kept == [True, False, True, False]


class TestWords:
    """Each mistake is one sentence with the place, the key and what is right."""

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("protocol = 'yuo'", "FILE: agents.a.protocol: There is no protocol 'yuo'; did you mean 'you'?"),
            ("protocol = 1", 'FILE: agents.a.protocol = 1 is not a text; write protocol = "runagent".'),
            ("timeout = '10'", 'FILE: agents.a.timeout = "10" is not a number; write timeout = 10.'),
            ("timeout = 'soon'", 'FILE: agents.a.timeout = "soon" is not a number; write timeout = 60.0.'),
            ("timeout = true", "FILE: agents.a.timeout = true is not a number; write timeout = 60.0."),
            ("timeout = {}", "FILE: agents.a.timeout = {} is not a number; write timeout = 60.0."),
            ("max_time = [1]", "FILE: agents.a.max_time = [1] is not a number; write max_time = 600."),
            ("retries = 1.5", "FILE: agents.a.retries = 1.5 is not a whole number; write retries = 3."),
            ("retries = '2'", 'FILE: agents.a.retries = "2" is not a whole number; write retries = 2.'),
            ("retries = -1", "FILE: agents.a: retries is a whole number from 0 up; -1 is not."),
            ("images = 'true'", 'FILE: agents.a.images = "true" is not true or false; write images = true.'),
            ("retries = inf", "FILE: agents.a.retries = inf is not a whole number; write retries = 3."),
            ("verify = true", 'FILE: agents.a.verify = true is not a text; write verify = "ca.pem".'),
            ("agent = 7", 'FILE: agents.a.agent = 7 is not a text; write agent = "7".'),
            ("auth = 'basic'", "FILE: agents.a: auth is one of bearer, x-api-key: how the key travels, never the key."),
            ("base_url = 'api.you.com'", "FILE: agents.a: The base_url 'api.you.com' is not an http or https URL; did you mean 'https://api.you.com'?"),
            ("base_url = 3", 'FILE: agents.a.base_url is not a text; write base_url = "https://api.example.com".'),
            ("base_url = 'me:hunter2@x.example'", "FILE: agents.a: The base_url has a user or a password in it; name the key's variable in key_env instead."),
            ("key_env = 'sk-live-1'", "FILE: agents.a: The setting key_env holds no variable's name; it is the name of the variable, never the key."),
            ("parameters = 'x'", 'FILE: agents.a.parameters is not a table; write parameters = { verbosity = "high" }.'),
            ("headers = { X-Token = 1 }", 'FILE: agents.a.headers holds what is not a text; write headers = { X-Team = "blue" }.'),
            ("price = { inptu = 1, output = 1 }", "FILE: agents.a.price: there is no price.inptu; did you mean 'input'?"),
            ("price = { input = '1', output = 1 }", 'FILE: agents.a.price.input = "1" is not a number; write input = 1.'),
            ("price = { input = 1 }", "FILE: agents.a.price has no output; write price = { input = 3.0, output = 15.0 }."),
            ("price = 3", "FILE: agents.a.price = 3 is not a table of two numbers; write price = { input = 3.0, output = 15.0 }."),
            ("max_cost = 1", "FILE: agents.a: max_cost needs a price to reckon with: price = { input = 3.0, output = 15.0 }, per million tokens."),
            ('model = "m"', "FILE: there is no setting agents.a.model; did you mean 'agent'?"),
            ("jornal = false", "FILE: there is no setting agents.a.jornal;"),
            ("journal = false", "FILE: journal stands below [agents.a]; write it at the top of the file."),
        ],
    )  # fmt: skip
    def test_in_an_agent(self, text: str, said: str) -> None:
        """A wrong setting of an agent in a file."""
        wire = "" if text.startswith("protocol") else 'protocol = "you"\n'
        assert refused(f"[agents.a]\n{wire}{text}\n").startswith(said)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[agent.a]\nprotocol = 'you'", "FILE: there is no setting agent; did you mean 'agents'?"),
            ("[tool.agent_magic]", "FILE: tool is a table of pyproject.toml; here, write [agents.NAME] and nothing before it."),
            ("timeout = 3", "FILE: timeout is an agent's setting; write it below [agents.NAME]."),
            ("[[agents]]\nprotocol = 'you'", "FILE: agents is a table; write [agents.NAME]."),
            ("[agents.a]\n[agents.a]", "FILE is not TOML: Cannot declare ('agents', 'a') twice (at line 2, column 10)."),
            ("journal = 'no'", 'FILE: journal = "no" is neither true nor false.'),
        ],
    )  # fmt: skip
    def test_at_the_top(self, text: str, said: str) -> None:
        """A wrong word in the rest of a file."""
        assert refused(f"{text}\n") == said

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"tiemout": 3}, "Agent(...): there is no setting tiemout; did you mean 'timeout'?"),
            ({"timeout": "3"}, 'Agent(...): timeout = "3" is not a number; write timeout = 3.'),
            ({"protocol": "yuo"}, "Agent(...): protocol: There is no protocol 'yuo'; did you mean 'you'?"),
        ],
    )
    def test_in_place(self, given: dict[str, Any], said: str) -> None:
        """A wrong setting that is given from Python."""
        with pytest.raises(ConfigError) as caught:
            Agent(**{"protocol": "you", **given})
        assert str(caught.value) == said

    @pytest.mark.parametrize(
        ("variable", "value", "said"),
        [
            ("TIMEOUT", "soon", 'AGENT_MAGIC_TIMEOUT = "soon" is not a number; write AGENT_MAGIC_TIMEOUT = 60.0.'),
            ("TIMEOUT", "nan", 'AGENT_MAGIC_TIMEOUT = "nan" is not a number; write AGENT_MAGIC_TIMEOUT = 60.0.'),
            ("TIMEOUT", "1_0", 'AGENT_MAGIC_TIMEOUT = "1_0" is not a number; write AGENT_MAGIC_TIMEOUT = 60.0.'),
            ("TIMEOUT", "-1", "AGENT_MAGIC_TIMEOUT: timeout is a number of seconds, more than 0; -1 is not."),
            ("RETRIES", "1.5", "AGENT_MAGIC_RETRIES = 1.5 is not a whole number; write AGENT_MAGIC_RETRIES = 3."),
            ("MAX_VALUE", "0", "AGENT_MAGIC_MAX_VALUE: max_value is a whole number from 1 up; 0 is not."),
            (
                "TIEMOUT",
                "3",
                "AGENT_MAGIC_TIEMOUT is set, and agent_magic knows none of that name; did you mean AGENT_MAGIC_TIMEOUT?",
            ),
        ],
    )
    def test_in_the_environment(self, variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A wrong variable; a name that is like none of these is somebody else's."""
        monkeypatch.setenv("AGENT_MAGIC_XYZ", "?")
        Agent("demo")
        monkeypatch.setenv(f"AGENT_MAGIC_{variable}", value)
        with pytest.raises(ConfigError) as caught:
            Agent("demo")
        assert one_sentence(str(caught.value)) == said


PLUG_INS = """
from agent_magic import Agent
from agent_magic.protocols import protocol_names
import sys

print(protocol_names(), Agent(protocol="you").protocol.name, {"good", "bad"} & set(sys.modules))
print(Agent(protocol="good").protocol.name, "bad" in sys.modules)
for name in ("bad", "godo"):
    try:
        Agent(protocol=name)
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_plug_ins_are_imported_when_they_are_named(tmp_path: Path) -> None:
    """A wire of somebody else's costs nothing, and breaks nothing, until an agent names it."""
    info = tmp_path / "plug-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[agent_magic.protocols]\ngood = good:Good\nbad = bad:Bad\n")
    (tmp_path / "good.py").write_text(
        "from agent_magic.protocols.you import You\n\nclass Good(You):\n    name = 'good'\n"
    )
    (tmp_path / "bad.py").write_text("import nothing_of_that_name\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PLUG_INS], capture_output=True, text=True, check=True, timeout=60, env=environment
    )
    bad = "Agent(...): protocol: The protocol 'bad' (bad:Bad) cannot be loaded"
    assert done.stdout.splitlines() == [
        f"{sorted([*BUILT_IN, 'bad', 'good'])} you set()",
        "good False",
        f"ConfigError {bad}: ModuleNotFoundError No module named 'nothing_of_that_name'.",
        "ConfigError Agent(...): protocol: There is no protocol 'godo'; did you mean 'good'?",
    ]


class TestConfig:
    """``%config AgentMagics``."""

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("timeout = 'x'", '%config AgentMagics.timeout = "x" is not a number; write timeout = 60.0.'),
            ("timeout = 0", "%config AgentMagics.timeout: timeout is a number of seconds, more than 0; 0 is not."),
            ("retries = 1.5", "%config AgentMagics.retries = 1.5 is not a whole number; write retries = 3."),
            ("images = 1", "%config AgentMagics.images = 1 is not true or false; write images = true."),
            ("journal = 0", "%config AgentMagics.journal = 0 is neither True nor False."),
            ("default = 3", '%config AgentMagics.default = 3 names no agent; write %config AgentMagics.default = "demo".'),
            ("agents = 3", '%config AgentMagics.agents is a dict of agents by name: %config AgentMagics.agents = {"mine": {"protocol": "you"}}.'),
            ("agents = {'mine': 3}", '%config AgentMagics.agents: mine is a dict of settings, such as {"protocol": "you"}.'),
            ("agents = {'a': {'protocol': 'you', 'tiemout': 3}}", "%config AgentMagics: there is no setting agents.a.tiemout; did you mean 'timeout'?"),
        ],
    )  # fmt: skip
    def test_a_wrong_value(
        self, loaded: InteractiveShell, line: str, said: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is one line, no traceback, and what was said before holds on."""
        config(loaded, "timeout = 5")
        config(loaded, line)
        assert [record.getMessage() for record in caplog.records] == [said]
        assert overrides() == {"timeout": 5}

    def test_a_wrong_name(self, loaded: InteractiveShell) -> None:
        """A setting that does not exist does not pass silently."""
        with pytest.warns(UserWarning, match="`tiemout` not recognized by `AgentMagics`.  Did you mean"):
            config(loaded, "tiemout = 3")

    def test_it_is_read_and_taken_back(self, loaded: InteractiveShell) -> None:
        """`%config AgentMagics.x` says what is set, None takes it back, and unloading takes back all."""
        config(loaded, "timeout = 5")
        assert loaded.run_line_magic("config", "AgentMagics.timeout") == 5
        config(loaded, "timeout = None")
        assert loaded.run_line_magic("config", "AgentMagics.timeout") is None
        config(loaded, "timeout = 6")
        loaded.run_line_magic("unload_ext", "agent_magic")
        assert overrides() == {}
        assert [one for one in loaded.configurables if type(one).__name__ == "AgentMagics"] == []
        loaded.run_line_magic("load_ext", "agent_magic")

    def test_the_help(self, loaded: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
        """`%config AgentMagics` lists every setting with what it means and what it is."""
        config(loaded, "timeout = 5")
        loaded.run_line_magic("config", "AgentMagics")
        said = capsys.readouterr().out
        for name in ("default", "timeout", "max_time", "retries", "backoff", "max_wait", "max_value", "max_cost",
                     "images", "journal", "agents"):  # fmt: skip
            assert f"AgentMagics.{name}=<" in said
        told = "The longest silence, in seconds, before the connection counts as lost (else"
        assert f"AgentMagics.timeout=<Seconds>\n    {told}\n    60).\n    Current: 5.0\n" in said

    def test_agents_of_ones_own(self, loaded: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
        """A whole agent of the session stands above a project's of the same name, and is the person's own."""
        monkeypatch.setenv("TEAM_KEY", "sk-team")
        project('[agents.mine]\nprotocol = "runagent"\ntimeout = 3\nbase_url = "https://evil.example"\n'
                '[agents.other]\nprotocol = "runagent"\nbase_url = "https://team.example"\nkey_env = "TEAM_KEY"\n')  # fmt: skip
        table = {"protocol": "you", "base_url": "https://team.example", "key_env": "TEAM_KEY"}
        with pytest.raises(ConfigError, match="your own settings"):
            Agent("other").prepare("Why?")
        config(loaded, f"agents = {{'mine': {table}}}")
        agent = Agent("mine")
        assert (agent.config.protocol, agent.config.timeout) == ("you", 60)
        assert agent.origins == dict.fromkeys(table, "%config AgentMagics.agents")
        assert [agent.prepare("Why?").key_env, Agent("other").prepare("Why?").key_env] == ["TEAM_KEY", "TEAM_KEY"]

    def test_ipythons_own_file(self, tmp_path: Path) -> None:
        """c.AgentMagics in IPython's settings holds from the start; a wrong value there is one line at loading."""
        told = []
        for value in ("8", "'x'"):
            profile = tmp_path / "profile_default"
            profile.mkdir(exist_ok=True)
            (profile / "ipython_config.py").write_text(f"c.AgentMagics.timeout = {value}\n")
            cell = "%load_ext agent_magic\nfrom agent_magic import Agent; print(Agent('demo').config.timeout)"
            done = subprocess.run(
                [sys.executable, "-m", "IPython", "--ipython-dir", str(tmp_path), "--colors=NoColor", "-c", cell],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            told.append((done.stdout + done.stderr).strip().splitlines()[0])
        assert told == [
            "8.0",
            'ConfigError: In IPython\'s settings, %config AgentMagics.timeout = "x" is not a number; write timeout = 60.0.',
        ]


class TestShow:
    """``%agent show``, ``%agent use`` and what ``%agent`` says of the default."""

    def test_where_each_value_came_from(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A row for each setting; neither a header's value nor the key is in it."""
        path = project(f'{FILE}key_env = "YDC_API_KEY"\nheaders = {{ X-Token = "sk-hidden" }}\n')
        user_file().parent.mkdir(parents=True)
        user_file().write_text('allow_keys = ["YDC_API_KEY"]\n')
        monkeypatch.setenv("YDC_API_KEY", "sk-secret")
        monkeypatch.setenv("AGENT_MAGIC_RETRIES", "5")
        override("backoff", 4.0)
        shown = Shown.of("other")
        rows = {name: (value, where) for name, value, where in shown.rows}
        expected = {
            "name": ("other", "the line"),
            "protocol": ("runagent", str(path)),
            "agent": ("demo", "default"),
            "base_url": ("https://api.run-agent.ai", "the protocol's own"),
            "key_env": ("YDC_API_KEY", str(path)),
            "key": ("***", "environment"),
            "auth": ("bearer", "the protocol's own"),
            "headers": ("X-Token: ***", str(path)),
            "retries": ("5", "AGENT_MAGIC_RETRIES"),
            "backoff": ("4.0", "%config AgentMagics.backoff"),
            "max_time": ("none", "default"),
        }
        assert {name: rows[name] for name in expected} == expected
        for said in (repr(shown), shown._repr_html_()):
            assert "sk-" not in said
            assert "AGENT_MAGIC_RETRIES" in said

    def test_the_default_one(self) -> None:
        """Without a name it is the default agent, and why it is that one; the embedded one needs no key."""
        rows = {name: (value, where) for name, value, where in Shown.of(None).rows}
        assert [rows["name"], rows["base_url"], rows["key"]] == [
            ("demo", "nothing names another one"),
            ("in this process", "embedded"),
            ("none is sent", ""),
        ]

    def test_a_hostile_name(self) -> None:
        """What a project's file holds is shown and not obeyed."""
        project('[agents.a]\nprotocol = "you"\nagent = "<script>\\u001b[2J"\n')
        shown = manage("show a", SimpleNamespace())
        assert isinstance(shown, Shown)
        assert "<script>" not in shown._repr_html_()
        assert "\x1b" not in repr(shown) + shown._repr_html_()

    def test_use(self, loaded: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
        """The default for the session; a wrong name gets the nearest one and changes nothing."""
        project(FILE)
        loaded.run_line_magic("agent", "use other")
        assert capsys.readouterr().out == "Without a name, other is asked from now on, in this session.\n"
        assert (Agent().name, loaded.run_line_magic("config", "AgentMagics.default")) == ("other", "other")
        with pytest.raises(ConfigError, match="did you mean 'mine'"):
            manage("use mien", loaded)
        assert Agent().name == "other"

    def test_the_overview(self) -> None:
        """It says where each agent is described, which is the default and why, and shows an agent that cannot be."""
        path = project('[agents.demo]\nprotocol = "runagent"\n[agents.bad]\nprotocol = "yuo"\n')
        shown = Overview()
        assert repr(shown).splitlines()[-3] == f"Without a name, demo is asked (the first agent in {path})."
        assert f"{path}, in place of the embedded one" in repr(shown)
        assert "There is no protocol 'yuo'; did you mean 'you'?" in repr(shown)
        override("default", "nobody")
        assert "nobody is asked (%config AgentMagics.default), and there is no such agent" in Overview()._repr_html_()

    @pytest.mark.parametrize("line", ["show a b", "use", "use a b", "login a b", "logout a b"])
    def test_wrong_words(self, line: str) -> None:
        """Words that a verb does not take get its form."""
        with pytest.raises(ConfigError, match=f"did you mean %agent {line.partition(' ')[0]} "):
            manage(line, SimpleNamespace())
