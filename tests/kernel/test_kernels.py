"""The main job in real kernels, on each ipykernel that differs in what reaches a running cell."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel._kernel import Cell, Kernel, running_kernel
from tests.kernel._venvs import VERSIONS, kernel_python

SLOW = "%%agent -o answer -p stream_delay_ms=40\nWhy is the sky blue?"


@pytest.fixture(scope="module", params=VERSIONS)
def kernel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One kernel for each version; every test leaves it idle."""
    version = request.param
    folder = tmp_path_factory.mktemp(f"kernel-{version}")
    with running_kernel(kernel_python(version), folder) as kernel:
        loaded = kernel.run("import ipykernel\n%load_ext agent_magic")
        assert (loaded.status, loaded.outputs) == ("ok", [])
        assert kernel.evaluate("ipykernel.__version__") == version
        yield kernel


def outputs(cell: Cell) -> list[str]:
    """The richest kind of each output."""
    return [
        next(iter(sorted(output.get("data", {}), key=lambda kind: kind == "text/plain")), output["output_type"])
        for output in cell.outputs
    ]


def writing(kernel: Kernel, cell: Cell) -> None:
    """Wait until the cell has shown text."""
    kernel.read_until(lambda: "You asked" in cell.painted)


def test_an_answer_streams_in_and_lands_in_the_variable(kernel: Kernel) -> None:
    """Text appears while the cell runs; at the end there are two outputs, and the next cell has the result."""
    cell = kernel.send("%%agent -o answer\nWhy is the sky blue?")
    following = kernel.send("print(answer.status, answer is _agent, len(answer.text))")
    writing(kernel, cell)
    assert cell.reply is None
    kernel.wait_for(cell, following)
    assert cell.status == "ok"
    assert outputs(cell) == ["text/markdown", "text/html"]
    answer, line = cell.outputs
    assert answer["data"]["text/plain"].startswith("## You asked: Why is the sky blue?")
    assert line["data"]["text/plain"].startswith("demo · done · ")
    assert line["data"]["text/plain"].endswith(" · in answer")
    assert following.printed == f"done True {len(answer['data']['text/plain'])}\n"


def stop_button(kernel: Kernel, cell: Cell) -> str:
    """The Stop button of a cell that has shown text; the text does not wait for it."""
    writing(kernel, cell)
    kernel.read_until(lambda: cell.button)
    assert cell.button is not None
    return cell.button


@pytest.mark.parametrize("subshell", [False, True], ids=["main", "subshell"])
def test_stop(kernel: Kernel, subshell: bool) -> None:
    """A click on Stop ends the cell well, and the cells behind it run."""
    if subshell and not kernel.evaluate("ipykernel.__version__").startswith("7."):
        # Front ends send on a subshell only where the kernel says that it has them.
        assert kernel.evaluate("get_ipython().kernel._supports_kernel_subshells is True "
                               "if hasattr(get_ipython().kernel, '_supports_kernel_subshells') else False") == "False"  # fmt: skip
        return
    cell = kernel.send(SLOW)
    following = kernel.send("print(answer.status, answer.error, answer.text != '')")
    kernel.click(stop_button(kernel, cell), subshell=subshell)
    kernel.wait_for(cell, following)
    assert (cell.status, outputs(cell)) == ("ok", ["text/markdown", "text/html"])
    assert "stopped" in cell.outputs[1]["data"]["text/plain"]
    assert following.printed == "stopped None True\n"


def test_stop_with_nothing_behind_it(kernel: Kernel) -> None:
    """A cell that is stopped is over for the front end too, when no other message follows the click."""
    for _ in range(3):
        cell = kernel.send(SLOW)
        kernel.click(stop_button(kernel, cell))
        kernel.wait_for(cell)
        assert (cell.status, outputs(cell)) == ("ok", ["text/markdown", "text/html"])


def test_interrupt(kernel: Kernel) -> None:
    """An interrupt is one line, keeps the partial, and aborts the cells that were queued before it."""
    cell, queued = kernel.send(SLOW), kernel.send("1/0")
    writing(kernel, cell)
    kernel.interrupt()
    kernel.wait_for(cell, queued)
    assert (cell.status, cell.error["ename"], cell.error["traceback"]) == (
        "error",
        "KeyboardInterrupt",
        ["KeyboardInterrupt"],
    )
    assert (queued.status, queued.contents("error")) == ("aborted", [])
    assert outputs(cell) == ["text/markdown", "text/html", "error"]
    assert kernel.evaluate("answer.status, answer.text != ''") == "('interrupted', True)"


