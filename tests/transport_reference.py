"""The transport term by loops: one center, one negative, one unpadded problem at a time."""

from typing import Any

import torch
from torch import Tensor

from recmodels.graph import BipartiteGraph
from recmodels.layers import load_layer, properties_root
from recmodels.models.transport_term import TransportParams, subgraph_transport
from recmodels.node_views import NoiseView
from recmodels.objectives import SubgraphTransport
from recmodels.objectives.subgraph_transport import Sampler
from recmodels.records import Batch, Encoding
from recmodels.sampling import BfsSampler, ClusterSampler, HopSampler, WalkSampler, draw_centers, other_centers
from recmodels.views import PropagationView
from tests.conftest import random_graph
from tests.test_distances import inner_products, one_pair, plain_cosine

WIDTH, N_HOPS, SEED = 6, 3, 11
SMALL = {"ot_centers": [4, 3], "ot_hop1": 2, "ot_hop2": 3, "ot_iters": 8, "ot_gw_outer": 2, "ot_gw_inner": 4}
SMALL |= {"ot_negatives_per_center": 2, "ot_weight": 1.0}


def transport_params(**overrides: Any) -> TransportParams:  # noqa: ANN401
    """The shipped parameters of the transport term, made small, with overrides."""
    shipped = load_layer(properties_root() / "model" / "NCL_OT.yaml", "NCL_OT").values
    values = {key: shipped[key] for key in TransportParams.keys()}  # noqa: SIM118  (a class, not a mapping)
    return TransportParams.from_mapping(values | SMALL | overrides)


def _graph() -> BipartiteGraph:
    """A random graph with one isolated user and one isolated item besides the padding."""
    dense = random_graph(9, 12, density=0.35)
    users = torch.repeat_interleave(torch.arange(9), dense.degrees[:9])
    items = dense.indices[: len(users)] - 9
    return BipartiteGraph.from_interactions(users, items, n_users=10, n_items=13)


class World:
    """A small graph, its float64 encoding, and the objective with its random layers seeded."""

    def __init__(self, **overrides: Any) -> None:  # noqa: ANN401
        self.params = transport_params(**overrides)
        self.graph = _graph()
        adjacency = self.graph.normalized_adjacency(torch.float64)
        generator = torch.Generator().manual_seed(1)
        ego = torch.randn(self.graph.n_nodes, WIDTH, dtype=torch.float64, generator=generator)
        encoder = PropagationView(adjacency, N_HOPS)
        self.encoding: Encoding = encoder(ego.requires_grad_())
        torch.manual_seed(5)  # attention layers draw from the global stream
        self.clusters = torch.randint(3, (self.graph.n_nodes,), generator=torch.Generator().manual_seed(2))
        self.objective = subgraph_transport(self.params, self.graph, encoder, WIDTH, lambda: self.clusters).double()

    def start(self, epoch: int = 0, seed: int = SEED) -> SubgraphTransport:
        """The objective at the start of an epoch."""
        self.objective.on_epoch_start(epoch, self.encoding.ego.detach(), torch.Generator().manual_seed(seed))
        return self.objective

    def term(self) -> Tensor:
        """The term of one batch, which the objective does not look at."""
        none = torch.zeros(0, dtype=torch.int64)
        return self.objective(self.encoding, Batch.of(none, none, none))


