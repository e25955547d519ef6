"""The notebooks run from top to bottom, and what is committed is what a run gave."""

import os

import nbformat
import pytest
from nbclient import NotebookClient

QUICKSTART = "01_quickstart.ipynb"


def read(checkout, name=QUICKSTART):
    return nbformat.read(checkout / "notebooks" / name, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell):
    """Plain text of a cell's outputs."""
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def recommendations(cell):
    """Lines of the table of recommended films, one a film."""
    return [line for line in texts(cell).splitlines() if line.split()[:1] and line.split()[0].isdigit()]


def test_the_committed_notebook_was_run_from_top_to_bottom_without_error(checkout):
    cells = code_cells(read(checkout))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [output for cell in cells for output in cell.outputs if output.output_type == "error"] == []
    assert len(recommendations(cells[-1])) == 10
    assert "image/png" in {key for cell in cells for output in cell.outputs for key in output.get("data", {})}


def test_the_committed_notebook_names_no_folder_of_a_machine(checkout):
    text = (checkout / "notebooks" / QUICKSTART).read_text(encoding="utf-8")
    assert [root for root in ("/home/", "/root/", "/tmp/", "/Users/", str(checkout)) if root in text] == []


@pytest.mark.slow
def test_the_quickstart_runs_with_fewer_epochs_and_recommends_ten_films(checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("RECMODELS_NOTEBOOK_EPOCHS", "2")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH")))))
    notebook = read(checkout)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    cells = code_cells(notebook)
    (run,) = (tmp_path / "runs").iterdir()
    assert len((run / "curves.csv").read_text(encoding="utf-8").splitlines()) == 1 + 2
    assert len(set(recommendations(cells[-1]))) == 10
