"""Early stopping on a validation score."""

import logging
import math
from dataclasses import dataclass, field
from typing import Any

from recmodels.errors import ParamError

logger = logging.getLogger(__name__)

MODES = ("recbole", "strict")


@dataclass
class EarlyStop:
    """Counts evaluations without improvement and says when to stop.

    A tie counts as an improvement and becomes the best, as in RecBole. A NaN, or an infinity in the bad direction, is
    never an improvement, not even as the first score.

    Attributes:
        mode: "strict" stops when `counter` reaches `patience`, "recbole" when it exceeds it, one evaluation later.
        patience: evaluations without improvement; >= 1, or >= 0 in mode "recbole".
        min_epoch: never stops before this epoch; a best epoch before it is kept and, on a deferred stop, logged.
        bigger: whether a larger score is better.
        best_score: None until the first valid score.
        best_epoch: None until the first valid score.
        counter: evaluations since the last improvement.
        history: (epoch, score) of every evaluation.

    Raises:
        ParamError: `mode` is unknown or `patience` is too small.

    Source: rule of mode "recbole" as in RecBole 1.2.1, `recbole.utils.early_stopping`.
    """

    mode: str
    patience: int
    min_epoch: int = -1
    bigger: bool = True
    best_score: float | None = field(default=None, init=False)
    best_epoch: int | None = field(default=None, init=False)
    counter: int = field(default=0, init=False)
    history: list[tuple[int, float]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ParamError(f"early stop: mode: got {self.mode!r}, expected one of {', '.join(MODES)}")
        least = 1 if self.mode == "strict" else 0
        if self.patience < least:
            raise ParamError(f"early stop: patience in mode {self.mode}: got {self.patience}, expected >= {least}")

    def update(self, epoch: int, score: float) -> tuple[bool, bool]:
        """Takes the score of an epoch.

        Returns:
            (is_best, stop): whether this epoch is the best so far, and whether to stop after it.
        """
        self.history.append((epoch, score))
        if self._is_better(score):
            self.best_score, self.best_epoch, self.counter = score, epoch, 0
            return True, False
        self.counter += 1
        limit = self.patience if self.mode == "strict" else self.patience + 1
        if self.counter < limit:
            return False, False
        if epoch < self.min_epoch:
            if self.counter == limit:
                message = "early stop at epoch %d deferred to epoch %d; the best stays epoch %s with %s"
                logger.info(message, epoch, self.min_epoch, self.best_epoch, self.best_score)
            return False, False
        return False, True

    def state_dict(self) -> dict[str, Any]:
        """Plain data to resume from; the rule itself comes from the configuration."""
        return {
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "counter": self.counter,
            "history": list(self.history),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.best_score = state["best_score"]
        self.best_epoch = state["best_epoch"]
        self.counter = state["counter"]
        self.history = [(epoch, score) for epoch, score in state["history"]]

    def _is_better(self, score: float) -> bool:
        worst = -math.inf if self.bigger else math.inf
        if math.isnan(score) or score == worst:
            return False
        if self.best_score is None:
            return True
        return score >= self.best_score if self.bigger else score <= self.best_score
