"""Samplers: centers (B,) to subgraphs of S places."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Generator, Tensor

from recmodels.errors import ParamError
from recmodels.graph import BipartiteGraph
from recmodels.records import Subgraphs
from recmodels.sampling.draws import distinct_draws, first_distinct, race
from recmodels.sampling.neighborhoods import Neighborhood, Neighbors, neighborhood

# Length of a walk. In a graph where many steps lead to nodes already seen, walks of this length leave free places.
STEPS_PER_PLACE = 2


@dataclass(frozen=True, eq=False)
class HopSampler:
    """A center, `hop1` of its neighbors and `hop2` of the nodes at distance exactly two.

    Neighbors are a uniform subset. Two-hop nodes are the outcome of single draws, repeated until `hop2` distinct ones
    other than the center are found; where fewer exist, all of them are taken. The graph is bipartite, so two-hop nodes
    are of the center's own side.

    Columns of a row: the center, `hop1` places, `hop2` places; free places follow the valid ones of their hop, and an
    isolated center gives just itself. Memory is O(B * S) plus the two-step paths of the rows whose draws fell short.

    Args:
        graph: users and items, never modified.
        hop1: >= 0, number of neighbors.
        hop2: >= 0, number of two-hop nodes; `hop1 + hop2 >= 1`.
        far: what a single draw of a two-hop node follows: `walk`, two uniform steps; `count`, the number of paths;
            `binary`, uniform over distinct nodes. See `neighborhoods.TwoHop`.

    Raises:
        ParamError: a number is out of range, or `far` is unknown.
    """

    graph: BipartiteGraph = field(repr=False)
    hop1: int
    hop2: int
    far: str = "walk"

    def __post_init__(self) -> None:
        _require("HopSampler", "hop1", self.hop1, 0)
        _require("HopSampler", "hop2", self.hop2, 0)
        _require("HopSampler", "hop1 + hop2", self.hop1 + self.hop2, 1)
        _ = self._two_hop  # an unknown name is refused here, not at the first draw

    @cached_property
    def _two_hop(self) -> Neighborhood:
        return neighborhood(self.graph, self.far)

    def __call__(self, centers: Tensor, generator: Generator) -> Subgraphs:
        """One subgraph of S = 1 + hop1 + hop2 places around each center of (B,) int64; they may repeat."""
        near = Neighbors(self.graph).draw(centers, self.hop1, generator)
        far = self._two_hop.draw(centers, self.hop2, generator)
        return _subgraphs(torch.cat([centers[:, None], near, far], dim=1))


@dataclass(frozen=True, eq=False)
class _StepSampler:
    """What takes up to `size` nodes, going from node to neighborhood."""

    graph: BipartiteGraph = field(repr=False)
    size: int
    near: str = "adjacency"

    def __post_init__(self) -> None:
        _require(type(self).__name__, "size", self.size, 1)
        _ = self._neighborhood  # an unknown name is refused here, not at the first draw

    @cached_property
    def _neighborhood(self) -> Neighborhood:
        return neighborhood(self.graph, self.near)


@dataclass(frozen=True, eq=False)
class BfsSampler(_StepSampler):
    """A center and the nodes around it, breadth first, up to `size` nodes.

    A hop is taken whole while it fits; the hop that does not fit is subsampled, uniformly or, for `near: count`, by
    number of paths from the hop before; the next hop is visited only if all nearer ones leave room; an isolated center
    gives just itself. Source: Han et al. 2022 (GSC).

    Memory is O(B * size) plus, beyond the first hop, the edges or two-step paths of the nodes taken in rows with room.

    Args:
        graph: users and items, never modified.
        size: >= 1, nodes of a subgraph, center included.
        near: what a hop is: `adjacency`, or two-hop reachability with weights `binary` or `count`.

    Raises:
        ParamError: `size` is out of range, or `near` is unknown.
    """

    def __call__(self, centers: Tensor, generator: Generator) -> Subgraphs:
        """One subgraph of S = size places, nearer hops first, around each center of (B,) int64; they may repeat."""
        near = self._neighborhood.draw(centers, self.size - 1, generator)
        nodes = torch.cat([centers[:, None], near], dim=1)
        is_open = (near == centers[:, None]).any(dim=1)
        nodes[is_open] = self._grow(nodes[is_open], generator)
        return _subgraphs(nodes)

    def _grow(self, nodes: Tensor, generator: Generator) -> Tensor:
        """Adds the second and later hops to rows (B, size) that hold their center and all its neighbors."""
        grown = nodes.clone()
        is_new = nodes != nodes[:, :1]
        free = self.size - 1 - is_new.sum(dim=1)
        row, frontier = is_new.nonzero()[:, 0], nodes[is_new]
        while frontier.numel():
            row, frontier, mass = self._neighborhood.beyond(grown, row, frontier)
            chosen, place = race(row, mass, free, generator)
            row, frontier = row[chosen], frontier[chosen]
            grown[row, self.size - free[row] + place] = frontier
            free = free - torch.bincount(row, minlength=len(free))
            has_room = free[row] > 0
            row, frontier = row[has_room], frontier[has_room]
        return grown


@dataclass(frozen=True, eq=False)
class WalkSampler(_StepSampler):
    """A center and the first distinct nodes that a random walk from it visits, up to `size` nodes.

    The walk makes `STEPS_PER_PLACE * (size - 1)` steps, each to a single draw from the neighborhood of the node it is
    at, and may come back; places that it does not fill are padding. It stays where there is no neighbor, so an isolated
    center gives just itself. Memory is O(B * size).

    Args:
        graph: users and items, never modified.
        size: >= 1, nodes of a subgraph, center included.
        near: where a step leads: a uniform neighbor (`adjacency`), or a two-hop node, uniform (`binary`) or by number
            of paths (`count`).

    Raises:
        ParamError: `size` is out of range, or `near` is unknown.
    """

    def __call__(self, centers: Tensor, generator: Generator) -> Subgraphs:
        """One subgraph of S = size places, in the order of the visits, around each center of (B,) int64."""
        visited = [centers]
        for _ in range(STEPS_PER_PLACE * (self.size - 1)):
            visited.append(self._neighborhood.draw(visited[-1], 1, generator)[:, 0])
        nodes = first_distinct(centers, torch.stack(visited, dim=1), self.size - 1)
        return _subgraphs(torch.cat([centers[:, None], nodes], dim=1))


@dataclass(frozen=True, eq=False)
class ClusterSampler:
    """A center and a uniform subset of the other nodes of its cluster, up to `size` nodes.

    Isolated nodes belong to no cluster: they are never drawn, and as a center give just themselves. Memory is
    O(B * size + N).

    Args:
        graph: users and items; clusters of users and of items are apart.
        assignment: (N,) int64, >= 0, the cluster of each node among those of its side.
        size: >= 1, nodes of a subgraph, center included.

    Raises:
        ParamError: `size` is out of range.
    """

    graph: BipartiteGraph = field(repr=False)
    assignment: Tensor = field(repr=False)
    size: int

    def __post_init__(self) -> None:
        _require("ClusterSampler", "size", self.size, 1)

    @cached_property
    def _clusters(self) -> tuple[Tensor, Tensor, Tensor]:
        """Members by cluster (M,), and for every node the first place and the number of its cluster's members (N,)."""
        key = self.assignment.clone()
        key[self.graph.n_users :] += int(key.max()) + 1
        is_member = self.graph.degrees > 0
        count = torch.bincount(key[is_member], minlength=int(key.max()) + 1)
        members = is_member.nonzero().flatten()
        return members[key[members].argsort(stable=True)], (count.cumsum(0) - count)[key], count[key] * is_member

    @cached_property
    def _rank(self) -> Tensor:
        """(N,) place of each member among the members of its cluster."""
        members, first, _ = self._clusters
        rank = torch.zeros_like(first)
        rank[members] = torch.arange(len(members)) - first[members]
        return rank

    def __call__(self, centers: Tensor, generator: Generator) -> Subgraphs:
        """One subgraph of S = size places around each center of (B,) int64; they may repeat."""
        members, first, count = self._clusters
        draws = distinct_draws((count[centers] - 1).clamp(min=0), self.size - 1, generator)
        is_drawn = draws >= 0
        draws = draws + (draws >= self._rank[centers, None]).long()  # the center itself is passed over
        nodes = centers[:, None].repeat(1, self.size - 1)
        nodes[is_drawn] = members[(first[centers, None] + draws)[is_drawn]]
        return _subgraphs(torch.cat([centers[:, None], nodes], dim=1))


def _require(where: str, name: str, value: int, bound: int) -> None:
    if value < bound:
        raise ParamError(f"{where}: {name} must be >= {bound}, got {value}; nearest valid choice: {bound}")


def _subgraphs(nodes: Tensor) -> Subgraphs:
    mask = nodes != nodes[:, :1]
    mask[:, 0] = True
    return Subgraphs(nodes, mask)
