"""The user-item graph as one immutable node set in CSR form."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from recmodels.adjacency import Adjacency


@dataclass(frozen=True, eq=False)
class BipartiteGraph:
    """Users and items as one node set; node id of item i is `n_users + i`.

    Row 0 of each side is RecBole's padding: an isolated node. Memory is O(edges); no N x N matrix is ever made.

    Attributes:
        n_users: users including the padding row.
        n_items: items including the padding row.
        indptr: (N + 1,) int64, CSR row pointers over all N = n_users + n_items nodes.
        indices: (2 * edges,) int64, neighbors of each node, ascending within a row, each edge in both directions.
    """

    n_users: int
    n_items: int
    indptr: Tensor
    indices: Tensor

    @classmethod
    def from_interactions(cls, users: Tensor, items: Tensor, n_users: int, n_items: int) -> "BipartiteGraph":
        """Builds the graph of distinct (user, item) pairs.

        Args:
            users: (E,) int64 in `[0, n_users)`; repeated pairs count once.
            items: (E,) int64 in `[0, n_items)`.
            n_users: number of users, padding row included.
            n_items: number of items, padding row included.

        Raises:
            ValueError: lengths differ, or an id is out of range.
        """
        if users.shape != items.shape or users.dim() != 1:
            raise ValueError(f"users and items must be equal 1-d tensors, got {users.shape} and {items.shape}")
        _check_range("user", users, n_users)
        _check_range("item", items, n_items)
        n_nodes = n_users + n_items
        pairs = torch.unique(users.long() * n_items + items.long())
        user, item = pairs // n_items, pairs % n_items + n_users
        rows, columns = torch.cat([user, item]), torch.cat([item, user])
        order = torch.argsort(rows * n_nodes + columns)
        indptr = torch.zeros(n_nodes + 1, dtype=torch.int64)
        indptr[1:] = torch.bincount(rows, minlength=n_nodes).cumsum(0)
        return cls(n_users, n_items, indptr, columns[order])

    @property
    def n_nodes(self) -> int:
        """N = n_users + n_items."""
        return self.n_users + self.n_items

    @cached_property
    def degrees(self) -> Tensor:
        """(N,) int64 number of distinct neighbors; 0 for padding and other isolated nodes."""
        return self.indptr.diff()

    @property
    def users(self) -> Tensor:
        """Node ids of the real users, without the padding row."""
        return torch.arange(1, self.n_users)

    @property
    def items(self) -> Tensor:
        """Node ids of the real items, without the padding row."""
        return torch.arange(self.n_users + 1, self.n_nodes)

    @property
    def sides(self) -> tuple[Tensor, Tensor]:
        """Node ids of users and of items, each with its padding row, which comes first."""
        nodes = torch.arange(self.n_nodes)
        return nodes[: self.n_users], nodes[self.n_users :]

    @cached_property
    def _edge_keys(self) -> Tensor:
        """(2 * edges + 1,) int64 `row * N + column`, ascending; the last, N * N, is no edge and ends every search."""
        rows = torch.repeat_interleave(torch.arange(self.n_nodes), self.degrees)
        return torch.cat([rows * self.n_nodes + self.indices, self.indices.new_tensor([self.n_nodes**2])])

    def has_edge(self, left: Tensor, right: Tensor) -> Tensor:
        """Whether the nodes `left` and `right` are neighbors.

        Args:
            left: int64 node ids in `[0, N)`, any shape.
            right: int64 node ids in `[0, N)`, same shape.

        Returns:
            bool, same shape. One binary search per pair in a list of O(edges) that is made once.
        """
        keys = left * self.n_nodes + right
        return self._edge_keys[torch.searchsorted(self._edge_keys, keys)] == keys

    @property
    def n_edges(self) -> int:
        """E, each edge counted once; edge k is the k-th entry of the rows of the users."""
        return self.indices.numel() // 2

    @cached_property
    def ends(self) -> Tensor:
        """(2, E) int64 user and item node id of each edge."""
        users = torch.repeat_interleave(torch.arange(self.n_users), self.degrees[: self.n_users])
        return torch.stack([users, self.indices[: self.n_edges]])

    @cached_property
    def _edge_of_entry(self) -> Tensor:
        """(2 * E,) int64, the edge of each CSR entry; sorting by item keeps users ascending, as the rows have them."""
        return torch.cat([torch.arange(self.n_edges), torch.argsort(self.ends[1], stable=True)])

    def with_edges(self, keep: Tensor) -> "BipartiteGraph":
        """A graph with the same nodes and some of the edges, in O(E); this one stays as it is.

        Args:
            keep: (E,) bool, whether each edge stays.
        """
        is_kept = keep[self._edge_of_entry]
        before = torch.cat([keep.new_zeros(1, dtype=torch.int64), is_kept.cumsum(0)])
        return BipartiteGraph(self.n_users, self.n_items, before[self.indptr], self.indices[is_kept])

    def normalized_adjacency(
        self, dtype: torch.dtype = torch.float32, target: float = 0.5, source: float = 0.5
    ) -> Adjacency:
        """`D^-target A D^-source`, LightGCN's `D^-1/2 A D^-1/2` by default; an isolated node has an empty row.

        Computed in float64 and rounded once. Source: He et al. 2020 (LightGCN), eq. 3; exponents: Lee et al. 2024
        (LightGCN++), eq. 8.

        Args:
            dtype: of the values.
            target: exponent of the degree of the node that receives.
            source: exponent of the degree of its neighbor.
        """
        rows = torch.repeat_interleave(torch.arange(self.n_nodes), self.degrees)
        degrees = self.degrees.clamp(min=1).double()
        values = [
            (degrees[rows] ** -mine * degrees[self.indices] ** -theirs).to(dtype)
            for mine, theirs in ((target, source), (source, target))
        ]
        adjacency = Adjacency(self.indptr, self.indices, values[0], n_first=self.n_users)
        return adjacency if target == source else adjacency.with_values(values[0], adjacency.with_values(values[1]))


def incoming_edges(graph: BipartiteGraph, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """All edges that end in the given nodes.

    Args:
        graph: users and items; undirected, so the sources of a node are its neighbors.
        nodes: (M,) int64 node ids, repetitions allowed.

    Returns:
        source: (E,) int64 node ids, ascending within one target.
        target_index: (E,) int64 in `[0, M)`, ascending: the edge ends in `nodes[target_index]`.
    """
    degree = graph.degrees[nodes]
    target_index = torch.repeat_interleave(torch.arange(len(nodes)), degree)
    first = graph.indptr[nodes] - (degree.cumsum(0) - degree)
    return graph.indices[first[target_index] + torch.arange(len(target_index))], target_index


def _check_range(side: str, ids: Tensor, count: int) -> None:
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= count):
        raise ValueError(f"{side} ids must lie in [0, {count}), got {int(ids.min())}..{int(ids.max())}")
