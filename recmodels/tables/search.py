"""The table that searches its widths: all candidates at once, and a picker that weighs them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recmodels.tables.base import Table
from recmodels.tables.candidates import Candidates
from recmodels.tables.gates import Decay, best_within_budget, gumbel_gates, one_hot, with_random_rows
from recmodels.tables.picker import Picker


class GateSchedule(NamedTuple):
    """How logits become gates while training.

    Attributes:
        sample: "soft", "hard" or "none", see `gumbel_gates`.
        temperature: over the optimizer's steps, > 0.
        random_share: over the optimizer's steps, of nodes whose candidate is drawn uniformly instead.
        warm_up: epochs in which all candidates weigh the same.
    """

    sample: str
    temperature: Decay
    random_share: Decay
    warm_up: int


class SideSearch(nn.Module):
    """One side of the nodes: its candidates, and the picker that weighs them.

    Args:
        candidates: of this side.
        picker: of this side.
        buckets: (n,) int64 frequency class of each node.
    """

    buckets: Tensor
    previous: Tensor

    def __init__(self, candidates: Candidates, picker: Picker, buckets: Tensor) -> None:
        super().__init__()
        self.candidates, self.picker = candidates, picker
        self.register_buffer("buckets", buckets, persistent=False)
        if picker.reads_embeddings:
            self.register_buffer("previous", candidates.weights[-1].new_zeros(len(buckets), candidates.aligned))

    def logits(self) -> Tensor:
        """(n, K)."""
        return self.picker(self.buckets, self.previous if self.picker.reads_embeddings else None)

    def forward(self, gates: Tensor, is_held: bool) -> Tensor:
        """(n, K) gates to (n, D) rows, which the picker sees at its next call unless the side is held."""
        rows = self.candidates(gates)
        if self.picker.reads_embeddings and not is_held:
            self.previous.copy_(rows.detach())
        return rows


class SearchTable(Table):
    """Ego embeddings whose widths are being searched.

    In training every row is a mixture of its candidates; in evaluation it is the candidate that the picker prefers,
    within the budget if there is one. `advance` counts optimizer steps, which temperature and random share follow; the
    count and the last choice are part of the state.

    Args:
        users: the side of the users, padding row included.
        items: the same of the items.
        schedule: how logits become gates.
        budget: parameters of the final rows; None takes what the picker prefers.
        order: (N,) int64 node ids; of nodes that a budget cannot all make wider, these are first.

    Source: Guan et al. 2025 (AdaE), mode `auto`.
    """

    step: Tensor
    picker_step: Tensor
    widths: Tensor
    order: Tensor

    def __init__(
        self, users: SideSearch, items: SideSearch, schedule: GateSchedule, budget: int | None, order: Tensor
    ) -> None:
        super().__init__()
        self.register_buffer("order", order, persistent=False)
        self.users, self.items = users, items
        self.schedule, self.budget = schedule, budget
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("picker_step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("widths", self.preferred_widths())
        self._is_warming, self._is_held = schedule.warm_up > 0, False
        self.generator = torch.Generator()

    @property
    def sides(self) -> tuple[SideSearch, SideSearch]:
        """Users and items."""
        return self.users, self.items

    def forward(self) -> Tensor:
        """(N, D) ego embeddings."""
        if self.training:
            gates = [self._gates(side.logits()) for side in self.sides]
        else:
            self.widths.copy_(self.preferred_widths())
            parts = self.widths.split([len(side.buckets) for side in self.sides])
            gates = [_gates_of(side, widths) for side, widths in zip(self.sides, parts, strict=True)]
        is_held = self._is_held or not self.training
        return torch.cat([side(of, is_held) for side, of in zip(self.sides, gates, strict=True)])

    def _gates(self, logits: Tensor) -> Tensor:
        if self._is_warming:
            return _equal(logits)
        step = int(self.step)
        gates = gumbel_gates(logits, self.schedule.temperature(step), self.schedule.sample, self.generator)
        return with_random_rows(gates, self.schedule.random_share(step), self.generator)

    def on_epoch_start(self, epoch: int, generator: torch.Generator) -> None:
        """Starts the epoch's noise, and ends the warm-up."""
        self._is_warming, self.generator = epoch < self.schedule.warm_up, generator

    @property
    def is_searching(self) -> bool:
        """Always."""
        return True

    @property
    def is_warming_up(self) -> bool:
        """Whether all candidates still weigh the same."""
        return self._is_warming

    def settled(self) -> Tensor:
        """(N, D) embeddings of the preferred candidates, as in evaluation; of all, until a picker has learned."""
        if not int(self.picker_step):
            logits = [side.logits() for side in self.sides]
            return torch.cat([side(_equal(of), True) for side, of in zip(self.sides, logits, strict=True)])
        was_training = self.training
        try:
            return self.eval()()
        finally:
            self.train(was_training)

    def advance(self) -> None:
        """One optimizer step was taken."""
        self.step += 1

    def advance_picker(self) -> None:
        """One step of the pickers was taken."""
        self.picker_step += 1

    @contextmanager
    def held(self, generator: torch.Generator) -> Iterator[None]:
        """Inside, forward passes leave no trace: noise is from this stream, and what the picker sees stays."""
        own, self.generator, self._is_held = self.generator, generator, True
        try:
            yield
        finally:
            self.generator, self._is_held = own, False

    def probabilities(self) -> list[Tensor]:
        """(n, K) of each side: how the picker weighs the candidates, without noise at temperature 1."""
        return [side.logits().softmax(-1) for side in self.sides]

    def sizes(self) -> list[Tensor]:
        """(K,) candidate widths of each side."""
        return [torch.tensor(side.candidates.dims, device=self.step.device) for side in self.sides]

    @torch.no_grad()
    def preferred_widths(self) -> Tensor:
        """(N,) int64 width that the picker prefers for each node, within the budget."""
        logits, sizes = [side.logits() for side in self.sides], self.sizes()
        if self.budget is None:
            return torch.cat([size[of.argmax(-1)] for of, size in zip(logits, sizes, strict=True)])
        most = max(map(len, sizes))
        padded = [F.pad(of, (0, most - of.shape[1]), value=-torch.inf) for of in logits]
        size = [
            F.pad(of, (0, most - len(of)), value=1).expand(len(rows), -1)
            for of, rows in zip(sizes, logits, strict=True)
        ]
        all_sizes = torch.cat(size)
        choice = best_within_budget(torch.cat(padded), all_sizes, self.budget, self.order)
        return all_sizes.gather(1, choice[:, None]).squeeze(1)

    def n_stored(self) -> int:
        """Of the table with the preferred widths."""
        widths = self.preferred_widths().split([len(side.buckets) for side in self.sides])
        return sum(side.candidates.n_stored(of) for side, of in zip(self.sides, widths, strict=True))

    def picker_parameters(self) -> Iterator[nn.Parameter]:
        """Those of both pickers."""
        for side in self.sides:
            yield from side.picker.parameters()

    def weights_of_candidates(self) -> Iterator[nn.Parameter]:
        """All that is not the pickers'."""
        for side in self.sides:
            yield from side.candidates.parameters()

    def extra_repr(self) -> str:
        """How gates are made."""
        return f"{self.schedule.sample} gates, warm-up {self.schedule.warm_up}, budget {self.budget}"


def _equal(logits: Tensor) -> Tensor:
    return torch.full_like(logits, 1 / logits.shape[1])


def _gates_of(side: SideSearch, widths: Tensor) -> Tensor:
    """One-hot gates (n, K) of the chosen widths."""
    dims = torch.tensor(side.candidates.dims, device=widths.device)
    return one_hot(torch.searchsorted(dims, widths), side.candidates.masks.mT)
