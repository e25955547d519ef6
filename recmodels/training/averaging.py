"""The running average of the weights over the steps."""

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from recmodels.training.callbacks import Callback, EpochLog, Step

if TYPE_CHECKING:
    from recmodels.training.trainer import Trainer


class WeightAverage(Callback):
    """Validates and stores an exponential moving average of the weights; steps go on from the weights themselves.

    Between two epochs the model has the average, and this callback the weights to go on from. Whatever reads the model
    there, such as an E-step at the start of an epoch, sees the average. It belongs first in the list of callbacks, so
    that all others see the average after an epoch. A rollback loads the average of the last finished epoch, and
    the weights to go on from are still those of that epoch.

    Args:
        decay: in (0, 1); the average of step t is `a_t = k a_(t-1) + (1 - k) w_t`, k = min(decay, (1 + t) / (10 + t)),
            so that the first steps, which are far from the last, leave it soon.

    Source: Polyak and Juditsky 1992; Izmailov et al. 2018 (SWA).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._steps = self._finished_steps = 0
        self._average: list[Tensor] = []
        self._last: list[Tensor] = []
        self._weights: list[Tensor] = []  # those of the last finished epoch

    def on_epoch_start(self, trainer: "Trainer", epoch: int) -> None:
        """Takes the average from the model and gives it the weights to go on from."""
        self._steps = self._finished_steps
        parameters = _parameters(trainer)
        self._average = [p.clone() for p in parameters]
        if self._weights:
            _copy(self._weights, parameters)

    def on_step_end(self, step: Step) -> None:
        """Moves the average."""
        self._steps += 1
        decay = min(self.decay, (1 + self._steps) / (10 + self._steps))
        get_ema_multi_avg_fn(decay)(self._average, _parameters(step.trainer), None)

    def on_epoch_trained(self, trainer: "Trainer", epoch: int) -> None:
        """Keeps the weights to go on from and gives the model the average."""
        parameters = _parameters(trainer)
        self._last = [p.clone() for p in parameters]
        _copy(self._average, parameters)

    def on_epoch_end(self, trainer: "Trainer", log: EpochLog) -> None:
        """The epoch counts: no guard has rolled it back."""
        self._weights, self._finished_steps = self._last, self._steps

    def state_dict(self) -> dict[str, Any]:
        """The weights to go on from; the average is the model's."""
        return {"weights": self._weights, "steps": self._finished_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self._weights, self._finished_steps = list(state["weights"]), state["steps"]


def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)


def _parameters(trainer: "Trainer") -> list[Tensor]:
    """The weights that the optimizer moves, without their gradients."""
    return [p.detach() for p in trainer.model.weight_parameters()]
