import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev
from torch.testing import assert_close

from recmodels.filters import (
    ItemGraph,
    chebyshev_filter,
    degree_scales,
    ideal_pass,
    plateau,
    plateau_coefficients,
)
from recmodels.graph import BipartiteGraph
from recmodels.spectral import normalized_interactions, truncated_svd
from tests.conftest import random_graph


def dense(graph: BipartiteGraph) -> tuple[torch.Tensor, torch.Tensor]:
    """R and `Du^-1/2 R Di^-1/2`, (n_users, n_items) float64, by a loop over pairs."""
    matrix = torch.zeros(graph.n_users, graph.n_items, dtype=torch.float64)
    for user in range(graph.n_users):
        for node in graph.indices[graph.indptr[user] : graph.indptr[user + 1]].tolist():
            matrix[user, node - graph.n_users] = 1
    users, items = matrix.sum(1, keepdim=True).clamp(min=1), matrix.sum(0, keepdim=True).clamp(min=1)
    return matrix, matrix / users.sqrt() / items.sqrt()


def signals(graph: BipartiteGraph, n_signals: int = 5) -> torch.Tensor:
    return torch.randn(graph.n_items, n_signals, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_item_graph_is_the_dense_product_of_normalized_interactions() -> None:
    graph = random_graph(9, 13)
    normalized = dense(graph)[1]
    assert_close(ItemGraph(graph, torch.float64)(signals(graph)), normalized.T @ normalized @ signals(graph))
    assert ItemGraph(graph).state_dict() == {}  # it belongs to the data


def test_the_item_graph_holds_each_edge_twice_and_no_item_pair() -> None:
    graph = random_graph(40, 300, density=0.05)
    items = ItemGraph(graph)
    n_edges = graph.indices.numel() // 2
    assert [tuple(buffer.shape) for buffer in items.buffers()] == [(40, 300), (300, 40)]
    assert [buffer.values().numel() for buffer in items.buffers()] == [n_edges, n_edges]


def test_the_plateau_falls_from_one_to_zero_and_is_odd_around_one_half() -> None:
    x = np.linspace(-1, 1, 101)
    for flatness in (0.5, 1.0, 1.5, 10.0):
        y = plateau(x, flatness)
        assert (y[0], y[50], y[-1]) == (1, 0.5, 0)
        assert (np.diff(y) <= 0).all()
        np.testing.assert_allclose(y + y[::-1], 1, atol=1e-15)
    assert np.abs(plateau(x, 10.0) - 0.5)[20:81].max() < np.abs(plateau(x, 1.0) - 0.5)[20:81].max() / 10


def test_coefficients_are_those_of_the_published_sum() -> None:
    # c_k = 2 / (K + 1) * sum_j f_j T_k(x_j) with x_j the roots of T_(K+1), f_j at the extrema of T_K, c_0 halved
    for order, flatness in ((1, 1.5), (3, 0.7), (8, 1.5)):
        places = np.arange(order + 1)
        roots = np.cos((order + 0.5 - places) / (order + 1) * np.pi)
        extrema = np.cos((order - places) / order * np.pi)
        values = plateau(extrema, flatness)
        want = [2 / (order + 1) * (values * np.cos(k * np.arccos(roots))).sum() for k in places]
        want[0] /= 2
        np.testing.assert_allclose(plateau_coefficients(order, flatness).numpy(), want, atol=1e-12)


@pytest.mark.parametrize(("order", "flatness"), [(0, 1.0), (3, 0.0), (-1, 1.0)])
def test_a_polynomial_needs_a_degree_and_a_flatness(order: int, flatness: float) -> None:
    with pytest.raises(ValueError, match=f"order must be >= 1 and flatness > 0, got {order} and {flatness}"):
        plateau_coefficients(order, flatness)


@pytest.mark.parametrize("order", [1, 2, 5, 8])
def test_the_recurrence_is_the_polynomial_of_the_spectrum(order: int) -> None:
    graph = random_graph(9, 13)
    normalized = dense(graph)[1]
    coefficients = plateau_coefficients(order, 1.5)
    eigenvalues, vectors = np.linalg.eigh((normalized.T @ normalized).numpy())
    response = chebyshev.chebval(1 - 2 * eigenvalues, coefficients.numpy())
    want = vectors @ np.diag(response) @ vectors.T @ signals(graph).numpy()
    got = chebyshev_filter(ItemGraph(graph, torch.float64), coefficients, signals(graph))
    np.testing.assert_allclose(got.numpy(), want, atol=1e-12)


def test_the_ideal_pass_keeps_the_lowest_frequencies_and_nothing_else() -> None:
    graph = random_graph(9, 13)
    basis = truncated_svd(normalized_interactions(graph), 4, torch.Generator().manual_seed(0))[2]
    full = np.linalg.svd(dense(graph)[1].numpy())[2]
    kept, cut = torch.from_numpy(full[:4].T.copy()), torch.from_numpy(full[4:].T.copy())
    assert_close(ideal_pass(basis, kept), kept)
    assert_close(ideal_pass(basis, cut), torch.zeros_like(cut))


def test_scales_undo_each_other_where_an_item_has_an_edge() -> None:
    graph = random_graph(9, 13)
    degrees = dense(graph)[0].sum(0)[:, None]
    before, after = degree_scales(graph, 0.4, torch.float64)
    assert_close(after, torch.where(degrees > 0, degrees**0.4, 0.0))
    assert_close(before * after, (degrees > 0).double())
    assert before[0] == after[0] == 0
