"""Optimal transport between sampled subgraphs, contrasted over centers."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from recmodels.distances import Clouds, Distances, TransportDistance
from recmodels.graph import BipartiteGraph
from recmodels.kernels import gather
from recmodels.objectives.base import Objective
from recmodels.records import Batch, Encoding, Subgraphs
from recmodels.sampling import draw_centers, other_centers, subgraph_adjacency

logger = logging.getLogger(__name__)

# Above this L1 error of its marginals a plan is not a plan yet, and distances depend on the iteration count.
MARGINAL_WARNING = 1e-2


class Sampler(Protocol):
    """Draws subgraphs of a graph around centers."""

    @property
    def graph(self) -> BipartiteGraph:
        """The graph that is sampled."""
        ...

    def __call__(self, centers: Tensor, generator: torch.Generator) -> Subgraphs:
        """(B,) node ids to B subgraphs."""
        ...


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
        """Mean over n centers; negatives of each kind hold n * k pairs, center by center."""
        terms = []
        for name, near in positive.values.items():
            far = torch.cat([d.values[name].reshape(near.numel(), -1) for d in negatives], -1)
            terms.append(self.weights[name] * self.loss(near, far, self.temperatures[name]).mean())
        return torch.stack(terms).sum()


class _Draw(NamedTuple):
    """What is random about one contrast of n centers with S places each."""

    subgraphs: Subgraphs
    adjacency: Tensor | None
    others: Tensor


class SubgraphTransport(Objective):
    """A subgraph in view a against itself in view b, among subgraphs of other centers, by transport distances.

    Reduction: mean over the centers of a contrast, sum over the contrasts. Candidates: the positive once, and the drawn
    negatives; the positives of other centers are not candidates of a center.

    Args:
        pools: for each contrast, the node ids from which its centers are drawn, with their number: one contrast a
            side, or one joint contrast.
        sampler: draws the subgraphs.
        views: node views a and b, each `(encoding, nodes (M,)) -> (M, d)`.
        distance: transport between two sets of embeddings.
        contrast: turns distances into the loss.
        **schedule: `weight`, `starts_at`, `resample` (`batch` or `epoch`), `uses_edges` (whether the structure of
            view a is the subgraph's adjacency).

    Source: Han et al. 2022 (GSC), sections 3.2 and 3.3.
    """

    name = "ot"

    def __init__(
        self,
        pools: list[list[tuple[Tensor, int]]],
        sampler: Sampler,
        views: tuple[nn.Module, nn.Module],
        distance: TransportDistance,
        contrast: DistanceContrast,
        **schedule: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(schedule["weight"], schedule["starts_at"])
        self.pools, self.sampler, self.distance, self.contrast = pools, sampler, distance, contrast
        self.view_a, self.view_b = views
        self.is_redrawn, self.uses_edges = schedule["resample"] == "batch", schedule["uses_edges"]
        self._draws: list[_Draw] = []
        self._seen: dict[str, list[Tensor]] = {}
        self._has_warned = False

    def on_epoch_start(self, epoch: int, ego: Tensor, generator: torch.Generator) -> None:
        """Starts the epoch's stream; draws the epoch's subgraphs where they are not redrawn for each batch."""
        super().on_epoch_start(epoch, ego, generator)
        self._seen = {}
        self._draws = [] if self.is_redrawn else self._draw(ego.device)

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """Sum over the contrasts of the mean over their centers; the batch itself is not used."""
        draws = self._draw(encoding.ego.device) if self.is_redrawn else self._draws
        return torch.stack([self._contrast(encoding, draw) for draw in draws]).sum()

    def _draw(self, device: torch.device) -> list[_Draw]:
        """Centers, subgraphs and other centers of every contrast, moved to the device."""
        return [self._draw_contrast(pools, device) for pools in self.pools]

    def _draw_contrast(self, pools: list[tuple[Tensor, int]], device: torch.device) -> _Draw:
        centers = torch.cat([draw_centers(pool, count, self.generator) for pool, count in pools])
        subgraphs = self.sampler(centers, self.generator)
        adjacency = subgraph_adjacency(self.sampler.graph, subgraphs).to(device) if self.uses_edges else None
        n = centers.numel()
        others = other_centers(n, n if self.contrast.per_center is None else self.contrast.per_center, self.generator)
        return _Draw(Subgraphs(*(t.to(device) for t in subgraphs)), adjacency, others.to(device))

    def _contrast(self, encoding: Encoding, draw: _Draw) -> Tensor:
        nodes, places = torch.unique(draw.subgraphs.nodes, return_inverse=True)
        z_a, z_b = self.view_a(encoding, nodes), self.view_b(encoding, nodes)
        n, k = draw.others.shape
        itself = torch.arange(n, device=nodes.device)
        left, right = itself.repeat_interleave(k), draw.others.flatten()
        positive = self.distance(self._clouds(z_a, places, draw, itself), _clouds(z_b, places, draw, itself))
        ends = {"view_a": z_a, "view_b": z_b}
        negatives = [
            self.distance(self._clouds(z_a, places, draw, left), _clouds(ends[end], places, draw, right))
            for end in self.contrast.negatives
        ]
        self._note(positive, negatives)
        return self.contrast(positive, negatives)

    def _clouds(self, z: Tensor, places: Tensor, draw: _Draw, rows: Tensor) -> Clouds:
        """The left end of pairs: as the right one, with its edges where these are its structure."""
        adjacency = None if draw.adjacency is None else draw.adjacency[rows].to(z.dtype)
        return _clouds(z, places, draw, rows)._replace(adjacency=adjacency)

    def _note(self, positive: Distances, negatives: list[Distances]) -> None:
        for role, pairs in (("positive", [positive]), ("negative", negatives)):
            for name, value in ((name, value) for d in pairs for name, value in d.values.items() if value.numel()):
                self._seen.setdefault(f"{role}_{name}", []).append(value.detach().mean())
        errors = torch.cat([d.marginal_error for d in (positive, *negatives)])
        self._seen.setdefault("marginal_error", []).append(errors.max())

    def report(self) -> dict[str, float]:
        """Mean distance of positives and of negatives, and the largest marginal error of the epoch."""
        values = {name: torch.stack(seen) for name, seen in self._seen.items()}
        report = {name: float(seen.max() if name == "marginal_error" else seen.mean()) for name, seen in values.items()}
        if report.get("marginal_error", 0) > MARGINAL_WARNING and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "transport plans are %.3g off their marginals (limit %g): raise ot_iters, ot_gw_inner or the epsilons",
                report["marginal_error"],
                MARGINAL_WARNING,
            )
        return report


def _clouds(z: Tensor, places: Tensor, draw: _Draw, rows: Tensor) -> Clouds:
    """Embeddings (M, d) put into the subgraphs `rows`."""
    return Clouds(gather(z, places[rows]), draw.subgraphs.mask[rows])
