"""Samplers of subgraphs around centers, all centers of a call at once, and what is read off the sampled nodes.

Inside this module the center of a row stands for "nothing": it is never a candidate of its own row, so a place that
holds it is a free place, and padding needs no second tensor until the mask is made.
"""

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from recmodels.errors import ParamError
from recmodels.graph import BipartiteGraph, incoming_edges
from recmodels.records import Subgraphs

# Walks before the exact enumeration. They change the cost only: both continue the same law of repeated draws.
WALK_ROUNDS = 2
WALKS_PER_PLACE = 2


@dataclass(frozen=True, eq=False)
class HopSampler:
    """A center, `hop1` of its neighbors and `hop2` of the nodes at distance exactly two.

    Neighbors are a uniform subset. Two-hop nodes are the ends of two-step random walks (uniform neighbor, then uniform
    neighbor of that), drawn repeatedly until `hop2` distinct ones other than the center are found; where fewer exist,
    all of them are taken. The graph is bipartite, so two-hop nodes are of the center's own side.

    Columns of a row: the center, `hop1` places, `hop2` places; free places follow the valid ones of their hop, and an
    isolated center gives just itself. Memory is O(B * S) plus the two-step paths of the rows whose walks fell short.

    Args:
        graph: users and items, never modified.
        hop1: >= 0, number of neighbors.
        hop2: >= 0, number of two-hop nodes; `hop1 + hop2 >= 1`.

    Raises:
        ParamError: a number is out of range.
    """

    graph: BipartiteGraph = field(repr=False)
    hop1: int
    hop2: int

    def __post_init__(self) -> None:
        _require("HopSampler", "hop1", self.hop1, 0)
        _require("HopSampler", "hop2", self.hop2, 0)
        _require("HopSampler", "hop1 + hop2", self.hop1 + self.hop2, 1)

    def __call__(self, centers: Tensor, generator: Generator) -> Subgraphs:
        """One subgraph of S = 1 + hop1 + hop2 places around each center of (B,) int64; they may repeat."""
        near = _draw_neighbors(self.graph, centers, self.hop1, generator)
        far = self._draw_two_hop(centers, generator)
        return _subgraphs(torch.cat([centers[:, None], near, far], dim=1))

    def _draw_two_hop(self, centers: Tensor, generator: Generator) -> Tensor:
        """(B, hop2) distinct two-hop nodes of each center, then the center."""
        found = centers[:, None].repeat(1, self.hop2)
        short = (self.graph.degrees[centers] > 0).nonzero().flatten()
        for _ in range(WALK_ROUNDS):
            start = centers[short, None].expand(-1, WALKS_PER_PLACE * self.hop2)
            ends = _step(self.graph, _step(self.graph, start, generator), generator)
            found[short] = _first_distinct(centers[short], torch.cat([found[short], ends], dim=1), self.hop2)
            short = short[(found[short] == centers[short, None]).any(dim=1)]
        found[short] = self._complete(centers[short], found[short], generator)
        return found

    def _complete(self, centers: Tensor, found: Tensor, generator: Generator) -> Tensor:
        """Fills the free places of `found` (B, hop2) from all two-hop nodes of the centers.

        Ordering by an exponential variable over the walk's mass is drawing repeatedly without replacement
        (Efraimidis & Spirakis 2006), so a completed row follows the law of a row that walks alone filled.
        """
        free = (found == centers[:, None]).sum(dim=1)
        middle, row = incoming_edges(self.graph, centers)
        # Every row has a free place, hence its center is among its seen nodes.
        row, node, mass = _unseen_neighbors(self.graph, found, row, middle)
        uniform = torch.rand(node.shape, generator=generator, dtype=torch.float64)
        chosen, place = _lowest(row, -torch.log1p(-uniform) / mass, free)
        completed = found.clone()
        completed[row[chosen], self.hop2 - free[row[chosen]] + place] = node[chosen]
        return completed


