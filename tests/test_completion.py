"""Tab: what is offered where, in the pure part, in a real kernel, and at a real terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pexpect
import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import agent_magic
from agent_magic._agent import Agent
from agent_magic._completion import offers
from agent_magic._filters import FILTERS
from agent_magic._options import known_options
from agent_magic._slips import TRANSFORMERS
from agent_magic._verbs import VERBS

pytestmark = pytest.mark.usefixtures("nothing_said")

SETTINGS = """
default = "researcher"
[agents.researcher]
protocol = "you"
key_env = ""
parameters = { verbosity = "high", tools = [] }
[agents.near-one]
protocol = "runagent"
"""


class Lazy:
    """An object whose property must not be run by a Tab."""

    ran = 0

    @property
    def costly(self) -> Any:
        """What it costs is counted."""
        Lazy.ran += 1
        return self

    def method(self) -> None:
        """Not called either."""
        raise AssertionError

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        Lazy.ran += 1
        return self


NAMES: dict[str, Any] = {
    "answer": 1,
    "rows": [1],
    "record": {"name": 1, "a b": 2, "_x": 3},
    "lazy": Lazy(),
    "len2": len,
}


@pytest.fixture(autouse=True)
def settings(tmp_path: Path) -> None:
    (tmp_path / "agent_magic.toml").write_text(SETTINGS)


def words(before: str) -> list[str]:
    return [word for word, _ in offers(before, NAMES).words]


AGENTS = ["researcher", "local", "demo", "demo-you", "near-one"]


@pytest.mark.parametrize(
    ("before", "typed", "expected"),
    [
        ("%%agent re", "re", ["researcher"]),
        ("%%agent demo-y", "demo-y", ["demo-you"]),
        ("%%agent RES", "RES", ["researcher"]),
        ("%%agent -o x ne", "ne", ["near-one"]),
        ("\n# a comment\n  %%agent ne", "ne", ["near-one"]),
        ("%%agent demo --ti", "--ti", ["--timeout"]),
        ("%%agent demo --dry", "--dry", ["--dry-run"]),
        ("%%agent --quiet --qu", "--qu", []),
        ("%%agent -p a=1 --par", "--par", ["--param"]),
        ("%%agent researcher -p ", "", ["verbosity=", "tools="]),
        ("%%agent -p v", "v", ["verbosity="]),
        ("%%agent demo -p ", "", []),
        ("%%agent -p 'a b", "b", []),
        ("%%agent researcher --param=v", "v", ["verbosity="]),
        ("%%agent --timeout ", "", []),
        ("%agent st", "st", ["stop"]),
        ("x = %agent rec", "rec", ["recover"]),
        ("1\n%agent doc", "doc", ["doctor"]),
        ("%agent show ne", "ne", ["near-one"]),
        ("%agent use ", "", AGENTS),
        ("%agent login re", "re", ["researcher"]),
        ("%agent stop ", "", ["all"]),
        ("%agent recover --r", "--r", ["--resume"]),
        ("%agent history ", "", []),
        ("%%time\n%agent st", "", []),
        ("%%agent\nWhy {{ an", "an", ["answer"]),
        ("%%agent\nWhy {{ a }} and {{ sort", "sort", ["sorted"]),
        ("%%agent\nWhy {{ rows\n  | cs", "cs", ["csv"]),
        ("%%agent\n{{ rows | head(3) | js", "js", ["json"]),
        ("%%agent\n{{ rows | round_", "round_", []),
        ("%%agent\n{{ record.na", "na", ["name"]),
        ("%%agent\n{{ len(rec", "rec", ["record"]),
        ("%%agent\n{{ nothing.na", "na", []),
        ("%%agent\n{{ 'an", "", []),
        ("%%agent\n{{ answer }} an", "", []),
        ("%%agent\nPlain an", "", []),
        ("%%agent --raw\n{{ an", "", []),
        ("%%agentic re", "", []),
        ("%%agent", "", []),
        ("agent re", "", []),
        ("", "", []),
    ],
)  # fmt: skip
def test_offers(before: str, typed: str, expected: list[str]) -> None:
    """What may stand at the cursor, and the piece of text whose place it takes."""
    offer = offers(before, NAMES)
    assert [word for word, _ in offer.words] == expected
    if expected:
        assert offer.typed == typed


def test_behind_the_cell_s_name() -> None:
    """First the agents, the default one before the others, then the long options; behind a dash all of them."""
    long = [name for action in known_options() for name in action.option_strings if name.startswith("--")]
    assert words("%%agent ") == [*AGENTS, *long]
    assert words("%%agent demo ") == long
    assert {"-o", "--out", "-q", "--help"} <= set(words("%%agent -"))
    assert words("%agent ") == list(VERBS)


def test_filters() -> None:
    """Behind a bar the product's own filters come first, then Jinja2's."""
    assert words("%%agent\n{{ rows | ")[: len(FILTERS)] == list(FILTERS)
    assert "upper" in words("%%agent\n{{ rows |")


def test_nothing_of_the_person_s_is_run() -> None:
    """Attributes are listed by name: no property is run, no method called, one level deep."""
    Lazy.ran = 0
    offered = words("%%agent\n{{ lazy.")
    assert {"costly", "method"} <= set(offered)
    assert not any(name.startswith("_") for name in offered)
    assert words("%%agent\n{{ lazy.costly.") == words("%%agent\n{{ lazy.method().") == []
    assert Lazy.ran == 0


def test_runs_to_recover() -> None:
    """`%agent recover` offers the runs of the journal, the newest first."""
    runs = [Agent("demo").ask("Why?", stream_delay_ms=0).run_id for _ in range(2)]
    assert words("%agent recover ") == [*reversed(runs), "--resume"]


@pytest.mark.parametrize("text", ["this is not TOML", "[agents.x]\nprotocol = 3"])
def test_a_broken_settings_file_completes_nothing(text: str, tmp_path: Path) -> None:
    """No agent is offered and nothing is raised; the options are there all the same."""
    (tmp_path / "agent_magic.toml").write_text(text)
    assert words("%%agent re") == words("%agent use ") == words("%%agent -p ") == []
    assert "--timeout" in words("%%agent ")


PIECES = st.sampled_from(
    ["%%agent", "%agent", " ", "\n", "{{", "}}", "|", ".", "-", "--", "-p", "=", "'", '"', "demo", "rec", "record", "stop", "#", "\\",
     "\t", "é", "\u2028", "\r", "lazy", "(", "[", "]", "len", "recover"]
)  # fmt: skip


@hypothesis.settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
)
@hypothesis.given(st.lists(PIECES, max_size=12).map("".join))
def test_any_text(text: str) -> None:
    """Whatever stands before the cursor, an offer takes the place of its end, and every word of it begins so."""
    for before in (text, f"%%agent {text}", f"%%agent\n{{{{ {text}", f"%agent {text}"):
        offer = offers(before, NAMES)
        assert before.endswith(offer.typed)
        assert all(word.lower().startswith(offer.typed.lower()) for word, _ in offer.words)
        lines = before.splitlines(keepends=True)
        for transform in TRANSFORMERS:
            lines = transform(lines)
    assert "%agent" in text or all(transform([text]) == [text] for transform in TRANSFORMERS)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    shell: Any = InteractiveShell()  # type: ignore[no-untyped-call]
    shell.user_ns.update(NAMES)
    agent_magic.load_ipython_extension(shell)
    yield shell
    agent_magic.unload_ipython_extension(shell)
    assert shell.Completer.custom_matchers == []
    shell.history_manager.end_session()


@pytest.mark.parametrize("jedi", [True, False])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%%agent re|", ["researcher"]),
        ("%%agent r|e --quiet\nWhy?", ["researcher"]),
        ("%%agent demo-|\nWhy {{ answer }}?", ["demo-you"]),
        ("%%agent\nWhy {{ answ| }}?\nAnd why not?", ["answer"]),
        ("%%agent\nWhy {{ record.n| }}?", ["name"]),
        ("%agent doc|", ["doctor"]),
    ],
)
def test_in_ipython(shell: InteractiveShell, jedi: bool, text: str, expected: list[str], tmp_path: Path) -> None:
    """IPython offers ours alone, wherever the cursor stands, with jedi and without: no file and no Python drowns it."""
    (tmp_path / "researcher.csv").touch()
    shell.Completer.use_jedi = jedi
    with provisionalcompleter():
        found = list(shell.Completer.completions(text.replace("|", ""), text.index("|")))
    assert [one.text for one in found] == expected


def test_ipython_s_own_is_as_before(shell: InteractiveShell) -> None:
    """Outside of our cells, and in the prose of a prompt, Tab offers what IPython offers."""
    with provisionalcompleter():
        for text in ("answ", "%%agent\nanswer\nansw"):
            assert "answer" in {one.text for one in shell.Completer.completions(text, len(text))}
        assert "%%agent" in {one.text for one in shell.Completer.completions("%%age", 5)}


def test_at_a_terminal(tmp_path: Path) -> None:
    """Tab completes an agent, an option and a verb at the prompt of a terminal."""
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    child = pexpect.spawn(
        sys.executable,
        ["-m", "IPython", "--no-banner", "--colors=NoColor", "--no-confirm-exit", "--ext=agent_magic"],
        env=environment, dimensions=(40, 100), encoding="utf-8", timeout=15,
    )  # fmt: skip
    child.expect(r"In \[1\]:")
    child.send("%agent sto\t")
    child.expect("sto.*p")
    child.send("\r")
    child.expect("No agent is running")
    child.expect(r"In \[2\]:")
    child.send("%%agent resear\t")
    child.expect("resear.*cher")
    child.send(" --dry\t")
    child.expect("--dry.*-run")
    child.send("\r")
    child.send("Why?\r\r\r")
    child.expect("bytes, not sent")
    child.send("exit\r")
    child.expect(pexpect.EOF)
