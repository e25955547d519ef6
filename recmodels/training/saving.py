"""Writes the best and the last state of a run."""

import copy
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recmodels.errors import CheckpointError
from recmodels.training import checkpoint
from recmodels.training.callbacks import Callback, EpochLog

if TYPE_CHECKING:
    from recmodels.training.trainer import Trainer


logger = logging.getLogger(__name__)


class Saving(Callback):
    """After every epoch `last.pt`, from which the run resumes; after every best one `checkpoint.pt` before it.

    It belongs last in the list of callbacks, so that the state it saves is complete. A run that is killed between the
    two files repeats the epoch and writes the same best file again. `last.pt` also holds the best weights, from which a
    resumed run writes a lost or foreign `checkpoint.pt` anew.

    Args:
        last: path of the state to resume from.
        best: path of the best model.
        identity: model, data set, fingerprint of the split and configuration, stored in both.
    """

    def __init__(self, last: Path, best: Path, identity: dict[str, Any]) -> None:
        self.last, self.best, self.identity = last, best, identity
        self._best_state: dict[str, Any] | None = None

    def on_fit_start(self, trainer: "Trainer") -> None:
        """Mends `checkpoint.pt`; a state before the first epoch, so that a run killed in it can be resumed."""
        if self._best_state is not None and self._stored_epoch() != self._best_state["epoch"]:
            logger.warning("%s written anew from %s: epoch %d", self.best, self.last, self._best_state["epoch"])
            checkpoint.save(self.best, self.identity | self._best_state)
        if trainer.next_epoch == 0:
            self._save_last(trainer)

    def on_epoch_end(self, trainer: "Trainer", log: EpochLog) -> None:
        """Saves the best, then the last state."""
        if log.is_best:
            weights = copy.deepcopy(trainer.model.state_dict())
            self._best_state = {"weights": weights, "epoch": log.epoch, "valid": trainer.best_valid_result}
            checkpoint.save(self.best, self.identity | self._best_state)
        self._save_last(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The best weights so far, with their epoch and valid metrics."""
        return {"best": self._best_state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self._best_state = state["best"]

    def _stored_epoch(self) -> int | None:
        """The epoch of `checkpoint.pt`; None when the file cannot be used."""
        try:
            return int(checkpoint.load(self.best, self.identity)["epoch"])
        except CheckpointError:
            return None

    def _save_last(self, trainer: "Trainer") -> None:
        checkpoint.save(self.last, self.identity | trainer.state_dict())
