"""A search: its trials, its resume, its workers, what it leaves; and that it never looks at the test part."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from optuna.trial import TrialState

from recmodels import cli
from recmodels.commands import options as command_options
from recmodels.config import Resolved
from recmodels.errors import DataError, UserError
from recmodels.experiments import run
from recmodels.experiments.folder import BEST, CONFIG
from recmodels.experiments.session import resolve_run, resolve_train
from recmodels.files import write_text
from recmodels.training.trainer import Trainer
from recmodels.tuning import report as tune_report
from recmodels.tuning import tune as tuning
from recmodels.tuning.identity import read_identity
from recmodels.tuning.space import Choices, Range, Space
from recmodels.tuning.study import FOUND, Claim, Study, load
from recmodels.tuning.trial import Outcome, PrunedError, Watcher, run_trial
from recmodels.tuning.tune import Search, tune
from tests.runs import CHECKOUT, options, wait_for_files
from tests.studies import SPACE, fixed_arguments, work


@pytest.fixture(autouse=True)
def _fixed_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading all sources for every study takes as long as a trial."""
    monkeypatch.setattr(tuning, "code_fingerprint", lambda: "code")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Trials become formulas of their values; the folders in which they were run."""
    folders: list[Path] = []

    def pretend(resolved: Resolved, folder: Path, watcher: Watcher) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / CONFIG, resolved.dump())
        folders.append(folder)

    def score(folder: Path, metric: str) -> Outcome:
        values = resolve_run(str(folder)).values
        return Outcome(1 - abs(math.log10(values["learning_rate"] / 0.02)) - 0.01 * values["n_layers"], 0, 1, 1.0)

    monkeypatch.setattr(tuning, "run_trial", pretend)
    monkeypatch.setattr(tuning, "outcome", score)
    return folders


def told(trials: list[optuna.trial.FrozenTrial]) -> list[tuple[Any, ...]]:
    return [(trial.number, trial.state, trial.params, trial.value) for trial in trials]


def test_trials_are_run_folders_whose_best_valid_score_is_the_value(tmp_path: Path, undrawn: None) -> None:
    trials = work(tmp_path, 2)
    for trial in trials:
        folder = tmp_path / "study" / "trials" / f"trial-{trial.number:04d}"
        with (folder / "curves.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert trial.value == max(float(row["valid/ndcg@10"]) for row in rows)
        assert trial.intermediate_values == {int(row["epoch"]): float(row["valid/ndcg@10"]) for row in rows}
        resolved = resolve_run(str(folder))
        assert {key: resolved.values[key] for key in trial.params} == trial.params
        assert resolved.values["reg_weight"] == 1e-4
        assert run.evaluate(str(folder)).keys() == run.checkpoint.load(folder / BEST, None)["valid"].keys()


def test_no_trial_looks_at_the_test_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None) -> None:
    prepared, evaluated = [], []
    prepare, evaluate = run.prepare, Trainer.evaluate
    monkeypatch.setattr(run, "prepare", lambda resolved: prepared.append(prepare(resolved)) or prepared[-1])
    monkeypatch.setattr(
        Trainer, "evaluate", lambda self, data, *a, **k: evaluated.append(data) or evaluate(self, data, *a, **k)
    )
    work(tmp_path, 2)
    assert len(evaluated) == 6  # epochs
    assert {id(data) for data in evaluated} == {id(session.splits.valid) for session in prepared}
    names = {path.name for path in (tmp_path / "study").rglob("*")}
    assert not names & {"result.json", "test_users.npz"}
    assert not [name for name in tune_report.table(load(tmp_path / "study"), "ndcg@10").columns if "test" in name]


def test_a_search_on_the_test_part_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^configuration: benchmark_filename: got \[a, b, b\], so the best values would"
    ):
        work(tmp_path, 1, benchmark_filename=["a", "b", "b"])
    assert not (tmp_path / "study").exists()


def test_a_search_for_widths_whose_picker_would_take_no_step_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    widths = {"table": "adaptive", "adae_mode": "auto", "adae_dims": [4, 16], "adae_warmup": 0, "adae_every": 10_000}
    with pytest.raises(UserError, match="adae_every: got 10000, but after the warm-up there are"):
        work(tmp_path, 1, **widths)
    assert not (tmp_path / "study").exists()


def test_settings_to_try_first_come_first_and_once(tmp_path: Path, counted: list[Path]) -> None:
    first: list[dict[str, Any]] = [{"learning_rate": 0.02, "n_layers": 2}, {"n_layers": 1}]
    space = Space(SPACE.searched, {}, tuple(first))
    assert len(work(tmp_path, 1, space)) == 2  # the second one waits
    trials = work(tmp_path, 4, space)
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert trials[0].params == first[0]
    assert trials[1].params["n_layers"] == 1
    assert len(counted) == 4


@pytest.mark.slow
def test_a_study_that_is_continued_suggests_what_an_undisturbed_one_does(tmp_path: Path, counted: list[Path]) -> None:
    (tmp_path / "other").mkdir()
    whole = work(tmp_path, 13)  # from the 11th on, a model of the earlier ones suggests
    for n_trials in (2, 12, 13):
        parts = work(tmp_path / "other", n_trials)
    assert told(parts) == told(whole)
    assert len({trial.params["learning_rate"] for trial in whole}) == 13  # every trial has its own stream


def test_another_seed_suggests_other_values(tmp_path: Path, counted: list[Path]) -> None:
    (tmp_path / "other").mkdir()
    rates = [trial.params["learning_rate"] for trial in work(tmp_path, 2) + work(tmp_path / "other", 2, seed=7)]
    assert len(set(rates)) == 4


def test_a_finished_study_runs_nothing(tmp_path: Path, counted: list[Path]) -> None:
    before = told(work(tmp_path, 3))
    assert told(work(tmp_path, 2)) == before
    assert len(counted) == 3


def test_a_trial_behind_the_median_is_pruned_says_so_and_can_be_finished(tmp_path: Path, undrawn: None) -> None:
    good = [{"learning_rate": rate, "n_layers": 1} for rate in (0.02, 0.03, 0.04, 0.05, 0.06)]
    bad = {"learning_rate": 0.001, "n_layers": 1}
    trials = work(tmp_path, 6, Space(SPACE.searched, {}, (*good, bad)), prune_after=1)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 5 + [TrialState.PRUNED]
    assert list(trials[5].intermediate_values) == [0, 1]
    folder = tmp_path / "study" / "trials" / "trial-0005"
    text = f"its best ndcg@10 {trials[5].user_attrs[FOUND]['score']:.4f} is behind the median of the others"
    assert trials[5].user_attrs[FOUND]["reason"] == f"pruned after epoch 1: {text}"
    assert f"stopped: {PrunedError.__name__}: pruned after epoch 1" in (folder / "log.txt").read_text()
    assert run.stored_result(run.resume(str(folder)))["epochs_run"] == 3  # type: ignore[index]


def test_a_failed_trial_is_recorded_with_its_reason_and_the_study_goes_on(tmp_path: Path, undrawn: None) -> None:
    searched = {"learning_rate": Range(1e-3, 1e30, log=True)}
    trials = work(tmp_path, 2, Space(searched, {}, ({"learning_rate": 1e30}, {"learning_rate": 0.01})))
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert trials[0].user_attrs[FOUND]["reason"].startswith("NonFiniteError: epoch ")
    rows = tune_report.table(load(tmp_path / "study"), "ndcg@10")
    assert list(rows["trial"]) == [1, 0]
    assert list(rows["reason"]) == ["", trials[0].user_attrs[FOUND]["reason"]]


def test_an_error_of_a_baselines_library_fails_the_trial_and_not_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_or_raise(resolved: Resolved, folder: Path, watcher: Watcher) -> None:
        if resolved.values["reg_weight"] == 1.0:
            raise np.linalg.LinAlgError("Singular matrix")
        run_trial(resolved, folder, watcher)

    monkeypatch.setattr(tuning, "run_trial", run_or_raise)
    Path("space.yaml").write_text("reg_weight: [1.0, 500.0]\nenqueue: [{reg_weight: 1.0}, {reg_weight: 500.0}]\n")
    assert cli.main(["tune", "EASE", "--space=space.yaml", "--trials=2", *fixed_arguments(tmp_path, "EASE")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[1/2] trial 0 fail: no score, ")
    assert lines[0].endswith(" | reg_weight=1 | LinAlgError: Singular matrix")
    assert lines[1].startswith("[2/2] trial 1 complete: ")
    assert "2 trials: 1 complete, 1 fail" in lines


def test_the_reason_of_a_failed_trial_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(resolved: Resolved, folder: Path, watcher: Watcher) -> None:
        raise ValueError("Input X contains NaN.\nElasticNet does not accept them")

    monkeypatch.setattr(tuning, "run_trial", refuse)
    (trial,) = work(tmp_path, 1)
    reason = "ValueError: Input X contains NaN. ElasticNet does not accept them"
    assert (trial.state, trial.user_attrs[FOUND]["reason"]) == (TrialState.FAIL, reason)


def test_a_mistake_stops_the_study_and_the_same_command_takes_the_trial_up_again(
    tmp_path: Path, counted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(resolved: Resolved, folder: Path, watcher: Watcher) -> None:
        raise DataError("the data are gone")

    work(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "run_trial", refuse)
        with pytest.raises(DataError, match="the data are gone"):
            work(tmp_path, 3)
    begun = load(tmp_path / "study").get_trials()
    assert [trial.state for trial in begun] == [TrialState.COMPLETE, TrialState.RUNNING]
    trials = work(tmp_path, 3)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    assert trials[1].params == begun[1].params
    assert [folder.name for folder in counted] == ["trial-0000", "trial-0001", "trial-0002"]


def test_a_trial_is_in_one_process_at_a_time_and_free_when_its_lock_is(tmp_path: Path) -> None:
    one, other = (Study(tmp_path / "study", {CONFIG: {"seed": 1}}, True, None) for _ in range(2))
    first = one.claim(2)
    assert isinstance(first, Claim)
    second = other.claim(2)
    assert second is not None
    assert (first.trial.number, second.trial.number) == (0, 1)
    assert one.claim(2) is None
    second.lock.lock.release()  # what the kernel does when a process is killed
    again = one.claim(2)
    assert again is not None
    assert again.trial.number == 1
    assert other.claim(2) is None


def test_a_trial_that_ends_between_the_look_at_it_and_its_lock_is_not_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (Study(tmp_path / "study", {CONFIG: {"seed": 1}}, True, None) for _ in range(2))
    claim = one.claim(2)
    assert claim is not None
    free = other._lock

    def late(number: int) -> object:
        """The first process ends its trial just now."""
        if number == claim.trial.number and claim.lock.lock.is_locked:
            claim.trial.study.tell(claim.trial, 0.5)
            claim.lock.lock.release()
        return free(number)

    monkeypatch.setattr(other, "_lock", late)
    second = other.claim(2)
    assert second is not None
    assert second.trial.number == 1
    with one._lock(0) as lock:  # type: ignore[union-attr]
        assert lock is not None


def test_a_study_whose_database_is_removed_while_a_process_works_says_so(tmp_path: Path) -> None:
    claim = Study(tmp_path / "study", {CONFIG: {"seed": 1}}, True, None).claim(1)
    assert claim is not None
    (tmp_path / "study/study.db").unlink()
    with pytest.raises(UserError, match="a process works on trial 0, which the study does not know"):
        Study(tmp_path / "study", {CONFIG: {"seed": 1}}, True, None).claim(1)


def test_a_folder_without_configuration_is_of_a_killed_process_and_begun_anew(tmp_path: Path, undrawn: None) -> None:
    study = Study(tmp_path / "study", {CONFIG: {"seed": 1}}, True, None)
    claim = study.claim(1)
    assert claim is not None
    folder = study.trial_folder(0)
    folder.mkdir(parents=True)
    (folder / ".config.yaml.tmp").write_text("half")
    run_trial(resolve_train(options(tmp_path, model="LightGCN")), folder, Watcher(claim.trial, "ndcg@10", print))
    assert not (folder / ".config.yaml.tmp").exists()
    assert (folder / BEST).is_file()


@pytest.mark.parametrize("maximize", [True, False])
def test_the_best_trial_is_the_best_in_the_direction_of_the_metric(tmp_path: Path, maximize: bool) -> None:
    study = Study(tmp_path / "study", {CONFIG: {"seed": 1}}, maximize, None)
    for score in (0.5, 0.2, 0.9):
        claim = study.claim(3)
        assert claim is not None
        claim.trial.set_user_attr(FOUND, {**Outcome(score, 0, 1, 1.0)._asdict(), "reason": ""})
        claim.trial.study.tell(claim.trial, score)
    assert list(tune_report.table(load(tmp_path / "study"), "giniindex@10")["trial"]) == (
        [2, 0, 1] if maximize else [1, 0, 2]
    )


def test_another_search_in_the_same_folder_is_refused_with_what_differs(
    tmp_path: Path, counted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    work(tmp_path, 1)
    monkeypatch.setattr(tuning, "code_fingerprint", lambda: "newer")
    space = Space({"learning_rate": Range(1e-3, 0.5, log=True), "n_layers": Choices((1, 2))}, {"reg_weight": 1e-4})
    with pytest.raises(UserError) as caught:
        work(tmp_path, 1, space, prune_after=3, epochs=4)
    folder = tmp_path / "study"
    assert str(caught.value).split("\n  - ") == [
        f"{folder} is the study of something else; choose another folder with --study=DIR. What differs:",
        "config.yaml.epochs: got 4, expected 3",
        "space.learning_rate.high: got 0.5, expected 0.1",
        "prune_after: got 3, expected None",
        "code: got 'newer', expected 'code'",
    ]
    with pytest.raises(UserError, match="model: got 'NCL', expected 'LightGCN'"):
        tune(Search(options(tmp_path, model="NCL"), SPACE, None), folder, 1, print)
    assert len(counted) == 1


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"study is not empty and not a study: it has thesis.tex; choose another"):
        work(tmp_path, 1)


def test_best_yaml_makes_the_configuration_of_the_winner(tmp_path: Path, counted: list[Path]) -> None:
    trials = work(tmp_path, 5)
    tune_report.write_report(tmp_path / "study")
    best = max(trials, key=lambda trial: trial.value or 0)
    file = tmp_path / "study" / "best.yaml"
    assert file.read_text().startswith(f"# Trial {best.number}: valid ndcg@10 {best.value:.4f}; ")
    winner = resolve_run(str(tmp_path / "study" / "trials" / f"trial-{best.number:04d}"))
    again = resolve_train([f"--config_files={file}"])
    machine = ("runs_dir", "show_progress", "use_gpu")
    assert {**again.values, **{key: winner.values[key] for key in machine}} == winner.values
    assert (again.model, again.dataset) == ("LightGCN", "planted")


def test_the_report_has_every_trial_best_first_and_the_commands_to_type_next(
    tmp_path: Path, counted: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    trials = work(tmp_path, 5)
    ranked = sorted(trials, key=lambda trial: -(trial.value or 0))
    assert cli.main(["tune", f"--report={tmp_path / 'study'}"]) == 0
    rows = pd.read_csv(tmp_path / "study" / "trials.csv")
    columns = ["trial", "state", "ndcg@10", "best_epoch", "epochs", "seconds", "learning_rate", "n_layers", "reason"]
    assert list(rows.columns) == columns
    assert list(rows["trial"]) == [trial.number for trial in ranked]
    assert list(rows["ndcg@10"]) == [trial.value for trial in ranked]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "5 trials: 5 complete"
    assert [line.split()[0] for line in lines[3:8]] == [str(trial.number) for trial in ranked]
    folder = tmp_path / "study"
    assert lines[-3:] == [
        f"trials.csv, best.yaml, importance.png in {folder}",
        f"test the winner, once:      recmodels evaluate {folder}/trials/trial-{ranked[0].number:04d}",
        f"train with its values:      recmodels train --config_files={folder}/best.yaml",
    ]
    assert (folder / "best.yaml").is_file()
    assert (folder / "importance.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_runs_a_study_and_says_a_line_for_every_trial(
    tmp_path: Path, counted: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("space.yaml").write_text("learning_rate: {low: 1e-3, high: 1e-1, log: true}\nn_layers: [1, 2]\n")
    given = fixed_arguments(tmp_path)
    assert cli.main(["tune", "LightGCN", "--space=space.yaml", "--trials=2", "--prune_after=null", *given]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line[:23] for line in out[:2]] == ["[1/2] trial 0 complete:", "[2/2] trial 1 complete:"]
    identity = read_identity(tmp_path / "runs" / "tune-LightGCN-planted")
    assert identity["space"]["n_layers"] == [1, 2]
    assert identity["prune_after"] is None


def test_what_is_missing_or_misspelled_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tune", "--spce=a.yaml", "--model=NCL", "--trials=0"]) == 2
    expected = (
        "error: recmodels tune: argument --trials: got 0, expected a whole number >= 1; try recmodels tune --help\n"
    )
    assert capsys.readouterr().err == expected
    assert cli.main(["tune", "--spce=a.yaml", "--model=NCL"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: recmodels tune: 5 problems",
        "  - MODEL: no model; write recmodels tune MODEL --space=FILE --trials=N",
        "  - space: no value; write --space=FILE",
        "  - trials: no value; write --trials=N",
        "  - model: is the first word of the command, got --model=NCL",
        "  - spce: did you mean '--space'?",
    ]
    assert cli.main(["tune", "NCL", "--report=x", "--trials=3", "--epochs=2"]) == 2
    expected = "error: --report=x reads a finished or running study, got also NCL --trials --epochs\n"
    assert capsys.readouterr().err == expected
    assert cli.main(["tune", "--report=x"]) == 2
    assert capsys.readouterr().err == "error: x is not the folder of a study: it has no readable study.json\n"


def test_no_key_of_a_run_is_taken_for_a_misspelled_option(
    tmp_path: Path, counted: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("space.yaml").write_text("learning_rate: {low: 1e-3, high: 1e-1}\n")
    own = ["--space=space.yaml", "--trials=1"]
    keys = fixed_arguments(tmp_path, "LightGCL", state="ERROR", metrics=["NDCG"], threshold="null", dropout=0.1)
    assert cli.main(["tune", "LightGCL", *own, *keys]) == 0
    capsys.readouterr()
    assert cli.main(["tune", "NCL", *own, "--std=0.1", "--reprot=x"]) == 2
    assert capsys.readouterr().err == "error: recmodels tune: reprot: did you mean '--report'?\n"
    assert cli.main(["tune", "NCL", *own, "--std=0.1"]) == 2
    assert "std: unknown key of NCL; it belongs to MacridVAE" in capsys.readouterr().err


def test_without_optuna_the_command_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_options, "find_spec", lambda name: None)
    assert cli.main(["tune", "NCL", "--space=a.yaml", "--trials=1"]) == 2
    assert "needs Optuna; install it with: pip install" in capsys.readouterr().err
    assert cli.main(["tune", "--help"]) == 0
    assert "Two workers on one machine: start the same command twice" in capsys.readouterr().out


def test_threads_are_limited_in_torch_and_in_what_is_loaded_later(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    try:
        assert cli.main(["tune", "--report=x", "--threads=2"]) == 2
        assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (2, "2")
    finally:
        torch.set_num_threads(before)


# A worker that stops after the fourth epoch of a trial, so that a kill comes in the middle, until there is a file `go`.
PAUSING_WORKER = """
import os, sys, time
from pathlib import Path
from recmodels import cli
from recmodels.tuning.trial import Watcher

