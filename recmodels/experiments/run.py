"""One run from the first epoch to the test result, and what can be done with its folder later."""

import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recmodels.config import Resolved
from recmodels.data.evaluation import ItemHits
from recmodels.errors import CheckpointError, TrainingError, UserError
from recmodels.experiments.folder import (
    BEST,
    CONFIG,
    FREQUENCY,
    LAST,
    MADE_FROM,
    RESULT,
    USERS,
    existing_run_folder,
    logging_to,
    made_from,
    new_run_folder,
    write_arrays,
)
from recmodels.experiments.lock import locked
from recmodels.experiments.report import (
    describe_overflow,
    describe_session,
    describe_test,
    result,
    test_frequency,
    test_users,
)
from recmodels.experiments.session import Session, check_steps, prepare, remarks, resolve_run
from recmodels.experiments.trainers import trainer_of
from recmodels.files import write_text
from recmodels.training import checkpoint
from recmodels.training.callbacks import Callback

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
        TrainingError: training cannot go on, or no epoch has finite scores.
        NonFiniteError: the guard against NaN and infinity gave up.
    """
    session = prepare(resolved)
    check_steps(session)
    folder = new_run_folder(resolved.model, resolved.dataset, resolved.run.runs_dir, run_dir)
    with locked(folder):
        write_text(folder / CONFIG, resolved.dump())
        if resolved.made_from:
            write_text(folder / MADE_FROM, json.dumps(dict(resolved.made_from)) + "\n")
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


def restore(run_dir: str) -> Session:
    """Data, split and model of a run, with the weights of its best epoch; writes nothing.

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
    return session


def restore_last(run_dir: str) -> Session:
    """Data, split and model of a run, with the weights of its last finished epoch; writes nothing.

    Raises:
        UserError: it is not a run folder, or has no finished epoch that can be used.
    """
    folder = existing_run_folder(run_dir)
    session = prepare(resolve_run(run_dir))
    state = _load(session, folder / LAST)
    _give(lambda last: session.model.load_state_dict(last["weights"]), state, folder / LAST)
    return session


def evaluate(run_dir: str) -> dict[str, float]:
    """Test metrics of a run's best checkpoint, computed anew; writes nothing.

    Raises:
        UserError: as `restore`.
    """
    session = restore(run_dir)
    return trainer_of(session, Path(run_dir)).evaluate(session.splits.test)


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


def _run(
    session: Session, folder: Path, state: dict[str, Any] | None = None, watchers: Sequence[Callback] = ()
) -> Path:
    """Trains, tests the best epoch, and writes the result last; a watched run only trains."""
    run, splits = session.resolved.run, session.splits
    with logging_to(folder, run.state), _end_in_log():
        trainer = trainer_of(session, folder)
        logger.info(describe_session(session, folder))
        for remark in remarks(session.resolved):
            logger.warning(remark)
        if state is not None:
            _give(trainer.load_state_dict, state, folder / LAST)
            logger.info("resuming after %d finished epochs", trainer.next_epoch)
        trainer.callbacks += watchers
        trainer.fit(splits.train, splits.valid, show_progress=run.show_progress)
        if watchers:
            return folder
        if trainer.early_stop.best_epoch is None:
            raise TrainingError(describe_overflow(session, "valid"))
        best = _load_best(session, folder, trainer.early_stop.best_epoch)
        hits = ItemHits(splits.dataset.item_num, run.topk)
        with hits.collected_from(trainer.eval_collector):
            test = trainer.evaluate(splits.test)
        if math.isnan(test[trainer.valid_metric]):
            raise TrainingError(describe_overflow(session, "test"))
        write_arrays(folder / USERS, test_users(session, trainer.recorder.per_user))
        write_arrays(folder / FREQUENCY, test_frequency(session, hits))
        found = result(session, trainer, best, test, folder) | made_from(folder)
        write_text(folder / RESULT, json.dumps(found, indent=2) + "\n")
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
        return checkpoint.load_newest(path, session.identity, logger.warning, session.unread)
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