class Reference:
    """The same term by loops, from the same drawn centers; keeps the distances it met."""

    def __init__(self, world: World) -> None:
        self.world, self.p, self.graph = world, world.params, world.graph
        everything = torch.arange(self.graph.n_nodes)
        objective = world.objective
        self.generator = torch.Generator().manual_seed(SEED)
        self.views = {end: getattr(objective, end) for end in ("view_a", "view_b")}
        for view in self.views.values():
            if isinstance(view, NoiseView):  # the noise of the step that is repeated
                view.on_epoch_start(0, self.generator)
        self.z = {end: view(world.encoding, everything) for end, view in self.views.items()}
        self.positives: list[dict[str, Tensor]] = []
        self.negatives: list[dict[str, Tensor]] = []

    def term(self) -> Tensor:
        """Sum over the contrasts of the mean over their centers."""
        connected = [[v for v in side.tolist() if self.graph.degrees[v] > 0] for side in self._sides()]
        counts = self.p.ot_centers
        if isinstance(counts, int):
            return self._contrasts([[(connected[0] + connected[1], counts)]])
        pools = list(zip(connected, counts, strict=True))
        return self._contrasts([pools] if self.p.ot_sides == "joint" else [[pool] for pool in pools])

    def _sides(self) -> tuple[Tensor, Tensor]:
        return self.graph.users, self.graph.items

    def _contrasts(self, contrasts: list[list[tuple[list[int], int]]]) -> Tensor:
        """All centers first, then their subgraphs, then the other centers of each contrast."""
        centers = [
            torch.cat([draw_centers(torch.tensor(pool), count, self.generator) for pool, count in pools])
            for pools in contrasts
        ]
        drawn = self._sampler()(torch.cat(centers), self.generator)
        sets = [nodes[mask].tolist() for nodes, mask in zip(drawn.nodes, drawn.mask, strict=True)]
        terms = []
        for chosen in centers:
            own, sets = sets[: len(chosen)], sets[len(chosen) :]
            others = other_centers(len(own), self._n_others(len(own)), self.generator)
            losses = [self._center(own[c], [own[o] for o in others[c].tolist()]) for c in range(len(own))]
            terms.append(torch.stack(losses).mean())
        return torch.stack(terms).sum()

    def _sampler(self) -> Sampler:
        hop1, hop2, is_reach2 = self.p.ot_hop1, self.p.ot_hop2, self.p.ot_sample_graph == "reach2"
        near, size = self.p.ot_reach2_weights if is_reach2 else "adjacency", 1 + hop1 + hop2
        if self.p.ot_sampler == "hops":
            return HopSampler(self.graph, hop1, hop2, near if is_reach2 else "walk")
        if self.p.ot_sampler == "cluster":
            return ClusterSampler(self.graph, self.world.clusters, size)
        return {"bfs": BfsSampler, "walk": WalkSampler}[self.p.ot_sampler](self.graph, size, near)

    def _n_others(self, n: int) -> int:
        per_center = self.p.ot_negatives_per_center
        return n - 1 if isinstance(per_center, str) else per_center

    def _center(self, own: list[int], others: list[list[int]]) -> Tensor:
        positive = self._distance(own, own, "view_b")
        negatives = [self._distance(own, other, end) for end in self.p.ot_negatives for other in others]
        self.positives.append(positive)
        self.negatives += negatives
        weights = {"wasserstein": 1 - self.p.ot_share, "gromov": self.p.ot_share}
        parts = [weights[name] * self._loss(positive, negatives, name) for name in positive]
        return torch.stack(parts).sum()

    def _distance(self, left: list[int], right: list[int], end: str) -> dict[str, Tensor]:
        blocks = {"adjacency": self._edges, "reach2": self._reach2, "feature": lambda nodes: None}
        structure = blocks[self.p.ot_structure](left)
        similarity = plain_cosine if self.p.ot_normalize else inner_products
        x, y = self.z["view_a"][left], self.z[end][right]
        return one_pair(self.world.objective.distance, x, y, structure, similarity)

    def _near(self, node: int) -> set[int]:
        first, end = self.graph.indptr[node : node + 2].tolist()
        return set(self.graph.indices[first:end].tolist())

    def _edges(self, nodes: list[int]) -> Tensor:
        return torch.tensor([[float(w in self._near(v)) for w in nodes] for v in nodes], dtype=torch.float64)

    def _reach2(self, nodes: list[int]) -> Tensor:
        n_paths = [[len(self._near(v) & self._near(w)) if v != w else 0 for w in nodes] for v in nodes]
        block = torch.tensor(n_paths, dtype=torch.float64)
        return block.clamp(max=1) if self.p.ot_reach2_weights == "binary" else block

    def _loss(self, positive: dict[str, Tensor], negatives: list[dict[str, Tensor]], name: str) -> Tensor:
        temperature = self.p.ot_temperature if name == "wasserstein" else self.p.ot_gw_temperature
        closeness = [(-d[name] / temperature).exp() for d in (positive, *negatives)]
        if self.p.ot_loss == "infonce":
            return -(closeness[0] / torch.stack(closeness).sum()).log()
        logs = [-torch.sigmoid(closeness[0]).log(), *(-torch.sigmoid(-x).log() for x in closeness[1:])]
        return torch.stack(logs).mean()
