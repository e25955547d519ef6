"""Items predicted from each other by ridge regression; memory items x items."""

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix
from torch import Tensor

from recmodels.graph import BipartiteGraph

_USERS_AT_ONCE = 1024  # whose scores of all items are held at a time


def interactions(graph: BipartiteGraph) -> csr_matrix:
    """(n_users, n_items) float64 matrix of ones, padding included."""
    ones, columns = np.ones(graph.n_edges), graph.ends[1] - graph.n_users
    shape = (graph.n_users, graph.n_items)
    return csr_matrix((ones, columns.numpy(), graph.indptr[: graph.n_users + 1].numpy()), shape)


def ridge_weights(matrix: csr_matrix, penalty: float) -> np.ndarray:
    """The items x items matrix B that minimizes `|X - X B|^2 + penalty |B|^2` with a diagonal of zeros.

    With `P = (X^T X + penalty I)^-1` it is `B_ij = -P_ij / P_jj` off the diagonal. Held at once: two such matrices in
    float64, 0.2 GB for 3,600 items and 27 GB for 41,000.

    Args:
        matrix: X, (n_users, n_items).
        penalty: > 0, in interactions; larger trusts few common users less.

    Returns:
        (n_items, n_items) float64.

    Source: Steck 2019 (EASE), eq. 8. Verified: test_ridge.py (least squares item by item).
    """
    gram = (matrix.T @ matrix).toarray()
    gram[np.diag_indices_from(gram)] += penalty
    inverse = cho_solve(cho_factor(gram, overwrite_a=True), np.eye(len(gram)), overwrite_b=True)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def best_items(matrix: csr_matrix, weights: np.ndarray, k: int) -> tuple[Tensor, Tensor]:
    """The k best real items of every user by the scores `X B`, what the user has met included.

    An item that the user has met is scored by the user's other items, as the diagonal of B is zero.

    Args:
        matrix: X, (n_users, n_items); item 0 is padding and never among the best.
        weights: B, (n_items, n_items).
        k: >= 1; more than the real items is all of them.

    Returns:
        Item ids (n_users, k) int64, best first, and their scores, float64.
    """
    k = min(k, matrix.shape[1] - 1)
    parts = []
    for first in range(0, matrix.shape[0], _USERS_AT_ONCE):
        scores = torch.from_numpy(matrix[first : first + _USERS_AT_ONCE] @ weights)
        parts.append(scores[:, 1:].topk(k))
    return torch.cat([part.indices for part in parts]) + 1, torch.cat([part.values for part in parts])
