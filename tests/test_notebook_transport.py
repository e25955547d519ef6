"""The notebook on transport shows what it says, as committed and in a run."""

import re
from pathlib import Path

import pytest

from tests.test_notebooks import code_cells, read, run_with, texts

NAME = "03_what_transport_sees.ipynb"


def last_distances(text: str) -> dict[str, tuple[float, float]]:
    """Positive and negative distance of the last epoch by the name of the setting."""
    found = re.findall(r"(\w+): positives \S+ to (\S+), negatives \S+ to (\S+),", text)
    return {name: (float(positive), float(negative)) for name, positive, negative in found}


def test_in_the_committed_notebook_only_the_shipped_cost_tells_negatives_apart(checkout: Path) -> None:
    cells = code_cells(read(checkout, NAME))
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs) == 4
    text = "".join(map(texts, cells))
    apart = {name: negative - positive for name, (positive, negative) in last_distances(text).items()}
    assert apart["degenerate"] < 1e-3 < 0.1 < apart["shipped"]
    costless = [int(share) for share in re.findall(r"(\d+)% of the pairs cost nothing", text)]
    assert max(costless[:2]) == 0
    assert min(costless[2:]) > 90


@pytest.mark.slow
def test_it_runs_with_fewer_epochs(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = run_with(2, checkout, NAME, tmp_path, monkeypatch)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["degenerate", "shipped"]
    text = "".join(map(texts, code_cells(notebook)))
    assert set(last_distances(text)) == {"degenerate", "shipped"}
    assert len(re.findall(r"(?:positive|negative): distance ", text)) == 4
