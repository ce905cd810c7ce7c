"""Help, slips, Tab and the doctor in real kernels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel._kernel import PATIENCE, Cell, Kernel, running_kernel
from tests.kernel._venvs import VERSIONS, kernel_python
from tests.kernel.test_kernels import outputs

SETTINGS = """
[agents.researcher]
protocol = "runagent"
base_url = "http://127.0.0.1:9"
key_env = "RUNAGENT_API_KEY"
parameters = { verbosity = "high" }
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One kernel of the newest version; every test leaves it idle."""
    folder = tmp_path_factory.mktemp("kernel-help")
    (folder / "agent_magic.toml").write_text(SETTINGS)
    with running_kernel(kernel_python(VERSIONS[-1]), folder, AGENT_MAGIC_DEFAULT="") as kernel:
        kernel.run("%load_ext agent_magic")
        yield kernel


def complete(kernel: Kernel, text: str) -> list[str]:
    """The cell after Tab, for each offer; the cursor is at the last `|`."""
    before, _, after = text.rpartition("|")
    kernel.client.complete(before + after, len(before))
    while (reply := kernel.client.get_shell_msg(timeout=PATIENCE))["msg_type"] != "complete_reply":
        pass
    content: dict[str, Any] = reply["content"]
    cell = before + after
    return [cell[: content["cursor_start"]] + match + cell[content["cursor_end"] :] for match in content["matches"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%%agent res|", ["%%agent researcher"]),
        ("%%agent demo-| -o x\nWhy?", ["%%agent demo-you -o x\nWhy?"]),
        ("%%agent demo --ti|\nWhy?", ["%%agent demo --timeout\nWhy?"]),
        ("%%agent -p v|\nWhy?", ["%%agent -p verbosity=\nWhy?"]),
        ("%%agent researcher -p v|\nWhy?", ["%%agent researcher -p verbosity=\nWhy?"]),
        ("%%agent\nWhy {{ my_t| }}?\nSay.", ["%%agent\nWhy {{ my_topic }}?\nSay."]),
        ("%%agent\nWhy {{ my_topic | trun| }}?", ["%%agent\nWhy {{ my_topic | truncate }}?"]),
        ("%agent doc|", ["%agent doctor"]),
        ("1\n%agent show res|", ["1\n%agent show researcher"]),
    ],
)
def test_tab(kernel: Kernel, text: str, expected: list[str]) -> None:
    """A complete_request with the cell's text gets ours alone, and the right piece of it is replaced."""
    kernel.run("my_topic = 'sky'")
    assert complete(kernel, text) == expected


@pytest.mark.parametrize(
    "code", ["%agent help", "%agent --help", "%agent -h", "%agent ?", "%%agent --help", "%%agent demo -h\nWhy?"]
)
def test_help(kernel: Kernel, code: str) -> None:
    """Each way to ask for help shows one page: examples, options, verbs; nothing is asked."""
    cell = kernel.run(code)
    (shown,) = cell.contents("execute_result")
    page = shown["data"]["text/plain"]
    places = [page.index(part) for part in ("Why is the sky blue?", "usage: %%agent [AGENT]", "options:", "verbs:")]
    assert (cell.status, cell.printed) == ("ok", "")
    assert places == sorted(places)


@pytest.mark.parametrize("code", ["%agent?", "%%agent?", "# please\n%%agent?"])
def test_ipythons_own_help(kernel: Kernel, code: str) -> None:
    """What stands in IPython's pager is that page, too."""
    cell = kernel.run(code)
    assert cell.reply is not None
    (page,) = cell.reply["content"]["payload"]
    assert "Why is the sky blue?" in page["data"]["text/plain"]
    assert cell.contents("error") == []


@pytest.mark.parametrize(
    ("code", "ready"),
    [
        ("%agent why?", "%%agent\nwhy?"),
        ("%agent why is the sky blue??", "%%agent\nwhy is the sky blue??"),
        ("  %agent researcher What's new? \n", "%%agent researcher\nWhat's new?"),
        ("%agent researcher?", "%%agent researcher\n"),
    ],
)
def test_a_question_behind_the_line_magic(kernel: Kernel, code: str, ready: str) -> None:
    """It is no question for IPython's help: one sentence says where it belongs, and the cell is ready below."""
    cell = kernel.run(code)
    assert cell.reply is not None
    (payload,) = cell.reply["content"]["payload"]
    assert (payload["source"], payload["text"], payload["replace"]) == ("set_next_input", ready, False)
    assert cell.printed.endswith(f"it is ready in the next one:\n\n{ready}\n")
    assert "not found" not in cell.printed


def test_a_question_about_a_verb(kernel: Kernel) -> None:
    """`%agent stop?` says what it does."""
    assert kernel.run("%agent stop?").printed == "%agent stop [all]: end the newest run, or all\n"


PROMPTS = {
    "Why is the sky blue?": "Why is the sky blue?",
    "Why?\nAnd the sea?\n": "Why?\nAnd the sea?",
    "print?": "print?",
    "?print": "?print",
    "%agent why?": "%agent why?",
    "# why?": "# why?",
    ">>> why?": ">>> why?",
}


