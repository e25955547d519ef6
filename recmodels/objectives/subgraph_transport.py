"""Optimal transport between sampled subgraphs, contrasted over centers."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from recmodels.costs import direction, in_float32
from recmodels.distances import Clouds, Distances, TransportDistance
from recmodels.graph import BipartiteGraph
from recmodels.kernels import gather
from recmodels.node_views import NoiseView
from recmodels.objectives.base import Objective
from recmodels.objectives.distance_contrast import DistanceContrast
from recmodels.records import Batch, Encoding, Subgraphs, sent
from recmodels.sampling import draw_centers, other_centers
from recmodels.sinkhorn import Plan

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


class _Draw(NamedTuple):
    """What is random about a step: C centers of all contrasts with S places each.

    Attributes:
        nodes: (M,) int64 distinct node ids of all subgraphs.
        places: (C, S) int64 in `[0, M)`, which of them a place holds.
        mask: (C, S) bool, valid places; None: all are.
        adjacency: (C, S, S) edges or two-step paths, where view a's structure needs them.
        others: for each contrast the other centers of its centers, (n, K) int64 in `[0, n)`; their n add up to C.
    """

    nodes: Tensor
    places: Tensor
    mask: Tensor | None
    adjacency: Tensor | None
    others: list[Tensor]

    def to(self, device: torch.device) -> "_Draw":
        """The same on a device."""
        mask, adjacency = (None if x is None else sent(x, device) for x in (self.mask, self.adjacency))
        others = [sent(x, device) for x in self.others]
        return _Draw(sent(self.nodes, device), sent(self.places, device), mask, adjacency, others)


class Pairs(NamedTuple):
    """What moves between B pairs of subgraphs.

    Attributes:
        left: nodes of the rows, whose embeddings are those of view a.
        right: nodes of the columns, whose embeddings are those of view b.
        cost: (B, S, S) cost of a unit of mass, unit free; 0 at padded places.
        plan: masses (B, S, S), which sum to 1, and how far they are off their marginals.
    """

    left: Subgraphs
    right: Subgraphs
    cost: Tensor
    plan: Plan


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
        **schedule: `weight`, `starts_at`, `resample` (`batch` or `epoch`); `structure`, that of view a as a function
            of graph and subgraphs, or None to read it from the embeddings; `is_unit`, whether embeddings are scaled to
            unit length; `sampler_of_epoch`, which gives a new sampler at the start of every epoch, or None.

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
        self.is_redrawn, self.is_unit = schedule["resample"] == "batch", schedule["is_unit"]
        self.structure: Callable[[BipartiteGraph, Subgraphs], Tensor] | None = schedule["structure"]
        self.sampler_of_epoch: Callable[[], Sampler] | None = schedule["sampler_of_epoch"]
        self._drawn: _Draw | None = None
        self._seen: dict[str, list[Tensor]] = {}
        self._has_warned = False

    def on_epoch_start(self, epoch: int, ego: Tensor, generator: torch.Generator) -> None:
        """Starts the epoch's streams; draws the epoch's subgraphs where they are not redrawn for each batch."""
        super().on_epoch_start(epoch, ego, generator)
        if self.sampler_of_epoch:
            self.sampler = self.sampler_of_epoch()
        for view in (self.view_a, self.view_b):
            if isinstance(view, NoiseView):
                view.on_epoch_start(epoch, self.generator)
        self._seen = {}
        self._drawn = None if self.is_redrawn else self._draw().to(ego.device)

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """Sum over the contrasts of the mean over their centers; the batch itself is not used."""
        draw = self._drawn or self._draw().to(encoding.ego.device)
        left, right = self._clouds(encoding, draw)
        requests, first = [], 0
        for others in draw.others:
            rows = slice(first, first + len(others))
            requests.append(self._pairs(left.rows(rows), {name: end.rows(rows) for name, end in right.items()}, others))
            first = rows.stop
        found = iter(self.distance.of_all([pairs for request in requests for pairs in request]))
        return torch.stack([self._contrast([next(found) for _ in request]) for request in requests]).sum()

    def _draw(self) -> _Draw:
        """Centers, subgraphs and other centers of every contrast; on the CPU, where counting and looking are free."""
        drawn = [
            torch.cat([draw_centers(pool, count, self.generator) for pool, count in pools]) for pools in self.pools
        ]
        subgraphs = self.sampler(torch.cat(drawn), self.generator)
        return self._placed(subgraphs, [self._others(len(centers)) for centers in drawn])

    def _placed(self, subgraphs: Subgraphs, others: list[Tensor]) -> _Draw:
        adjacency = self.structure(self.sampler.graph, subgraphs) if self.structure else None
        nodes, places = torch.unique(subgraphs.nodes, return_inverse=True)
        mask = None if bool(subgraphs.mask.all()) else subgraphs.mask
        return _Draw(nodes, places, mask, adjacency, others)

    def _others(self, n: int) -> Tensor:
        k = n if self.contrast.per_center is None else self.contrast.per_center
        return other_centers(n, k, self.generator)

    def _clouds(self, encoding: Encoding, draw: _Draw) -> tuple[Clouds, dict[str, Clouds]]:
        """The subgraphs as left ends, in view a and with its structure, and as right ends in both views."""
        x = {}
        for name, view in (("view_a", self.view_a), ("view_b", self.view_b)):
            embeddings = view(encoding, draw.nodes)
            x[name] = gather(direction(embeddings) if self.is_unit else in_float32(embeddings), draw.places)
        return Clouds(x["view_a"], draw.mask, draw.adjacency), {name: Clouds(x[name], draw.mask) for name in x}

    def _pairs(
        self, left: Clouds, right: dict[str, Clouds], others: Tensor
    ) -> list[tuple[Clouds, Clouds, Tensor | None]]:
        """What is compared in a contrast: each center with itself in view b first, then with the others."""
        ends: dict[str, Tensor] = dict.fromkeys(self.contrast.negatives, others)
        chosen = None
        if "view_b" in ends and not self.distance.geometry.is_of_batch:  # all that ends in view b at once is faster
            itself = torch.arange(len(others), device=others.device)[:, None]
            chosen = torch.cat([itself, ends.pop("view_b")], 1)
        return [(left, right["view_b"], chosen), *((left, right[end], of) for end, of in ends.items())]

    def _contrast(self, distances: list[Distances]) -> Tensor:
        """The loss of one contrast from the distances of its pairs."""
        positive, *negatives = distances
        if positive.marginal_error.dim() == 2:
            positive, negatives = positive.columns(0), [positive.columns(slice(1, None)), *negatives]
        self._note(positive, negatives)
        return self.contrast(positive, negatives)

    def _note(self, positive: Distances, negatives: list[Distances]) -> None:
        for role, pairs in (("positive", [positive]), ("negative", negatives)):
            for name, value in ((name, value) for d in pairs for name, value in d.values.items() if value.numel()):
                self._seen.setdefault(f"{role}_{name}", []).append(value.detach().mean())
        errors = torch.cat([d.marginal_error.flatten() for d in (positive, *negatives)])
        self._seen.setdefault("marginal_error", []).append(errors.max())

    @torch.no_grad()
    def pairs(self, encoding: Encoding, left: Tensor, right: Tensor, generator: torch.Generator) -> Pairs:
        """Draws a subgraph of every center and transports view a of the left ones to view b of the right ones.

        A center on both sides has one subgraph, as in the positives of the term. For a model in evaluation mode, in
        which views have no noise; then nothing changes. A threshold over the batch is one over these pairs.

        Args:
            encoding: of the whole graph.
            left: (B,) int64 centers, not isolated.
            right: (B,) int64 centers, not isolated.
            generator: CPU stream of the subgraphs.
        """
        centers, place = torch.unique(torch.cat([left, right]), return_inverse=True)
        subgraphs = self.sampler(centers, generator)
        ends = place.view(2, -1)
        clouds, others = self._clouds(encoding, self._placed(subgraphs, []).to(encoding.ego.device))
        cost, plan = self.distance.wasserstein_plan(clouds.rows(ends[0]), others["view_b"].rows(ends[1]))
        rows, columns = (Subgraphs(subgraphs.nodes[end], subgraphs.mask[end]) for end in ends)
        return Pairs(rows, columns, cost, plan)

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
