"""Resume: a run that was interrupted anywhere ends with the files of one that was not."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recmodels import cli
from recmodels.errors import TrainingError, UserError
from recmodels.experiments import run, trainers
from recmodels.experiments.session import Session, resolve_train
from recmodels.training import checkpoint
from recmodels.training.callbacks import Callback, EpochLog
from recmodels.training.trainer import Trainer
from tests.runs import CHECKOUT, MEASURED, files_of, options, same_state, write_data

pytestmark = pytest.mark.usefixtures("undrawn")
# m_step 2 and warm-up 1: the E-steps are at epochs 1, 2, 4. Patience 1 stops the run before its last epoch.
SETTINGS: dict[str, Any] = {"epochs": 12, "stopping_step": 1, "eval_step": 1, "learning_rate": 0.05}


class Interrupted(Exception):  # noqa: N818  (stands for a kill)
    """Stands for the end of the process."""


class Stop(Callback):
    """Interrupts a run in an epoch: at its start, between its best and its last checkpoint, or after both."""

    def __init__(self, epoch: int, moment: str) -> None:
        self.epoch, self.moment = epoch, moment

    def on_epoch_start(self, trainer: Trainer, epoch: int) -> None:
        self._stop("start", epoch)

    def on_epoch_end(self, trainer: Trainer, log: EpochLog) -> None:
        self._stop("end", log.epoch)

    def _stop(self, moment: str, epoch: int) -> None:
        if (moment, epoch) == (self.moment, self.epoch):
            raise Interrupted

    def put_into(self, trainer: Trainer) -> Trainer:
        """Adds itself after the callback that saves, and breaks that one between its two files."""
        saving: Any = trainer.callbacks[-1]
        save_last = saving._save_last

        def broken(of: Trainer) -> None:
            self._stop("between", of.next_epoch - 1)
            save_last(of)

        saving._save_last = broken
        trainer.callbacks.append(self)
        return trainer


def outcome(folder: Path) -> dict[str, Any]:
    """All that must not depend on interruptions."""
    result = json.loads((folder / "result.json").read_text())
    rows = [
        {key: value for key, value in row.items() if "seconds" not in key}
        for row in csv.DictReader(io.StringIO((folder / "curves.csv").read_text()))
    ]
    with np.load(folder / "test_users.npz", allow_pickle=False) as users:
        arrays = {name: users[name].tolist() for name in users.files}
    best = checkpoint.load(folder / "checkpoint.pt", None)
    return {
        "result": {key: value for key, value in result.items() if key not in MEASURED},
        "curves": rows,
        "users": arrays,
        "config": (folder / "config.yaml").read_text(),
        "best": {name: value.tolist() for name, value in best["weights"].items()},
        "last": checkpoint.load(folder / "last.pt", None)["weights"]["table.weight"].tolist(),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the undisturbed run; its data are in the folder above."""
    root = tmp_path_factory.mktemp("resume")
    return run.train(resolve_train(options(root, **SETTINGS)), str(root / "whole"))


