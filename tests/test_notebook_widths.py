"""The notebook on widths shows what it says, as committed and in a run."""

import re
from pathlib import Path

import pytest

from tests.test_notebooks import code_cells, read, run_with, texts

NAME = "04_adaptive_widths.ipynb"


def figures(text: str) -> dict[str, tuple[int, float]]:
    """Parameters and test ndcg@10 of each run of the last table."""
    found = re.findall(r"^(\w+) +(\d+) +(0\.\d+)", text, re.MULTILINE)
    return {name: (int(parameters), float(ndcg)) for name, parameters, ndcg in found}


def test_in_the_committed_notebook_widths_by_frequency_are_worth_more(checkout: Path) -> None:
    cells = code_cells(read(checkout, NAME))
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs) == 3
    found = figures("".join(map(texts, cells)))
    assert found["searched"][0] <= found["uniform_26"][0] <= 0.41 * found["uniform_64"][0]
    assert found["searched"][1] > found["uniform_26"][1]


@pytest.mark.slow
def test_it_runs_with_fewer_epochs(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = run_with(4, checkout, NAME, tmp_path, monkeypatch)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        "uniform_64", "uniform_26", "two_classes", "search", "searched"
    }  # fmt: skip
    assert len(figures("".join(map(texts, code_cells(notebook))))) == 4
