"""One trial of a search: a run on train and valid that can be stopped early, and what its folder tells afterwards."""

import csv
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from recmodels.config import Resolved
from recmodels.errors import CheckpointError, TrainingError, UserError
from recmodels.experiments import run
from recmodels.experiments.folder import BEST, CONFIG
from recmodels.experiments.session import identity_of, resolve_run
from recmodels.training import checkpoint
from recmodels.training.callbacks import Callback, EpochLog
from recmodels.training.checkpoint import differences
from recmodels.tuning.identity import listed

if TYPE_CHECKING:
    import optuna


class PrunedError(TrainingError):
    """The search gave a trial up because others were better at the same epoch."""


class Watcher(Callback):
    """Tells the search every valid score; ends a trial that falls behind.

    Args:
        trial: the trial, as Optuna knows it.
        metric: the valid metric that is searched for, lower case.
        show: told in a few words where the trial is.
    """

    def __init__(self, trial: "optuna.Trial", metric: str, show: Callable[[str], object]) -> None:
        self.trial, self.metric, self.show = trial, metric, show
        frozen = trial.study.get_trials(deepcopy=False)[trial.number]
        self._reported = set(frozen.intermediate_values)

    def on_epoch_end(self, trainer: Any, log: EpochLog) -> None:  # noqa: ANN401  (our trainer, or that of baselines)
        """Reports the scores that are not reported yet: this epoch's, and one that a kill came before.

        Raises:
            PrunedError: the pruner of the study says so.
        """
        for epoch, score in trainer.early_stop.history:
            if epoch not in self._reported:
                self.trial.report(score, epoch)
                self._reported.add(epoch)
        best = trainer.early_stop.best_score
        text = f"{self.metric} {'(none)' if best is None else f'{best:.4f}'}"
        self.show(f"trial {self.trial.number}, epoch {log.epoch}, best {text}")
        is_over = trainer.next_epoch >= trainer.epochs or getattr(trainer, "finished", False)
        if f"valid/{self.metric}" in log.values and not is_over and self.trial.should_prune():
            raise PrunedError(f"pruned after epoch {log.epoch}: its best {text} is behind the median of the others")


class Outcome(NamedTuple):
    """What a trial's folder tells.

    Attributes:
        score: best valid metric, unrounded; None before the first one that is a number.
        best_epoch: its 0-based epoch, or None.
        epochs: number of epochs.
        seconds: of training and validation, resumed parts included; 0 where a model has no epochs.
    """

    score: float | None
    best_epoch: int | None
    epochs: int
    seconds: float


def run_trial(resolved: Resolved, folder: Path, watcher: Watcher) -> None:
    """Trains in `folder`, from where an earlier process was killed if there was one; never looks at the test part.

    Args:
        resolved: the configuration of the trial.
        folder: its run folder; nobody else writes into it.
        watcher: told of every epoch.

    Raises:
        UserError: data, values or folder do not allow the run, or the folder is that of other values.
        TrainingError: a guard gave up, the trial was pruned (`PrunedError`), or no epoch had a finite score.
    """
    _require_values(resolved, folder, watcher.trial.number)
    train_or_resume(resolved, folder, [watcher])
    if outcome(folder, watcher.metric).score is None:
        raise TrainingError(f"no epoch has a finite {watcher.metric}; see {folder / 'log.txt'}")


def _require_values(resolved: Resolved, folder: Path, number: int) -> None:
    """Refuses to continue a run of other values, which would be recorded as the trial's."""
    if not (folder / CONFIG).is_file():
        return
    found = differences(identity_of(resolve_run(str(folder)), ""), identity_of(resolved, ""))
    if found:
        raise UserError(
            f"{folder / CONFIG} is not that of trial {number}: it was edited, or is of another study; put it back, or "
            f"move the folder away, and the same command trains the trial anew. What differs:{listed(found)}"
        )


def train_or_resume(resolved: Resolved, folder: Path, watchers: Sequence[Callback] = ()) -> None:
    """A run in `folder`, from where an earlier process was killed if there was one.

    Args:
        resolved: the configuration of the run.
        folder: its run folder; nobody else writes into it.
        watchers: as in `run.train`.

    Raises:
        UserError: data, values or folder do not allow the run.
        TrainingError: a guard gave up, or no epoch had a finite score.
    """
    if (folder / CONFIG).is_file():
        run.resume(str(folder), watchers)
    else:
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed before it wrote the configuration
        run.train(resolved, str(folder), watchers)


@contextmanager
def kept_off_the_terminal() -> Iterator[None]:
    """Runs in the block show neither log nor bars, since every one keeps its own log."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        yield


def one_line(error: Exception) -> str:
    """Class and message of an error."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def outcome(folder: Path, metric: str) -> Outcome:
    """What a trial has reached, finished or not.

    Args:
        folder: its run folder; may be absent.
        metric: the valid metric that is searched for, lower case.
    """
    rows = _rows(folder / "curves.csv")
    seconds = sum(float(row[name] or 0) for row in rows for name in ("seconds", "valid_seconds") if name in row)
    try:
        best = checkpoint.load(folder / BEST, None)
    except CheckpointError:
        return Outcome(None, None, len(rows), seconds)
    return Outcome(float(best["valid"][metric]), int(best["epoch"]), len(rows), seconds)


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
