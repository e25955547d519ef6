"""The transport component: its keys and how they become an objective."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recmodels.distances import Geometry, GromovSolver, TransportDistance
from recmodels.graph import BipartiteGraph
from recmodels.losses import distance_bce, distance_infonce
from recmodels.objectives import DistanceContrast, SubgraphTransport
from recmodels.objectives.subgraph_transport import Sampler
from recmodels.params import Params, param
from recmodels.sampling import BfsSampler, HopSampler
from recmodels.transport import Solver
from recmodels.views import PropagationView, node_view, view_problem

LOSSES = {"infonce": distance_infonce, "bce": distance_bce}
SAMPLERS: dict[str, Callable[[BipartiteGraph, int, int], Sampler]] = {
    "hops": HopSampler,
    "bfs": lambda graph, hop1, hop2: BfsSampler(graph, 1 + hop1 + hop2),  # the same size, filled hop by hop
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
    ot_resample: str = param(choices=("batch", "epoch"))
    ot_structure: str = param(choices=("adjacency", "feature"))
    ot_view_a: str = param()
    ot_view_b: str = param()
    ot_cost: str = param(choices=("cosine", "exp_cosine", "exp_cosine_shifted"))
    ot_cost_temperature: float = param(ge=0.02)  # below, exp(1 / t) outgrows what stands for no mass
    ot_threshold: float = param(ge=0, le=1)
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
    ot_temperature: float = param(gt=0)
    ot_gw_temperature: float = param(gt=0)
    ot_negatives: list[str] = param(choices=ENDS)
    ot_negatives_per_center: int | str = param(ge=1, choices=("all",))
    ot_starts_at: int = param(ge=0)

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
        found += self._cost_problems()
        if not self.ot_negatives or len(set(self.ot_negatives)) < len(self.ot_negatives):
            found.append(f"ot_negatives: must name view_a, view_b or both, once each, got {self.ot_negatives!r}")
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
        if self.ot_view_a.startswith("gat") and not self._reads_view_a():
            found.append(
                "ot_view_a: no gradient reaches its attention with ot_share: 1, ot_structure: adjacency and no view_a "
                "among ot_negatives; choose ot_structure: feature, or another view"
            )
        return found

    def _reads_view_a(self) -> bool:
        """Whether a gradient reaches view a: by the Wasserstein cost, as a structure, or as the end of a negative."""
        unrolled = self.ot_gw_plan == "wasserstein" and self.ot_plan_grad == "unroll"
        return self.ot_share < 1 or self.ot_structure == "feature" or "view_a" in self.ot_negatives or unrolled


def subgraph_transport(
    p: TransportParams, graph: BipartiteGraph, encoder: PropagationView, width: int
) -> SubgraphTransport:
    """The transport objective that the parameters describe.

    Args:
        p: the component's keys.
        graph: the training graph.
        encoder: of the model.
        width: d of the embeddings.
    """
    view_a, view_b = (node_view(text, graph, encoder, width) for text in (p.ot_view_a, p.ot_view_b))
    return SubgraphTransport(
        _pools(p, graph),
        SAMPLERS[p.ot_sampler](graph, p.ot_hop1, p.ot_hop2),
        (view_a, view_b),
        _distance(p),
        _contrast(p),
        weight=p.ot_weight,
        starts_at=p.ot_starts_at,
        resample=p.ot_resample,
        uses_edges=p.ot_share > 0 and p.ot_structure == "adjacency",
    )


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
