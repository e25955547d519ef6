"""Fitting of models that have no epochs."""

import logging
from typing import Any

from recmodels.training.callbacks import Callback
from recmodels.training.early_stop import EarlyStop
from recmodels.training.plain_trainer import PlainTrainer

logger = logging.getLogger(__name__)


class ClosedFormTrainer(PlainTrainer):
    """Fits a model at once: its only epoch is one call of the model's `fit()`, followed by one validation."""

    def __init__(self, config: Any, model: Any, early_stop: EarlyStop, callbacks: list[Callback]) -> None:  # noqa: ANN401
        super().__init__(config, model, early_stop, callbacks)
        self.epochs = 1

    def fit(
        self,
        train_data: Any,  # noqa: ANN401
        valid_data: Any,  # noqa: ANN401
        show_progress: bool = False,
    ) -> tuple[float | None, dict[str, float] | None]:
        """Fits and validates once; `show_progress` shows nothing, since no library used here tells how far it is."""
        logger.info("fitting, without epochs")
        best = super().fit(train_data, valid_data, show_progress)
        logger.info(
            "fitted in %.1f s, valid %s %.4f", self.seconds[0], self.valid_metric, self.early_stop.history[0][1]
        )
        return best

    def _train_epoch(
        self,
        train_data: Any,  # noqa: ANN401
        epoch_idx: int,
        loss_func: None = None,
        show_progress: bool = False,
    ) -> None:
        self.model.fit()
