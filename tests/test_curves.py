"""Learning curves: the table of every epoch, the picture, the line in the log."""

import csv
import io
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import pytest

from recmodels.training.callbacks import EpochLog
from recmodels.training.curves import Curves, Row, draw, to_csv
from recmodels.training.progress import Progress

ROWS: list[Row] = [
    {"epoch": 0, "train/bpr": 0.7, "train/loss": 0.9, "valid/ndcg@10": 0.1, "share/bpr": 1.0, "is_best": True},
    {
        "epoch": 1,
        "train/bpr": 0.6,
        "train/ot": 2.0,
        "train/loss": 0.8,
        "share/bpr": 0.5,
        "share/ot": 0.5,
        "is_best": False,
    },
    {"epoch": 2, "train/bpr": 0.5, "train/ot": 1.0, "train/loss": 0.7, "valid/ndcg@10": 0.3, "is_best": True},
]


def trainer(**values: Any) -> Any:  # noqa: ANN401  (what callbacks read of a trainer)
    return SimpleNamespace(**values)


def test_columns_come_in_order_of_appearance_and_missing_values_are_empty() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(ROWS))))
    assert list(rows[0]) == [
        "epoch",
        "train/bpr",
        "train/loss",
        "valid/ndcg@10",
        "share/bpr",
        "is_best",
        "train/ot",
        "share/ot",
    ]
    assert [row["train/ot"] for row in rows] == ["", "2.0", "1.0"]
    assert [row["valid/ndcg@10"] for row in rows] == ["0.1", "", "0.3"]


def test_floats_survive_the_csv_bit_for_bit() -> None:
    value = 0.1 + 0.2
    (row,) = csv.DictReader(io.StringIO(to_csv([{"epoch": 0, "x": value}])))
    assert float(row["x"]) == value


def test_the_file_has_every_finished_epoch_once_also_after_a_resume(tmp_path: Path) -> None:
    first = Curves(tmp_path, ["ndcg@10"])
    for epoch in range(2):
        first.on_epoch_end(trainer(), EpochLog(epoch, {"train/bpr": float(epoch)}, is_best=epoch == 1))
    saved = first.state_dict()
    second = Curves(tmp_path, ["ndcg@10"])
    second.load_state_dict(saved)
    second.on_epoch_end(trainer(), EpochLog(2, {"train/bpr": 2.0}))
    assert (tmp_path / "curves.csv").read_text() == ("epoch,train/bpr,is_best\n0,0.0,False\n1,1.0,True\n2,2.0,False\n")
    assert len(saved["rows"]) == 2  # the saved state is not the live list of the second
    assert [path.name for path in tmp_path.iterdir()] == ["curves.csv"]


def test_a_damaged_file_is_mended_before_a_resumed_run_goes_on(tmp_path: Path) -> None:
    curves = Curves(tmp_path, [])
    curves.load_state_dict({"rows": ROWS})
    (tmp_path / "curves.csv").write_text(to_csv(ROWS)[:20])
    curves.on_fit_start(trainer())
    assert (tmp_path / "curves.csv").read_text() == to_csv(ROWS)


def test_a_run_without_rows_leaves_no_file(tmp_path: Path) -> None:
    Curves(tmp_path, []).on_fit_start(trainer())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], [{"epoch": 0, "seconds": 1.0, "is_best": False}]])
def test_the_picture_is_a_valid_image_of_any_run(tmp_path: Path, rows: list[Row]) -> None:
    draw(rows, ["ndcg@10"], tmp_path / "curves.png")
    image = matplotlib.image.imread(tmp_path / "curves.png")
    assert image.shape[2] == 4
    assert image.min() < image.max()
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_the_picture_follows_the_values(tmp_path: Path) -> None:
    for name, last in (("a", 0.3), ("b", 0.05)):
        draw([*ROWS[:2], ROWS[2] | {"valid/ndcg@10": last}], ["ndcg@10"], tmp_path / f"{name}.png")
    pictures = [matplotlib.image.imread(tmp_path / f"{name}.png") for name in "ab"]
    assert pictures[0].shape == pictures[1].shape
    assert (pictures[0] != pictures[1]).any()


def test_the_log_line_has_terms_score_and_mark(caplog: pytest.LogCaptureFixture) -> None:
    values = {"train/bpr": 0.65432, "train/ot": 2.0, "learning_rate": 0.1, "seconds": 1.23}
    with caplog.at_level(logging.INFO):
        Progress("ndcg@10", 4, 4).on_epoch_end(
            trainer(), EpochLog(7, values | {"valid/ndcg@10": 0.12345}, is_best=True)
        )
        Progress("ndcg@10", 4, 4).on_epoch_end(trainer(), EpochLog(8, values))
    assert caplog.messages == [
        "epoch   7 | bpr 0.6543 ot 2.0000 | ndcg@10 0.1235 * | 1.2 s",
        "epoch   8 | bpr 0.6543 ot 2.0000 | 1.2 s",
    ]


def test_the_log_says_why_training_ended(caplog: pytest.LogCaptureFixture) -> None:
    stop = SimpleNamespace(counter=11)
    with caplog.at_level(logging.INFO):
        Progress("ndcg@10", 4, 4).on_fit_end(trainer(next_epoch=30, epochs=30, early_stop=stop, ended_by=""))
        Progress("ndcg@10", 4, 4).on_fit_end(trainer(next_epoch=20, epochs=30, early_stop=stop, ended_by=""))
        Progress("ndcg@10", 4, 4).on_fit_end(trainer(next_epoch=20, epochs=30, early_stop=stop, ended_by="stable"))
    assert caplog.messages == [
        "stopped after epoch 29: all epochs done",
        "stopped after epoch 19: valid no longer improved for 11 validations",
        "stopped after epoch 19: stable",
    ]
