"""Ridge regression of items on each other, against least squares item by item."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from recmodels.graph import BipartiteGraph
from recmodels.ridge import best_items, interactions, ridge_weights
from tests.conftest import random_graph


def test_interactions_are_ones_at_the_edges() -> None:
    graph = random_graph(6, 9, density=0.4)
    dense = interactions(graph).toarray()
    users, items = graph.ends[0].numpy(), graph.ends[1].numpy() - graph.n_users
    assert dense.shape == (6, 9)
    assert dense.sum() == graph.n_edges
    assert (dense[users, items] == 1).all()


@pytest.mark.parametrize("penalty", [0.3, 5.0, 500.0])
def test_each_item_is_regressed_on_the_others(penalty: float) -> None:
    matrix = interactions(random_graph(30, 9, density=0.4))
    dense = matrix.toarray()
    got = ridge_weights(matrix, penalty)
    for item in range(9):
        others = [other for other in range(9) if other != item]
        # Ridge regression is least squares with sqrt(penalty) I below the data.
        data = np.vstack([dense[:, others], np.sqrt(penalty) * np.eye(8)])
        want = np.linalg.lstsq(data, np.concatenate([dense[:, item], np.zeros(8)]), rcond=None)[0]
        np.testing.assert_allclose(got[others, item], want, atol=1e-10)
        assert got[item, item] == 0


def test_the_best_items_are_those_of_a_full_sort_without_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recmodels.ridge._USERS_AT_ONCE", 7)  # several blocks, the last a part
    matrix = interactions(random_graph(30, 9, density=0.4))
    weights = ridge_weights(matrix, 2.0)
    items, scores = best_items(matrix, weights, 4)
    want = np.sort((matrix.toarray() @ weights)[:, 1:], axis=1)[:, ::-1][:, :4]
    np.testing.assert_allclose(scores.numpy(), want, atol=1e-12)
    assert_close(torch.from_numpy(matrix.toarray() @ weights).gather(1, items), scores)
    assert int(items.min()) >= 1


def test_more_than_all_items_are_all_items() -> None:
    matrix = interactions(random_graph(8, 6))
    items, scores = best_items(matrix, ridge_weights(matrix, 1.0), 100)
    assert items.shape == scores.shape == (8, 5)
    assert (items.sort(1).values == torch.arange(1, 6)).all()


def test_users_and_items_without_interactions_score_zero() -> None:
    graph = BipartiteGraph.from_interactions(torch.tensor([1, 2]), torch.tensor([1, 2]), 4, 5)
    matrix = interactions(graph)
    scores = matrix @ ridge_weights(matrix, 1.0)
    assert np.isfinite(scores).all()
    assert not scores[3].any()
    assert not scores[:, 3:].any()
