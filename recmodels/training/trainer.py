"""The one training loop: RecBole's Trainer with its own fit, epoch and state; evaluation stays RecBole's."""

import copy
import logging
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from tqdm import tqdm

from recmodels.data.split import reseed_loader
from recmodels.models.base import GraphRecommender
from recmodels.streams import global_streams
from recmodels.training.callbacks import Callback, EpochLog, RollBack, SkipBatch, Step
from recmodels.training.early_stop import EarlyStop
from recmodels.training.validation import ValidatingTrainer

logger = logging.getLogger(__name__)


class Trainer(ValidatingTrainer):
    """Trains a GraphRecommender epoch by epoch; everything that is not the loop is a callback.

    Args:
        config: RecBole's config, built from our resolved layers.
        model: the model to train.
        run_dir: where callbacks write.
        early_stop: decides when valid no longer improves.
        callbacks: called in this order at every hook.

    Attributes:
        finished: whether the last epoch was reached, early stopping, or the end of a search.
        command: shell command that reproduces this run, for diagnoses.
    """

    model: GraphRecommender

    def __init__(
        self,
        config: Any,  # noqa: ANN401  (RecBole's Config)
        model: GraphRecommender,
        run_dir: Path,
        early_stop: EarlyStop,
        callbacks: list[Callback],
    ) -> None:
        super().__init__(config, model, early_stop, callbacks)
        self.run_dir = run_dir
        self.lr_factor: float = config["guard_lr_factor"]
        self._may_roll_back: bool = config["guard_nonfinite"] == "rollback"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=bool(config["enable_scaler"]))
        self.finished, self.command = False, ""
        self._restore_point: dict[str, Any] = {}

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:  # noqa: ANN401
        kwargs.setdefault("params", self.model.weight_parameters())
        return super()._build_optimizer(**kwargs)

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        show_progress: bool = False,  # noqa: ANN401
    ) -> tuple[float | None, dict[str, float] | None]:
        """Trains from `next_epoch` to the last epoch, until valid stops improving, or a search until it is stable.

        Args:
            train_data: RecBole's training loader.
            valid_data: RecBole's full-ranking loader; None trains all epochs and keeps the last one.
            show_progress: whether to draw a progress bar per epoch.

        Returns:
            Best valid score and the valid metrics of that epoch.
        """
        self.eval_collector.data_collect(train_data)
        self._notify("on_fit_start", self)
        self._keep_restore_point()
        while not self.finished:
            try:
                log = self._run_epoch(train_data, valid_data, show_progress)
            except RollBack:
                self._roll_back()
                continue
            self._notify("on_epoch_end", self, log)
            self._keep_restore_point()
        self._notify("on_fit_end", self)
        return self.early_stop.best_score, self.best_valid_result

    def _run_epoch(self, train_data: Any, valid_data: Any, show_progress: bool) -> EpochLog:  # noqa: ANN401
        """One epoch with its validation; advances `next_epoch` and `finished`."""
        epoch, started = self.next_epoch, time.perf_counter()
        reseed_loader(train_data, self.seed, epoch)
        self.model.train()
        self.model.on_epoch_start(epoch)
        self._notify("on_epoch_start", self, epoch)
        with global_streams(self.seed, "negatives", epoch):
            values = self._train_epoch(train_data, epoch, show_progress=show_progress)
        self.model.eval()
        self._notify("on_epoch_trained", self, epoch)
        log = EpochLog(epoch, values | self.model.report() | {"learning_rate": self.learning_rate})
        log.values["seconds"] = time.perf_counter() - started
        self.ended_by = "; ".join(filter(None, [callback.reason_to_end(self) for callback in self.callbacks]))
        is_validated = valid_data is not None and (bool(self.ended_by) or self._validates(epoch))
        stop = is_validated and self._validate(valid_data, log)
        log.is_best = log.is_best or valid_data is None
        self.next_epoch = epoch + 1
        # A search ends by its own rule, so that nothing of it follows from the validation part.
        is_stopped = bool(self.ended_by) or (stop and not self.model.table.is_searching)
        self.finished = is_stopped or self.next_epoch >= self.epochs
        return log

    def _train_epoch(
        self,
        train_data: Any,  # noqa: ANN401
        epoch_idx: int,
        loss_func: None = None,
        show_progress: bool = False,
    ) -> dict[str, float]:
        """One pass over the loader; per-batch means of the unweighted terms, the loss and the gradient norm."""
        sums: dict[str, Tensor | float] = defaultdict(float)
        taken, skipped = 0, 0
        bar = tqdm(train_data, desc=f"Train {epoch_idx:>4}", leave=False, disable=not show_progress)
        for index, interaction in enumerate(bar):
            try:
                step = self._step(epoch_idx, index, interaction)
            except SkipBatch:
                skipped += 1
                continue
            taken += 1
            for name, term in step.terms.items():
                sums[f"train/{name}"] += term.detach()
            sums["train/loss"] += step.loss.detach()
            assert step.norm is not None  # a step that was taken has its gradients
            sums["gradient_norm"] += step.norm
        means = {name: float(total) / taken for name, total in sums.items()}
        return means | ({"skipped_batches": float(skipped)} if skipped else {})

    def _validates(self, epoch: int) -> bool:
        """As all trainers, but not while a search for widths has no choice yet."""
        return super()._validates(epoch) and not self.model.table.is_warming_up

    def _step(self, epoch: int, index: int, interaction: Any) -> Step:  # noqa: ANN401
        """Forward, backward, clip, update: one batch."""
        self.optimizer.zero_grad(set_to_none=True)
        batch = self.model.batch(interaction)
        with torch.autocast(self.device.type, enabled=self.enable_amp):
            terms = self.model.terms(batch)
            loss = self.model.weighted_sum(terms)
        step = Step(self, epoch, index, batch, terms, loss)
        self._notify("on_terms", step)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        step.norm = self._gradient_norm()
        self._notify("on_gradients", step)
        self._clip(step.norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._notify("on_step_end", step)
        return step

    def _gradient_norm(self) -> Tensor:
        """Total norm of all gradients, of the order that clipping uses (2 by default)."""
        order = (self.clip_grad_norm or {}).get("norm_type", 2.0)
        return get_total_norm([p.grad for p in self._parameters() if p.grad is not None], norm_type=order)

    def _clip(self, norm: Tensor) -> None:
        if self.clip_grad_norm:
            clip_grads_with_norm_(self._parameters(), self.clip_grad_norm["max_norm"], norm)

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _keep_restore_point(self) -> None:
        """Remembers the last finished epoch, if it can be asked for; it is as large as weights and optimizer."""
        if self._may_roll_back:
            self._restore_point = copy.deepcopy(self._weights_state())

    def _roll_back(self) -> None:
        """Back to the last finished epoch, with a lower learning rate."""
        self._load_weights_state(self._restore_point)
        self.learning_rate *= self.lr_factor
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        logger.warning("rolled back to the start of epoch %d, learning rate %g", self.next_epoch, self.learning_rate)

    def _weights_state(self) -> dict[str, Any]:
        """What an epoch changes: weights, buffers, optimizer, scaler; the tensors are the live ones."""
        parts = {"weights": self.model, "optimizer": self.optimizer, "scaler": self.scaler}
        return {name: part.state_dict() for name, part in parts.items()}

    def _load_weights_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # it keeps the tensors it is given
        self.scaler.load_state_dict(state["scaler"])

    def state_dict(self) -> dict[str, Any]:
        """All that resume needs, as tensors and plain data; live ones, to be saved or copied before the next step."""
        return self._weights_state() | {
            "next_epoch": self.next_epoch,
            "finished": self.finished,
            "ended_by": self.ended_by,
            "learning_rate": self.learning_rate,
            "early_stop": self.early_stop.state_dict(),
            "best_valid_result": self.best_valid_result,
            "callbacks": {type(c).__name__: c.state_dict() for c in self.callbacks},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave; training goes on at `next_epoch`."""
        self._load_weights_state(state)
        self.next_epoch, self.finished = state["next_epoch"], state["finished"]
        self.ended_by = state.get("ended_by", "")
        self.learning_rate, self.best_valid_result = state["learning_rate"], state["best_valid_result"]
        self.early_stop.load_state_dict(state["early_stop"])
        for callback in self.callbacks:
            callback.load_state_dict(state["callbacks"][type(callback).__name__])
