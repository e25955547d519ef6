"""Truncated singular value decompositions of sparse matrices."""

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds
from torch import Tensor

from recmodels.graph import BipartiteGraph


def normalized_interactions(graph: BipartiteGraph, users: float = 0.5, items: float = 0.5) -> csr_matrix:
    """`Du^-users R Di^-items`, (n_users, n_items) float64, padding included.

    It is the upper right block of the adjacency with these exponents of targets and of sources, and the transpose of
    the lower left one with the exponents the other way round.
    """
    adjacency = graph.normalized_adjacency(torch.float64, target=users, source=items)
    columns, values = graph.ends[1] - graph.n_users, adjacency.values[: graph.n_edges]
    shape = (graph.n_users, graph.n_items)
    return csr_matrix((values.numpy(), columns.numpy(), graph.indptr[: graph.n_users + 1].numpy()), shape)


def truncated_svd(matrix: csr_matrix, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The largest singular values of a sparse matrix and their vectors.

    By implicitly restarted Lanczos, or densely where more than half of the values are asked for.

    Args:
        matrix: (m, n) floating.
        rank: k, 1 <= k < min(m, n).
        generator: gives the start vector; the result depends on it by rounding only, unless singular values that are
            equal, as those of groups without common edges, lie on both sides of the cut.

    Returns:
        U (m, k), S (k,) descending and V (n, k), float64. The entry of largest size of each column of U is positive.

    Raises:
        ValueError: k is out of range.
    """
    limit = min(matrix.shape)
    if not 1 <= rank < limit:
        raise ValueError(f"rank must lie in [1, {limit}), got {rank}")
    if 2 * rank > limit:
        u, s, vt = np.linalg.svd(matrix.toarray().astype(np.float64), full_matrices=False)
    else:
        start = torch.rand(limit, generator=generator, dtype=torch.float64).numpy()
        u, s, vt = svds(matrix.astype(np.float64), k=rank, v0=start)
    order = np.argsort(-s)[:rank]
    u, s, v = u[:, order], s[order], vt[order].T
    sign = np.sign(u[np.abs(u).argmax(0), np.arange(rank)])
    return tuple(torch.from_numpy(np.ascontiguousarray(part)) for part in (u * sign, s, v * sign))  # type: ignore[return-value]
