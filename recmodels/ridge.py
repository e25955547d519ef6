"""Items predicted from each other by ridge regression; memory items x items."""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix, diags_array
from torch import Tensor

_USERS_AT_ONCE = 1024  # whose scores of all items are held at a time


def ridge_weights(matrix: csr_matrix, penalty: float, importance: np.ndarray) -> np.ndarray:
    """The items x items matrix B that minimizes `|W^1/2 (X - X B)|^2 + penalty |B|^2` with a diagonal of zeros.

    With `P = (X^T W X + penalty I)^-1` it is `B_ij = -P_ij / P_jj` off the diagonal. Held at once: up to two and a half
    such matrices in float64, 0.3 GB for 3,600 items and 34 GB for 41,000.

    Args:
        matrix: X, (n_users, n_items), ones at the interactions.
        penalty: in interactions; larger trusts few common users less. Far above the rounding of `X^T W X`, as 1e-3 is.
        importance: (n_users,) the diagonal of W, >= 0, about 1; ones are EASE.

    Returns:
        (n_items, n_items) float64.

    Source: Steck 2019 (EASE), eq. 8, with weights of its squares. Verified: test_ridge.py (least squares item by item).
    """
    gram = (matrix.T @ diags_array(importance) @ matrix).toarray()
    gram[np.diag_indices_from(gram)] += penalty
    # LAPACK works in place on columns; what it leaves of the Gram matrix is room for the quotients.
    identity = np.eye(len(gram), order="F")
    inverse = cho_solve(cho_factor(gram, overwrite_a=True), identity, overwrite_b=True)
    weights = np.divide(inverse, -np.diag(inverse), out=gram)
    np.fill_diagonal(weights, 0)
    return weights


def user_scores(matrix: csr_matrix, weights: np.ndarray) -> Iterator[Tensor]:
    """The scores `X B` of all real items, some users after the others.

    An item that the user has met is scored by the user's other items, as the diagonal of B is zero.

    Args:
        matrix: X, (n_users, n_items); item 0 is padding and left out.
        weights: B, (n_items, n_items).

    Yields:
        (M, n_items - 1) float64, of the next M users; entry j is that of item j + 1.
    """
    for first in range(0, matrix.shape[0], _USERS_AT_ONCE):
        yield torch.from_numpy((matrix[first : first + _USERS_AT_ONCE] @ weights)[:, 1:])