def test_failure(kernel: Kernel) -> None:
    """A failure is one line behind the partial, and aborts the cells that were queued before it."""
    cell = kernel.send("%%agent -o answer -p fail=STREAM_ERROR\nWhy is the sky blue?")
    queued = [kernel.send("1/0"), kernel.send("%%agent\nnever")]
    kernel.wait_for(cell, *queued)
    assert (cell.status, cell.error["ename"], len(cell.error["traceback"])) == ("error", "AgentError", 1)
    assert "Processing failed (STREAM_ERROR)" in cell.error["traceback"][0]
    assert [one.status for one in queued] == ["aborted", "aborted"]
    assert outputs(cell) == ["text/markdown", "text/html", "error"]
    assert kernel.evaluate("answer.status, answer.error.code, answer.text != ''") == "('failed', 'STREAM_ERROR', True)"


def test_two_failures_in_one_cell(kernel: Kernel) -> None:
    """Failures that a cell catches leave the kernel's own settings as they were."""
    usual = kernel.evaluate("get_ipython().kernel.stop_on_error_timeout")
    nested = "get_ipython().run_cell('%%agent -p fail=402\\nWhy?')\n"
    assert kernel.run(nested * 2).status == "ok"
    assert kernel.evaluate("get_ipython().kernel.stop_on_error_timeout") == usual
    assert kernel.run("1").printed == ""


def test_a_failure_before_any_text(kernel: Kernel) -> None:
    """Without text there is no empty answer: the line and the error."""
    cell = kernel.run("%%agent -p fail=402\nWhy?")
    assert outputs(cell) == ["text/html", "error"]
    assert kernel.evaluate("_agent.status") == "failed"


def test_a_retry_is_said_and_resumed(kernel: Kernel) -> None:
    """A connection that is cut in mid-answer is taken up again, and the text is whole."""
    folder = kernel.evaluate("__import__('os').getcwd()")
    settings = Path(folder, "agent_magic.toml")
    try:
        url = kernel.evaluate("__import__('agent_magic.demo', fromlist=['x']).embedded_url()")
        settings.write_text(f'[agents.hasty]\nprotocol = "runagent"\nbase_url = "{url}"\nkey_env = ""\nbackoff = 0.4\n')
        cell = kernel.run("%%agent hasty -o cut -p fail=cut\nWhy is the sky blue?")
        whole = kernel.run("%%agent hasty -o whole\nWhy is the sky blue?")
    finally:
        settings.unlink()
    said = " ".join(str(content["data"]) for content in cell.contents("comm_msg"))
    assert (cell.status, whole.status) == ("ok", "ok")
    assert "retry 1 of 3 in" in said
    assert kernel.evaluate("cut.text == whole.text, cut.status") == "(True, 'done')"


FORMS = {
    "blank lines before": "\n\n%%agent -o form\nWhy?",
    "indented": "    %%agent -o form\n    Why?",
    "capture": "%%capture cap\n%%agent -o form\nWhy?",
    "time": "%%time\n%%agent -o form\nWhy?",
    "timeit": "%%timeit -n 1 -r 1\n%%agent -o form\nWhy?",
    "prun": "%%prun -q\n%%agent -o form\nWhy?",
    "capture of time": "%%capture cap\n%%time\n%%agent -o form\nWhy?",
    "run_cell": "get_ipython().run_cell('%%agent -o form\\nWhy?').raise_error()",
    "run_cell in run_cell": "get_ipython().run_cell(\"get_ipython().run_cell('%%agent -o form\\\\nWhy?')\").raise_error()",
    "behind an empty cell": "get_ipython().run_cell('')\nget_ipython().run_cell('%%agent -o form\\nWhy?').raise_error()",
    "run_cell_magic": "result = get_ipython().run_cell_magic('agent', '-o form', 'Why?')",
    "run_cell_magic, awaited": "get_ipython().run_cell_magic('agent', '-o form', 'Why?')",
    "function": "def ask():\n    get_ipython().run_cell_magic('agent', '-o form', 'Why?')\nask()",
    "loop": "for _ in range(2):\n    get_ipython().run_cell_magic('agent', '-o form', 'Why?')",
    "in an awaiting cell": "import asyncio\nawait asyncio.sleep(0)\nget_ipython().run_cell_magic('agent', '-o form', 'Why?')",
    "run_cell in an awaiting cell": "import asyncio\nawait asyncio.sleep(0)\nget_ipython().run_cell('%%agent -o form\\nWhy?').raise_error()",
    "run file": "open('x.ipy', 'w').write('%%agent -o form\\nWhy?')\n%run x.ipy",
    "run file by line magic": "get_ipython().run_line_magic('run', 'x.ipy')",
    "exec": "exec(\"get_ipython().run_cell_magic('agent', '-o form', 'Why?')\")",
    "thread": (
        "import contextvars, threading\n"
        "thread = threading.Thread(target=contextvars.copy_context().run,\n"
        "    args=(get_ipython().run_cell_magic, 'agent', '-o form -q', 'Why?'))\n"
        "thread.start(); thread.join()"
    ),
    "quiet": "%%agent -o form --quiet\nWhy?",
    "from Python": "from agent_magic import Agent\nform = Agent('demo').ask('Why?')",
    "awaited from Python": "from agent_magic import Agent\nform = await Agent('demo').aask('Why?')",
}


