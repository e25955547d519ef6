"""The notebooks run from top to bottom, and what is committed is what a run gave."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

QUICKSTART = "01_quickstart.ipynb"


NOTEBOOKS = sorted(path.name for path in (Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def read(checkout, name):
    return nbformat.read(checkout / "notebooks" / name, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell):
    """Plain text of a cell's outputs."""
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def run_with(epochs, checkout, name, folder, monkeypatch):
    """The notebook after a run in `folder` with fewer epochs."""
    monkeypatch.setenv("RECMODELS_NOTEBOOK_EPOCHS", str(epochs))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH")))))
    notebook = read(checkout, name)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return notebook


def recommendations(cell):
    """Lines of the table of recommended films, one a film."""
    return [line for line in texts(cell).splitlines() if line.split()[:1] and line.split()[0].isdigit()]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_committed_notebook_was_run_from_top_to_bottom_without_error(checkout, name):
    cells = code_cells(read(checkout, name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [output for cell in cells for output in cell.outputs if output.output_type == "error"] == []
    assert "image/png" in {key for cell in cells for output in cell.outputs for key in output.get("data", {})}


def test_the_committed_quickstart_recommends_ten_films(checkout):
    assert len(recommendations(code_cells(read(checkout, QUICKSTART))[-1])) == 10


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_committed_notebook_names_no_folder_of_a_machine(checkout, name):
    text = (checkout / "notebooks" / name).read_text(encoding="utf-8")
    assert [root for root in ("/home/", "/root/", "/tmp/", "/Users/", str(checkout)) if root in text] == []


@pytest.mark.slow
def test_the_quickstart_runs_with_fewer_epochs_and_recommends_ten_films(checkout, tmp_path, monkeypatch):
    cells = code_cells(run_with(2, checkout, QUICKSTART, tmp_path, monkeypatch))
    (run,) = (tmp_path / "runs").iterdir()
    assert len((run / "curves.csv").read_text(encoding="utf-8").splitlines()) == 1 + 2
    assert len(set(recommendations(cells[-1]))) == 10
