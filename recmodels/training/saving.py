"""Writes the best and the last state of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recmodels.training import checkpoint
from recmodels.training.callbacks import Callback, EpochLog

if TYPE_CHECKING:
    from recmodels.training.trainer import Trainer


class Saving(Callback):
    """After every epoch `last.pt`, from which the run resumes; after every best one `checkpoint.pt` before it.

    It belongs last in the list of callbacks, so that the state it saves is complete. A run that is killed between the
    two files repeats the epoch and writes the same best file again.

    Args:
        last: path of the state to resume from.
        best: path of the best model.
        identity: model, data set and fingerprint of the split, stored in both.
    """

    def __init__(self, last: Path, best: Path, identity: dict[str, Any]) -> None:
        self.last, self.best, self.identity = last, best, identity

    def on_fit_start(self, trainer: "Trainer") -> None:
        """A state before the first epoch, so that a run killed in it can be resumed."""
        if trainer.next_epoch == 0:
            self._save_last(trainer)

    def on_epoch_end(self, trainer: "Trainer", log: EpochLog) -> None:
        """Saves the best, then the last state."""
        if log.is_best:
            state = {"weights": trainer.model.state_dict(), "epoch": log.epoch, "valid": trainer.best_valid_result}
            checkpoint.save(self.best, self.identity | state)
        self._save_last(trainer)

    def _save_last(self, trainer: "Trainer") -> None:
        checkpoint.save(self.last, self.identity | trainer.state_dict())
