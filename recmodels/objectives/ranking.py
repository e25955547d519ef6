"""Ranking losses of the scores, and the regulariser of the ego embeddings."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from recmodels.graph import BipartiteGraph
from recmodels.kernels import gather, kth_largest_score, weighted_infonce_sum
from recmodels.losses import alignment, bpr, log_mean_exp, norm, squared_norm, top_k_weights, uniformity
from recmodels.objectives.base import Objective
from recmodels.records import Batch, Encoding


def user_importance(graph: BipartiteGraph, exponent: float) -> Tensor:
    """What each interaction of a user counts: n^-exponent for a user with n, scaled to 1 in the mean over interactions.

    Args:
        graph: gives n, distinct pairs.
        exponent: in [0, 4]; 0 counts interactions alike, 1 counts users alike.

    Returns:
        (n_users,) float64.
    """
    n = graph.degrees[: graph.n_users].double()
    importance = n.clamp(min=1).pow(-exponent)
    return importance * (n.sum() / (n * importance).sum())


class RankingObjective(Objective):
    """A loss of the positives of a batch, each with the importance of its user; mean over the batch.

    Args:
        weight: multiplier.
        graph: gives the interactions of each user, n: distinct pairs. A pair that the data repeat counts once in n, and
            each of its rows is a positive.
        user_exponent: in [0, 4]; a positive counts as `user_importance` says.
    """

    importance: Tensor

    def __init__(self, weight: float, graph: BipartiteGraph, user_exponent: float = 0.0) -> None:
        super().__init__(weight)
        self.register_buffer("importance", user_importance(graph, user_exponent), persistent=False)

    def _importance(self, users: Tensor, dtype: torch.dtype) -> Tensor:
        return self.importance[users].to(dtype)


class PairwiseRanking(RankingObjective):
    """BPR on the scores of positives and drawn negatives, mean over the batch.

    Args:
        weight: multiplier.
        graph: gives the interactions of each user.
        user_exponent: as in `RankingObjective`.

    Source: Rendle et al. 2009; He et al. 2020 (LightGCN), eq. 15.
    """

    name = "bpr"

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """Mean over B triples."""
        user, pos, neg = gather(encoding.scored, batch.triples)
        return (self._importance(batch.user, user.dtype) * bpr((user * pos).sum(-1), (user * neg).sum(-1))).mean()


class SoftmaxRanking(RankingObjective):
    """Softmax cross-entropy of each positive item among all items, exact; mean over the batch.

    Candidates: all real items, the user's other positives included. A user that occurs c times in the batch has one
    row of scores, which counts c times.

    Args:
        weight: multiplier.
        graph: gives the sides, and the interactions of each user.
        user_exponent: as in `RankingObjective`.

    Source: Rendle 2022, "Item Recommendation from Implicit Feedback", eq. 15 (softmax over the catalog).
    """

    name = "softmax"

    def __init__(self, weight: float, graph: BipartiteGraph, user_exponent: float = 0.0) -> None:
        super().__init__(weight, graph, user_exponent)
        self.first_item = graph.n_users + 1

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """Mean over B positives."""
        user, pos = gather(encoding.scored, batch.triples[:2])
        positive = self._importance(batch.user, user.dtype) * (user * pos).sum(-1)
        return (self._log_partition(encoding.scored[self.first_item :], encoding, batch) - positive.sum()) / len(user)

    def _log_partition(self, candidates: Tensor, encoding: Encoding, batch: Batch) -> Tensor:
        """Weighted sum over the batch of each user's logsumexp of scores.

        Candidates: (M, d'), or (M, d' + 1) with an offset of the score last.
        """
        nodes, counts = batch.users
        users = gather(encoding.scored, nodes)
        if candidates.shape[1] > users.shape[1]:
            users = F.pad(users, (0, 1), value=1.0)
        weights = counts * self._importance(nodes, users.dtype)
        return weighted_infonce_sum(users, torch.zeros_like(users), candidates, weights, 1.0)


class BilateralRanking(SoftmaxRanking):
    """Softmax over all items whose positive side is a log-mean-exp too, over the user's positives in the batch.

    `ratio * T` is the temperature of the positive side where T is that of the scores; a large ratio is the softmax.
    Mean over the batch, candidates as in `SoftmaxRanking`.

    Args:
        weight: multiplier.
        graph: gives the sides, and the interactions of each user.
        ratio: > 0, temperature of the positive side over that of the negative side.
        user_exponent: as in `RankingObjective`.

    Source: Wu et al. 2024 (BSL), eq. 18, divided by the temperature of the negative side.
    """

    name = "bsl"

    def __init__(self, weight: float, graph: BipartiteGraph, ratio: float, user_exponent: float = 0.0) -> None:
        super().__init__(weight, graph, user_exponent)
        self.ratio = ratio

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """Mean over B positives."""
        user, pos = gather(encoding.scored, batch.triples[:2])
        nodes, counts = batch.users
        group = torch.searchsorted(nodes, batch.user)
        positive = log_mean_exp((user * pos).sum(-1), group, len(nodes), self.ratio)
        negative = self._log_partition(encoding.scored[self.first_item :], encoding, batch)
        return (negative - (counts * self._importance(nodes, user.dtype) * positive).sum()) / len(user)


class TopKSoftmaxRanking(SoftmaxRanking):
    """Softmax over all items in which positives that are, or nearly are, among the user's k best count more.

    A positive weighs `sigmoid((score - threshold) / ratio)`, the threshold being the k-th best score of the user among
    all real items; the weights of a user's positives in the batch are scaled to mean 1 and are constants. Mean over the
    batch, candidates as in `SoftmaxRanking`.

    Args:
        weight: multiplier.
        graph: gives the sides, and the interactions of each user.
        k: >= 1.
        ratio: > 0, temperature of the weights over that of the scores; a large ratio is the softmax.
        user_exponent: as in `RankingObjective`.

    Source: Yang et al. 2025 (SL@K). There the threshold is estimated from drawn items, and weights are not scaled.
    """

    name = "slk"

    def __init__(self, weight: float, graph: BipartiteGraph, k: int, ratio: float, user_exponent: float = 0.0) -> None:
        super().__init__(weight, graph, user_exponent)
        self.k, self.ratio = k, ratio

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """Mean over B positives."""
        user, pos = gather(encoding.scored, batch.triples[:2])
        items, nodes = encoding.scored[self.first_item :], batch.users[0]
        thresholds = kth_largest_score(gather(encoding.scored, nodes), items, self.k)
        scores = (user * pos).sum(-1)
        weights = top_k_weights(scores, thresholds, torch.searchsorted(nodes, batch.user), self.ratio)
        positive = self._importance(batch.user, user.dtype) * weights * scores
        return (self._log_partition(items, encoding, batch) - positive.sum()) / len(user)


class SampledSoftmaxRanking(SoftmaxRanking):
    """Softmax cross-entropy of each positive among the positives of the batch, corrected for their popularity.

    Candidates: the positive items of the batch, each as often as it occurs, with `score - log q`, q being the item's
    share of the interactions: an estimate of the softmax over all items. Shares are those of distinct pairs: of data in
    which pairs repeat they are not those by which rows are drawn, and the estimate is biased. Mean over the batch.

    Args:
        weight: multiplier.
        graph: gives the shares, and the interactions of each user.
        user_exponent: as in `RankingObjective`.

    Source: Yi et al. 2019, "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", eqs. 4, 5.
    """

    name = "sampled_softmax"
    log_share: Tensor

    def __init__(self, weight: float, graph: BipartiteGraph, user_exponent: float = 0.0) -> None:
        super().__init__(weight, graph, user_exponent)
        degrees = graph.degrees.clamp(min=1).double()  # those without interactions are never drawn
        share = degrees / (graph.indices.numel() / 2)
        self.register_buffer("log_share", share.log(), persistent=False)

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """Mean over B positives."""
        user, pos = gather(encoding.scored, batch.triples[:2])
        nodes, counts = batch.items
        log_share = self.log_share.to(user.dtype)
        offset = counts.to(user.dtype).log() - log_share[nodes]
        candidates = torch.cat([gather(encoding.scored, nodes), offset[:, None]], dim=1)
        positive = self._importance(batch.user, user.dtype) * ((user * pos).sum(-1) - log_share[batch.pos])
        return (self._log_partition(candidates, encoding, batch) - positive.sum()) / len(user)


class AlignmentUniformity(Objective):
    """DirectAU: positives close together, users and items of a batch spread over the sphere; mean over the batch.

    Args:
        weight: multiplier.
        gamma: >= 0, weight of uniformity, which is the mean of both sides.

    Source: Wang et al. 2022 (DirectAU), eqs. 5 to 7. The readout is scaled to unit length, whatever the scores are.
    """

    name = "directau"

    def __init__(self, weight: float, gamma: float) -> None:
        super().__init__(weight)
        self.gamma = gamma

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """Alignment plus gamma times the mean uniformity of both sides."""
        user, pos = F.normalize(gather(encoding.final, batch.triples[:2]), dim=-1)
        sides = [
            uniformity(F.normalize(gather(encoding.final, nodes), dim=-1), counts)
            for nodes, counts in (batch.users, batch.items)
        ]
        return alignment(user, pos).mean() + self.gamma * (sides[0] + sides[1]) / 2


class EgoNorm(Objective):
    """L2 regulariser of the batch's ego embeddings, divided by B, as RecBole's `EmbLoss`.

    Args:
        weight: multiplier.
        squared: half the squared norm (`require_pow` of RecBole); otherwise the norm of the whole (B, d) block.
    """

    name = "reg"
    is_regularizer: ClassVar[bool] = True

    def __init__(self, weight: float, squared: bool) -> None:
        super().__init__(weight)
        self.squared = squared

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """Sum over users, positives and negatives of their norm, divided by B."""
        measure = squared_norm if self.squared else norm
        user, pos, neg = gather(encoding.ego, batch.triples)
        return (measure(user) + measure(pos) + measure(neg)) / batch.user.numel()
