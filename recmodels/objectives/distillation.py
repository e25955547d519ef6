"""Knowledge distillation: a ranking loss whose targets are the scores of a model in closed form."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recmodels.graph import BipartiteGraph
from recmodels.kernels import gather, weighted_infonce_sum
from recmodels.objectives.ranking import SoftmaxRanking
from recmodels.records import Batch, Encoding
from recmodels.ridge import best_items, interactions, ridge_weights


class Teacher(NamedTuple):
    """Ridge regression of each item on the others (EASE), and what of its scores is taught.

    Attributes:
        penalty: > 0, weight of the regression's L2 penalty, in interactions.
        temperature: > 0, what its scores are divided by before the softmax; they lie around 0 to 1.
        top: >= 1, the items of a user that are taught, the best; the others get no share.
    """

    penalty: float
    temperature: float
    top: int

    def targets(self, graph: BipartiteGraph) -> tuple[Tensor, Tensor]:
        """(n_users, top) int64 items of each user, and their shares, float64, which add up to 1."""
        matrix = interactions(graph)
        items, scores = best_items(matrix, ridge_weights(matrix, self.penalty), self.top)
        return items, (scores / self.temperature).softmax(-1)


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
    taught: Tensor | None
    shares: Tensor | None

    def __init__(self, weight: float, graph: BipartiteGraph, teacher: Teacher, user_exponent: float = 0.0) -> None:
        super().__init__(weight, graph, user_exponent)
        self.graph, self.teacher = graph, teacher
        self.register_buffer("taught", None, persistent=False)
        self.register_buffer("shares", None, persistent=False)

    def on_epoch_start(self, epoch: int, ego: Tensor, generator: torch.Generator) -> None:
        """Fits the teacher, once."""
        super().on_epoch_start(epoch, ego, generator)
        if self.taught is None:
            items, shares = self.teacher.targets(self.graph)
            self.taught, self.shares = (items - 1).to(ego.device), shares.to(ego)

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """Mean over B positives of the cross-entropy of their users."""
        if self.taught is None or self.shares is None:
            raise RuntimeError("distill: the teacher is fitted at the start of an epoch; call on_epoch_start first")
        nodes, counts = batch.users
        users, items = gather(encoding.scored, nodes), encoding.scored[self.first_item :]
        shares = self.shares[nodes].to(items.dtype)
        mean = F.embedding_bag(self.taught[nodes], items, per_sample_weights=shares, mode="sum")
        weights = counts * self._importance(nodes, users.dtype)
        return weighted_infonce_sum(users, mean, items, weights, 1.0) / len(batch.user)

    def report(self) -> dict[str, float]:
        """The mean entropy of the targets: what the term cannot fall below."""
        if self.shares is None:
            return {}
        return {"entropy": float(torch.special.entr(self.shares[1:]).sum(-1).mean())}

    def extra_repr(self) -> str:
        """Also: the teacher."""
        return f"{super().extra_repr()}, {self.teacher}"
