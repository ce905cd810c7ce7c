"""Every notebook, run as nbclient and papermill run it: nobody can click, the final outputs are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def agent_cells(notebook: Any) -> list[Any]:
    """The cells in which an agent answers: a mistake that is shown on purpose is made before anything is sent."""
    return [
        cell
        for cell in notebook.cells
        if cell.source.startswith("%%agent")
        and "--dry-run" not in cell.source
        and not ("raises-exception" in cell.metadata.get("tags", []) and "fail=" not in cell.source)
    ]


def printed(cell: Any) -> list[str]:
    """What a cell prints, but for one that nbval does not compare either."""
    outputs = [] if "nbval-ignore-output" in cell.metadata.get("tags", []) else cell.get("outputs", [])
    return [output.text for output in outputs if output.output_type == "stream"]


def check(notebook: Any) -> None:
    assert agent_cells(notebook) or any("agent.amap(" in cell.source for cell in notebook.cells)
    for cell in agent_cells(notebook):
        shown = [output for output in cell.outputs if output.output_type == "display_data"]
        answer, line = (output.data for output in shown)
        assert sorted(answer) == ["text/markdown", "text/plain"]
        assert sorted(line) == ["text/html", "text/plain"]
        by_model = line["text/plain"].startswith("local · done")  # whose words are its own affair
        assert answer["text/plain"].startswith("" if by_model else "## You asked")
        assert " · in " in line["text/plain"]
    assert "widgets" not in notebook.metadata
    assert "widget-view" not in nbformat.writes(notebook)
    assert "object at 0x" not in nbformat.writes(notebook)


@pytest.fixture
def as_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook says which agent is asked, or nobody does."""
    monkeypatch.delenv("AGENT_MAGIC_DEFAULT")


@pytest.mark.usefixtures("as_a_person")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_nbclient(path: Path) -> None:
    """The final outputs: Markdown and true text, a line, and no widget."""
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(path.parent)}}).execute()
    check(notebook)
    if path.name == "quickstart.ipynb":
        (_, line) = agent_cells(notebook)[0].outputs
        assert line.data["text/plain"].startswith("local · done")


def test_without_a_model() -> None:
    """The quickstart where the default agent is `demo`, as it is where no model is installed: the same is printed."""
    (path,) = [path for path in NOTEBOOKS if path.name == "quickstart.ipynb"]
    notebook, saved = nbformat.read(path, 4), nbformat.read(path, 4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(path.parent)}}).execute()
    check(notebook)
    assert [printed(cell) for cell in notebook.cells] == [printed(cell) for cell in saved.cells]


@pytest.mark.usefixtures("as_a_person")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # papermill's own
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_papermill(path: Path, tmp_path: Path) -> None:
    """The same under papermill, up to the cell that fails on purpose."""
    notebook = nbformat.read(path, 4)
    notebook.cells = [cell for cell in notebook.cells if "raises-exception" not in cell.metadata.get("tags", [])]
    notebook.cells = [cell for cell in notebook.cells if "failed." not in cell.source]
    nbformat.write(notebook, tmp_path / "in.ipynb")
    given = str(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb")
    papermill.execute_notebook(*given, cwd=path.parent, progress_bar=False)
    check(nbformat.read(tmp_path / "out.ipynb", 4))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_as_saved(path: Path) -> None:
    """The notebook in the repository holds its outputs, as they are now, and no widget."""
    check(nbformat.read(path, 4))
