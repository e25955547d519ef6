"""One run from the first epoch to the test result, and what can be done with its folder later."""

import json
import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recmodels.allocator import keep_freed_memory
from recmodels.config import Resolved
from recmodels.errors import CheckpointError, TrainingError, UserError
from recmodels.experiments.folder import (
    BEST,
    CONFIG,
    LAST,
    RESULT,
    USERS,
    existing_run_folder,
    logging_to,
    new_run_folder,
    write_arrays,
)
from recmodels.experiments.lock import locked
from recmodels.experiments.report import describe_session, describe_test, is_fitted_at_once, result, test_users
from recmodels.experiments.session import Session, prepare, resolve_run
from recmodels.files import write_text
from recmodels.models import GraphRecommender
from recmodels.training import checkpoint
from recmodels.training.audit import GradientAudit
from recmodels.training.averaging import WeightAverage
from recmodels.training.baselines import baseline_trainer
from recmodels.training.callbacks import Callback
from recmodels.training.closed_form import ClosedFormTrainer, PlainTrainer, SaveBest
from recmodels.training.curves import Curves
from recmodels.training.early_stop import EarlyStop
from recmodels.training.guards import NonFiniteGuard
from recmodels.training.progress import Progress
from recmodels.training.saving import Saving
from recmodels.training.stall import StallGuard
from recmodels.training.trainer import Trainer

logger = logging.getLogger(__name__)


def train(resolved: Resolved, run_dir: str | None = None, watchers: Sequence[Callback] = ()) -> Path:
    """A new run.

    Args:
        resolved: the resolved layers.
        run_dir: folder of the run, absent or empty; None names one under `runs_dir`.
        watchers: called after the run's own callbacks. A watched run belongs to a search: it ends without a test and
            without `result.json`, which `resume` without watchers adds.

    Returns:
        The run folder.

    Raises:
        UserError: data, values or folder do not allow the run; nothing was trained.
        NonFiniteError: the guard against NaN and infinity gave up.
    """
    session = prepare(resolved)
    folder = new_run_folder(resolved.model, resolved.dataset, resolved.run.runs_dir, run_dir)
    with locked(folder):
        write_text(folder / CONFIG, resolved.dump())
        return _run(session, folder, watchers=watchers)


def resume(run_dir: str, watchers: Sequence[Callback] = ()) -> Path:
    """Continues an interrupted run after its last finished epoch, with the result of an undisturbed run.

    Args:
        run_dir: the run folder; a finished run is left as it is, unless its best checkpoint is lost or damaged.
        watchers: as in `train`.

    Returns:
        The run folder.

    Raises:
        UserError: it is not a run folder, neither `last.pt` nor the one before it can be used, or another process is
            still writing it.
    """
    folder = existing_run_folder(run_dir)
    if stored_result(folder) is not None and _is_readable(folder / BEST):
        logger.warning("%s is finished; nothing to resume, nothing changed", folder)
        return folder
    with locked(folder):
        session = prepare(resolve_run(run_dir))
        if not any(path.exists() for path in (folder / LAST, checkpoint.previous(folder / LAST))):
            return _run(session, folder, watchers=watchers)  # killed before its first checkpoint
        return _run(session, folder, _load(session, folder / LAST), watchers)


def stored_result(folder: Path) -> dict[str, Any] | None:
    """The content of `result.json`, which is written last; None while the run is unfinished or the file damaged."""
    try:
        found = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def evaluate(run_dir: str) -> dict[str, float]:
    """Test metrics of a run's best checkpoint, computed anew; writes nothing.

    Raises:
        UserError: it is not a run folder, or its checkpoint cannot be used, belongs to other data, or is of another
            epoch than its result.
    """
    folder = existing_run_folder(run_dir)
    session, finished = prepare(resolve_run(run_dir)), stored_result(folder)
    if not (folder / BEST).is_file():
        if finished is None:
            raise UserError(f"{folder} has no {BEST} yet: no epoch is validated; --resume={folder} continues it")
        raise UserError(f"{folder} has lost its {BEST}; --resume={folder} writes it anew")
    _load_best(session, folder, (finished or {}).get("best_epoch"))
    return trainer_of(session, folder).evaluate(session.splits.test)


def evaluate_untrained(resolved: Resolved, folder: Path) -> dict[str, float]:
    """Test metrics of the model before its first step, the control of every trained result; writes nothing.

    Args:
        resolved: the resolved layers.
        folder: an existing run folder.
    """
    session = prepare(resolved)
    return trainer_of(session, folder).evaluate(session.splits.test)


def evaluate_unsaved(resolved: Resolved, folder: Path) -> dict[str, float]:
    """Test metrics of a model that is fitted at once, without a run folder of its own; writes nothing.

    Args:
        resolved: the resolved layers; the model is a filter, or a baseline without epochs.
        folder: an existing run folder.
    """
    session = prepare(resolved)
    session.model.fit()
    return trainer_of(session, folder).evaluate(session.splits.test)


def trainer_of(session: Session, folder: Path) -> Trainer | PlainTrainer:
    """The trainer of any session: ours, RecBole's for its own models, or a fit at once."""
    if isinstance(session.model, GraphRecommender):
        return make_trainer(session, folder)
    session.config["checkpoint_dir"] = str(folder)
    at_once = is_fitted_at_once(session)
    shown: list[Callback] = [] if at_once else [_curves(session, folder), _progress(session)]
    callbacks = [*shown, SaveBest(folder / BEST, session.identity)]
    make = ClosedFormTrainer if at_once else baseline_trainer
    trainer = make(session.config, session.model, _early_stop(session), callbacks)
    trainer.eval_collector.data_collect(session.splits.train)
    return trainer


