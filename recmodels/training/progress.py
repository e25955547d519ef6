"""One line of log for every epoch."""

import logging
from typing import TYPE_CHECKING

from recmodels.training.callbacks import Callback, EpochLog

if TYPE_CHECKING:
    from recmodels.training.trainer import Trainer

logger = logging.getLogger(__name__)


class Progress(Callback):
    """Logs each epoch's unweighted terms, its valid metric and its seconds, the best so far marked.

    Args:
        valid_metric: the metric of model selection, as in `valid/<metric>`.
        loss_decimals: decimals of the terms, >= 0.
        metric_decimals: decimals of the metric, >= 0.
    """

    def __init__(self, valid_metric: str, loss_decimals: int, metric_decimals: int) -> None:
        self.valid_metric, self.loss_decimals, self.metric_decimals = valid_metric, loss_decimals, metric_decimals

    def on_epoch_end(self, trainer: "Trainer", log: EpochLog) -> None:
        """Logs the line."""
        terms = [
            f"{key[6:]} {value:.{self.loss_decimals}f}" for key, value in log.values.items() if key.startswith("train/")
        ]
        score = log.values.get(f"valid/{self.valid_metric}")
        parts = [f"epoch {log.epoch:>3}", " ".join(terms)]
        if score is not None:
            parts.append(f"{self.valid_metric} {score:.{self.metric_decimals}f}{' *' if log.is_best else ''}")
        logger.info("%s | %.1f s", " | ".join(parts), log.values["seconds"])

    def on_fit_end(self, trainer: "Trainer") -> None:
        """Says why training ended."""
        waited = trainer.early_stop.counter
        reason = trainer.ended_by or f"valid no longer improved for {waited} validations"
        logger.info("stopped after epoch %d: %s", trainer.next_epoch - 1, self._reason(trainer, reason))

    @staticmethod
    def _reason(trainer: "Trainer", stopped_early: str) -> str:
        return "all epochs done" if trainer.next_epoch >= trainer.epochs else stopped_early
