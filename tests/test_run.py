"""A run from configuration to result: what it leaves, and that its numbers can be had again."""

import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from recmodels import cli
from recmodels.errors import NonFiniteError, UserError
from recmodels.experiments import report, run
from recmodels.experiments.folder import CONFIG
from recmodels.experiments.session import prepare, resolve_run, resolve_train
from recmodels.training import checkpoint
from tests.runs import CHECKOUT, MEASURED, arguments, files_of, options, python, same_state

KEYS = [
    "model", "dataset", "seed", "split_seed", "config_sha256", "split_sha256", "test_seen_in_valid", "best_epoch",
    "epochs_run", "best_valid", "test", "seconds_per_epoch", "peak_rss_mb", "n_parameters", "n_stored", "hardware",
    "versions",
]  # fmt: skip
FILES = {
    "config.yaml", "log.txt", "result.json", "test_users.npz", "test_frequency.npz", "curves.csv", "curves.png",
    "checkpoint.pt", "last.pt", "last.prev.pt", ".lock",
}  # fmt: skip


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def weights_of(folder: Path, name: str = "last.pt") -> dict[str, Any]:
    return checkpoint.load(folder / name, None)["weights"]


def train(root: Path, name: str, **overrides: Any) -> Path:  # noqa: ANN401
    return run.train(resolve_train(options(root, **overrides)), str(root / name))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with its picture; only to be read."""
    return train(tmp_path_factory.mktemp("run"), "finished")


def test_a_run_leaves_exactly_the_documented_files(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} - {"checkpoint.prev.pt"} == FILES


def test_the_result_has_exactly_the_documented_keys(finished: Path) -> None:
    result = result_of(finished)
    assert list(result) == KEYS
    names = [f"{m}@{k}" for m in ("recall", "ndcg", "mrr", "hit", "precision") for k in (10, 20, 50)]
    assert list(result["test"]) == list(result["best_valid"]) == names
    assert (result["model"], result["dataset"], result["epochs_run"]) == ("NCL_OT", "planted", 3)
    assert result["n_parameters"] == result["n_stored"] == (61 + 81) * 16
    assert {"recmodels", "python", "torch", "recbole", "numpy"} <= result["versions"].keys()


def test_per_user_metrics_average_to_the_test_metrics(finished: Path) -> None:
    test = result_of(finished)["test"]
    with np.load(finished / "test_users.npz", allow_pickle=False) as users:
        assert set(users.files) == {"user", *test}
        assert {name: float(users[name].mean()) for name in test} == test
        names = users["user"].tolist()
    assert len(set(names)) == len(names)
    assert set(names) <= {f"u{index}" for index in range(60)}


def test_the_curves_have_one_row_an_epoch_and_mark_the_best(finished: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((finished / "curves.csv").read_text())))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    expected = {"train/bpr", "train/reg", "train/ssl", "train/proto", "train/ot", "train/loss", "learning_rate"}
    expected |= {"gradient_norm", "seconds", "valid_seconds", "is_best", "valid/ndcg@10", "share/ot", "share/proto"}
    assert expected <= rows[0].keys()
    result = result_of(finished)
    best = [row for row in rows if row["is_best"] == "True"][-1]
    assert int(best["epoch"]) == result["best_epoch"]
    assert {name: float(best[f"valid/{name}"]) for name in result["best_valid"]} == result["best_valid"]


def test_the_picture_of_a_run_is_a_valid_image(finished: Path) -> None:
    image = matplotlib.image.imread(finished / "curves.png")
    assert image.min() < image.max()


def test_the_test_metrics_are_those_of_the_best_epoch(finished: Path) -> None:
    before = files_of(finished)
    assert run.evaluate(str(finished)) == result_of(finished)["test"]
    assert files_of(finished) == before
    assert checkpoint.load(finished / "checkpoint.pt", None)["epoch"] == result_of(finished)["best_epoch"]


def test_a_checkpoint_may_name_values_that_nothing_reads_as_earlier_checkouts_did(
    finished: Path, tmp_path: Path
) -> None:
    folder, stored = tmp_path / "earlier", checkpoint.load(finished / "checkpoint.pt", None)
    shutil.copytree(finished, folder)
    unread = prepare(resolve_run(str(folder))).unread[CONFIG]
    assert "agg_ego_share" in unread.keys() - stored[CONFIG].keys()
    checkpoint.save(folder / "checkpoint.pt", stored | {CONFIG: stored[CONFIG] | unread})
    assert run.evaluate(str(folder)) == result_of(finished)["test"]


@pytest.mark.usefixtures("undrawn")
def test_the_stored_configuration_runs_again_to_the_same_numbers(finished: Path, tmp_path: Path) -> None:
    config = finished / "config.yaml"
    assert cli.main(["train", f"--config_files={config}", f"--run_dir={tmp_path / 'again'}"]) == 0
    again = tmp_path / "again"
    same = {key: value for key, value in result_of(finished).items() if key not in MEASURED}
    assert {key: value for key, value in result_of(again).items() if key not in MEASURED} == same
    assert same_state(weights_of(again), weights_of(finished))
    assert (again / "config.yaml").read_text() == config.read_text()


@pytest.mark.usefixtures("undrawn")
def test_the_seed_changes_the_weights_and_not_the_split(finished: Path, tmp_path: Path) -> None:
    other = train(tmp_path, "other", seed=1)
    assert result_of(other)["split_sha256"] == result_of(finished)["split_sha256"]
    assert not same_state(weights_of(other), weights_of(finished))
    assert result_of(other)["test"] != result_of(finished)["test"]


def test_the_split_seed_changes_only_the_split(tmp_path: Path) -> None:
    one, other = (prepare(resolve_train(options(tmp_path, split_seed=seed))) for seed in (1, 2))
    assert one.splits.sha256 != other.splits.sha256
    assert same_state(dict(one.model.state_dict()), dict(other.model.state_dict()))
    same = prepare(resolve_train(options(tmp_path, split_seed=1, seed=5)))
    assert same.splits.sha256 == one.splits.sha256
    assert not same_state(dict(one.model.state_dict()), dict(same.model.state_dict()))


def test_an_evaluation_before_the_first_validation_says_what_to_do(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.yaml", "last.pt"):
        (folder / name).write_bytes((finished / name).read_bytes())
        with pytest.raises(UserError, match=f"no checkpoint.pt yet: no epoch is validated; --resume={folder} cont"):
            run.evaluate(str(folder))


@pytest.mark.usefixtures("undrawn")
def test_the_log_holds_what_ended_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def log_after(error: BaseException, name: str) -> str:
        def fail(*_: Any, **__: Any) -> None:  # noqa: ANN401
            raise error

        with monkeypatch.context() as patch:
            patch.setattr("recmodels.training.trainer.Trainer.fit", fail)
            with pytest.raises(type(error)):
                train(tmp_path, name)
        assert "why it ended" not in capsys.readouterr().err  # the terminal gets it from whoever catches it
        return (tmp_path / name / "log.txt").read_text()

    expected = log_after(NonFiniteError("why it ended"), "expected")
    assert expected.splitlines()[-1].endswith("ERROR   stopped: NonFiniteError: why it ended")
    unexpected = log_after(ZeroDivisionError("why it ended"), "unexpected")
    assert "ERROR   stopped: ZeroDivisionError: why it ended\nTraceback (most recent call last):" in unexpected
    assert "stopped: KeyboardInterrupt" in log_after(KeyboardInterrupt(), "interrupted")


@pytest.mark.parametrize(("wanted", "stored"), [(True, ":4096:8"), (False, None)])
def test_reproducibility_asks_cublas_for_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool, stored: str | None
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is put back afterwards
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    prepare(resolve_train(options(tmp_path, reproducibility=wanted)))
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == stored
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    prepare(resolve_train(options(tmp_path, reproducibility=wanted)))
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"  # the user's own choice stays


def test_peak_memory_is_in_mebibytes_on_every_system(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=3 * 2**20))
    monkeypatch.setattr(report, "resource", usage)
    for system, want in (("linux", 3 * 2**10), ("darwin", 3)):
        monkeypatch.setattr(sys, "platform", system)
        assert report.peak_rss_mb() == want
    info = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=5 * 2**20))
    monkeypatch.setattr(report, "resource", None)
    monkeypatch.setattr(report.psutil, "Process", lambda: info)
    assert report.peak_rss_mb() == 5


def test_a_configuration_that_no_longer_resolves_is_refused(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((finished / "config.yaml").read_text() + "from_the_future: 1\n")
    with pytest.raises(UserError, match="from_the_future: unknown key"):
        resolve_run(str(tmp_path))


def test_the_layers_win_in_their_order_and_the_run_stores_the_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # overall: 300 epochs and a batch of 4096; data set: 1024; model: 64 and 3 hops; the rest from files and arguments
    (tmp_path / "a.yaml").write_text("n_layers: 2\nreg_weight: 0.5\nseed: 7\n")
    (tmp_path / "b.yaml").write_text("reg_weight: 0.25\nseed: 8\n")
    seen: list[Mapping[str, Any]] = []
    monkeypatch.setattr(run, "train", lambda resolved, run_dir: seen.append(resolved.values))
    given = [f"--config_files={tmp_path / 'a.yaml'} {tmp_path / 'b.yaml'}", "--seed=9", "--dataset=ml-100k"]
    assert cli.main(["train", *given]) == 0
    keys = ("epochs", "train_batch_size", "embedding_size", "val_interval", "n_layers", "reg_weight", "seed")
    assert [seen[0][key] for key in keys] == [300, 1024, 64, {"rating": "[3,inf)"}, 2, 0.25, 9]


@pytest.mark.slow
def test_a_new_process_evaluates_to_the_stored_metrics(finished: Path, tmp_path: Path) -> None:
    code = "import sys; from recmodels.cli import main; sys.exit(main(['evaluate', sys.argv[1]]))"
    done = python(["-c", code, str(finished)], tmp_path, PYTHONPATH=str(CHECKOUT))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == result_of(finished)["test"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_fresh_processes_with_other_hash_seeds_give_the_same_bits(finished: Path, tmp_path: Path) -> None:
    data = {"data_path": str(finished.parent / "data")}
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        given = [*arguments(finished.parent, **data), f"--run_dir={tmp_path / seed / 'run'}"]
        done = python([str(CHECKOUT / "run_recbole.py"), *given], tmp_path / seed, PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
        assert [path.name for path in (tmp_path / seed).iterdir()] == ["run"]  # nothing is written beside it
    one, two = (tmp_path / seed / "run" for seed in ("1", "2"))
    for name in ("checkpoint.pt", "last.pt"):
        assert same_state(weights_of(one, name), weights_of(two, name))
        assert same_state(weights_of(one, name), weights_of(finished, name))
    assert result_of(one)["test"] == result_of(two)["test"] == result_of(finished)["test"]
    assert (one / "test_users.npz").read_bytes() == (two / "test_users.npz").read_bytes()
