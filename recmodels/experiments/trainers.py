"""The trainer of a session, with what watches and stores its run."""

import shlex
from pathlib import Path

from recmodels.allocator import keep_freed_memory
from recmodels.experiments.folder import BEST, CONFIG, LAST
from recmodels.experiments.session import Session
from recmodels.experiments.unread import is_fitted
from recmodels.models import GraphRecommender
from recmodels.training.audit import GradientAudit
from recmodels.training.averaging import WeightAverage
from recmodels.training.baselines import baseline_trainer
from recmodels.training.bilevel import Bilevel
from recmodels.training.callbacks import Callback
from recmodels.training.closed_form import ClosedFormTrainer
from recmodels.training.curves import Curves
from recmodels.training.early_stop import EarlyStop
from recmodels.training.guards import NonFiniteGuard
from recmodels.training.plain_trainer import PlainTrainer, SaveBest
from recmodels.training.progress import Progress
from recmodels.training.saving import Saving
from recmodels.training.stall import StallGuard
from recmodels.training.trainer import Trainer

# Held-out interactions of a picker's step where batches of the weights count users: the batch of the ml-1m protocol.
_HELD_OUT_BATCH = 4096


def trainer_of(session: Session, folder: Path) -> Trainer | PlainTrainer:
    """The trainer of any session: ours, RecBole's for its own models, or a fit at once."""
    if isinstance(session.model, GraphRecommender):
        return make_trainer(session, folder)
    session.config["checkpoint_dir"] = str(folder)
    at_once = is_fitted(session.resolved.model)
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
    if session.model.device.type == "cpu":
        keep_freed_memory(4 * session.model.graph.n_nodes * session.model.params.embedding_size)
    callbacks = [
        *([WeightAverage(run.weight_average)] if run.weight_average else []),
        *_bilevel(session),
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


def _bilevel(session: Session) -> list[Callback]:
    """The outer level of a search for widths, if there is one."""
    if session.held_out is None:
        return []
    run = session.resolved.run
    size = _HELD_OUT_BATCH if run.train_batch_unit == "users" else run.train_batch_size
    return [Bilevel(session.model.params, session.model, session.held_out, size)]


def _early_stop(session: Session) -> EarlyStop:
    run, is_bigger_better = session.resolved.run, session.config["valid_metric_bigger"]
    return EarlyStop(run.early_stop_mode, run.stopping_step, run.early_stop_min_epoch, is_bigger_better)


def _curves(session: Session, folder: Path) -> Curves:
    run = session.resolved.run
    return Curves(folder, [f"{metric.lower()}@{run.topk[0]}" for metric in run.metrics[:3]])


def _progress(session: Session) -> Progress:
    run = session.resolved.run
    return Progress(run.valid_metric.lower(), run.loss_decimal_place, run.metric_decimal_place)
