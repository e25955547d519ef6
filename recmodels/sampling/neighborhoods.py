"""Who counts as a neighbor of a node: along edges, or two steps away. Nothing is held for all pairs of nodes.

Two-hop reachability connects two users, or two items, with a common neighbor; a node is not its own neighbor. In the
words of matrices it is A @ A without the diagonal, A being the graph's adjacency. On MovieLens most of its entries are
not zero, so it is drawn from and never made.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Generator, Tensor

from recmodels.errors import ParamError
from recmodels.graph import BipartiteGraph, incoming_edges
from recmodels.sampling.draws import distinct_draws, first_distinct, race

# Single draws before the exact enumeration. They change the cost only: both continue the same law of repeated draws.
ROUNDS = 2
DRAWS_PER_PLACE = 2

# Neighbors looked at first when two nodes are asked for a common one; every next look takes four times as many.
_FIRST_LOOK = 4


class Neighborhood(Protocol):
    """The neighbors of a node in some sense, and how they are drawn."""

    def draw(self, centers: Tensor, k: int, generator: Generator) -> Tensor:
        """(B, k) distinct neighbors of each center of (B,), all of them where there are fewer, then the center."""
        ...

    def beyond(self, seen: Tensor, row: Tensor, frontier: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Distinct neighbors of each row's frontier that are not among the row's seen nodes.

        Args:
            seen: (B, S) node ids.
            row: (F,) row of each frontier node.
            frontier: (F,) node ids.

        Returns:
            row and node, both (M,), and mass (M,) float64: the probability of the node in a single draw, up to a
            constant of the row.
        """
        ...


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The ends of a node's edges; k of them are a uniform subset.

    Args:
        graph: users and items.
    """

    graph: BipartiteGraph = field(repr=False)

    def draw(self, centers: Tensor, k: int, generator: Generator) -> Tensor:
        """(B, k), see `Neighborhood`."""
        draws = distinct_draws(self.graph.degrees[centers], k, generator)
        is_drawn = draws >= 0
        neighbors = centers[:, None].repeat(1, k)
        neighbors[is_drawn] = self.graph.indices[(self.graph.indptr[centers, None] + draws)[is_drawn]]
        return neighbors

    def beyond(self, seen: Tensor, row: Tensor, frontier: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Neighborhood`; all masses are 1."""
        row, node, mass = _unseen_neighbors(self.graph, seen, row, frontier, torch.ones(frontier.shape))
        return row, node, torch.ones_like(mass)


