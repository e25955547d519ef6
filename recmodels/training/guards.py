"""Guards against NaN and infinity in the loss, its gradients and the weights."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recmodels.errors import NonFiniteError, ParamError
from recmodels.training.callbacks import Callback, RollBack, SkipBatch, Step
from recmodels.training.diagnosis import diagnose, diagnose_state, non_finite_gradients, non_finite_weights
from recmodels.training.replay import RandomStates, kind, snapshot

logger = logging.getLogger(__name__)

POLICIES = ("raise", "skip", "rollback")


class NonFiniteGuard(Callback):
    """Stops a batch whose terms, loss or gradients are NaN or infinite before it reaches the weights.

    A step from a finite gradient can still ruin the weights. So after the last step of an epoch it demands finite
    weights, and embeddings whose scores cannot overflow, before anything is validated or saved. Such an epoch is rolled
    back or stops the run; "skip" cannot undo a step.

    Each failure leaves a `diagnosis-<n>.json`. One host synchronization per check, none else while all is finite. While
    a GradScaler is active a non-finite gradient is left to it (it skips that step and lowers its scale); the loss is
    checked all the same. The guard belongs last in the list of callbacks, so that the random states it takes at the end
    of a step are those of the next one.

    Args:
        policy: "raise" stops; "skip" drops the batch; "rollback" restores the last finished epoch with a lower learning
            rate.
        max_skips: >= 0 batches that policy "skip" may drop in one run before it stops.
        max_rollbacks: >= 0 restorations that policy "rollback" may ask for in one run before it stops.
        run_dir: folder of the diagnoses.
        replays: whether a failed batch is run once more to name the module and the operation.

    Raises:
        ParamError: unknown policy or negative limit.
        NonFiniteError: from the hooks, when the policy gives up.
    """

    def __init__(
        self, policy: str, max_skips: int, max_rollbacks: int, run_dir: str | Path, replays: bool = True
    ) -> None:
        if policy not in POLICIES:
            raise ParamError(f"non-finite guard: policy: got {policy!r}, expected one of {', '.join(POLICIES)}")
        if min(max_skips, max_rollbacks) < 0:
            raise ParamError(
                f"non-finite guard: limits: got {max_skips} skips, {max_rollbacks} rollbacks; expected >= 0"
            )
        self.policy, self.run_dir, self.replays = policy, Path(run_dir), replays
        self.max_skips, self.max_rollbacks = max_skips, max_rollbacks
        self.skips, self.rollbacks = 0, 0
        self._states: RandomStates | None = None

    def on_epoch_start(self, trainer: Any, epoch: int) -> None:
        """Takes the random states of the first step."""
        self._states = snapshot(trainer.model)

    def on_step_end(self, step: Step) -> None:
        """Acts on a step of the second level that was not taken, and takes the random states of the next step."""
        self._states = snapshot(step.trainer.model)
        if step.failed_outer is not None:
            self._fail_outer(step, step.failed_outer)

    def on_terms(self, step: Step) -> None:
        """Checks terms and loss before the backward pass where the scaler takes over its check."""
        if step.trainer.scaler.is_enabled() and not bool(torch.isfinite(_values(step)).all()):
            self._fail(step)

    def on_gradients(self, step: Step) -> None:
        """Checks terms, loss and gradient norm at once, the one time that a step waits for the device."""
        if step.trainer.scaler.is_enabled():
            return
        assert step.norm is not None  # the loop sets it before this hook
        finite = torch.isfinite(torch.stack([*_values(step), step.norm.to(step.loss.dtype)])).tolist()
        if all(finite):
            return
        if not all(finite[:-1]):
            step.norm = None  # gradients of such a loss say nothing
            self._fail(step)
        if non_finite_gradients(step):
            self._fail(step)
        message = "epoch %d, batch %d: gradient norm overflows although every gradient is finite; clipping makes it 0"
        logger.warning(message, step.epoch, step.index)

    def on_epoch_trained(self, trainer: Any, epoch: int) -> None:
        """Checks the weights and the embeddings that validation would score."""
        bad = non_finite_weights(trainer.model)
        if not bad:
            return
        path = diagnose_state(trainer, epoch, "weights", bad, self.run_dir, self.policy)
        place = f"epoch {epoch}, after its last step"
        undo = ["policy 'skip' cannot undo a step that was taken; 'rollback' can"] if self.policy == "skip" else []
        self._roll_back_or_stop(f"{place}: non-finite {_summary(json.loads(path.read_text()), path, *undo)}")

    def state_dict(self) -> dict[str, Any]:
        """How often the guard has acted in this run."""
        return {"skips": self.skips, "rollbacks": self.rollbacks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.skips, self.rollbacks = state["skips"], state["rollbacks"]

    def _fail(self, step: Step) -> None:
        path = diagnose(step, self.run_dir, self.policy, self._states, self.replays)
        message = _describe(json.loads(path.read_text()), path)
        if self.policy == "skip" and self.skips < self.max_skips:
            self.skips += 1
            self._states = snapshot(step.trainer.model)  # `on_step_end` is not called for a dropped batch
            logger.warning("batch dropped (%d of %d): %s", self.skips, self.max_skips, message)
            raise SkipBatch(message)
        self._roll_back_or_stop(message)

    def _fail_outer(self, step: Step, values: Tensor) -> None:
        found = zip(("outer loss", "norm of its gradient"), values, strict=True)
        bad = {name: what for name, value in found if (what := kind(value)) is not None}
        path = diagnose_state(step.trainer, step.epoch, "outer level", bad, self.run_dir, self.policy)
        report = json.loads(path.read_text())
        message = f"epoch {step.epoch}, batch {step.index}: non-finite {_summary(report, path, 'no step was taken')}"
        if self.policy == "skip" and self.skips < self.max_skips:
            self.skips += 1
            logger.warning("step of the outer level dropped (%d of %d): %s", self.skips, self.max_skips, message)
            return
        self._roll_back_or_stop(message)

    def _roll_back_or_stop(self, message: str) -> None:
        if self.policy == "rollback" and self.rollbacks < self.max_rollbacks:
            self.rollbacks += 1
            logger.warning("rolling back (%d of %d): %s", self.rollbacks, self.max_rollbacks, message)
            raise RollBack(message)
        raise NonFiniteError(f"{message}; {self._why_now()}")

    def _why_now(self) -> str:
        spent = {"skip": f"after {self.skips} dropped batches", "rollback": f"after {self.rollbacks} rollbacks"}
        return f"policy {self.policy!r} stops {spent.get(self.policy, 'at the first failure')}"


def _values(step: Step) -> Tensor:
    """Every term and the loss."""
    return torch.stack([value.detach() for value in (*step.terms.values(), step.loss)])


def _describe(report: dict[str, Any], path: Path) -> str:
    error = report["replay"]["error"]
    where = f"no module named, replay: {error}" if error else "the replay did not reproduce it"
    if report["module"] is not None:
        where = f"first in module {report['module']!r}, operation {report['operation']!r}"
    place = f"epoch {report['epoch']}, batch {report['batch']}"
    return f"{place}: non-finite {_summary(report, path, where)}"


def _summary(report: dict[str, Any], path: Path, *where: str) -> str:
    what = ", ".join(f"{name} ({found})" for name, found in report["non_finite"].items())
    good = report["checkpoints"][0] if report["checkpoints"] else "none"
    return "; ".join([what, *where, f"diagnosis: {path}", f"last good checkpoint: {good}"])
