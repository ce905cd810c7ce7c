"""What a notebook does with settings, tapes and results, in a real kernel: cells in, outputs out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_magic.testing import ScriptedServer, event_stream, says
from tests.kernel._kernel import Cell, Kernel, running_kernel

ANSWER = event_stream(
    ("start", {"session_id": "s"}),
    ("chunk", {"content": "Two:\n\n```python\nx = 1\n```\n\n```bash\nls\n```\n", "index": 0}),
    ("done", {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}),
)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel in a folder whose settings name an agent `mine`."""
    folder = tmp_path_factory.mktemp("verbs")
    with ScriptedServer(says(ANSWER)) as server:
        (folder / "agent_magic.toml").write_text(
            f'[agents.mine]\nprotocol = "runagent"\nbase_url = "{server.url}"\nkey_env = ""\ntimeout = 30\n'
            "price = { input = 1000000, output = 2000000 }\n"
        )
        with running_kernel(Path(sys.executable), folder, AGENT_MAGIC_STATE=str(folder / "state")) as kernel:
            assert kernel.run("%load_ext agent_magic").status == "ok"
            yield kernel


def text(cell: Cell) -> str:
    """What the cell's value shows as text."""
    (shown,) = cell.contents("execute_result")
    return str(shown["data"]["text/plain"])


def next_cell(cell: Cell) -> dict[str, Any]:
    """What the reply asks the front end to put into a new cell."""
    assert cell.reply is not None
    (payload,) = cell.reply["content"]["payload"]
    return dict(payload)


def test_code_becomes_the_next_cell(kernel: Kernel) -> None:
    """The front end is asked for a new cell below, and leaves this one as it is."""
    kernel.run("%%agent mine\nWhy?")
    payload = next_cell(kernel.run("%agent code 2"))
    assert payload == {"source": "set_next_input", "text": "%%bash\nls", "replace": False}
    refused = kernel.run("%agent code")
    assert (refused.error["ename"], refused.error["traceback"]) == (
        "ConfigError",
        ["ConfigError: Which block is it to be? The last answer has: 1 python, 2 bash. Write %agent code N."],
    )


def test_where_each_setting_came_from(kernel: Kernel) -> None:
    """The file, `%config` above it, the line above that; `%agent use` sets the session's default."""
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in text(kernel.run("%agent show mine")).splitlines()}
    assert rows["timeout"][0] == "30.0"
    assert rows["timeout"][1].endswith("agent_magic.toml")
    assert rows["retries"] == ["3", "default"]
    kernel.run("%config AgentMagics.timeout = 20")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in text(kernel.run("%agent show mine")).splitlines()}
    assert rows["timeout"] == ["20.0", "%config AgentMagics.timeout"]
    assert "mine is asked from now on" in kernel.run("%agent use mine").printed
    kernel.run("%%agent -o answer\nWhy?")
    assert kernel.evaluate("(answer.agent, answer.cost)") == "('mine', 11.0)"
    kernel.run("%config AgentMagics.timeout = None\n%config AgentMagics.default = None")


def test_record_and_replay(kernel: Kernel) -> None:
    """The line says what a tape had to do with it; a replay of an agent that has gone is the same answer."""
    lines = [
        kernel.run(f"%%agent mine --tape {mode} -o answer\nTaped?").outputs[-1]["data"]["text/plain"].split(" · ")[:3]
        for mode in ("record", "replay", "auto", "live")
    ]
    assert [line[1:3] for line in lines[:3]] == [["done", "recorded"], ["done", "replayed"], ["done", "replayed"]]
    assert lines[3][2].endswith(" s")
    missing = kernel.run("%%agent mine --tape replay -o other\nNever asked.")
    assert missing.error["ename"] == "TapeMissing"
    assert "There is no tape among the 1 in tapes for what 'mine' is asked here" in missing.error["evalue"]
    assert kernel.evaluate("'other' in globals()") == "False"


def test_usage_is_a_frame(kernel: Kernel) -> None:
    """A DataFrame, of this kernel and of the journal; replays cost nothing."""
    kernel.run("used = get_ipython().run_line_magic('agent', 'usage')")
    before = int(kernel.evaluate("used[(used.of == 'kernel') & (used.agent == 'mine')].runs.sum()"))
    kernel.run("%%agent mine\nOnce more?")
    kernel.run("%%agent mine --tape auto\nTaped?")
    runs = before + 1
    expected = {"runs": runs, "total_tokens": 7 * runs, "cost": 11.0 * runs}
    rows = "used[(used.agent == 'mine')].groupby('of')[['runs', 'total_tokens', 'cost']].sum().to_dict('index')"
    looked = f"""
import time
until = time.monotonic() + 30
while True:  # a slow disk may have the last tape a moment later
    used = get_ipython().run_line_magic('agent', 'usage')
    found = {rows}
    if found == {{'kernel': {expected!r}, 'history': {expected!r}}} or time.monotonic() > until:
        break
    time.sleep(0.05)
print(found == {{'kernel': {expected!r}, 'history': {expected!r}}}, found)
"""
    assert kernel.run(looked).printed.startswith("True ")


def test_a_result_shows_itself(kernel: Kernel) -> None:
    """A cell that ends with a result has Markdown and a short text."""
    kernel.run("%%agent mine -o answer\nWhy?")
    (shown,) = kernel.run("answer").contents("execute_result")
    assert shown["data"]["text/markdown"].startswith("Two:\n\n```python")
    assert shown["data"]["text/plain"].startswith("<AgentResult mine done ")
    assert (
        kernel.evaluate(
            "__import__('copy').copy(answer) == answer == __import__('pickle').loads(__import__('pickle').dumps(answer))"
        )
        == "True"
    )
