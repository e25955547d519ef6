"""A sparse matrix over nodes in CSR form, as every propagation reads it."""

import warnings

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
        n_first: nodes of the first side of a bipartite graph, whose edges all have one entry in the rows of each side;
            0 says nothing about the graph.
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor

    def __init__(
        self,
        indptr: Tensor,
        indices: Tensor,
        values: Tensor,
        transpose: "Adjacency | None" = None,
        n_first: int = 0,
    ) -> None:
        super().__init__()
        self.n_first = n_first
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
        return Adjacency(self.indptr, self.indices, self.values * factors, transpose, self.n_first)

    def matrix(self) -> Tensor:
        """The torch sparse CSR tensor over these buffers, without a copy."""
        return _csr(self.indptr, self.indices, self.values, self.n_nodes)

    def sides(self) -> list[tuple[slice, Tensor]]:
        """The rows of each side with their part of the matrix, (n, N); the whole matrix where there are no sides."""
        if not self.n_first:
            return [(slice(0, self.n_nodes), self.matrix())]
        first, half = self.n_first, self.indices.numel() // 2
        rows, entries = (slice(0, first), slice(first, self.n_nodes)), (slice(0, half), slice(half, None))
        indptrs = self.indptr[: first + 1], self.indptr[first:] - half
        return [
            (side, _csr(indptr, self.indices[own], self.values[own], self.n_nodes))
            for side, indptr, own in zip(rows, indptrs, entries, strict=True)
        ]


def _csr(indptr: Tensor, indices: Tensor, values: Tensor, n_columns: int) -> Tensor:
    """The sparse CSR tensor over these arrays, without a copy."""
    shape = (indptr.numel() - 1, n_columns)
    return torch.sparse_csr_tensor(indptr, indices, values, shape, check_invariants=False)
