"""The notebook on transport runs from top to bottom, and what is committed is what a run gave."""

import os
import re
from pathlib import Path

import pytest
from nbclient import NotebookClient

from tests.test_notebooks import code_cells, read, texts

NAME = "03_what_transport_sees.ipynb"


def shares(text: str) -> dict[str, float]:
    """Share of transport in the gradient by the name of its setting."""
    return {name: float(share) for name, share in re.findall(r"(\w+): positives .* share of the gradient (\S+)", text)}


def test_the_committed_notebook_was_run_and_its_degenerate_setting_is_dead(checkout: Path) -> None:
    cells = code_cells(read(checkout, NAME))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [output for cell in cells for output in cell.outputs if output.output_type == "error"] == []
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs) == 4
    found = shares("".join(map(texts, cells)))
    assert found["degenerate"] < 1e-4 < found["shipped"]


def test_the_committed_notebook_names_no_folder_of_a_machine(checkout: Path) -> None:
    text = (checkout / "notebooks" / NAME).read_text(encoding="utf-8")
    assert [root for root in ("/home/", "/root/", "/tmp/", "/Users/", str(checkout)) if root in text] == []


@pytest.mark.slow
def test_it_runs_with_fewer_epochs(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECMODELS_NOTEBOOK_EPOCHS", "2")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH")))))
    notebook = read(checkout, NAME)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["degenerate", "shipped"]
    text = "".join(map(texts, code_cells(notebook)))
    assert set(shares(text)) == {"degenerate", "shipped"}
    assert len(re.findall(r"(?:positive|negative): distance ", text)) == 4
