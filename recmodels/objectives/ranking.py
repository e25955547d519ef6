"""Ranking loss and the regulariser of the ego embeddings."""

from typing import ClassVar

from torch import Tensor

from recmodels.kernels import gather
from recmodels.losses import bpr, norm, squared_norm
from recmodels.objectives.base import Objective
from recmodels.records import Batch, Encoding


class PairwiseRanking(Objective):
    """BPR on inner products of the final embeddings, mean over the batch.

    Source: Rendle et al. 2009; He et al. 2020 (LightGCN), eq. 15.
    """

    name = "bpr"

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """Mean over B triples."""
        user, pos, neg = gather(encoding.final, batch.triples)
        return bpr((user * pos).sum(-1), (user * neg).sum(-1)).mean()


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
