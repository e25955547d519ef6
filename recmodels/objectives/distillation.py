"""Knowledge distillation: a ranking loss whose targets are the scores of a model in closed form."""

from typing import NamedTuple

import torch
from torch import Tensor

from recmodels.graph import BipartiteGraph
from recmodels.kernels import gather, weighted_infonce_sum
from recmodels.objectives.ranking import SoftmaxRanking
from recmodels.records import Batch, Encoding
from recmodels.ridge import interactions, ridge_weights, user_scores


class Teacher(NamedTuple):
    """Ridge regression of each item on the others (EASE), and what of its scores is taught.

    Attributes:
        penalty: > 0, weight of the regression's L2 penalty, in interactions.
        temperature: > 0, what its scores are divided by before the softmax; they lie around 0 to 1.
        top: >= 1, the items of a user that are taught, the best; the others get no share. None teaches all.
    """

    penalty: float
    temperature: float
    top: int | None

    def targets(self, graph: BipartiteGraph) -> "Targets":
        """What every user of the graph is taught."""
        matrix = interactions(graph)
        scores = user_scores(matrix, ridge_weights(matrix, self.penalty))
        if self.top is None or self.top >= graph.n_items - 1:
            return Targets(None, torch.cat([self._shares(some) for some in scores]))
        best = [some.topk(self.top) for some in scores]
        return Targets(torch.cat([b.indices for b in best]), torch.cat([self._shares(b.values) for b in best]))

    def _shares(self, scores: Tensor) -> Tensor:
        return (scores / self.temperature).softmax(-1).float()


class Targets(NamedTuple):
    """Shares of the items in what each user is taught.

    Attributes:
        items: (n_users, K) int64, 0 for the first real item; None where all are taught, in their order.
        shares: (n_users, K) float32, which add up to 1; memory is that of all users, K numbers each.
    """

    items: Tensor | None
    shares: Tensor

    def of(self, users: Tensor, n_items: int) -> Tensor:
        """(M, n_items) shares of all real items for M users."""
        shares = self.shares[users]
        if self.items is None:
            return shares
        return shares.new_zeros(len(users), n_items).scatter_(1, self.items[users], shares)


class Distillation(SoftmaxRanking):
    """Cross-entropy of each user's softmax over all items against a teacher's; mean over the batch.

    The teacher is fitted to the graph, which is the training part, when the term first counts, and never again. A user
    that occurs c times in the batch counts c times, each with the user's importance. Candidates: all real items.

    Args:
        weight: multiplier.
        graph: what the teacher is fitted to.
        teacher: whose scores are the targets.
        user_exponent: as in `RankingObjective`.

    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2; EASE: Steck 2019, eq. 8.
    """

    name = "distill"

    def __init__(self, weight: float, graph: BipartiteGraph, teacher: Teacher, user_exponent: float = 0.0) -> None:
        super().__init__(weight, graph, user_exponent)
        self.graph, self.teacher = graph, teacher
        self.targets: Targets | None = None  # no part of the state, as the graph and the keys decide it

    def on_epoch_start(self, epoch: int, ego: Tensor, generator: torch.Generator) -> None:
        """Fits the teacher, once."""
        super().on_epoch_start(epoch, ego, generator)
        if self.targets is None:
            items, shares = self.teacher.targets(self.graph)
            self.targets = Targets(None if items is None else items.to(ego.device), shares.to(ego.device))

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """Mean over B positives of the cross-entropy of their users."""
        if self.targets is None:
            raise RuntimeError("distill: the teacher is fitted at the start of an epoch; call on_epoch_start first")
        nodes, counts = batch.users
        users, items = gather(encoding.scored, nodes), encoding.scored[self.first_item :]
        with torch.autocast(items.device.type, enabled=False):  # as the sweep below, which stays in float32
            mean = self.targets.of(nodes, len(items)).to(items.dtype) @ items
        weights = counts * self._importance(nodes, users.dtype)
        return weighted_infonce_sum(users, mean, items, weights, 1.0) / len(batch.user)

    def report(self) -> dict[str, float]:
        """The mean entropy of the targets: what the term cannot fall below."""
        if self.targets is None:
            return {}
        return {"entropy": float(torch.special.entr(self.targets.shares[1:]).sum(-1).mean())}

    def extra_repr(self) -> str:
        """Also: the teacher."""
        return f"{super().extra_repr()}, {self.teacher}"