@dataclass(frozen=True, eq=False)
class BfsSampler:
    """A center and the nodes around it, breadth first, up to `size` nodes.

    A hop is taken whole while it fits; the hop that does not fit is subsampled uniformly; the next hop is visited only
    if all nearer ones leave room; an isolated center gives just itself. Source: Han et al. 2022 (GSC).

    Memory is O(B * size) plus, beyond the first hop, the edges of the nodes taken in rows with room.

    Args:
        graph: users and items, never modified.
        size: >= 1, nodes of a subgraph, center included.

    Raises:
        ParamError: `size` is out of range.
    """

    graph: BipartiteGraph = field(repr=False)
    size: int

    def __post_init__(self) -> None:
        _require("BfsSampler", "size", self.size, 1)

    def __call__(self, centers: Tensor, generator: Generator) -> Subgraphs:
        """One subgraph of S = size places, nearer hops first, around each center of (B,) int64; they may repeat."""
        near = _draw_neighbors(self.graph, centers, self.size - 1, generator)
        nodes = torch.cat([centers[:, None], near], dim=1)
        is_open = self.graph.degrees[centers] < self.size - 1
        nodes[is_open] = self._grow(nodes[is_open], generator)
        return _subgraphs(nodes)

    def _grow(self, nodes: Tensor, generator: Generator) -> Tensor:
        """Adds the second and later hops to rows (B, size) that hold their center and all its neighbors."""
        grown = nodes.clone()
        is_new = nodes != nodes[:, :1]
        free = self.size - 1 - is_new.sum(dim=1)
        row, frontier = is_new.nonzero()[:, 0], nodes[is_new]
        while frontier.numel():
            row, frontier, _ = _unseen_neighbors(self.graph, grown, row, frontier)
            priority = torch.rand(frontier.shape, generator=generator, dtype=torch.float64)
            chosen, place = _lowest(row, priority, free)
            row, frontier = row[chosen], frontier[chosen]
            grown[row, self.size - free[row] + place] = frontier
            free = free - torch.bincount(row, minlength=len(free))
            has_room = free[row] > 0
            row, frontier = row[has_room], frontier[has_room]
        return grown


def draw_centers(pool: Tensor, count: int, generator: Generator) -> Tensor:
    """Distinct places of `pool`, uniformly drawn, in random order.

    Args:
        pool: (P,) int64 distinct node ids.
        count: >= 0, how many to draw.
        generator: CPU stream of the draws.

    Returns:
        (min(count, P),) int64.

    Raises:
        ValueError: count < 0.
    """
    if count < 0:
        raise ValueError(f"draw_centers: count must be >= 0, got {count}")
    return pool[torch.randperm(len(pool), generator=generator)[:count]]


def other_centers(n: int, k: int, generator: Generator) -> Tensor:
    """For each of n rows, k distinct other rows, uniform over all others.

    Args:
        n: >= 0, number of rows.
        k: >= 0, others of each row; n - 1 or more gives all others.
        generator: CPU stream of the draws.

    Returns:
        (n, min(k, n - 1)) int64 in `[0, n)`, never the row itself; (0, 0) for n = 0.

    Raises:
        ValueError: n or k is negative.
    """
    if n < 0 or k < 0:
        raise ValueError(f"other_centers: n and k must be >= 0, got n={n}, k={k}")
    rows, n_others = torch.arange(n)[:, None], max(n - 1, 0)
    if k >= n_others:
        draws = torch.arange(n_others).expand(n, -1)
    else:
        draws = _distinct_draws(torch.full((n,), n_others), k, generator)
    return draws + (draws >= rows).long()


def subgraph_adjacency(graph: BipartiteGraph, subgraphs: Subgraphs) -> Tensor:
    """The block of the graph's adjacency between the valid nodes of each subgraph.

    Args:
        graph: users and items.
        subgraphs: B subgraphs of S places.

    Returns:
        (B, S, S) 0 or 1 in the default dtype, symmetric with zero diagonal; rows and columns of padded places are zero.
    """
    nodes, mask = subgraphs
    is_user = nodes < graph.n_users
    # Only user-item pairs can be edges, so a quarter of the block is looked up and mirrored.
    pairs = (is_user & mask)[:, :, None] & (~is_user & mask)[:, None, :]
    batch, left, right = pairs.nonzero(as_tuple=True)
    block = torch.zeros(pairs.shape)
    block[batch, left, right] = graph.has_edge(nodes[batch, left], nodes[batch, right]).to(block.dtype)
    return block + block.transpose(1, 2)


