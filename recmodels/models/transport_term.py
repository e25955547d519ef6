"""The transport component: its keys and how they become an objective."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from recmodels.distances import Geometry, GromovSolver, TransportDistance
from recmodels.graph import BipartiteGraph
from recmodels.losses import distance_bce, distance_infonce
from recmodels.node_views import node_view, view_problem
from recmodels.objectives import DistanceContrast, SubgraphTransport
from recmodels.objectives.subgraph_transport import Sampler
from recmodels.params import LARGEST_TEMPERATURE, SMALLEST_TEMPERATURE, Params, param
from recmodels.records import Subgraphs
from recmodels.sampling import (
    BfsSampler,
    ClusterSampler,
    HopSampler,
    WalkSampler,
    subgraph_adjacency,
    subgraph_reach2,
)
from recmodels.transport import Solver
from recmodels.views import PropagationView

LOSSES = {"infonce": distance_infonce, "bce": distance_bce}
# From the keys, the graph and what gives the cluster of each node; all samplers but `hops` know one number of nodes.
SAMPLERS: dict[str, Callable[["TransportParams", BipartiteGraph, Callable[[], Tensor]], Sampler]] = {
    "hops": lambda p, graph, _: HopSampler(graph, p.ot_hop1, p.ot_hop2, p.reach2_weights or "walk"),
    "bfs": lambda p, graph, _: BfsSampler(graph, p.subgraph_size, p.reach2_weights or "adjacency"),
    "walk": lambda p, graph, _: WalkSampler(graph, p.subgraph_size, p.reach2_weights or "adjacency"),
    "cluster": lambda p, graph, clusters: ClusterSampler(graph, clusters().cpu(), p.subgraph_size),
}
# How the solver's two loops are nested: IPOT takes one inner step per proximal step, Sinkhorn one proximal step.
NESTINGS: dict[str, Callable[[int], dict[str, int]]] = {
    "ipot": lambda n_iters: {"outer": n_iters, "inner": 1},
    "sinkhorn": lambda n_iters: {"outer": 1, "inner": n_iters},
}
ENDS = ("view_a", "view_b")

# Gromov-Wasserstein squares costs of up to exp(1 / t); from here on they stay far below float32's largest number.
_GROMOV_TEMPERATURE = 0.05


@dataclass(frozen=True)
class TransportParams(Params):
    """Keys of the transport term, for a model that has hops."""

    ot_weight: float = param(ge=0)
    ot_share: float = param(ge=0, le=1)
    ot_centers: int | list[int] = param(ge=1)
    ot_sides: str = param(choices=("separate", "joint"))
    ot_sampler: str = param(choices=tuple(SAMPLERS))
    ot_hop1: int = param(ge=0)
    ot_hop2: int = param(ge=0)
    ot_sample_graph: str = param(choices=("adjacency", "reach2"))
    ot_reach2_weights: str = param(choices=("binary", "count"))
    ot_resample: str = param(choices=("batch", "epoch"))
    ot_structure: str = param(choices=("adjacency", "reach2", "feature"))
    ot_view_a: str = param()
    ot_view_b: str = param()
    ot_noise: float = param(gt=0)
    ot_cost: str = param(choices=("cosine", "exp_cosine", "exp_cosine_shifted"))
    ot_cost_temperature: float = param(ge=0.02, le=LARGEST_TEMPERATURE)  # below, e^(1/t) outgrows "no mass"
    ot_normalize: bool = param()
    ot_threshold: float = param(ge=0, lt=1)
    ot_threshold_scope: str = param(choices=("problem", "batch", "none"))
    ot_solver: str = param(choices=tuple(NESTINGS))
    ot_epsilon: float = param(gt=0)
    ot_iters: int = param(ge=1)
    ot_gw_epsilon: float = param(gt=0)
    ot_gw_outer: int = param(ge=1)
    ot_gw_inner: int = param(ge=1)
    ot_gw_plan: str = param(choices=("gw", "wasserstein"))
    ot_plan_grad: str = param(choices=("envelope", "unroll"))
    ot_loss: str = param(choices=tuple(LOSSES))
    ot_temperature: float = param(ge=SMALLEST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    ot_gw_temperature: float = param(ge=SMALLEST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    ot_negatives: list[str] = param(choices=ENDS)
    ot_negatives_per_center: int | str = param(ge=1, choices=("all",))
    ot_starts_at: int = param(ge=0)

    @property
    def subgraph_size(self) -> int:
        """S, nodes of a subgraph, center included."""
        return 1 + self.ot_hop1 + self.ot_hop2

    @property
    def reach2_weights(self) -> str | None:
        """The weights of the sampled graph if it is two-hop reachability."""
        return self.ot_reach2_weights if self.ot_sample_graph == "reach2" else None

    def inert_keys(self) -> set[str]:
        """Also: what only a term without a weight would read, or a distance, cost or view that was not chosen."""
        own = set(TransportParams.keys()) - {"ot_weight"}
        return super().inert_keys() | (self._unread() if self.ot_weight else own)

    def _unread(self) -> set[str]:
        reads_two_hops = self.ot_sample_graph == "reach2" or (self.ot_share > 0 and self.ot_structure == "reach2")
        has_noise = any(view.startswith("noise") for view in (self.ot_view_a, self.ot_view_b))
        of_gromov = {"ot_gw_epsilon", "ot_gw_outer", "ot_gw_inner", "ot_gw_plan", "ot_gw_temperature", "ot_structure"}
        has_plan = self.ot_share < 1 or self.ot_gw_plan == "wasserstein"  # of the cost between the views
        reads_view_a = has_plan or self.ot_structure == "feature" or "view_a" in self.ot_negatives
        rules = [
            (self.ot_share == 0, of_gromov),
            (self.ot_share == 1, {"ot_temperature"}),
            (not has_plan, {"ot_solver", "ot_epsilon", "ot_iters"}),
            (not reads_view_a and not has_noise, {"ot_view_a"}),  # noise of view a moves that of view b
            (self.ot_cost == "cosine", {"ot_cost_temperature"}),
            (not reads_two_hops, {"ot_reach2_weights"}),
            (not has_noise, {"ot_noise"}),
        ]
        return {key for is_unread, keys in rules if is_unread for key in keys}

    @property
    def counts_from_last_hop(self) -> bool:
        """Whether a view is another one where a model has more hops."""
        return any(view == "next" or ":-" in view for view in (self.ot_view_a, self.ot_view_b))

    def view_problems(self, n_hops: int) -> list[str]:
        """What is wrong with the two views of a model whose last hop is `n_hops`."""
        found = {key: view_problem(getattr(self, key), n_hops) for key in ("ot_view_a", "ot_view_b")}
        return [f"{key}: {problem}" for key, problem in found.items() if problem]

    def problems(self) -> list[str]:
        """Checks that need more than one value."""
        found = super().problems()
        if self.ot_hop1 + self.ot_hop2 < 1:
            found.append("ot_hop1: a subgraph needs a node besides its center: ot_hop1 + ot_hop2 must be >= 1")
        if self.ot_sides == "separate" and (isinstance(self.ot_centers, int) or len(self.ot_centers) != 2):
            found.append(f"ot_centers: ot_sides: separate needs [users, items], got {self.ot_centers!r}")
        if not isinstance(self.ot_centers, int) and len(self.ot_centers) != 2:
            found.append(f"ot_centers: must be [users, items] or one joint number, got {self.ot_centers!r}")
        counts = [self.ot_centers] if isinstance(self.ot_centers, int) else self.ot_centers
        if (min(counts, default=2) if self.ot_sides == "separate" else sum(counts)) < 2:
            found.append(f"ot_centers: a contrast needs at least 2 centers, for one is no negative, got {counts}")
        found += self._sampling_problems() + self._cost_problems()
        if not self.ot_negatives or len(set(self.ot_negatives)) < len(self.ot_negatives):
            found.append(f"ot_negatives: must name view_a, view_b or both, once each, got {self.ot_negatives!r}")
        return found

    def remarks(self, n_epochs: int) -> list[str]:
        """Also: a term that never begins, and structures that are the same for all subgraphs."""
        found = super().remarks(n_epochs)
        if self.ot_weight and self.ot_starts_at >= n_epochs:
            found.append(f"ot_starts_at: {self.ot_starts_at} is not reached in {n_epochs} epochs: no transport term")
        reads_edges = self.ot_weight and self.ot_share > 0 and self.ot_structure == "adjacency"
        if reads_edges and self.ot_sampler == "hops" and self.ot_hop1 == 0:
            found.append(
                "ot_hop1: with 0 the nodes of a subgraph are of one side and have no edges, so ot_structure: adjacency "
                "tells no two of them apart; choose reach2 or feature"
            )
        return found

    def _sampling_problems(self) -> list[str]:
        """Settings of sampler, sampled graph and structure that do not go together."""
        is_reach2, is_cluster = self.ot_sample_graph == "reach2", self.ot_sampler == "cluster"
        reads_count = is_reach2 or (self.ot_structure == "reach2" and self.ot_cost != "cosine")
        found = []
        if is_cluster and is_reach2:
            found.append("ot_sample_graph: ot_sampler: cluster reads no graph, got reach2; choose adjacency")
        if self.ot_sampler == "hops" and is_reach2 and self.ot_hop1 > 0:
            found.append(f"ot_hop1: ot_sample_graph: reach2 has two-hop nodes only, got {self.ot_hop1}; choose 0")
        if self.ot_reach2_weights == "count" and not reads_count:
            found.append(
                "ot_reach2_weights: count has no effect without ot_sample_graph: reach2, or ot_structure: reach2 and "
                "an exponential cost (for cosine one path is as near as many); choose binary"
            )
        if (is_reach2 or is_cluster) and self.ot_share > 0 and self.ot_structure == "adjacency":
            found.append(
                "ot_structure: subgraphs of ot_sample_graph: reach2 or ot_sampler: cluster are of one side and have no "
                "edges, got adjacency with ot_share > 0; choose reach2 or feature"
            )
        return found

    def _cost_problems(self) -> list[str]:
        """Settings that would have no effect, or a cost that float32 cannot square."""
        found = []
        if self.ot_threshold > 0 and self.ot_threshold_scope == "none":
            found.append("ot_threshold: has no effect with ot_threshold_scope: none; choose problem or batch, or 0")
        if self.ot_share > 0 and self.ot_cost == "exp_cosine" and self.ot_cost_temperature < _GROMOV_TEMPERATURE:
            found.append(
                f"ot_cost_temperature: must be >= {_GROMOV_TEMPERATURE} with ot_cost: exp_cosine and ot_share > 0, got "
                f"{self.ot_cost_temperature}: Gromov-Wasserstein squares the cost; exp_cosine_shifted allows less"
            )
        if not self.ot_normalize and self.ot_cost != "cosine":
            found.append(
                f"ot_normalize: false puts inner products in place of cosines, which ot_cost: {self.ot_cost} does not "
                "bound; choose ot_cost: cosine (which cuts 1 less the product to [0, 2]), or true"
            )
        if self.ot_view_a.startswith("gat") and not self._reads_view_a():
            found.append(
                f"ot_view_a: no gradient reaches its attention with ot_share: 1, ot_structure: {self.ot_structure} and "
                "no view_a among ot_negatives; choose ot_structure: feature, or another view"
            )
        return found

    def _reads_view_a(self) -> bool:
        """Whether a gradient reaches view a: by the Wasserstein cost, as a structure, or as the end of a negative."""
        unrolled = self.ot_gw_plan == "wasserstein" and self.ot_plan_grad == "unroll"
        return self.ot_share < 1 or self.ot_structure == "feature" or "view_a" in self.ot_negatives or unrolled


def subgraph_transport(
    p: TransportParams, graph: BipartiteGraph, encoder: PropagationView, width: int, clusters: Callable[[], Tensor]
) -> SubgraphTransport:
    """The transport objective that the parameters describe.

    Args:
        p: the component's keys.
        graph: the training graph.
        encoder: of the model.
        width: d of the embeddings.
        clusters: gives the cluster of each node among those of its side, (N,) int64, for `ot_sampler: cluster`.
    """
    view_a, view_b = (node_view(text, graph, encoder, width, p.ot_noise) for text in (p.ot_view_a, p.ot_view_b))
    sampler = partial(SAMPLERS[p.ot_sampler], p, graph, clusters)
    return SubgraphTransport(
        _pools(p, graph),
        sampler(),
        (view_a, view_b),
        _distance(p),
        _contrast(p),
        weight=p.ot_weight,
        starts_at=p.ot_starts_at,
        resample=p.ot_resample,
        structure=_structure(p) if p.ot_share > 0 else None,
        is_unit=p.ot_normalize,
        sampler_of_epoch=sampler if p.ot_sampler == "cluster" else None,
    )


def _structure(p: TransportParams) -> Callable[[BipartiteGraph, Subgraphs], Tensor] | None:
    """What stands for the cosines within a subgraph in view a; None: its embeddings."""
    if p.ot_structure == "reach2":
        return partial(subgraph_reach2, weights=p.ot_reach2_weights)
    return subgraph_adjacency if p.ot_structure == "adjacency" else None


def _pools(p: TransportParams, graph: BipartiteGraph) -> list[list[tuple[Tensor, int]]]:
    """For each contrast the node ids to draw centers from, with their number; isolated nodes are left out."""
    users, items = (nodes[graph.degrees[nodes] > 0] for nodes in (graph.users, graph.items))
    if isinstance(p.ot_centers, int):
        return [[(torch.cat([users, items]), p.ot_centers)]]
    pools = [(users, p.ot_centers[0]), (items, p.ot_centers[1])]
    return [[pool] for pool in pools] if p.ot_sides == "separate" else [pools]


def _distance(p: TransportParams) -> TransportDistance:
    geometry = Geometry(p.ot_cost, p.ot_cost_temperature, p.ot_threshold, p.ot_threshold_scope)
    gromov = GromovSolver(p.ot_gw_epsilon, p.ot_gw_outer, p.ot_gw_inner, p.ot_gw_plan) if p.ot_share > 0 else None
    nesting = NESTINGS[p.ot_solver](p.ot_iters)
    solver = Solver(p.ot_epsilon, **nesting, gradient=p.ot_plan_grad, cost_bound=geometry.bound)
    return TransportDistance(geometry, solver, gromov, has_wasserstein=p.ot_share < 1)


def _contrast(p: TransportParams) -> DistanceContrast:
    per_center = None if isinstance(p.ot_negatives_per_center, str) else p.ot_negatives_per_center
    temperatures = {"wasserstein": p.ot_temperature, "gromov": p.ot_gw_temperature}
    weights = {"wasserstein": 1 - p.ot_share, "gromov": p.ot_share}
    return DistanceContrast(LOSSES[p.ot_loss], temperatures, weights, tuple(p.ot_negatives), per_center)
