"""Spectral filters of signals on the item graph; memory O(edges + (users + items) * signals), never items x items."""

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor, nn

from recmodels.graph import BipartiteGraph


class ItemGraph(nn.Module):
    """The item-item matrix `P = R~^T R~` with `R~ = Du^-1/2 R Di^-1/2`, as two sparse products.

    Its eigenvalues lie in [0, 1]; `I - P` is the graph's Laplacian. The matrices are plain buffers without a place in
    the state, because they belong to the data.

    Args:
        graph: users and items.
        dtype: of the values.

    Source: Shen et al. 2021 (GF-CF), section 3.
    """

    to_users: Tensor
    to_items: Tensor

    def __init__(self, graph: BipartiteGraph, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        values = graph.normalized_adjacency(dtype).values
        edge = int(graph.indptr[graph.n_users])
        users, items = graph.indptr[: graph.n_users + 1], graph.indptr[graph.n_users :] - edge
        shape, columns = (graph.n_users, graph.n_items), graph.indices[:edge] - graph.n_users
        for name, parts in (
            ("to_users", (users, columns, values[:edge], shape)),
            ("to_items", (items, graph.indices[edge:], values[edge:], shape[::-1])),
        ):
            self.register_buffer(name, torch.sparse_csr_tensor(*parts, check_invariants=False), persistent=False)

    def forward(self, signals: Tensor) -> Tensor:
        """`P @ signals`.

        Args:
            signals: (n_items, B), one column per user.

        Returns:
            (n_items, B).
        """
        return self.to_items @ (self.to_users @ signals)


def plateau(x: np.ndarray, flatness: float) -> np.ndarray:
    """A transfer function that falls from 1 at -1 (low frequency) to 0 at 1, flat around its middle value 0.5.

    Args:
        x: frequencies in [-1, 1], any shape.
        flatness: > 0; larger keeps to 0.5 over a wider range.

    Source: Kim et al. 2025 (ChebyCF), the plateau function, phi is `flatness`.
    """
    return 0.5 - 0.5 * np.sign(x) * np.abs(x) ** flatness


def plateau_coefficients(order: int, flatness: float) -> Tensor:
    """Chebyshev coefficients of a polynomial near the plateau function.

    The polynomial interpolates at the roots of T_(order+1), where it takes the plateau's values at the extrema of
    T_order, as in the authors' code: so the lowest frequency keeps exactly 1 and the highest exactly 0 at its node.

    Args:
        order: K, degree of the polynomial, >= 1.
        flatness: of the plateau, > 0.

    Returns:
        (order + 1,) float64.

    Raises:
        ValueError: order < 1 or flatness <= 0.

    Source: Kim et al. 2025 (ChebyCF), Chebyshev interpolation.
    """
    if order < 1 or flatness <= 0:
        raise ValueError(f"order must be >= 1 and flatness > 0, got {order} and {flatness}")
    targets = plateau(chebyshev.chebpts2(order + 1), flatness)
    return torch.from_numpy(chebyshev.chebinterpolate(lambda roots: targets, order))


def chebyshev_filter(items: ItemGraph, coefficients: Tensor, signals: Tensor) -> Tensor:
    """A polynomial of the scaled Laplacian `2 (I - P) - I = I - 2 P` times signals, by the three-term recurrence.

    Args:
        items: the item graph.
        coefficients: (K + 1,) of the Chebyshev polynomials T_0 to T_K, K >= 1.
        signals: (n_items, B).

    Returns:
        (n_items, B).
    """

    def laplacian(x: Tensor) -> Tensor:
        return x - 2 * items(x)

    before, current = signals, laplacian(signals)
    total = coefficients[0] * before + coefficients[1] * current
    for coefficient in coefficients[2:]:
        before, current = current, 2 * laplacian(current) - before
        total += coefficient * current
    return total


def ideal_pass(basis: Tensor, signals: Tensor) -> Tensor:
    """The part of the signals in the span of an orthonormal basis: the k lowest frequencies, uncut, and nothing else.

    Args:
        basis: (n_items, k) top right singular vectors of `R~`.
        signals: (n_items, B).

    Returns:
        (n_items, B).
    """
    return basis @ (basis.T @ signals)


def degree_scales(graph: BipartiteGraph, power: float, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """`d^-power` and `d^power` of the items, by which a signal is scaled before and after a filter.

    Args:
        graph: users and items.
        power: 0 leaves signals as they are (but those of items without an edge, which become 0).
        dtype: of the results.

    Returns:
        Two (n_items, 1) columns, 0 for items without an edge.
    """
    degrees = graph.degrees[graph.n_users :].double()[:, None]
    present = degrees > 0
    scale = degrees.clamp(min=1) ** power
    return (present / scale).to(dtype), (present * scale).to(dtype)
