"""Synthetic graphs of any size, and steps of a model on them without data files."""

import time

import torch
import torch.nn.functional as F
from torch import nn

from recmodels.allocator import keep_freed_memory
from recmodels.experiments.session import resolve_train
from recmodels.graph import BipartiteGraph
from recmodels.models import MODELS, Parts
from recmodels.objectives import Objective, PrototypeContrast
from recmodels.records import Batch
from recmodels.streams import stream

GROWTHS = ("nodes", "density")
BATCH_SIZE = 4096
_USER_DEGREE, _FIXED_USERS = 25, 100_000
_SKEW = 2.0  # an item's share falls as rank^(1 / skew - 1): here with the inverse root of its rank


def n_users_for(n_edges: int, growth: str) -> int:
    """Users of a graph; items are half as many.

    Args:
        n_edges: edges asked for.
        growth: `nodes` grow in proportion to the edges (25 a user), or `density` over 100,000 users.
    """
    return max(2, n_edges // _USER_DEGREE) if growth == "nodes" else _FIXED_USERS


def synthetic_graph(n_edges: int, n_users: int, generator: torch.Generator) -> BipartiteGraph:
    """Uniform users, items skewed by popularity.

    Args:
        n_edges: pairs drawn; repeated ones count once, so the graph has slightly fewer edges.
        n_users: real users; there are half as many real items.
        generator: draws the pairs.

    Returns:
        The graph, with the padding rows as isolated nodes.
    """
    n_items = n_users // 2
    users = torch.randint(1, n_users + 1, (n_edges,), generator=generator)
    ranks = torch.rand(n_edges, generator=generator, dtype=torch.float64) ** _SKEW
    items = 1 + (n_items * ranks).long().clamp(max=n_items - 1)
    return BipartiteGraph.from_interactions(users, items, n_users + 1, n_items + 1)


def n_edges_of(graph: BipartiteGraph) -> int:
    """Distinct edges, each counted once."""
    return graph.indices.numel() // 2


def random_batch(graph: BipartiteGraph, size: int, generator: torch.Generator) -> Batch:
    """Random edges with uniform negatives.

    Args:
        graph: users and items.
        size: B.
        generator: draws both.
    """
    places = torch.randint(n_edges_of(graph), (size,), generator=generator)  # the first half are the rows of users
    users = torch.searchsorted(graph.indptr, places, right=True) - 1
    negatives = torch.randint(graph.n_users + 1, graph.n_nodes, (size,), generator=generator)
    return Batch.of(users, graph.indices[places], negatives)


class SyntheticModel:
    """The parts of a model on a synthetic graph, with Adam; values are those of the properties.

    The E-step is left out: centroids are random unit vectors and assignments are random.

    Args:
        name: of the model.
        n_edges: edges asked for.
        growth: `nodes` or `density`.
        seed: of graph, model and batches.
    """

    def __init__(self, name: str, n_edges: int, growth: str, seed: int) -> None:
        self.graph = synthetic_graph(n_edges, n_users_for(n_edges, growth), stream(seed, "graph"))
        self.generator = stream(seed, "batches")
        resolved = resolve_train({"model": name, "dataset": "synthetic", "seed": seed})
        self.parts = _build(name, resolved.params, self.graph, seed)
        self.parts.encoder.on_epoch_start(0, stream(seed, "encoder"))
        self.objectives = [o for o in self.parts.objectives if o.weight != 0]
        for objective in self.objectives:
            _start(objective, self.parts, stream(seed, objective.name))
        keep_freed_memory(self.parts.table().nbytes)  # as a run does
        modules = nn.ModuleList([self.parts.table, self.parts.encoder, *self.objectives])
        self.optimizer = torch.optim.Adam(modules.parameters(), lr=resolved.run.learning_rate)

    def steps(self, n_steps: int) -> list[float]:
        """Seconds of each of n training steps."""
        return [self._step() for _ in range(n_steps)]

    def facts(self) -> dict[str, int]:
        """Distinct edges, users and items without padding, threads."""
        sides = {"users": self.graph.n_users - 1, "items": self.graph.n_items - 1}
        return {"edges": n_edges_of(self.graph), **sides, "threads": torch.get_num_threads()}

    def _step(self) -> float:
        started = time.perf_counter()
        batch = random_batch(self.graph, BATCH_SIZE, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        encoding = self.parts.encoder(self.parts.table())
        terms = [o.weight * o(encoding, batch) for o in self.objectives]
        torch.stack(terms).sum().backward()
        self.optimizer.step()
        return time.perf_counter() - started


def _build(name: str, params: object, graph: BipartiteGraph, seed: int) -> Parts:
    """What the model's `build` composes; its constructor would ask for RecBole's data."""
    model = MODELS[name].__new__(MODELS[name])
    nn.Module.__init__(model)
    model.seed = seed
    return model.build(params, graph)


def _start(objective: Objective, parts: Parts, generator: torch.Generator) -> None:
    """Begins an epoch, with random prototypes in place of the E-step."""
    if not isinstance(objective, PrototypeContrast):
        objective.on_epoch_start(0, parts.table().detach(), generator)
        return
    for centroids in (objective.user_centroids, objective.item_centroids):
        centroids.copy_(F.normalize(torch.randn(centroids.shape, generator=generator), dim=-1))
    n_clusters = min(len(objective.user_centroids), len(objective.item_centroids))
    objective.assignment.copy_(torch.randint(n_clusters, objective.assignment.shape, generator=generator))