AWAITED = ("blank lines before", "indented", "run_cell_magic, awaited")


@pytest.mark.parametrize("form", FORMS)
def test_forms(kernel: Kernel, form: str) -> None:
    """In each form the cell ends with the whole answer in the variable, and draws no button that cannot work."""
    kernel.run("form = None")
    cell = kernel.run(FORMS[form].replace("-o form", "-o form -p stream_delay_ms=1"))
    assert (cell.status, cell.contents("error")) == ("ok", [])
    assert kernel.evaluate("form.status, form.text[:12]") == "('done', '## You asked')"
    assert (cell.button is not None) == (form in AWAITED)
    assert "coroutine" not in cell.printed


def test_autoawait_off(kernel: Kernel) -> None:
    """Without autoawait the cell blocks, and an interrupt ends it the same way."""
    kernel.run("%autoawait off")
    try:
        cell = kernel.send(SLOW)
        writing(kernel, cell)
        assert cell.button is None
        kernel.interrupt()
        kernel.wait_for(cell)
        assert (cell.status, cell.error["traceback"]) == ("error", ["KeyboardInterrupt"])
        assert outputs(cell) == ["text/markdown", "text/html", "error"]
        assert kernel.evaluate("answer.status, answer.text != ''") == "('interrupted', True)"
    finally:
        assert kernel.evaluate("get_ipython().run_line_magic('autoawait', 'on')") == "None"


def test_captured_outputs(kernel: Kernel) -> None:
    """What %%capture holds is the two final outputs."""
    kernel.run("%%capture cap\n%%agent\nWhy?")
    assert kernel.evaluate("[sorted(one.data)[0] for one in cap.outputs]") == "['text/markdown', 'text/html']"


def test_a_headless_request(kernel: Kernel) -> None:
    """For nbclient and papermill there are no widgets, and the same final outputs."""
    cell = kernel.send("%%agent -o answer\nWhy?", headless=True)
    kernel.wait_for(cell)
    assert (cell.status, outputs(cell)) == ("ok", ["text/markdown", "text/html"])
    assert (cell.contents("comm_open"), cell.contents("update_display_data")) == ([], [])


def test_the_prompt_arrives_as_it_was_typed(kernel: Kernel) -> None:
    """Prompts of doctests and of IPython, braces, dollars, TeX and JSON go through to the byte."""
    body = '>>> 1 + 1\nIn [1]: x\n$HOME {braces} {% raw %} \\frac{a}{b} {"a": [1, 2]} !ls %who `code`\n  ...: indented\n\ttab\n\nend'
    cell = kernel.run(f"%%agent -o answer\n{body}")
    assert cell.status == "ok"
    assert kernel.evaluate("repr(answer.prompt)") == repr(body)


def test_the_line_is_not_expanded(kernel: Kernel) -> None:
    """Braces and dollars on the line are the person's own."""
    kernel.run("n = 7")
    cell = kernel.run("%%agent -o answer -p 'a={n}' -p b=$n -p 'c={\"n\": [1]}'\nWhy?")
    assert cell.status == "ok"
    assert kernel.evaluate("answer.parameters") == "{'a': '{n}', 'b': '$n', 'c': {'n': [1]}}"


