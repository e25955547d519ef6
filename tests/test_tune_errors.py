"""What ends a trial, what ends a study, and that no run is recorded as a trial that it is not."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from recmodels import cli
from recmodels.config import Resolved
from recmodels.errors import CheckpointError, DataError, ParamError, UserError
from recmodels.experiments import run
from recmodels.experiments.folder import CONFIG, LAST
from recmodels.training.checkpoint import previous
from recmodels.tuning import trial as trials_of
from recmodels.tuning import tune as tuning
from recmodels.tuning.deaths import BEGUN, MOST_DEATHS, DeathsError, deaths_counted
from recmodels.tuning.space import Choices, Range, Space
from recmodels.tuning.study import FOUND, Study
from recmodels.tuning.trial import Watcher, run_trial
from tests.runs import files_of
from tests.studies import fixed_arguments, work

IDENTITY: dict[str, Any] = {CONFIG: {"seed": 1}}


class KilledError(BaseException):
    """What ends a process."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, undrawn: None) -> None:
    """Reading all sources for every study takes as long as a trial."""
    monkeypatch.setattr(tuning, "code_fingerprint", lambda: "code")


def raising(error: BaseException, when: int | None = None) -> Any:  # noqa: ANN401
    """A `run_trial` that raises in every trial, or in one."""

    def run_or_raise(resolved: Resolved, folder: Path, watcher: Watcher) -> None:
        if when in (None, watcher.trial.number):
            raise error
        run_trial(resolved, folder, watcher)

    return run_or_raise


def reason(trial: FrozenTrial) -> str:
    return str(trial.user_attrs[FOUND]["reason"])


