"""What the README shows is what works: its protocol is installed as a package, and a cell asks it."""

from __future__ import annotations

import re
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

from agent_magic.testing import ScriptedServer, event_stream, says

README = Path(__file__).parents[1] / "README.md"
CELL = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in ("%load_ext agent_magic", "%agent", "%%agent mine -o answer\\nWhy?"):
    shell.run_cell(cell).raise_error()
answer = shell.user_ns["answer"]
print(answer.protocol, answer.status, answer.text, answer.usage.total_tokens, [one.url for one in answer.sources])
"""


def block(language: str, place: int) -> str:
    """The code of the section on protocols."""
    section = README.read_text().partition("## A protocol of your own\n")[2].partition("\n## ")[0]
    return str(re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)[place])


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a venv in which the README's package is installed, beside what is installed here."""
    package = tmp_path_factory.mktemp("package")
    (package / "words.py").write_text(block("python", 0))
    (package / "pyproject.toml").write_text(block("toml", 0))
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    for path in Path(home).glob("lib/python*/site-packages"):
        (path / "what_is_here.pth").write_text(f"{sysconfig.get_path('purelib')}\n{README.parent}\n")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", package], check=True, timeout=240)
    return python


def test_the_protocol_is_short() -> None:
    """One file of under sixty lines."""
    assert len(block("python", 0).splitlines()) < 60


def test_a_cell_asks_it(installed: Path, tmp_path: Path) -> None:
    """It is listed, and a cell's answer comes over it."""
    answer = event_stream(
        ("word", {"text": "Why "}),
        ("sources", {"found": [{"url": "https://a.example"}]}),
        ("word", {"text": "not?"}),
        ("end", {"tokens": 2}),
    )
    with ScriptedServer(says(answer)) as server:
        (tmp_path / "agent_magic.toml").write_text(
            f'[agents.mine]\nprotocol = "words"\nbase_url = "{server.url}"\nkey_env = ""\n'
        )
        done = subprocess.run([installed, "-c", CELL], capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert server.bodies() == [{"question": "Why?"}]
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "words done Why not? 2 ['https://a.example']")
    assert "Protocols: anthropic, openai, openai-responses, runagent, runagent-ws, words, you." in done.stdout


def test_its_tests_pass(installed: Path, tmp_path: Path) -> None:
    """The contract, as the README has it, holds for it."""
    (tmp_path / "test_words.py").write_text(block("python", 1))
    options = ["-q", "-p", "no:nbval", "-W", "error", "test_words.py"]
    done = subprocess.run(
        [installed, "-m", "pytest", *options], capture_output=True, text=True, cwd=tmp_path, timeout=240
    )
    assert done.returncode == 0, done.stdout