def test_variables_in_the_prompt(kernel: Kernel) -> None:
    """`{{ }}` is filled from the notebook, and from the answer before."""
    kernel.run("name, rows = 'sky', [1, 2]")
    cell = kernel.run("%%agent -o answer\nWhy {{ name }}, {{ len(rows) }}, {{ answer.status }}?")
    assert cell.status == "ok"
    assert kernel.evaluate("answer.prompt") == "Why sky, 2, done?"


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("%%agent nobody\nWhy?", "ConfigError", "nobody"),
        ("%%agent dmeo\nWhy?", "ConfigError", "did you mean 'demo'"),
        ("%%agent --timeot 3\nWhy?", "ConfigError", "did you mean --timeout"),
        ("%%agent -o class\nWhy?", "ConfigError", "'class'"),
        ("%%agent -o a.b\nWhy?", "ConfigError", "'a.b'"),
        ("%%agent -p x\nWhy?", "ConfigError", "KEY=VALUE"),
        ("%%agent -p query=x\nWhy?", "ConfigError", "'query'"),
        ("%%agent --timeout nan\nWhy?", "ConfigError", "nan"),
        ("%%agent --max-time -1\nWhy?", "ConfigError", "-1"),
        ("%%agent --retries 1.5\nWhy?", "ConfigError", "1.5"),
        ("%%agent -o 'x\nWhy?", "ConfigError", "quot"),
        ("%%agent\n   \n", "PromptError", "blank"),
        ("%%agent\nWhy {{ naem }}?", "PromptError", "name"),
        ("%%agent\nWhy {{ name", "PromptError", "--raw"),
        ("%agent stpo", "ConfigError", "%agent stop"),
    ],
)
def test_mistakes(kernel: Kernel, code: str, kind: str, words: str) -> None:
    """Each mistake is one line; nothing is sent, and the variables stay as they were."""
    kernel.run("name, a, _agent = 'sky', 1, 'before'")
    cell = kernel.run(code)
    assert (cell.status, cell.error["ename"]) == ("error", kind)
    (line,) = cell.error["traceback"]
    assert words in line
    assert "\n" not in line
    assert kernel.evaluate("_agent") == "before"


def test_overview_and_stop(kernel: Kernel) -> None:
    """`%agent` lists the agents; `%agent stop` with nothing running says so."""
    cell = kernel.run("%agent")
    (overview,) = cell.contents("execute_result")
    assert "demo-you" in overview["data"]["text/plain"]
    assert "Nothing is running." in overview["data"]["text/html"]
    assert kernel.run("%agent stop").printed == "No agent is running.\n"


def test_stop_from_a_thread(kernel: Kernel) -> None:
    """`%agent stop` works from wherever code can run, here a timer's thread."""
    kernel.run("import threading\nthreading.Timer(0.5, get_ipython().run_line_magic, ('agent', 'stop all')).start()")
    cell = kernel.run(SLOW)
    assert cell.status == "ok"
    assert kernel.evaluate("answer.status") == "stopped"


def test_many_cells_leave_nothing_behind(kernel: Kernel) -> None:
    """After 20 cells there are no more widgets, comms, threads or tasks than after one.

    A bar's own models live until a page has surely loaded their scripts; here that is soon. Its three texts stay for
    the next bar.
    """
    kernel.run("import agent_magic.views._bar\nagent_magic.views._bar.LOAD_SECONDS = 0.5")
    count = textwrap.dedent("""
        import asyncio, gc, threading, time, comm, ipywidgets.widgets.widget as w
        until = time.monotonic() + 30
        while len(w._instances) > 3 and time.monotonic() < until:
            await asyncio.sleep(0.1)
        gc.collect()
        print(len(w._instances), len(comm.get_comm_manager().comms), threading.active_count(), len(asyncio.all_tasks()))
    """)
    ask = "%%agent -p stream_delay_ms=0\nWhy?"
    kernel.run(ask)
    before = kernel.run(count).printed
    for _ in range(20):
        assert kernel.run(ask).status == "ok"
    assert kernel.run(count).printed == before
    assert before.startswith("3 ")


def test_unloading_takes_everything_out(kernel: Kernel) -> None:
    """After unload the shell is as it was; loading again works, twice too."""
    kernel.run("%unload_ext agent_magic")
    assert "Cell magic `%%agent` not found" in kernel.run("%%agent\nWhy?").printed
    assert kernel.evaluate("[hook for hook in get_ipython().input_transformers_post]") == "[]"
    kernel.run("%load_ext agent_magic\n%load_ext agent_magic\n%reload_ext agent_magic")
    assert kernel.run("%%agent -o answer\nWhy?").status == "ok"
    assert kernel.evaluate("len(get_ipython().input_transformers_post)") == "1"


def test_loaded_by_the_profile(tmp_path: Path) -> None:
    """Loaded at start-up, before any cell, the first %%agent cell awaits all the same."""
    profile = tmp_path / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text('c.InteractiveShellApp.extensions = ["agent_magic"]\n')
    with running_kernel(kernel_python(VERSIONS[-1]), tmp_path) as kernel:
        cell = kernel.run("%%agent -o answer\nWhy?")
        assert (cell.status, cell.button is not None) == ("ok", True)
