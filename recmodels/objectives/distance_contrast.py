"""How transport distances of pairs become a loss."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recmodels.distances import Distances


@dataclass(frozen=True)
class DistanceContrast:
    """How distances of pairs become a loss.

    Attributes:
        loss: `(positive (n,), negatives (n, K), temperature) -> (n,)`.
        temperatures: of each kind of distance (`wasserstein`, `gromov`), > 0, in its unit.
        weights: of each kind of distance.
        negatives: which ends another center contributes: its `view_a`, its `view_b`, or both.
        per_center: other centers drawn for each center; None takes all others.
    """

    loss: Callable[[Tensor, Tensor, float], Tensor]
    temperatures: dict[str, float]
    weights: dict[str, float]
    negatives: tuple[str, ...]
    per_center: int | None

    def __call__(self, positive: Distances, negatives: list[Distances]) -> Tensor:
        """Mean over n centers; positive distances (n,), negatives of each end (n, K)."""
        terms = []
        for name, near in positive.values.items():
            far = torch.cat([d.values[name] for d in negatives], -1)
            terms.append(self.weights[name] * self.loss(near, far, self.temperatures[name]).mean())
        return torch.stack(terms).sum()
