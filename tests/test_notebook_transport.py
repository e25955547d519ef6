"""The notebook on transport runs from top to bottom, and what is committed is what a run gave."""

import os
import re
from pathlib import Path

import pytest
from nbclient import NotebookClient

from tests.test_notebooks import code_cells, read, texts

NAME = "03_what_transport_sees.ipynb"


def last_distances(text: str) -> dict[str, tuple[float, float]]:
    """Positive and negative distance of the last epoch by the name of the setting."""
    found = re.findall(r"(\w+): positives \S+ to (\S+), negatives \S+ to (\S+),", text)
    return {name: (float(positive), float(negative)) for name, positive, negative in found}


def test_the_committed_notebook_was_run_and_only_the_shipped_cost_tells_negatives_apart(checkout: Path) -> None:
    cells = code_cells(read(checkout, NAME))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [output for cell in cells for output in cell.outputs if output.output_type == "error"] == []
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs) == 4
    text = "".join(map(texts, cells))
    apart = {name: negative - positive for name, (positive, negative) in last_distances(text).items()}
    assert apart["degenerate"] < 1e-3 < 0.1 < apart["shipped"]
    costless = [int(share) for share in re.findall(r"(\d+)% of the pairs cost nothing", text)]
    assert max(costless[:2]) == 0
    assert min(costless[2:]) > 90


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
    assert set(last_distances(text)) == {"degenerate", "shipped"}
    assert len(re.findall(r"(?:positive|negative): distance ", text)) == 4