def make_trainer(session: Session, folder: Path) -> Trainer:
    """The trainer of a session with its audit, curves, guard and checkpoints, in the order they need."""
    run, config = session.resolved.run, session.config
    config["checkpoint_dir"] = str(folder)
    ego = session.model.table()
    if ego.device.type == "cpu":
        keep_freed_memory(ego.nbytes)
    callbacks = [
        *([WeightAverage(run.weight_average)] if run.weight_average else []),
        GradientAudit(run.guard_none_gradient, run.guard_orphan, "warn", run.guard_dead_share),
        _curves(session, folder),
        _progress(session),
        StallGuard(),
        NonFiniteGuard(
            run.guard_nonfinite, run.guard_max_skips, run.guard_max_rollbacks, folder, replays=run.guard_replay
        ),
        Saving(folder / LAST, folder / BEST, session.identity),
    ]
    trainer = Trainer(config, session.model, folder, _early_stop(session), callbacks)
    trainer.eval_collector.data_collect(session.splits.train)  # metrics that count interactions need it
    trainer.command = f"python run_recbole.py --config_files={shlex.quote(str(folder / CONFIG))}"
    return trainer


def _early_stop(session: Session) -> EarlyStop:
    run, is_bigger_better = session.resolved.run, session.config["valid_metric_bigger"]
    return EarlyStop(run.early_stop_mode, run.stopping_step, run.early_stop_min_epoch, is_bigger_better)


def _curves(session: Session, folder: Path) -> Curves:
    run = session.resolved.run
    return Curves(folder, [f"{metric.lower()}@{run.topk[0]}" for metric in run.metrics[:3]])


def _progress(session: Session) -> Progress:
    run = session.resolved.run
    return Progress(run.valid_metric.lower(), run.loss_decimal_place, run.metric_decimal_place)


def _run(
    session: Session, folder: Path, state: dict[str, Any] | None = None, watchers: Sequence[Callback] = ()
) -> Path:
    """Trains, tests the best epoch, and writes the result last; a watched run only trains."""
    run, splits = session.resolved.run, session.splits
    with logging_to(folder, run.state), _end_in_log():
        trainer = trainer_of(session, folder)
        logger.info(describe_session(session, folder))
        if state is not None:
            _give(trainer.load_state_dict, state, folder / LAST)
            logger.info("resuming after %d finished epochs", trainer.next_epoch)
        trainer.callbacks += watchers
        trainer.fit(splits.train, splits.valid, show_progress=run.show_progress)
        if watchers:
            return folder
        if trainer.early_stop.best_epoch is None:
            raise TrainingError(
                f"no epoch has a finite valid {run.valid_metric}: scores overflow; lower learning_rate, or raise the "
                "temperatures"
            )
        best = _load_best(session, folder, trainer.early_stop.best_epoch)
        test = trainer.evaluate(splits.test)
        write_arrays(folder / USERS, test_users(session, trainer.recorder.per_user))
        write_text(folder / RESULT, json.dumps(result(session, trainer, best, test), indent=2) + "\n")
        logger.info(describe_test(session, test, best["epoch"], folder))
    return folder


@contextmanager
def _end_in_log() -> Iterator[None]:
    """Puts what ends a run into the files of the log; whoever catches it tells the terminal."""
    try:
        yield
    except BaseException as error:
        is_expected = isinstance(error, UserError | TrainingError)
        trace = None if is_expected else (type(error), error, error.__traceback__)
        text = f"stopped: {type(error).__name__}: {error}"
        record = logger.makeRecord(logger.name, logging.ERROR, __file__, 0, text, (), trace)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handle(record)
        raise


def _load(session: Session, path: Path) -> dict[str, Any]:
    """A checkpoint of this very run, or the one before it."""
    try:
        return checkpoint.load_newest(path, session.identity, logger.warning)
    except CheckpointError as error:
        if f" {CONFIG}." not in str(error):
            raise
        raise CheckpointError(f"{error}; {CONFIG} was edited, or the file is of another run") from error


def _is_readable(path: Path) -> bool:
    """Whether a checkpoint can be read, of whatever run it is."""
    try:
        checkpoint.load(path, None)
    except CheckpointError:
        return False
    return True


def _load_best(session: Session, folder: Path, best_epoch: int | None = None) -> dict[str, Any]:
    """Gives the model the weights of the best epoch; returns the whole checkpoint."""
    best = _load(session, folder / BEST)
    if best_epoch is not None and best["epoch"] != best_epoch:
        raise CheckpointError(
            f"{folder / BEST}: got epoch {best['epoch']}, expected the best epoch {best_epoch}, whose weights it lost; "
            f"remove {RESULT} and continue with --resume={folder}, which writes both anew from {LAST}"
        )
    _give(lambda state: session.model.load_state_dict(state["weights"]), best, folder / BEST)
    return best


def _give(load: Callable[[dict[str, Any]], object], state: dict[str, Any], path: Path) -> None:
    """Loads a checkpoint of the right model and data, whose sizes or entries may still be those of another run."""
    try:
        load(state)
    except (RuntimeError, KeyError, ValueError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: does not fit the {CONFIG} beside it: {reason}") from error