end = Watcher.on_epoch_end

def pause(self, trainer, log):
    end(self, trainer, log)
    if log.epoch == 3:
        Path(f"reached-{os.getpid()}").touch()
        while not Path("go").exists():
            time.sleep(0.01)

Watcher.on_epoch_end = pause
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_killed_worker_loses_no_trial_and_no_trial_runs_twice(tmp_path: Path) -> None:
    n_trials, n_epochs, study = 4, 8, tmp_path / "study"
    Path("space.yaml").write_text(
        "learning_rate: {low: 1e-3, high: 1e-1, log: true}\nn_layers: [1, 2]\nenqueue: [{n_layers: 1}, {n_layers: 2}]\n"
    )
    given = fixed_arguments(tmp_path, epochs=n_epochs, stopping_step=n_epochs)
    own = ["LightGCN", "--space=space.yaml", f"--trials={n_trials}", f"--study={study}", "--prune_after=null"]
    command = [sys.executable, "-c", PAUSING_WORKER, "tune", *own, *given]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    workers = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    wait_for_files("reached-*", 2, workers)
    workers[0].send_signal(signal.SIGKILL)
    workers[0].wait()
    left = [trial.number for trial in load(study).get_trials(states=(TrialState.RUNNING,))]
    assert len(left) == 2  # one of them is nobody's
    Path("go").touch()
    assert workers[1].wait(timeout=600) == 0
    trials = load(study).get_trials()
    assert [(trial.number, trial.state) for trial in trials] == [(n, TrialState.COMPLETE) for n in range(n_trials)]
    assert [trial.params["n_layers"] for trial in trials[:2]] == [1, 2]
    assert sorted(path.name for path in (study / "trials").iterdir()) == [f"trial-{n:04d}" for n in range(n_trials)]
    resumed = []
    for trial in trials:
        folder = study / "trials" / f"trial-{trial.number:04d}"
        rows = pd.read_csv(folder / "curves.csv", float_precision="round_trip")
        assert list(rows["epoch"]) == list(range(n_epochs))
        assert trial.intermediate_values == dict(zip(rows["epoch"], rows["valid/ndcg@10"], strict=True))
        assert trial.value == rows["valid/ndcg@10"].max()
        resumed += [trial.number] if "resuming after" in (folder / "log.txt").read_text() else []
    assert len(resumed) == 1
    assert set(resumed) < set(left)
    assert json.loads((study / "study.json").read_text())["model"] == "LightGCN"
