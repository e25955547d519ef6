"""Names a model that has not begun to learn."""

import logging
import math
from typing import TYPE_CHECKING, Any

from recmodels.training.callbacks import Callback, EpochLog

if TYPE_CHECKING:
    from recmodels.training.trainer import Trainer

logger = logging.getLogger(__name__)

TERM = "train/bpr"

# BPR of a model that cannot tell a positive from a negative is ln 2; within this part of it nothing is learned yet.
CHANCE, MARGIN = math.log(2), 5e-3


class StallGuard(Callback):
    """Warns while the ranking term stays at chance, and again when training ends there.

    Contrastive terms are invariant to the length of the embeddings and have large gradients on short ones, so with many
    of them the ranking term starts late; early stopping may then end the run before it has begun.

    Args:
        patience: epochs at chance before the first warning, >= 1.
    """

    def __init__(self, patience: int = 5) -> None:
        self.patience, self.epochs_at_chance = patience, 0

    def on_epoch_end(self, trainer: "Trainer", log: EpochLog) -> None:
        """Counts epochs at chance."""
        if TERM not in log.values:
            return
        is_at_chance = abs(log.values[TERM] - CHANCE) < MARGIN * CHANCE
        self.epochs_at_chance = self.epochs_at_chance + 1 if is_at_chance else 0
        if self.epochs_at_chance == self.patience:
            logger.warning("bpr is still at ln 2 after %d epochs: %s", self.patience, _remedy(log))

    def on_fit_end(self, trainer: "Trainer") -> None:
        """Says so when the run ends as it began."""
        if self.epochs_at_chance:
            message = "training ended with bpr at ln 2: the result is that of an untrained model. Try a higher "
            logger.warning(message + "learning_rate, a smaller train_batch_size, or early_stop_min_epoch=50")

    def state_dict(self) -> dict[str, Any]:
        """The count so far."""
        return {"epochs_at_chance": self.epochs_at_chance}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.epochs_at_chance = state["epochs_at_chance"]


def _remedy(log: EpochLog) -> str:
    shares = {name[6:]: share for name, share in log.values.items() if name.startswith("share/")}
    advice = "nothing is learned yet; raise learning_rate or lower train_batch_size"
    if not shares or max(shares, key=lambda name: shares[name]) == "bpr":
        return advice
    name = max(shares, key=lambda other: shares[other])
    return f"term {name!r} has {shares[name]:.0%} of the gradient; {advice}, lower that term's weight or start it later"
