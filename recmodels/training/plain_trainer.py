"""Training of models that our own loop does not know, with RecBole's step between our seeds and checkpoints."""

import math
import time
from pathlib import Path
from typing import Any

import torch

from recmodels.data.split import reseed_loader
from recmodels.errors import NonFiniteError
from recmodels.streams import global_streams
from recmodels.training import checkpoint
from recmodels.training.callbacks import Callback, EpochLog
from recmodels.training.early_stop import EarlyStop
from recmodels.training.validation import ValidatingTrainer


class PlainTrainer(ValidatingTrainer):
    """RecBole's epochs and evaluation between our seeds, early stopping and checkpoints; nothing is resumed.

    A subclass of RecBole's trainers may come after it in the bases of a class, whose `_train_epoch` is then used.

    Args:
        config: RecBole's config, built from our resolved layers.
        model: a RecBole model, or a filter of ours.
        early_stop: decides when valid no longer improves.
        callbacks: those without a use for batches: hooks of the fit and of the end of an epoch.

    Attributes:
        seconds: of every finished epoch, without its validation.
    """

    def __init__(self, config: Any, model: Any, early_stop: EarlyStop, callbacks: list[Callback]) -> None:  # noqa: ANN401
        super().__init__(config, model, early_stop, callbacks)
        self.seconds: list[float] = []

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer | None:  # noqa: ANN401
        return super()._build_optimizer(**kwargs) if any(True for _ in self.model.parameters()) else None

    def fit(
        self,
        train_data: Any,  # noqa: ANN401  (RecBole's loaders)
        valid_data: Any,  # noqa: ANN401
        show_progress: bool = False,
    ) -> tuple[float | None, dict[str, float] | None]:
        """Trains from the first epoch to the last, or until valid stops improving.

        Args:
            train_data: RecBole's training loader.
            valid_data: RecBole's full-ranking loader.
            show_progress: whether to draw a progress bar per epoch.

        Returns:
            Best valid score and the valid metrics of that epoch.

        Raises:
            NonFiniteError: a loss became NaN or infinite.
        """
        self.eval_collector.data_collect(train_data)
        self._notify("on_fit_start", self)
        is_stopped = False
        while not is_stopped and self.next_epoch < self.epochs:
            log = self._run_epoch(train_data, show_progress)
            is_stopped = self._validates(log.epoch) and self._validate(valid_data, log)
            self.next_epoch += 1
            self._notify("on_epoch_end", self, log)
        self._notify("on_fit_end", self)
        return self.early_stop.best_score, self.best_valid_result

    def evaluate(
        self,
        eval_data: Any,  # noqa: ANN401
        show_progress: bool = False,
    ) -> dict[str, float]:
        """As all trainers; per-user values are then in `recorder.per_user`.

        Models that break ties or sample while they score (ADMMSLIM) draw from one stream, the same every time.
        """
        with global_streams(self.seed, "evaluation"):
            return super().evaluate(eval_data, show_progress)

    def _run_epoch(self, train_data: Any, show_progress: bool) -> EpochLog:  # noqa: ANN401
        """One pass over the loader, or one fit."""
        epoch, started = self.next_epoch, time.perf_counter()
        reseed_loader(train_data, self.seed, epoch)
        with global_streams(self.seed, "negatives", epoch):
            total = self._train_epoch(train_data, epoch, show_progress=show_progress)
        self.seconds.append(time.perf_counter() - started)
        terms = {} if total is None else {"train/loss": _sum(total) / len(train_data)}
        return EpochLog(epoch, {**terms, "seconds": self.seconds[-1]})

    def _check_nan(self, loss: torch.Tensor) -> None:
        if not math.isfinite(loss.detach()):
            raise NonFiniteError(
                f"epoch {self.next_epoch}: {type(self.model).__name__}: the loss is {float(loss.detach())}; lower the "
                "learning rate"
            )


class SaveBest(Callback):
    """Writes `checkpoint.pt` after every best epoch; an interrupted fit begins again.

    Args:
        path: of the file.
        identity: model, data set, fingerprint of the split and configuration, stored with the weights.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path, self.identity = path, identity

    def on_epoch_end(self, trainer: Any, log: EpochLog) -> None:  # noqa: ANN401  (a PlainTrainer)
        """Saves the weights, if they are the best so far."""
        if log.is_best:
            best = {"weights": trainer.model.state_dict(), "epoch": log.epoch, "valid": trainer.best_valid_result}
            checkpoint.save(self.path, self.identity | best)


def _sum(losses: float | tuple[float, ...]) -> float:
    """The sum over batches that RecBole's epochs return, of one loss or of several."""
    return math.fsum(losses) if isinstance(losses, tuple) else losses