def killed_after(root: Path, epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study whose process was killed in its first trial, after an epoch."""

    def kill(self: Watcher, trainer: object, log: Any) -> None:  # noqa: ANN401
        if log.epoch == epoch:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Watcher, "on_epoch_end", kill)
        with pytest.raises(KilledError):
            work(root, 2)


def test_values_that_are_refused_only_in_a_trial_fail_it_and_the_study_goes_on(tmp_path: Path) -> None:
    space = Space({"rec_loss": Choices(("softmax", "sampled_softmax"))}, {}, ({"rec_loss": "sampled_softmax"},))
    trials = work(tmp_path, 2, space, train_batch_unit="users")
    assert trials[0].state == TrialState.FAIL
    assert reason(trials[0]).startswith(
        "ParamError: configuration: train_batch_unit: got 'users' beside rec_loss 'samp"
    )
    searched = {"learning_rate": Choices((0.01, -1.0))}  # not even a configuration
    (tmp_path / "other").mkdir()
    trials = work(tmp_path / "other", 2, Space(searched, {}, ({"learning_rate": -1.0}, {"learning_rate": 0.01})))
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert reason(trials[0]) == "ParamError: configuration: learning_rate: must be > 0, got -1.0 (from overrides)"


def test_a_trial_whose_last_states_are_damaged_has_failed_and_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_after(tmp_path, 1, monkeypatch)
    last = tmp_path / "study" / "trials" / "trial-0000" / LAST
    for path in (last, previous(last)):
        path.write_bytes(path.read_bytes()[:100])
    trials = work(tmp_path, 2)
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert reason(trials[0]).startswith(f"CheckpointError: no usable checkpoint: {last}: truncated")


@pytest.mark.parametrize(
    "error", [DataError("the data are gone"), UserError("is being written by process 1"), OSError(28, "No space left")]
)
def test_what_no_trial_can_help_ends_the_study_and_leaves_the_trial_to_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for _ in range(MOST_DEATHS + 1):
        with monkeypatch.context() as patch:
            patch.setattr(tuning, "run_trial", raising(error))
            with pytest.raises(type(error), match=str(error.args[-1])):
                work(tmp_path, 1)
    assert [trial.state for trial in work(tmp_path, 1)] == [TrialState.COMPLETE]


@pytest.mark.parametrize("enqueued", [(), ({"rec_loss": "slk", "slk_k": 500},)])
def test_what_the_data_are_too_small_for_is_refused_before_the_first_trial(
    tmp_path: Path, enqueued: tuple[dict[str, Any], ...]
) -> None:
    searched = {"rec_loss": Choices(("bpr", "slk")), "slk_k": Range(5, 40 if enqueued else 1000)}
    got = 500 if enqueued else 1000
    with pytest.raises(ParamError, match=f"^space: slk_k: got {got}; expected at most 80"):
        work(tmp_path, 1, Space(searched, {}, enqueued))
    assert not (tmp_path / "study").exists()


def test_a_refusal_that_the_first_point_of_the_space_has_too_ends_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data" / "planted" / "planted.inter"

    def lose(resolved: Resolved, folder: Path, watcher: Watcher) -> None:
        data.write_text("".join(data.read_text().splitlines(keepends=True)[:-1]))
        raise CheckpointError("belongs to another run")

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "run_trial", lose)
        with pytest.raises(UserError, match=r"(?s)is the study of something else; .*  - split_sha256: got"):
            work(tmp_path, 2)
    presets = [Path("more.yaml")]
    presets[0].write_text("n_layers: 1\n")

    def remove(resolved: Resolved, folder: Path, watcher: Watcher) -> None:
        presets[0].unlink()
        raise ParamError("any")

    monkeypatch.setattr(tuning, "run_trial", remove)
    with pytest.raises(ParamError, match=r"more\.yaml: cannot be read"):
        work(tmp_path / "data", 2, Space({"learning_rate": Choices((0.01, 0.02))}, {}), config_files=["more.yaml"])


def test_a_trial_that_ends_its_processes_has_failed_and_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "run_trial", raising(KilledError(), when=0))
    for _ in range(MOST_DEATHS):
        with pytest.raises(KilledError):
            work(tmp_path, 2)
    trials = work(tmp_path, 2)
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert reason(trials[0]) == (
        f"{DeathsError.__name__}: 3 processes ended without an error after 0 epochs, say for lack of memory"
    )


def test_interruptions_and_deaths_after_more_epochs_are_not_counted(tmp_path: Path) -> None:
    claim = Study(tmp_path / "study", IDENTITY, True, None).claim(1)
    assert claim is not None
    for n_epochs in range(5):
        (tmp_path / "curves.csv").write_text("epoch\n" + "1\n" * n_epochs)
        with pytest.raises(KeyboardInterrupt), deaths_counted(claim.trial, tmp_path):
            raise KeyboardInterrupt
        with pytest.raises(KilledError), deaths_counted(claim.trial, tmp_path):
            raise KilledError
    assert claim.trial.user_attrs[BEGUN] == [0, 1, 2, 3, 4]


def test_a_run_of_other_values_is_not_recorded_as_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_after(tmp_path, 1, monkeypatch)
    folder = tmp_path / "study" / "trials" / "trial-0000"
    values = run.resolve_run(str(folder)).values
    text = (folder / CONFIG).read_text()
    (folder / CONFIG).write_text(text.replace(f"learning_rate: {values['learning_rate']}", "learning_rate: 0.5"))
    before = files_of(folder)
    with pytest.raises(UserError) as caught:
        work(tmp_path, 1)
    head, difference = str(caught.value).split("\n  - ")
    assert head.startswith(
        f"{folder / CONFIG} is not that of trial 0: it was edited, or is of another study; put it ba"
    )
    assert difference == f"{CONFIG}.learning_rate: got 0.5, expected {values['learning_rate']}"
    assert files_of(folder) == before
    shutil.move(folder, tmp_path / "aside")
    assert [trial.state for trial in work(tmp_path, 1)] == [TrialState.COMPLETE]


def test_a_study_without_a_complete_trial_ends_with_code_1_and_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tuning, "run_trial", raising(ValueError("any")))
    Path("space.yaml").write_text("n_layers: [1, 2]\n")
    folder = tmp_path / "study"
    given = ["tune", "LightGCN", "--space=space.yaml", f"--study={folder}", *fixed_arguments(tmp_path)]
    assert cli.main([*given, "--trials=2"]) == 1
    told = capsys.readouterr()
    assert "2 trials: 2 fail" in told.out
    assert told.err == f"training stopped: no trial is complete; {folder / 'trials.csv'} has the reasons\n"
    monkeypatch.setattr(tuning, "run_trial", trials_of.run_trial)
    assert cli.main([*given, "--trials=3"]) == 0
