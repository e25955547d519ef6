"""Perturbed views: the encoder on a dropped graph, with noise on its hops, or on a low-rank graph."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recmodels.adjacency import Adjacency
from recmodels.graph import BipartiteGraph
from recmodels.spectral import normalized_interactions, truncated_svd
from recmodels.views import LIGHTGCN, Aggregation, PropagationView

DROPS = ("edge", "node", "walk")


class DroppedView(PropagationView):
    """The encoder on a part of the graph, drawn anew at the start of every epoch.

    The dropped graph is normalized by its own degrees. In evaluation mode and before the first epoch the whole graph
    is used. The encoder's own edge dropout, step by step, does not come on top.

    Args:
        encoder: the view that is perturbed; its hops, aggregation and whole graph are used.
        graph: what is drawn from; it stays as it is.
        drop: `edge` drops edges, `node` drops users and items with all their edges, `walk` draws edges for every hop.
        rate: share that is dropped, in [0, 1): of the edges, or of the users and of the items, rounded.

    Raises:
        ValueError: `drop` is none of `DROPS`, or the rate is out of range.

    Source: Wu et al. 2021 (SGL), section 3.1.
    """

    def __init__(self, encoder: PropagationView, graph: BipartiteGraph, drop: str, rate: float) -> None:
        super().__init__(
            encoder.adjacency, encoder.n_hops, encoder.n_extra_hops, encoder.aggregation._replace(edge_dropout=0.0)
        )
        if drop not in DROPS or not 0 <= rate < 1:
            raise ValueError(f"drop must be one of {', '.join(DROPS)} and rate in [0, 1), got {drop!r} and {rate}")
        self.graph, self.drop, self.rate = graph, drop, rate
        self.dropped = nn.ModuleList()

    def on_epoch_start(self, epoch: int, generator: torch.Generator) -> None:
        """Draws a new graph, or one for every hop."""
        n_graphs = self.n_hops + self.n_extra_hops if self.drop == "walk" else 1
        draw = drop_nodes if self.drop == "node" else drop_edges
        graphs = (draw(self.graph, self.rate, generator) for _ in range(n_graphs))
        self.dropped = nn.ModuleList(
            self.aggregation.adjacency(graph).to(self.adjacency.values.device, self.adjacency.values.dtype)
            for graph in graphs
        )

    def adjacency_of(self, number: int) -> Adjacency:
        """The drawn graph of hop `number` in training, the whole graph otherwise."""
        if not self.training or not len(self.dropped):
            return self.adjacency
        drawn = self.dropped[(number - 1) % len(self.dropped)]
        assert isinstance(drawn, Adjacency)
        return drawn

    def extra_repr(self) -> str:
        """Also: what is dropped."""
        return f"{super().extra_repr()}, drop={self.drop}, rate={self.rate:g}"


def drop_edges(graph: BipartiteGraph, rate: float, generator: torch.Generator) -> BipartiteGraph:
    """The graph without a uniformly drawn share of its edges.

    Args:
        graph: users and items.
        rate: share of the edges, in [0, 1).
        generator: draws them.
    """
    keep = torch.ones(graph.n_edges, dtype=torch.bool)
    keep[torch.randperm(graph.n_edges, generator=generator)[: round(rate * graph.n_edges)]] = False
    return graph.with_edges(keep)


def drop_nodes(graph: BipartiteGraph, rate: float, generator: torch.Generator) -> BipartiteGraph:
    """The graph without the edges of a uniformly drawn share of its users and of its items.

    Args:
        graph: users and items; the padding rows are never drawn.
        rate: share of each side, in [0, 1).
        generator: draws them.
    """
    is_kept = torch.ones(graph.n_nodes, dtype=torch.bool)
    for nodes in (graph.users, graph.items):
        drawn = torch.randperm(len(nodes), generator=generator)[: round(rate * len(nodes))]
        is_kept[nodes[drawn]] = False
    return graph.with_edges(is_kept[graph.ends].all(0))


class NoisyView(PropagationView):
    """The encoder with noise of a fixed length on every hop after the first: `x + noise * sign(x) * u / |u|`.

    The entries of u are uniform in [0, 1), drawn in float32 on the device of the embeddings, anew at every call in
    training; evaluation has no noise. The noise reaches the hops that follow. A device has numbers of its own.

    Args:
        encoder: the view that is perturbed; its hops, aggregation and graph are used.
        noise: >= 0, length of the noise, unit of the embeddings.

    Source: Yu et al. 2022 (SimGCL), section 3.
    """

    def __init__(self, encoder: PropagationView, noise: float) -> None:
        super().__init__(encoder.adjacency, encoder.n_hops, encoder.n_extra_hops, encoder.aggregation)
        self.noise = noise

    def next_hop(self, hop: Tensor, number: int) -> Tensor:
        """(N, d) the next hop, with noise in training."""
        clean = super().next_hop(hop, number)
        if not self.training or not self.noise:
            return clean
        drawn = torch.rand(clean.shape, generator=self.generator, device=self.generator.device)
        direction = F.normalize(drawn, dim=-1).to(clean).mul_(clean.detach().sign())
        return torch.add(clean, direction, alpha=self.noise)

    def extra_repr(self) -> str:
        """Also: the length of the noise."""
        return f"{super().extra_repr()}, noise={self.noise:g}"


class LowRankView(nn.Module):
    """One propagation by the best approximation of rank q of either block of the adjacency; memory is O(N q).

    The adjacency and the scale of the hops are those of the aggregation: `D^-1/2 A D^-1/2` and hops as they are by
    default. At full rank the next hop is the encoder's own, whatever the aggregation.

    As `kernels.propagate` it stays in the dtype of its factors under autocast: float16 has no room for sums over nodes.

    Args:
        graph: users and items; rows of isolated nodes stay 0.
        rank: q >= 1, clipped to the number of real nodes of the smaller side, where the approximation is exact.
        generator: start of the decompositions, see `spectral.truncated_svd`.
        aggregation: of the encoder; equal exponents need one decomposition, others one for each side that receives.

    Source: Cai et al. 2023 (LightGCL), section 3.2, for LightGCN's aggregation.
    """

    users: Tensor
    items: Tensor
    users_back: Tensor | None
    items_back: Tensor | None

    def __init__(
        self, graph: BipartiteGraph, rank: int, generator: torch.Generator, aggregation: Aggregation = LIGHTGCN
    ) -> None:
        super().__init__()
        self.rank, self.aggregation = min(rank, graph.n_users - 1, graph.n_items - 1), aggregation
        exponents = aggregation.target, aggregation.source
        to_users = _factors(graph, self.rank, exponents, generator)
        to_items = (None, None) if len(set(exponents)) == 1 else _factors(graph, self.rank, exponents[::-1], generator)
        for name, part in zip(("users", "items", "users_back", "items_back"), (*to_users, *to_items), strict=True):
            self.register_buffer(name, part, persistent=False)

    def forward(self, hop: Tensor) -> Tensor:
        """(N, d) the next hop, in the dtype of the factors."""
        sources = self.users if self.users_back is None else self.users_back
        targets = self.items if self.items_back is None else self.items_back
        with torch.autocast(hop.device.type, enabled=False):
            scaled = self.aggregation.scaled(hop.to(self.users.dtype))
            users, items = scaled.split([len(self.users), len(self.items)])
            return torch.cat([self.users @ (self.items.T @ items), targets @ (sources.T @ users)])

    def extra_repr(self) -> str:
        """The rank."""
        return f"rank={self.rank}"


def _factors(
    graph: BipartiteGraph, rank: int, exponents: tuple[float, float], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(n_users, q) and (n_items, q) float32, whose product is near `Du^-first R Di^-second`."""
    left, singular, right = truncated_svd(normalized_interactions(graph, *exponents), rank, generator)
    factors = torch.cat([left, right]) * singular.sqrt()
    factors[graph.degrees == 0] = 0  # zero up to rounding
    users, items = factors.float().split([graph.n_users, graph.n_items])
    return users, items