@dataclass(frozen=True, eq=False)
class TwoHop:
    """The nodes at distance two of a node. Subclasses say with which probability a single draw gives each of them.

    k nodes are the outcome of single draws, repeated until k distinct ones are found; where fewer exist, all of them.
    The graph is bipartite, so they are of the node's own side. Memory is O(B * k) plus the two-step paths of the rows
    whose first draws fell short.

    Args:
        graph: users and items.
    """

    graph: BipartiteGraph = field(repr=False)

    def propose(self, centers: Tensor, n: int, generator: Generator) -> Tensor:
        """(B, n) single draws for each center, none of them isolated; the center itself where a draw gave nothing."""
        raise NotImplementedError(f"{type(self).__name__} does not draw")

    def path_mass(self, middle: Tensor) -> Tensor:
        """What one path through each middle node (P,) adds to the mass of its end; (P,) float64."""
        return torch.ones(middle.shape, dtype=torch.float64)

    def draw(self, centers: Tensor, k: int, generator: Generator) -> Tensor:
        """(B, k), see `Neighborhood`."""
        found = centers[:, None].repeat(1, k)
        short = (self.graph.degrees[centers] > 0).nonzero().flatten()
        for _ in range(ROUNDS):
            ends = self.propose(centers[short], DRAWS_PER_PLACE * k, generator)
            found[short] = first_distinct(centers[short], torch.cat([found[short], ends], dim=1), k)
            short = short[(found[short] == centers[short, None]).any(dim=1)]
        found[short] = self._complete(centers[short], found[short], generator)
        return found

    def beyond(self, seen: Tensor, row: Tensor, frontier: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Neighborhood`; the mass is that of all paths from the row's frontier to the node."""
        middle, index = incoming_edges(self.graph, frontier)
        return _unseen_neighbors(self.graph, seen, row[index], middle, self.path_mass(middle))

    def _complete(self, centers: Tensor, found: Tensor, generator: Generator) -> Tensor:
        """Fills the free places of `found` (B, k) from all two-hop nodes of the centers."""
        free = (found == centers[:, None]).sum(dim=1)
        # Every row has a free place, hence its center is among its seen nodes.
        row, node, mass = self.beyond(found, torch.arange(len(centers)), centers)
        chosen, place = race(row, mass, free, generator)
        completed = found.clone()
        completed[row[chosen], found.shape[1] - free[row[chosen]] + place] = node[chosen]
        return completed


class TwoHopWalks(TwoHop):
    """A single draw is a random walk: a uniform neighbor, then a uniform neighbor of that, other than the center.

    Node v has a probability proportional to the sum of 1 / degree over the common neighbors of v and the center.
    """

    def propose(self, centers: Tensor, n: int, generator: Generator) -> Tensor:
        """(B, n), see `TwoHop`."""
        return self._step(self._step(centers[:, None].expand(-1, n), generator), generator)

    def path_mass(self, middle: Tensor) -> Tensor:
        """(P,), see `TwoHop`."""
        return self.graph.degrees[middle].double().reciprocal()

    def _step(self, nodes: Tensor, generator: Generator) -> Tensor:
        """A uniform neighbor of each node; no node may be isolated."""
        uniform = torch.rand(nodes.shape, generator=generator, dtype=torch.float64)
        return self.graph.indices[self.graph.indptr[nodes] + (uniform * self.graph.degrees[nodes]).long()]


class TwoHopPaths(TwoHop):
    """A single draw is the end of a uniform two-step path that does not return to the center.

    Node v has a probability proportional to (A @ A)[center, v], the number of common neighbors of v and the center.
    """

    @cached_property
    def _paths_before(self) -> Tensor:
        """(2 * E + 1,) int64, paths that do not return, before those whose first step is each entry of the CSR form."""
        onward = self.graph.degrees[self.graph.indices] - 1
        return torch.cat([onward.new_zeros(1), onward.cumsum(0)])

    def propose(self, centers: Tensor, n: int, generator: Generator) -> Tensor:
        """(B, n), see `TwoHop`."""
        first, last = (self._paths_before[self.graph.indptr[centers + end], None] for end in (0, 1))
        uniform = torch.rand(len(centers), n, generator=generator, dtype=torch.float64)
        path = first + (uniform * (last - first)).long()
        # A path beyond the last one exists only for a center that has none.
        step = (torch.searchsorted(self._paths_before, path, right=True) - 1).clamp(max=2 * self.graph.n_edges - 1)
        middle, starts = self.graph.indices[step], centers[:, None]
        end = self.graph.indices[self.graph.indptr[middle] + path - self._paths_before[step]]
        # One neighbor of the middle is never counted, its last; it stands in for the center.
        end = torch.where(end == starts, self.graph.indices[self.graph.indptr[middle + 1] - 1], end)
        return torch.where(last > first, end, starts)


class TwoHopNodes(TwoHop):
    """A single draw is uniform over the distinct two-hop nodes: a uniform node of the side, kept if it is one."""

    def propose(self, centers: Tensor, n: int, generator: Generator) -> Tensor:
        """(B, n), see `TwoHop`."""
        is_user, starts = centers[:, None] < self.graph.n_users, centers[:, None].expand(-1, n)
        first = torch.where(is_user, 0, self.graph.n_users)
        size = torch.where(is_user, self.graph.n_users, self.graph.n_items)
        drawn = first + (torch.rand(starts.shape, generator=generator, dtype=torch.float64) * size).long()
        is_reached = self._have_common_neighbor(starts.flatten(), drawn.flatten()).view(starts.shape)
        return torch.where(is_reached, drawn, starts)

    def beyond(self, seen: Tensor, row: Tensor, frontier: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Neighborhood`; all masses are 1."""
        row, node, mass = super().beyond(seen, row, frontier)
        return row, node, torch.ones_like(mass)

    @cached_property
    def _popular_first(self) -> Tensor:
        """(2 * E,) int64, the graph's `indices` with the neighbors of each node in the order of falling degree."""
        order = self.graph.degrees[self.graph.indices].argsort(descending=True, stable=True)
        rows = torch.repeat_interleave(torch.arange(self.graph.n_nodes), self.graph.degrees)
        return self.graph.indices[order[rows[order].argsort(stable=True)]]

    def _have_common_neighbor(self, left: Tensor, right: Tensor) -> Tensor:
        """(P,) bool, whether the nodes of each pair have one; popular neighbors are tried first."""
        is_reached = torch.zeros(left.shape, dtype=torch.bool)
        swapped = self.graph.degrees[left] > self.graph.degrees[right]
        few, many = torch.where(swapped, right, left), torch.where(swapped, left, right)
        open_pairs, first, width = torch.arange(len(left)), 0, _FIRST_LOOK
        while open_pairs.numel():
            node, other = few[open_pairs, None], many[open_pairs, None]
            place = first + torch.arange(width)
            exists = place < self.graph.degrees[node]
            middle = self._popular_first[(self.graph.indptr[node] + place).clamp(max=2 * self.graph.n_edges - 1)]
            is_reached[open_pairs] = (self.graph.has_edge(other.expand_as(middle), middle) & exists).any(dim=1)
            first, width = first + width, 4 * width
            open_pairs = open_pairs[~is_reached[open_pairs] & (self.graph.degrees[few[open_pairs]] > first)]
        return is_reached


_NEIGHBORHOODS: dict[str, type[Neighbors] | type[TwoHop]] = {
    "adjacency": Neighbors,
    "walk": TwoHopWalks,
    "count": TwoHopPaths,
    "binary": TwoHopNodes,
}


def neighborhood(graph: BipartiteGraph, name: str) -> Neighborhood:
    """The neighborhood of that name.

    Args:
        graph: users and items.
        name: `adjacency`, or of two-hop nodes `walk`, `count` (by number of paths) or `binary` (uniform).

    Raises:
        ParamError: there is no such neighborhood.
    """
    if name not in _NEIGHBORHOODS:
        raise ParamError(f"neighborhood: must be one of {', '.join(_NEIGHBORHOODS)}, got {name!r}")
    return _NEIGHBORHOODS[name](graph)


def _unseen_neighbors(
    graph: BipartiteGraph, seen: Tensor, row: Tensor, frontier: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct unseen neighbors of each row's frontier, with the sum of the weights (F,) of the frontier at each."""
    source, index = incoming_edges(graph, frontier)
    keys, inverse = torch.unique(row[index] * graph.n_nodes + source, return_inverse=True)
    mass = torch.bincount(inverse, weight.double()[index], minlength=len(keys))
    seen_keys = torch.arange(len(seen))[:, None] * graph.n_nodes + seen
    is_unseen = ~torch.isin(keys, seen_keys)
    keys = keys[is_unseen]
    return keys // graph.n_nodes, keys % graph.n_nodes, mass[is_unseen]
