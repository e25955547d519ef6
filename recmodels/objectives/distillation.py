"""Knowledge distillation: a ranking loss whose targets are the scores of a model in closed form."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recmodels.graph import BipartiteGraph
from recmodels.kernels import gather, weighted_infonce_sum
from recmodels.objectives.ranking import SoftmaxRanking, user_importance
from recmodels.records import Batch, Encoding
from recmodels.ridge import ridge_weights, user_scores
from recmodels.spectral import normalized_interactions


class Teacher(NamedTuple):
    """Ridge regression of each item on the others (EASE), and what of its scores is taught.

    Attributes:
        penalty: > 0, weight of the regression's L2 penalty, in interactions.
        user_exponent: in [0, 4]; what a user counts in the regression, as `user_importance` says.
        temperature: > 0, what its scores are divided by before the softmax; they lie around 0 to 1.
        top: >= 1, the items of a user that are taught, the best; the others get no share. None teaches all.
    """

    penalty: float
    user_exponent: float
    temperature: float
    top: int | None

    def targets(self, graph: BipartiteGraph) -> "Targets":
        """What every user of the graph is taught."""
        matrix, n_items = normalized_interactions(graph, 0, 0), graph.n_items - 1  # exponents of 0: ones
        top = None if self.top is None or self.top >= n_items else self.top
        shares = torch.empty(graph.n_users, top or n_items)
        items = None if top is None else torch.empty(graph.n_users, top, dtype=torch.int32)
        importance = user_importance(graph, self.user_exponent).numpy()
        first = 0
        for scores in user_scores(matrix, ridge_weights(matrix, self.penalty, importance)):
            users = slice(first, first := first + len(scores))
            if items is not None:
                scores, items[users] = scores.topk(items.shape[1])
            shares[users] = (scores / self.temperature).softmax(-1)
        return Targets(items, shares)


class Targets(NamedTuple):
    """Shares of the items in what each user is taught.

    Attributes:
        items: (n_users, K) int32, 0 for the first real item; None where all are taught, in their order.
        shares: (n_users, K) float32, which add up to 1.
    """

    items: Tensor | None
    shares: Tensor

    def mean_of(self, rows: Tensor, users: Tensor) -> Tensor:
        """(M, d) means of (n_items, d) rows of the real items by the shares of M users."""
        shares = self.shares[users].to(rows.dtype)
        if self.items is None:
            return shares @ rows
        return F.embedding_bag(self.items[users], rows, per_sample_weights=shares, mode="sum")


class Distillation(SoftmaxRanking):
    """Cross-entropy of each user's softmax over all items against a teacher's; mean over the batch.

    The teacher is fitted to the graph, which is the training part, in the first batch, and never again. A user that
    occurs c times in the batch counts c times, each with the user's importance. Candidates: all real items.

    Args:
        weight: multiplier.
        graph: what the teacher is fitted to.
        teacher: whose scores are the targets.
        user_exponent: as in `RankingObjective`; of this term, whatever the teacher's is.

    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2; EASE: Steck 2019, eq. 8.
    """

    name = "distill"
    items: Tensor | None
    shares: Tensor | None

    def __init__(self, weight: float, graph: BipartiteGraph, teacher: Teacher, user_exponent: float = 0.0) -> None:
        super().__init__(weight, graph, user_exponent)
        self.graph, self.teacher = graph, teacher
        for name in Targets._fields:  # no part of the state, as the graph and the keys decide them
            self.register_buffer(name, None, persistent=False)
        self._entropy = 0.0

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """Mean over B positives of the cross-entropy of their users."""
        nodes, counts = batch.users
        users, items = gather(encoding.scored, nodes), encoding.scored[self.first_item :]
        with torch.autocast(items.device.type, enabled=False):  # as the sweep below, which stays in float32
            mean = self._targets().mean_of(items, nodes)
        weights = counts * self._importance(nodes, users.dtype)
        return weighted_infonce_sum(users, mean, items, weights, 1.0) / len(batch.user)

    def _targets(self) -> Targets:
        """Those of the teacher, who is fitted when they are first asked for: evaluation has no use for them."""
        if self.shares is None:
            items, shares = self.teacher.targets(self.graph)
            weights = self.graph.degrees[: self.graph.n_users] * self.importance.cpu()
            self._entropy = float(weights @ torch.special.entr(shares).sum(-1).double() / weights.sum())
            device = self.importance.device
            self.items, self.shares = None if items is None else items.to(device), shares.to(device)
        return Targets(self.items, self.shares)

    def report(self) -> dict[str, float]:
        """Entropy of the targets, weighted as the term: what it cannot fall below in the mean over an epoch."""
        return {} if self.shares is None else {"entropy": self._entropy}

    def extra_repr(self) -> str:
        """Also: the teacher."""
        return f"{super().extra_repr()}, {self.teacher}"
