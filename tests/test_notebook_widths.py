"""The notebook on widths runs from top to bottom, and what is committed is what a run gave."""

import os
import re
from pathlib import Path

import pytest
from nbclient import NotebookClient

from tests.test_notebooks import code_cells, read, texts

NAME = "04_adaptive_widths.ipynb"


def figures(text: str) -> dict[str, tuple[int, float]]:
    """Parameters and test ndcg@10 of each run of the last table."""
    found = re.findall(r"^(\w+) +(\d+) +(0\.\d+)", text, re.MULTILINE)
    return {name: (int(parameters), float(ndcg)) for name, parameters, ndcg in found}


def test_the_committed_notebook_was_run_and_widths_by_frequency_are_worth_more(checkout: Path) -> None:
    cells = code_cells(read(checkout, NAME))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [output for cell in cells for output in cell.outputs if output.output_type == "error"] == []
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs) == 3
    found = figures("".join(map(texts, cells)))
    assert found["searched"][0] <= found["uniform_26"][0] <= 0.41 * found["uniform_64"][0]
    assert found["searched"][1] > found["uniform_26"][1]


def test_the_committed_notebook_names_no_folder_of_a_machine(checkout: Path) -> None:
    text = (checkout / "notebooks" / NAME).read_text(encoding="utf-8")
    assert [root for root in ("/home/", "/root/", "/tmp/", "/Users/", str(checkout)) if root in text] == []


@pytest.mark.slow
def test_it_runs_with_fewer_epochs(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECMODELS_NOTEBOOK_EPOCHS", "4")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH")))))
    notebook = read(checkout, NAME)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        "uniform_64", "uniform_26", "two_classes", "search", "searched"
    }  # fmt: skip
    assert len(figures("".join(map(texts, code_cells(notebook))))) == 4