@pytest.mark.parametrize("body", PROMPTS)
@pytest.mark.parametrize(
    "head",
    ["%%agent demo -o answer -p stream_delay_ms=0", "# a comment\n\n%%agent demo -o answer -p stream_delay_ms=0"],
)
def test_a_question_mark_reaches_the_agent(kernel: Kernel, head: str, body: str) -> None:
    """Question marks at a line's end are the prompt's own; a comment above the cell is no part of it."""
    cell = kernel.run(f"{head}\n{body}")
    assert (cell.status, outputs(cell)) == ("ok", ["text/markdown", "text/html"])
    assert kernel.evaluate("repr(answer.prompt)") == repr(PROMPTS[body])


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("%%agent", "PromptError", "write the question below"),
        ("%%agent researcher", "PromptError", "write the question below"),
        ("# to do\n%%agent", "PromptError", "write the question below"),
        ("%%agent Why is it?", "ConfigError", "belongs into the lines below"),
        ("%%agent demo?\nWhy?", "ConfigError", "did you mean 'demo'"),
        ("%agent demo", "ConfigError", "begin a cell with %%agent demo"),
        ("%agent demo 'Why is it'", "ConfigError", "begin a cell with %%agent demo"),
        ("%agent what is it", "ConfigError", "To ask an agent, begin a cell with %%agent."),
        ("%agent doctr", "ConfigError", "did you mean %agent doctor?"),
        ("%agent doctor who", "ConfigError", "did you mean %agent doctor?"),
        ("%%agent -out x\nWhy?", "ConfigError", "did you mean --out?"),
        ("%%agent -timeout 3\nWhy?", "ConfigError", "did you mean --timeout?"),
        ("%%agent --para a=1\nWhy?", "ConfigError", "did you mean --param?"),
        ("%%agent -para a=1\nWhy?", "ConfigError", "did you mean --param?"),
        ("%%agent --queit\nWhy?", "ConfigError", "did you mean --quiet?"),
        ("%%agent -o a --out b\nWhy?", "ConfigError", "--out is given twice"),
        ("%%agent --timeout 3 --timeout 4\nWhy?", "ConfigError", "--timeout is given twice"),
        ("%%agent -o print\nWhy?", "ConfigError", "'print' is Python's own name"),
        ("%%agent -o Out\nWhy?", "ConfigError", "'Out' is Python's own name"),
    ],
)
def test_slips(kernel: Kernel, code: str, kind: str, words: str) -> None:
    """Each slip gets one line that helps."""
    cell = kernel.run(code)
    assert (cell.status, cell.error["ename"]) == ("error", kind)
    (line,) = cell.error["traceback"]
    assert words in line


def test_other_cells_are_left_alone(kernel: Kernel) -> None:
    """Comments, help and other magics work as without the extension."""
    assert kernel.run("# a comment\n\nprint('as ever')").printed == "as ever\n"
    assert "Line magic function `%%nothing` not found" in kernel.run("# a comment\n%%nothing\n1").printed
    assert "not found" in kernel.run("nothing_at_all?").printed
    assert kernel.run("%%capture\nprint(1)").printed == ""


def answer_of_a_page(kernel: Kernel, cell: Cell, *, subshell: bool = False) -> None:
    """What a page does with the doctor's widget, when it is told to play: it counts, and says so."""
    kernel.read_until(lambda: any(said["data"].get("state", {}).get("playing") for said in cell.contents("comm_msg")))
    (opened,) = cell.contents("comm_open")
    assert opened["data"]["state"]["_model_name"] == "PlayModel"
    data = {"method": "update", "state": {"value": 1}, "buffer_paths": []}
    kernel.send_comm(opened["comm_id"], data, subshell=subshell)


def stop_row(text: str) -> str:
    (row,) = re.findall("^ *Stop works here +(.*)$", text, re.MULTILINE)
    return str(row)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_doctor_tries_whether_stop_works(version: str, tmp_path: Path) -> None:
    """A message from the page that arrives while the cell awaits is what Stop needs; no widget is left.

    Where nobody answers it says so, where it blocks it says that it did not try, and headless it does not wait.
    """
    with running_kernel(kernel_python(version), tmp_path) as kernel:
        kernel.run("%load_ext agent_magic")
        cell = kernel.send("%agent doctor")
        answer_of_a_page(kernel, cell)
        kernel.wait_for(cell)
        (shown,) = cell.outputs
        assert (cell.status, shown["output_type"], sorted(shown["data"])) == (
            "ok",
            "execute_result",
            ["text/html", "text/plain"],
        )
        assert re.fullmatch(
            r"yes: a message from the page arrived after \d+\.\d s, while the cell was running",
            stop_row(shown["data"]["text/plain"]),
        )
        assert f"ipykernel {version}" in shown["data"]["text/plain"]
        assert kernel.evaluate("len(__import__('ipywidgets.widgets.widget', fromlist=['x'])._instances)") == "0"
        if version == VERSIONS[-1]:
            (unanswered,) = kernel.run("%agent doctor").outputs
            assert stop_row(unanswered["data"]["text/plain"]).startswith("no: no message")
        kernel.run("found = %agent doctor")
        assert stop_row(kernel.evaluate("found.text")).startswith("not tried")
        headless = kernel.send("%agent doctor", headless=True)
        kernel.wait_for(headless)
        assert stop_row(headless.outputs[0]["data"]["text/plain"]).startswith("nobody answers")
        assert headless.contents("comm_open") == []


def test_the_doctor_is_interrupted(kernel: Kernel) -> None:
    """An interrupt ends it in one line."""
    cell = kernel.send("%agent doctor")
    kernel.read_until(lambda: cell.contents("comm_open"))
    kernel.interrupt()
    kernel.wait_for(cell)
    assert (cell.status, cell.error["traceback"]) == ("error", ["KeyboardInterrupt"])


def test_unloading_takes_everything_out(kernel: Kernel) -> None:
    """After unload the completer and the transformers are as they were; loading again works."""
    count = "(len(get_ipython().input_transformers_cleanup), len(get_ipython().Completer.custom_matchers))"
    before = kernel.evaluate(count)
    kernel.run("%unload_ext agent_magic")
    assert kernel.evaluate(count) == "(4, 0)"
    kernel.run("%load_ext agent_magic\n%reload_ext agent_magic")
    assert kernel.evaluate(count) == before == "(7, 1)"