def _require(where: str, name: str, value: int, bound: int) -> None:
    if value < bound:
        raise ParamError(f"{where}: {name} must be >= {bound}, got {value}; nearest valid choice: {bound}")


def _subgraphs(nodes: Tensor) -> Subgraphs:
    mask = nodes != nodes[:, :1]
    mask[:, 0] = True
    return Subgraphs(nodes, mask)


def _distinct_draws(size: Tensor, k: int, generator: Generator) -> Tensor:
    """(B, k) int64 distinct uniform integers in `[0, size)` of each row; all of them, then -1, where size < k.

    The set is uniform over all sets, the order is not. Source: Bentley & Floyd 1987.
    """
    quota = size.clamp(max=k)
    uniform = torch.rand(k, len(size), generator=generator, dtype=torch.float64)
    draws = size.new_full((k, len(size)), -1)
    for place in range(k):
        last = size - quota + place
        draw = (uniform[place] * (last + 1)).long()
        draw = torch.where((draws[:place] == draw).any(dim=0), last, draw)
        draws[place] = torch.where(quota > place, draw, -1)
    return draws.T


def _draw_neighbors(graph: BipartiteGraph, centers: Tensor, k: int, generator: Generator) -> Tensor:
    """(B, k) uniform distinct neighbors of each center, then the center."""
    draws = _distinct_draws(graph.degrees[centers], k, generator)
    is_drawn = draws >= 0
    neighbors = centers[:, None].repeat(1, k)
    neighbors[is_drawn] = graph.indices[(graph.indptr[centers, None] + draws)[is_drawn]]
    return neighbors


def _step(graph: BipartiteGraph, nodes: Tensor, generator: Generator) -> Tensor:
    """A uniform neighbor of each node; no node may be isolated."""
    uniform = torch.rand(nodes.shape, generator=generator, dtype=torch.float64)
    return graph.indices[graph.indptr[nodes] + (uniform * graph.degrees[nodes]).long()]


def _first_distinct(centers: Tensor, candidates: Tensor, k: int) -> Tensor:
    """(B, k) first distinct candidates (B, W) of each row other than its center, in their order, then the center."""
    ordered, order = candidates.sort(dim=1, stable=True)
    is_first = torch.ones_like(candidates, dtype=torch.bool)
    is_first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    is_fresh = is_first.scatter(1, order, is_first) & (candidates != centers[:, None])
    place = is_fresh.cumsum(dim=1) - 1
    keep = is_fresh & (place < k)
    distinct = centers[:, None].repeat(1, k)
    distinct[keep.nonzero()[:, 0], place[keep]] = candidates[keep]
    return distinct


def _unseen_neighbors(
    graph: BipartiteGraph, seen: Tensor, row: Tensor, frontier: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct neighbors of each row's frontier that are not among the row's seen nodes.

    Args:
        graph: users and items.
        seen: (B, S) node ids.
        row: (F,) row of each frontier node.
        frontier: (F,) node ids.

    Returns:
        row and node, both (M,), and mass (M,) float64: the sum of 1 / degree over the frontier nodes next to the node,
        which is the probability of one random step from the frontier up to a constant of the row.
    """
    source, index = incoming_edges(graph, frontier)
    keys, inverse = torch.unique(row[index] * graph.n_nodes + source, return_inverse=True)
    mass = torch.bincount(inverse, graph.degrees[frontier].double().reciprocal()[index], minlength=len(keys))
    seen_keys = torch.arange(len(seen))[:, None] * graph.n_nodes + seen
    is_unseen = ~torch.isin(keys, seen_keys)
    keys = keys[is_unseen]
    return keys // graph.n_nodes, keys % graph.n_nodes, mass[is_unseen]


def _lowest(row: Tensor, priority: Tensor, quota: Tensor) -> tuple[Tensor, Tensor]:
    """The `quota[b]` candidates of lowest priority of each row b, or all of them.

    Returns:
        chosen: (K,) positions in `row`; place: (K,) rank of each within its row, from 0.
    """
    order = priority.argsort(stable=True)
    order = order[row[order].argsort(stable=True)]
    count = torch.bincount(row, minlength=len(quota))
    rank = torch.arange(len(row)) - (count.cumsum(0) - count)[row[order]]
    keep = rank < quota[row[order]]
    return order[keep], rank[keep]
