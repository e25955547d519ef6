"""The user-item graph as one immutable node set in CSR form."""

import warnings
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

# Says at first use that CSR is in beta, which no user can act on.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


class Adjacency(nn.Module):
    """A sparse (N, N) matrix in CSR form together with its transpose, which the backward pass needs.

    The three arrays are plain buffers, so the matrix follows its module to a device or dtype and can be copied; they
    are not persistent, because a graph belongs to the data, not to the weights.

    Args:
        indptr: (N + 1,) integers.
        indices: (nnz,) integers; both are kept as int32 where they fit, half the bytes that every product reads.
        values: (nnz,) floating.
        transpose: the transposed matrix; None says that the matrix is symmetric and is its own transpose.
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor

    def __init__(self, indptr: Tensor, indices: Tensor, values: Tensor, transpose: "Adjacency | None" = None) -> None:
        super().__init__()
        fits = max(indptr.numel(), indices.numel()) <= torch.iinfo(torch.int32).max
        for name, array in (("indptr", indptr), ("indices", indices)):
            self.register_buffer(name, array.to(torch.int32 if fits else torch.int64), persistent=False)
        self.register_buffer("values", values, persistent=False)
        self._transpose = transpose

    def extra_repr(self) -> str:
        """Size of the matrix."""
        return f"{self.n_nodes} nodes, {self.indices.numel()} non-zeros"

    @property
    def n_nodes(self) -> int:
        """Number of rows N."""
        return self.indptr.numel() - 1

    @property
    def transpose(self) -> "Adjacency":
        """The transposed matrix; the same object when symmetric."""
        return self if self._transpose is None else self._transpose

    def edge_numbers(self) -> Tensor:
        """(nnz,) int64 in [0, E), one number for both directions of an edge; the places must be symmetric."""
        rows = torch.repeat_interleave(torch.arange(self.n_nodes, device=self.indices.device), self.indptr.diff())
        columns = self.indices.long()
        pairs = torch.minimum(rows, columns) * self.n_nodes + torch.maximum(rows, columns)
        return torch.unique(pairs, return_inverse=True)[1]

    def scaled(self, factors: Tensor) -> "Adjacency":
        """The matrix with every value multiplied; this one stays as it is.

        Args:
            factors: (nnz,), equal for both directions of an edge, so that the transpose is scaled by the same.
        """
        transpose = None if self._transpose is None else self._transpose.scaled(factors)
        return Adjacency(self.indptr, self.indices, self.values * factors, transpose)

    def matrix(self) -> Tensor:
        """The torch sparse CSR tensor over these buffers, without a copy."""
        shape = (self.n_nodes, self.n_nodes)
        return torch.sparse_csr_tensor(self.indptr, self.indices, self.values, shape, check_invariants=False)


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
        transpose = None if target == source else Adjacency(self.indptr, self.indices, values[1])
        return Adjacency(self.indptr, self.indices, values[0], transpose)


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
