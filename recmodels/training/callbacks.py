"""Hooks around the one training loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from recmodels.records import Batch

if TYPE_CHECKING:
    from recmodels.training.trainer import Trainer


class SkipBatch(Exception):  # noqa: N818  (control flow, not an error)
    """Raised by a callback: drop this batch, take no step."""


class RollBack(Exception):  # noqa: N818  (control flow, not an error)
    """Raised by a callback: restore the last finished epoch and try again with a lower learning rate."""


@dataclass
class Step:
    """One training step as callbacks see it.

    Attributes:
        trainer: the running trainer.
        epoch: 0-based epoch.
        index: 0-based batch of the epoch.
        batch: the batch, node ids.
        terms: unweighted scalar terms by objective name, attached to the autograd graph.
        loss: the weighted sum that is differentiated.
        norm: total gradient norm before clipping; None until `on_gradients`.
        failed_outer: (2,) loss and gradient norm of a second level's step that was not taken, because they are not
            finite; None where there is none.
    """

    trainer: Trainer
    epoch: int
    index: int
    batch: Batch
    terms: dict[str, Tensor]
    loss: Tensor
    norm: Tensor | None = None
    failed_outer: Tensor | None = None


@dataclass
class EpochLog:
    """What one finished epoch leaves behind: a row of `curves.csv`.

    Attributes:
        epoch: 0-based epoch.
        values: flat names to floats: `train/<term>` (per-batch mean, unweighted), `train/loss`, `valid/<metric>`,
            `learning_rate`, `gradient_norm` (mean over batches), diagnostics of the objectives, `seconds`.
        is_best: whether this epoch is the best so far on valid.
    """

    epoch: int
    values: dict[str, float] = field(default_factory=dict)
    is_best: bool = False


class Callback:
    """Hooks in the order they are called; the default of each does nothing.

    Guards, audits, curves and checkpoints are callbacks. `state_dict` holds plain data that resume needs.
    """

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first epoch, after a possible resume."""

    def on_epoch_start(self, trainer: Trainer, epoch: int) -> None:
        """After the components' own `on_epoch_start`, before the first batch."""

    def on_terms(self, step: Step) -> None:
        """After the forward pass, before backward. May raise SkipBatch or RollBack."""

    def on_gradients(self, step: Step) -> None:
        """After backward, unscaling and the gradient norm, before clipping. May raise SkipBatch or RollBack."""

    def on_step_end(self, step: Step) -> None:
        """After the optimizer step. May raise RollBack."""

    def on_epoch_trained(self, trainer: Trainer, epoch: int) -> None:
        """After the last step of an epoch, in evaluation mode, before its validation. May raise RollBack."""

    def reason_to_end(self, trainer: Trainer) -> str:
        """Why training ends with the epoch that was just trained, asked before its validation; empty: it does not."""
        return ""

    def on_epoch_end(self, trainer: Trainer, log: EpochLog) -> None:
        """After validation; `log` is complete and may be extended."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain data to resume from."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
