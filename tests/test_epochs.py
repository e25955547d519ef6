"""What epochs logged is averaged up to the best epoch."""

from pathlib import Path

import pytest

from recmodels.errors import CheckpointError
from recmodels.reporting.epochs import mean_to_best, read_epochs
from recmodels.reporting.finished import Run

TEXT = "epoch,share/a,share/b,x\n0,0.1,0.5,7\n1,0.2,,7\n2,0.3,,7\n3,0.4,0.9,7\n"


def run(name: str, text: str, best_epoch: int | None) -> Run:
    Path(name).mkdir()
    (Path(name) / "curves.csv").write_text(text)
    return Run(Path(name), {"best_epoch": best_epoch}, {})


def test_a_value_is_the_mean_of_the_epochs_up_to_the_best_that_have_one() -> None:
    assert mean_to_best([run("a", TEXT, 2)], "share/") == {"a": pytest.approx(0.2), "b": 0.5}
    assert mean_to_best([run("b", TEXT, None)], "share/") == {"a": pytest.approx(0.25), "b": pytest.approx(0.7)}
    assert mean_to_best([run("c", "epoch,share/a\n0,\n1,0.5\n", 0)], "share/") == {}


def test_means_are_over_the_runs_that_have_a_term() -> None:
    runs = [run("a", TEXT, 1), run("b", "epoch,share/a\n0,0.6\n", 0)]
    assert mean_to_best(runs, "share/") == {"a": pytest.approx(0.375), "b": 0.5}
    assert mean_to_best([], "share/") == {}


def test_a_run_without_epochs_has_no_values_and_a_damaged_file_is_refused() -> None:
    assert mean_to_best([Run(Path("nowhere"), {"best_epoch": 3}, {})], "share/") == {}
    with pytest.raises(CheckpointError, match=r"a/curves\.csv: got the columns x, y, expected epoch among them"):
        read_epochs(run("a", "x,y\n1,2\n", None).folder)
    with pytest.raises(CheckpointError, match=r"b/curves\.csv: cannot be read: "):
        read_epochs(run("b", "", None).folder)
