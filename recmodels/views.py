"""The view that is scored: from ego embeddings to an Encoding."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recmodels.adjacency import Adjacency
from recmodels.graph import BipartiteGraph
from recmodels.kernels import propagate
from recmodels.records import Encoding


class Aggregation(NamedTuple):
    """How hops are computed and read out; LightGCN's by default.

    Attributes:
        target: exponent of the degree of the node that receives.
        source: exponent of the degree of its neighbor.
        is_unit: whether embeddings are scaled to unit length before every propagation.
        ego_share: gamma in [0, 1], the share of hop 0 in the readout, the rest shared by the hops after it; None gives
            all hops the same share.
        edge_dropout: p in [0, 1), share of the edges that a training step leaves out of propagation.
    """

    target: float = 0.5
    source: float = 0.5
    is_unit: bool = False
    ego_share: float | None = None
    edge_dropout: float = 0.0

    def adjacency(self, graph: BipartiteGraph) -> Adjacency:
        """The normalized adjacency with these exponents."""
        return graph.normalized_adjacency(target=self.target, source=self.source)

    def scaled(self, hop: Tensor) -> Tensor:
        """(N, d) what a propagation reads of a hop: its rows, of unit length where `is_unit` says so."""
        return F.normalize(hop, dim=-1) if self.is_unit else hop


LIGHTGCN = Aggregation()


class PropagationView(nn.Module):
    """LightGCN's encoder: propagate hop by hop, read out a mean of the first hops.

    With edge dropout every call in training draws the edges that stay, each with probability 1 - p and both directions
    together, and divides their values by 1 - p; degrees stay those of the whole graph, and evaluation uses all edges.

    Args:
        adjacency: normalised, (N, N).
        n_hops: L >= 1, hops read out besides hop 0.
        n_extra_hops: hops beyond L that an objective needs; they are propagated but not read out.
        aggregation: how a hop follows from the one before, and the share of each in the readout.

    Source: He et al. 2020 (LightGCN), eqs. 7 and 8 with alpha_k = 1 / (L + 1), edge dropout as in the authors' code,
    which however draws the two directions of an edge one by one; Lee et al. 2024 (LightGCN++), section 4.
    """

    edge_numbers: Tensor | None

    def __init__(
        self, adjacency: Adjacency, n_hops: int, n_extra_hops: int = 0, aggregation: Aggregation = LIGHTGCN
    ) -> None:
        super().__init__()
        self.adjacency, self.aggregation = adjacency, aggregation
        self.n_hops, self.n_extra_hops = n_hops, n_extra_hops
        self.generator = torch.Generator(adjacency.values.device)
        numbers = adjacency.edge_numbers() if aggregation.edge_dropout else None
        self.register_buffer("edge_numbers", numbers, persistent=False)
        self._kept: list[Adjacency] = []  # in a list, because it is no part of the module

    def forward(self, ego: Tensor) -> Encoding:
        """Encodes the whole graph.

        Args:
            ego: (N, d).

        Returns:
            Encoding with n_hops + n_extra_hops + 1 hops.
        """
        self._kept = [self._draw_edges(self.edge_numbers)] if self.training and self.edge_numbers is not None else []
        hops = [ego]
        for _ in range(self.n_hops + self.n_extra_hops):
            hops.append(self.next_hop(hops[-1], len(hops)))
        final = self._read_out(hops[: self.n_hops + 1])
        return Encoding(ego, tuple(hops), final, final)

    def next_hop(self, hop: Tensor, number: int) -> Tensor:
        """(N, d) embeddings of hop `number`, which is one propagation after the hop that is given."""
        return propagate(self.adjacency_of(number), self.aggregation.scaled(hop))

    def adjacency_of(self, number: int) -> Adjacency:
        """What hop `number` >= 1 is propagated by."""
        return self._kept[0] if self._kept else self.adjacency

    def _draw_edges(self, numbers: Tensor) -> Adjacency:
        """The adjacency with the edges of one step; numbers (nnz,) of the edges."""
        rate, device = self.aggregation.edge_dropout, self.generator.device
        drawn = torch.rand(numbers.numel() // 2, generator=self.generator, device=device) >= rate
        return self.adjacency.scaled((drawn.to(self.adjacency.values) / (1 - rate))[numbers])

    def on_epoch_start(self, epoch: int, generator: torch.Generator) -> None:
        """Starts this view's own stream with a draw from the epoch's; a perturbed view may draw more here.

        Args:
            epoch: 0-based.
            generator: stream of this epoch.
        """
        seed = int(torch.randint(2**62, (), generator=generator))
        self.generator = torch.Generator(self.adjacency.values.device).manual_seed(seed)

    def _read_out(self, hops: list[Tensor]) -> Tensor:
        """(N, d) weighted mean of the hops."""
        share = self.aggregation.ego_share
        total = hops[1] if share is not None else hops[0] + hops[1]
        for hop in hops[2:]:  # a running sum: stacking would copy every hop
            total = total + hop
        if share is None:
            return total / len(hops)
        return share * hops[0] + (1 - share) / (len(hops) - 1) * total

    def extra_repr(self) -> str:
        """Number of hops, and the aggregation where it is not LightGCN's."""
        aggregation = "" if self.aggregation == LIGHTGCN else f", {self.aggregation}"
        return f"n_hops={self.n_hops}, n_extra_hops={self.n_extra_hops}{aggregation}"