def interrupted(whole: Path, folder: Path, stop: Stop, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with the settings of `whole` in `folder`, interrupted."""

    def make(session: Session, at: Path, original: Any = trainers.make_trainer) -> Trainer:  # noqa: ANN401
        return stop.put_into(original(session, at))

    with monkeypatch.context() as patch:
        patch.setattr(trainers, "make_trainer", make)
        with pytest.raises(Interrupted):
            run.train(resolve_train(options(whole.parent, **SETTINGS)), str(folder))
    assert not (folder / "result.json").exists()
    return folder


def test_the_undisturbed_run_stops_early_with_prototypes_active(whole: Path) -> None:
    found = outcome(whole)
    assert 3 < found["result"]["epochs_run"] < SETTINGS["epochs"]
    assert found["result"]["best_epoch"] == found["result"]["epochs_run"] - 3  # patience + 1 without improvement
    assert [row["epoch"] for row in found["curves"] if row["train/proto"]] == [
        str(epoch) for epoch in range(1, found["result"]["epochs_run"])
    ]


MOMENTS = [(0, "start"), (0, "between"), (1, "start"), (1, "between"), (2, "end"), (3, "start"), (3, "end")]


@pytest.mark.parametrize(("epoch", "moment"), MOMENTS)
def test_an_interrupted_run_ends_like_the_undisturbed_one(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, moment: str
) -> None:
    folder = interrupted(whole, tmp_path / "run", Stop(epoch, moment), monkeypatch)
    assert cli.main(["train", f"--resume={folder}"]) == 0
    assert outcome(folder) == outcome(whole)


def test_a_run_interrupted_after_its_early_stop_only_tests(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = outcome(whole)["result"]["epochs_run"] - 1
    folder = interrupted(whole, tmp_path / "run", Stop(stopped, "end"), monkeypatch)
    before = (folder / "last.pt").read_bytes()
    run.resume(str(folder))
    assert outcome(folder) == outcome(whole)
    assert (folder / "last.pt").read_bytes() == before


def test_a_run_interrupted_twice_ends_like_the_undisturbed_one(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = interrupted(whole, tmp_path / "run", Stop(1, "between"), monkeypatch)
    with monkeypatch.context() as patch:
        original = trainers.make_trainer
        patch.setattr(trainers, "make_trainer", lambda session, at: Stop(3, "start").put_into(original(session, at)))
        with pytest.raises(Interrupted):
            run.resume(str(folder))
    run.resume(str(folder))
    assert outcome(folder) == outcome(whole)
    assert "resuming after 3 finished epochs" in (folder / "log.txt").read_text()


def test_resuming_a_finished_run_says_so_and_touches_nothing(whole: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = files_of(whole)
    assert cli.main(["train", f"--resume={whole}"]) == 0
    assert files_of(whole) == before
    assert f"{whole} is finished; nothing to resume, nothing changed" in caplog.messages


def test_a_run_killed_before_its_first_checkpoint_starts_anew(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(whole / "config.yaml", folder)
    run.resume(str(folder))
    assert outcome(folder) == outcome(whole)


def unfinished(whole: Path, folder: Path) -> Path:
    """A copy of the finished run that lacks its result."""
    shutil.copytree(whole, folder)
    (folder / "result.json").unlink()
    return folder


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_truncated_last_checkpoint_is_replaced_by_the_one_before(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = unfinished(whole, tmp_path / "run")
    truncate(folder / "last.pt")
    run.resume(str(folder))
    assert outcome(folder) == outcome(whole)
    (warning,) = [message for message in caplog.messages if ": truncated" in message]
    assert warning.startswith(f"{folder / 'last.pt'}: truncated")
    assert warning.endswith(f"using {folder / 'last.prev.pt'} instead")


def test_a_kill_while_a_damaged_file_is_replaced_keeps_the_whole_one(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = unfinished(whole, tmp_path / "run")
    truncate(folder / "last.pt")
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        replace(source, target)
        if target in (folder / "last.pt", folder / "last.prev.pt"):
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(Interrupted):
            run.resume(str(folder))
    run.resume(str(folder))
    assert outcome(folder) == outcome(whole)


def refusal(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one message of a refused resume, which changes no checkpoint and gives no result."""
    noted = ("log.txt", ".lock")
    before = {path: content for path, content in files_of(folder).items() if path not in noted}
    capsys.readouterr()
    assert cli.main(["train", f"--resume={folder}"]) == 2
    assert {path: content for path, content in files_of(folder).items() if path not in noted} == before
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_two_truncated_checkpoints_are_refused(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = unfinished(whole, tmp_path / "run")
    truncate(folder / "last.pt")
    truncate(folder / "last.prev.pt")
    message = refusal(folder, capsys)
    assert "no usable checkpoint" in message
    assert f"{folder / 'last.pt'}: truncated" in message
    assert f"{folder / 'last.prev.pt'}: truncated" in message


class Bomb:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def other_model(state: dict[str, Any], folder: Path) -> None:
    checkpoint.save(folder / "last.pt", state | {"model": "LightGCN"})


def other_data(state: dict[str, Any], folder: Path) -> None:
    checkpoint.save(folder / "last.pt", state | {"split_sha256": "0" * 64})


def other_size(state: dict[str, Any], folder: Path) -> None:
    weights = {name: value[..., :1] for name, value in state["weights"].items()}
    checkpoint.save(folder / "last.pt", state | {"weights": weights})


def best_instead_of_last(state: dict[str, Any], folder: Path) -> None:
    shutil.copy(folder / "checkpoint.pt", folder / "last.pt")


def foreign_file(state: dict[str, Any], folder: Path) -> None:
    torch.save(state["weights"], folder / "last.pt")


def pickle_bomb(state: dict[str, Any], folder: Path) -> None:
    bomb = {"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "x": Bomb(folder.parent / "exploded")}
    torch.save(state | bomb, folder / "last.pt")


@pytest.mark.parametrize(
    ("put", "words"),
    [
        (other_model, "belongs to another run: model: got 'LightGCN', expected 'NCL_OT'"),
        (other_data, "belongs to another run: split_sha256: got '0000"),
        (other_size, "last.pt"),
        (best_instead_of_last, "last.pt"),
        (foreign_file, "not a recmodels checkpoint"),
        (pickle_bomb, "holds pickled code or objects, which are never executed"),
    ],
)
def test_a_foreign_last_checkpoint_is_refused_and_not_executed(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], put: Any, words: str
) -> None:
    folder = unfinished(whole, tmp_path / "run")
    put(checkpoint.load(folder / "last.pt", None), folder)
    (folder / "last.prev.pt").unlink(missing_ok=True)
    assert words in refusal(folder, capsys)
    assert not (tmp_path / "exploded").exists()


def test_data_that_changed_since_the_run_are_refused(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = unfinished(whole, tmp_path / "run")
    path = write_data(tmp_path) / "planted" / "planted.inter"
    path.write_text(path.read_text().replace("u7\t", "u99\t", 1))
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace(str(whole.parent / "data"), str(tmp_path / "data")))
    assert "split_sha256: got" in refusal(folder, capsys)


def test_a_folder_that_is_no_run_is_refused_by_name(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'} is not a run folder: it has no config.yaml" in refusal(tmp_path / "empty", capsys)
    message = refusal(whole.with_name("whola"), capsys)
    assert f"no run folder {whole.with_name('whola')}; runs in {whole.parent}: whole" in message


def test_a_resumed_state_is_the_saved_one(whole: Path) -> None:
    session = run.prepare(run.resolve_run(str(whole)))
    state = checkpoint.load(whole / "last.pt", session.identity)
    trainer = trainers.make_trainer(session, whole)
    trainer.load_state_dict(state)
    again = trainer.state_dict()
    assert again.keys() == state.keys() - session.identity.keys()
    assert same_state(again["weights"], state["weights"])
    best, stored = again["callbacks"].pop("Saving")["best"], checkpoint.load(whole / "checkpoint.pt", session.identity)
    assert same_state(best["weights"], stored["weights"])
    assert (best["epoch"], best["valid"]) == (stored["epoch"], stored["valid"])
    del state["callbacks"]["Saving"]
    for name in ("next_epoch", "finished", "learning_rate", "early_stop", "best_valid_result", "callbacks"):
        assert again[name] == state[name], name


@pytest.mark.parametrize("is_worse", [False, True])
def test_lost_best_weights_are_written_anew_from_the_last_state(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, is_worse: bool
) -> None:
    folder = unfinished(whole, tmp_path / "run")
    epoch = outcome(whole)["result"]["best_epoch"]
    if is_worse:  # a whole file of an earlier epoch is as wrong as a broken one
        (folder / "checkpoint.pt").write_bytes((folder / "checkpoint.prev.pt").read_bytes())
    else:
        truncate(folder / "checkpoint.pt")
        (folder / "checkpoint.prev.pt").unlink()
    run.resume(str(folder))
    assert outcome(folder) == outcome(whole)
    assert f"{folder / 'checkpoint.pt'} written anew from {folder / 'last.pt'}: epoch {epoch}" in caplog.messages


def test_a_finished_run_that_lost_its_best_weights_is_mended(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    for file in folder.glob("checkpoint*.pt"):
        file.unlink()
    with pytest.raises(UserError, match=f"has lost its checkpoint.pt; --resume={folder} writes it anew"):
        run.evaluate(str(folder))
    run.resume(str(folder))
    assert outcome(folder) == outcome(whole)
    assert run.evaluate(str(folder)) == outcome(whole)["result"]["test"]


def test_a_temperature_that_moves_under_a_bias_is_that_of_the_best_epoch(tmp_path: Path) -> None:
    moving = {"rec_temperature": 0.2, "rec_temperature_end": 0.8, "rec_temperature_epochs": 3, "rec_item_bias": True}
    chosen = {"rec_loss": "softmax", "rec_similarity": "cosine", "learning_rate": 0.05, "epochs": 4}
    folder = run.train(resolve_train(options(tmp_path, model="LightGCN", **moving, **chosen)))
    stored = json.loads((folder / "result.json").read_text())
    stored_temperature = checkpoint.load(folder / "checkpoint.pt", None)["weights"]["scorer.scheduled"]
    assert float(stored_temperature) == pytest.approx(0.2 * 4 ** (min(3, stored["best_epoch"]) / 3))
    assert run.evaluate(str(folder)) == stored["test"]


def test_a_run_whose_scores_always_overflow_says_so(tmp_path: Path) -> None:
    chosen = {"learning_rate": 1e17, "train_batch_size": 100_000, "rec_temperature": 1e-6}
    with pytest.raises(TrainingError, match="no epoch has a finite valid NDCG@10: scores overflow.* temperatures$"):
        run.train(resolve_train(options(tmp_path, model="LightGCN", epochs=1, **chosen)))


def test_an_evaluation_never_gives_the_numbers_of_another_epoch(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    truncate(folder / "checkpoint.pt")
    assert cli.main(["evaluate", str(folder)]) == 2
    epoch = outcome(whole)["result"]["best_epoch"]
    printed = capsys.readouterr()
    assert f"expected the best epoch {epoch}, whose weights it lost" in printed.err
    assert printed.out == ""
    (folder / "result.json").unlink()  # what the message says to do
    assert cli.main(["train", f"--resume={folder}"]) == 0
    assert outcome(folder) == outcome(whole)
    capsys.readouterr()
    assert cli.main(["evaluate", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out) == outcome(whole)["result"]["test"]


@pytest.mark.parametrize("damaged", [b"", b'{"model": "NCL_OT", "te', b"\xff\xfe", b"null"])
def test_a_damaged_result_is_that_of_an_unfinished_run(
    whole: Path, tmp_path: Path, damaged: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / "result.json").write_bytes(damaged)
    assert cli.main(["evaluate", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out) == outcome(whole)["result"]["test"]
    run.resume(str(folder))
    assert outcome(folder) == outcome(whole)


def test_damaged_curves_are_mended(whole: Path, tmp_path: Path) -> None:
    folder = unfinished(whole, tmp_path / "run")
    truncate(folder / "curves.csv")
    run.resume(str(folder))
    assert (folder / "curves.csv").read_text() == (whole / "curves.csv").read_text()


def test_an_edited_configuration_is_refused_by_the_keys_that_differ(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = unfinished(whole, tmp_path / "run")
    config = (folder / "config.yaml").read_text()
    edited = config.replace("learning_rate: 0.05", "learning_rate: 0.07").replace("show_progress: false", "")
    assert edited != config
    (folder / "config.yaml").write_text(edited + "show_progress: true\n")
    (folder / "last.prev.pt").unlink()
    message = refusal(folder, capsys)
    (differences,) = [part for part in message.split("; ") if "belongs to another run" in part]
    assert differences.endswith("config.yaml.learning_rate: got 0.05, expected 0.07")
    assert message.endswith("config.yaml was edited, or the file is of another run")


def test_a_run_that_another_process_writes_is_left_alone(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = unfinished(whole, tmp_path / "run")
    hold = (
        "import sys, pathlib; from recmodels.experiments.lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(folder)]
    other = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert f"{folder} is being written by process {other.pid}; wait until it ends" in refusal(folder, capsys)
        assert cli.main(["evaluate", str(folder)]) == 0  # reading is allowed
    finally:
        other.kill()  # as by kill -9: the kernel lets go
        other.communicate()
    run.resume(str(folder))
    assert outcome(folder) == outcome(whole)
    assert (folder / ".lock").read_text() == str(os.getpid())
