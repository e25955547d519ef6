"""What all trainers share: validation between epochs, early stopping, and hooks."""

import math
import time
from typing import Any

from recbole.trainer import Trainer as RecboleTrainer

from recmodels.data.evaluation import MetricRecorder
from recmodels.training.callbacks import Callback, EpochLog
from recmodels.training.early_stop import EarlyStop


class ValidatingTrainer(RecboleTrainer):
    """RecBole's trainer with unrounded metrics, our early stopping and callbacks; how an epoch trains is a subclass's.

    Args:
        config: RecBole's config, built from our resolved layers.
        model: what is trained.
        early_stop: decides when valid no longer improves.
        callbacks: called in this order at every hook.

    Attributes:
        next_epoch: first epoch that is not finished yet.
        recorder: per-user values of the last evaluation.
        ended_by: what else than valid ended training before its last epoch, in words; empty for nothing.
    """

    def __init__(self, config: Any, model: Any, early_stop: EarlyStop, callbacks: list[Callback]) -> None:  # noqa: ANN401
        super().__init__(config, model)
        self.seed: int = config["seed"]
        self.early_stop, self.callbacks = early_stop, callbacks
        self.recorder = MetricRecorder(self.evaluator)
        self.next_epoch, self.ended_by = 0, ""
        self._is_finite = True

    def evaluate(
        self,
        eval_data: Any,  # noqa: ANN401  (RecBole's loader)
        show_progress: bool = False,
    ) -> dict[str, float]:
        """Unrounded metrics of the current model; per-user values are then in `recorder.per_user`.

        All are NaN when a score is NaN or infinite, since ranking what is not finite gives ordinary-looking numbers.
        """
        self._is_finite = True
        result = super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)
        return {name: float(value) if self._is_finite else math.nan for name, value in result.items()}

    def _full_sort_batch_eval(self, batched_data: Any) -> Any:  # noqa: ANN401  (RecBole's tuples)
        """Also looks at the scores of a batch of users."""
        found = super()._full_sort_batch_eval(batched_data)
        is_finite, masked = found[1].isfinite(), batched_data[1]
        is_finite[:, 0] = True  # RecBole has set padding and the items of earlier parts to minus infinity
        if masked is not None:
            is_finite[masked] = True
        self._is_finite &= bool(is_finite.all())
        return found

    def _validates(self, epoch: int) -> bool:
        """Every `eval_step` epochs and at the last one."""
        return (epoch + 1) % self.eval_step == 0 or epoch + 1 == self.epochs

    def _validate(self, valid_data: Any, log: EpochLog) -> bool:  # noqa: ANN401
        """Adds the valid metrics to the log; returns whether to stop."""
        started = time.perf_counter()
        result = self.evaluate(valid_data)
        log.values |= {f"valid/{name}": value for name, value in result.items()}
        log.values["valid_seconds"] = time.perf_counter() - started
        log.is_best, stop = self.early_stop.update(log.epoch, result[self.valid_metric])
        if log.is_best:
            self.best_valid_result = result
        return stop

    def _notify(self, hook: str, *args: Any) -> None:  # noqa: ANN401
        for callback in self.callbacks:
            getattr(callback, hook)(*args)
