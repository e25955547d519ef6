"""A sparse matrix in parts whose columns are so few nodes that a cache holds their embeddings."""

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

# Sources of a part; with 256 bytes a row, which is what a product takes at once, they are 8 MB of a last-level cache,
# part of which others on the machine may use.
TILE_NODES = 1 << 15


class Tile(NamedTuple):
    """Some entries of some rows of a matrix.

    Attributes:
        indptr: (n + 1,) integers, of the n rows.
        indices: (k,) integers, columns of the whole matrix.
        entries: which entries of the whole matrix these are, a slice or (k,) integers of the same dtype.
    """

    indptr: Tensor
    indices: Tensor
    entries: slice | Tensor


class Tiling:
    """How the entries of an adjacency are put into parts, whatever their values.

    The rows of one side of a bipartite graph gather rows of the other side only, so each side is multiplied by itself,
    and where its sources are many, tile by tile. There are at most as many tiles as a row has entries, so all row
    pointers together are no longer than the matrix.

    Args:
        indptr: (N + 1,) integers.
        indices: (nnz,) integers, ascending within a row.
        n_first: nodes of the first side, whose edges all have one entry in the rows of each side; 0: no such sides.
    """

    def __init__(self, indptr: Tensor, indices: Tensor, n_first: int) -> None:
        self.indptr, self.indices, self.n_first = indptr, indices, n_first

    @cached_property
    def sides(self) -> list[tuple[slice, list[Tile]]]:
        """The rows of each side with their tiles; made once, in O(nnz log nnz)."""
        n_nodes, first, half = self.indptr.numel() - 1, self.n_first, self.indices.numel() // 2
        if not first:
            return [(slice(0, n_nodes), [Tile(self.indptr, self.indices, slice(0, None))])]
        own, other = self.indptr[: first + 1], self.indptr[first:] - half
        return [
            (slice(0, first), _tiles(own, self.indices[:half], 0, range(first, n_nodes))),
            (slice(first, n_nodes), _tiles(other, self.indices[half:], half, range(first))),
        ]


def _tiles(indptr: Tensor, indices: Tensor, first_entry: int, sources: range) -> list[Tile]:
    """The entries of n rows, tile after tile of their sources."""
    n_rows, n_entries = indptr.numel() - 1, indices.numel()
    n_tiles = min(-(-len(sources) // TILE_NODES), n_entries // max(n_rows, 1))
    if n_tiles < 2:
        return [Tile(indptr, indices, slice(first_entry, first_entry + n_entries))]
    tile = (indices.long() - sources.start) // -(-len(sources) // n_tiles)
    rows = torch.repeat_interleave(torch.arange(n_rows), indptr.diff())
    counts = torch.bincount(tile * n_rows + rows, minlength=n_tiles * n_rows).view(n_tiles, n_rows)
    ends = torch.cat([indptr.new_zeros(n_tiles, 1), counts.cumsum(1).to(indptr.dtype)], dim=1)
    entries = torch.argsort(tile, stable=True).split(counts.sum(1).tolist())
    return [
        Tile(end, indices[own], (own + first_entry).to(indices.dtype)) for end, own in zip(ends, entries, strict=True)
    ]
