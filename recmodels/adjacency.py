"""A sparse matrix over nodes in CSR form, as every propagation reads it."""

import warnings

import torch
from torch import Tensor, nn

from recmodels.tiling import Tiling

# Says at first use that CSR is in beta, which no user can act on.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


class Adjacency(nn.Module):
    """A sparse (N, N) matrix in CSR form together with its transpose, which the backward pass needs.

    The three arrays are plain buffers, so the matrix follows its module to a device or dtype and can be copied; they
    are not persistent, because a graph belongs to the data, not to the weights.

    Args:
        indptr: (N + 1,) integers.
        indices: (nnz,) integers; both are kept as int32 where they fit, half the bytes that every product reads.
        values: (nnz,) floating, constants: they are not to be changed in place.
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
        self._tiling: Tiling | None = None
        self._tiled: Tensor | None = None  # the values that `_tile_values` are of; a move to a dtype makes others
        self._tile_values: list[list[Tensor]] = []

    def extra_repr(self) -> str:
        """Size of the matrix."""
        return f"{self.n_nodes} nodes, {self.indices.numel()} non-zeros"

    @property
    def n_nodes(self) -> int:
        """Number of rows N."""
        return self.indptr.numel() - 1

    @property
    def transpose(self) -> "Adjacency":
        """The transposed matrix; the same object when symmetric.

        A transpose is its own transpose, since it does not know where it came from: gradients through `propagate` are
        right for the matrix, not for the transpose of an asymmetric one.
        """
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
        return self.with_values(self.values * factors, transpose)

    def with_values(self, values: Tensor, transpose: "Adjacency | None" = None) -> "Adjacency":
        """A matrix with the same places, which it shares, and other values.

        Args:
            values: (nnz,) floating.
            transpose: as of the constructor.
        """
        adjacency = Adjacency(self.indptr, self.indices, values, transpose, self.n_first)
        adjacency._tiling = self.tiling
        return adjacency

    def matrix(self) -> Tensor:
        """The torch sparse CSR tensor over these buffers, without a copy."""
        return _csr(self.indptr, self.indices, self.values, self.n_nodes)

    @property
    def tiling(self) -> Tiling:
        """How a product on a CPU goes through the entries; shared by all matrices with these places."""
        if self._tiling is None or self._tiling.indices is not self.indices:  # moved to another device
            self._tiling = Tiling(self.indptr, self.indices, self.n_first)
        return self._tiling

    def sides(self) -> list[tuple[slice, list[Tensor]]]:
        """The rows of each side, with sparse CSR tensors (n, N) that add up to them; see `Tiling`."""
        sides = self.tiling.sides
        if self._tiled is not self.values:
            self._tiled = self.values
            self._tile_values = [[self.values[tile.entries] for tile in tiles] for _, tiles in sides]
        return [
            (
                rows,
                [_csr(tile.indptr, tile.indices, own, self.n_nodes) for tile, own in zip(tiles, values, strict=True)],
            )
            for (rows, tiles), values in zip(sides, self._tile_values, strict=True)
        ]


def _csr(indptr: Tensor, indices: Tensor, values: Tensor, n_columns: int) -> Tensor:
    """The sparse CSR tensor over these arrays, without a copy."""
    shape = (indptr.numel() - 1, n_columns)
    return torch.sparse_csr_tensor(indptr, indices, values, shape, check_invariants=False)
