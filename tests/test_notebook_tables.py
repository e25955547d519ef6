"""The notebook on tables runs from top to bottom, and what is committed is what a run gave."""

import os
from pathlib import Path

import pytest
from nbclient import NotebookClient

from tests.test_notebooks import code_cells, read, texts

NAME = "02_reading_a_table.ipynb"


def test_the_committed_notebook_was_run_and_shows_a_table_an_interval_and_a_plot(checkout: Path) -> None:
    cells = code_cells(read(checkout, NAME))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [output for cell in cells for output in cell.outputs if output.output_type == "error"] == []
    kinds = {key for cell in cells for output in cell.outputs for key in output.get("data", {})}
    assert {"text/markdown", "image/png"} <= kinds
    assert "95 % interval [" in "".join(map(texts, cells))


def test_the_committed_notebook_names_no_folder_of_a_machine(checkout: Path) -> None:
    text = (checkout / "notebooks" / NAME).read_text(encoding="utf-8")
    assert [root for root in ("/home/", "/root/", "/tmp/", "/Users/", str(checkout)) if root in text] == []


@pytest.mark.slow
def test_it_runs_with_fewer_epochs_and_its_interval_is_that_of_the_page(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMODELS_NOTEBOOK_EPOCHS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH")))))
    notebook = read(checkout, NAME)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["1-2020", "1-2021", "3-2020", "3-2021"]
    (page,) = [
        output.data["text/markdown"]
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "text/markdown" in output.get("data", {})
    ]
    (line,) = [line for line in "".join(map(texts, code_cells(notebook))).splitlines() if "95 % interval" in line]
    interval = line.partition("interval ")[2]
    assert f"{interval.replace('0.', '.')}," in page
