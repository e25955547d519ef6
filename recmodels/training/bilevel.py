"""The outer level of a width search: the picker learns from interactions that the weights do not see."""

import copy
import logging
import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from recmodels.data.hold_out import HeldOut
from recmodels.models.base import GraphRecommender
from recmodels.records import Batch
from recmodels.streams import global_streams, stream, stream_seed
from recmodels.tables import SearchTable
from recmodels.training.callbacks import Callback, EpochLog, Step
from recmodels.training.size_price import SizePrice, expected_size
from recmodels.training.unrolling import step_rates, unrolled_gradient

if TYPE_CHECKING:
    from recmodels.models.lightgcn import LightGCN
    from recmodels.training.trainer import Trainer

logger = logging.getLogger(__name__)

_WELL_ABOVE = 1.05  # a share of the budget


class Choice(NamedTuple):
    """Where a search stands after an epoch.

    Attributes:
        widths: (N,) int64 that the pickers prefer.
        changed: share of the nodes with another width than after the epoch before.
        n_stable: epochs in which hardly any changed, since the choice left its start.
        has_moved: whether it ever was another than at the start.
    """

    widths: Tensor
    changed: float
    n_stable: int
    has_moved: bool


class Bilevel(Callback):
    """Every few steps one step of the picker on held-out interactions, by an optimizer of its own.

    The picker's loss is the ranking term alone, plus penalties on size and on sameness. Its gradient is taken at the
    current weights (first order), or one more step of the weights ahead along the weighted ranking term of the batch
    that they have just seen (`adae_unrolled`).
    Weights get no gradient from it, and the picker none from the steps of the weights.
    With a budget the picker pays a price for size, see `SizePrice`.
    The picker rests while the gates are uniform (`adae_warmup`), and so does their schedule. A step whose loss or
    gradient is not finite is not taken but shown to the guard, and a rollback undoes the steps of its epoch.

    Args:
        p: keys of the search, and of the ranking term.
        model: whose table searches, and whose ranking term is the outer loss.
        held_out: interactions of the outer level.
        batch_size: held-out interactions a step.

    Source: Liu et al. 2019 (DARTS), both orders; Guan et al. 2025 (AdaE). Verified: test_bilevel.py.
    """

    def __init__(self, p: "LightGCN.Params", model: GraphRecommender, held_out: HeldOut, batch_size: int) -> None:
        self.p, self.held_out, self.seed = p, held_out, model.seed
        self.parameters = list(table_of(model).picker_parameters())
        make = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[p.adae_picker_optimizer]
        self.optimizer: torch.optim.Optimizer = make(self.parameters, lr=p.adae_picker_lr)
        self.batch_size = min(batch_size, len(held_out.users))
        budget = table_of(model).budget
        self.price = None if budget is None else SizePrice(budget, p.adae_budget_rate)
        self._is_resting = True
        self._begun: tuple[int, dict[str, Any]] | None = None
        self._generator = torch.Generator()
        self._losses: list[Tensor] = []
        self._start = table_of(model).preferred_widths().cpu()
        self._choice: Choice | None = None  # after the last epoch

    def on_epoch_start(self, trainer: "Trainer", epoch: int) -> None:
        """Starts the epoch's batches of held-out interactions; a second try of it from where the first began."""
        if self._begun and self._begun[0] == epoch:  # rolled back
            self._load_step_state(copy.deepcopy(self._begun[1]))
            for group in self.optimizer.param_groups:
                group["lr"] *= trainer.lr_factor
        self._begun = epoch, copy.deepcopy(self._step_state())
        self._is_resting = epoch < self.p.adae_warmup
        self._generator, self._losses = stream(self.seed, "held_out_batches", epoch), []

    def on_step_end(self, step: Step) -> None:
        """Counts the step, and lets the picker take one when it is due."""
        model = step.trainer.model
        table = table_of(model)
        if self._is_resting:
            return
        table.advance()
        # Counted over the whole run, because an epoch may have fewer steps than the picker waits for.
        if int(table.step) % self.p.adae_every:
            return
        loss, gradients = self._gradients(step, self._batch(model, step))
        values = torch.stack([loss.detach(), get_total_norm(gradients)])
        if not bool(torch.isfinite(values).all()):
            step.failed_outer = values
            return
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()
        table.advance_picker()
        if self.price is not None:
            self.price.follow(float(_expected_size(table).detach()))
        model.forget()
        self._losses.append(loss.detach())

    def _gradients(self, step: Step, held_out: Batch) -> tuple[Tensor, Sequence[Tensor]]:
        """The outer loss and its gradient; both levels see the same noise."""
        model, noise = step.trainer.model, stream_seed(self.seed, f"outer_gates/{step.index}", step.epoch)

        def outer() -> Tensor:
            return self._ranking(model, held_out, noise) + self._penalty(model)

        if not self.p.adae_unrolled:
            loss = outer()
            return loss, torch.autograd.grad(loss, self.parameters)

        def inner() -> Tensor:
            return model.weights()[self.p.rec_loss] * self._ranking(model, step.batch, noise)

        weights = list(table_of(model).weights_of_candidates())
        rates = partial(step_rates, step.trainer.optimizer, weights, step.trainer.learning_rate)
        return unrolled_gradient(outer, inner, weights, self.parameters, rates)

    def _ranking(self, model: GraphRecommender, batch: Batch, noise: int) -> Tensor:
        """The ranking term, with the encoder as it is scored: without dropped edges or noise."""
        objective = next(o for o in model.active_objectives() if o.name == self.p.rec_loss)
        model.encoder.eval()
        try:
            with table_of(model).held(torch.Generator().manual_seed(noise)):
                return objective(model.encode(), batch)
        finally:
            model.encoder.train()

    def _penalty(self, model: GraphRecommender) -> Tensor:
        """`adae_memory` times size less `adae_diversity` times spread, summed over sides, and the price of size."""
        table = table_of(model)
        terms = [
            self.p.adae_memory * mean_size(probabilities, sizes) - self.p.adae_diversity * spread(probabilities)
            for probabilities, sizes in zip(table.probabilities(), table.sizes(), strict=True)
        ]
        return torch.stack(terms).sum() + (0 if self.price is None else self.price(_expected_size(table)))

    def _batch(self, model: GraphRecommender, step: Step) -> Batch:
        """Held-out interactions drawn without replacement, with a negative each."""
        rows = torch.randperm(len(self.held_out.users), generator=self._generator)[: self.batch_size]
        users, items = self.held_out.users[rows], self.held_out.items[rows]
        with global_streams(self.seed, f"held_out_negatives/{step.index}", step.epoch):
            negatives = self.held_out.negatives.sample_by_user_ids(users.numpy(), items.numpy(), 1)
        return Batch.of(users, items + model.n_users, negatives + model.n_users).to(model.device)

    def reason_to_end(self, trainer: "Trainer") -> str:
        """That the choice has been stable for long enough, counted from where it first left its start."""
        self._choice = now = self._choice_of(table_of(trainer.model).preferred_widths().cpu())
        is_stable = self.p.adae_stable_epochs and now.n_stable >= self.p.adae_stable_epochs
        return f"the widths have been stable for {now.n_stable} epochs" if is_stable else ""

    def _choice_of(self, widths: Tensor) -> Choice:
        """Where the choice stands; an epoch without a step of the picker says nothing of how stable it is."""
        last = self._choice
        changed = 1.0 if last is None else float((widths != last.widths).float().mean())
        has_moved = (last is not None and last.has_moved) or not torch.equal(widths, self._start)
        n_stable = last.n_stable if last else 0
        if self._losses:
            n_stable = n_stable + 1 if has_moved and changed <= self.p.adae_stable_share else 0
        return Choice(widths, changed, n_stable, has_moved)

    def on_epoch_end(self, trainer: "Trainer", log: EpochLog) -> None:
        """Logs where the choice stands."""
        assert self._choice is not None  # made before the validation
        width, changed = float(self._choice.widths.float().mean()), self._choice.changed
        n_stored = table_of(trainer.model).n_stored()
        log.values |= {"picker/mean_width": width, "picker/changed": changed, "picker/parameters": float(n_stored)}
        if self.price is not None:
            log.values["picker/price"] = self.price.value
            log.values["picker/expected"] = self._expected(trainer)
        if self._losses:
            log.values["picker/loss"] = float(torch.stack(self._losses).mean())
        logger.info(
            "picker: mean width %.1f, %s parameters, %.1f %% of the nodes changed", width, n_stored, 100 * changed
        )

    def on_fit_end(self, trainer: "Trainer") -> None:
        """Says so if nothing was found, or if the budget cuts what the picker wants."""
        if self._choice is not None and not self._choice.has_moved:
            logger.warning(
                "the widths never left their start: raise epochs or adae_picker_lr, or lower adae_every or adae_warmup"
            )
        if self.price is not None and (expected := self._expected(trainer)) > _WELL_ABOVE * self.price.budget:
            logger.warning(
                "the picker still expects %s parameters, adae_budget leaves %s for rows: widths that it is least sure "
                "of are cut to fit; raise epochs or adae_budget_rate",
                f"{expected:,.0f}",
                f"{self.price.budget:,}",
            )

    def _expected(self, trainer: "Trainer") -> float:
        return float(_expected_size(table_of(trainer.model)).detach())

    def _step_state(self) -> dict[str, Any]:
        """What a step of the picker moves beside its parameters."""
        return {"optimizer": self.optimizer.state_dict(), "price": 0.0 if self.price is None else self.price.value}

    def _load_step_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        if self.price is not None:
            self.price.value = state["price"]

    def state_dict(self) -> dict[str, Any]:
        """The optimizer, the price and the last choice."""
        return self._step_state() | {"choice": None if self._choice is None else self._choice._asdict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self._load_step_state(state)
        self._choice = None if state["choice"] is None else Choice(**state["choice"])


def table_of(model: GraphRecommender) -> SearchTable:
    """The model's table, which searches."""
    assert isinstance(model.table, SearchTable)
    return model.table


def _expected_size(table: SearchTable) -> Tensor:
    return expected_size(table.probabilities(), table.sizes())


def mean_size(probabilities: Tensor, sizes: Tensor) -> Tensor:
    """Expected width of a node over the widest candidate: (n, K) probabilities and (K,) sizes to a scalar in (0, 1].

    Source: Guan et al. 2025 (AdaE), code, the memory penalty.
    """
    return (probabilities @ sizes.to(probabilities)).mean() / sizes.max()


def spread(probabilities: Tensor) -> Tensor:
    """Entropy of the mean choice over log K, in [0, 1]: 0 where all nodes take one candidate, whichever; K >= 2."""
    mean = probabilities.mean(0)
    return -(mean * mean.clamp(min=torch.finfo(mean.dtype).tiny).log()).sum() / math.log(max(len(mean), 2))
