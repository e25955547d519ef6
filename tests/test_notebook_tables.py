"""The notebook on tables shows what it says, as committed and in a run."""

from pathlib import Path

import pytest

from tests.test_notebooks import code_cells, read, run_with, texts

NAME = "02_reading_a_table.ipynb"


def test_the_committed_notebook_shows_a_table_an_interval_and_a_plot(checkout: Path) -> None:
    cells = code_cells(read(checkout, NAME))
    kinds = {key for cell in cells for output in cell.outputs for key in output.get("data", {})}
    assert {"text/markdown", "image/png"} <= kinds
    assert "95 % interval [" in "".join(map(texts, cells))


@pytest.mark.slow
def test_it_runs_with_fewer_epochs_and_its_interval_is_that_of_the_page(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = run_with(1, checkout, NAME, tmp_path, monkeypatch)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        f"{n_layers}-{seed}" for n_layers in (1, 3) for seed in (2020, 2021, 2022)
    ]
    (page,) = [
        output.data["text/markdown"]
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "text/markdown" in output.get("data", {})
    ]
    (line,) = [line for line in "".join(map(texts, code_cells(notebook))).splitlines() if "95 % interval" in line]
    interval = line.partition("interval ")[2]
    assert f"{interval.replace('0.', '.')}," in page
