"""Ridge regression of items on each other, against least squares item by item."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from recmodels.graph import BipartiteGraph
from recmodels.ridge import ridge_weights, user_scores
from recmodels.spectral import normalized_interactions
from tests.conftest import random_graph


def interactions(graph: BipartiteGraph) -> csr_matrix:
    return normalized_interactions(graph, 0, 0)


def test_interactions_are_ones_at_the_edges() -> None:
    graph = random_graph(6, 9, density=0.4)
    dense = interactions(graph).toarray()
    users, items = graph.ends[0].numpy(), graph.ends[1].numpy() - graph.n_users
    assert dense.shape == (6, 9)
    assert dense.sum() == graph.n_edges
    assert (dense[users, items] == 1).all()


@pytest.mark.parametrize("penalty", [0.3, 5.0, 500.0])
@pytest.mark.parametrize("weighs", [False, True])
def test_each_item_is_regressed_on_the_others(penalty: float, weighs: bool) -> None:
    matrix = interactions(random_graph(30, 9, density=0.4))
    importance = np.random.default_rng(0).uniform(0, 2, 30) if weighs else np.ones(30)
    got = ridge_weights(matrix, penalty, importance)
    dense = np.sqrt(importance)[:, None] * matrix.toarray()
    for item in range(9):
        others = [other for other in range(9) if other != item]
        # Ridge regression is least squares with sqrt(penalty) I below the data.
        data = np.vstack([dense[:, others], np.sqrt(penalty) * np.eye(8)])
        want = np.linalg.lstsq(data, np.concatenate([dense[:, item], np.zeros(8)]), rcond=None)[0]
        np.testing.assert_allclose(got[others, item], want, atol=1e-10)
        assert got[item, item] == 0


def test_scores_are_those_of_the_product_without_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recmodels.ridge._USERS_AT_ONCE", 7)  # several blocks, the last a part
    matrix = interactions(random_graph(30, 9, density=0.4))
    weights = ridge_weights(matrix, 2.0, np.ones(30))
    blocks = list(user_scores(matrix, weights))
    assert [len(block) for block in blocks] == [7, 7, 7, 7, 2]
    np.testing.assert_allclose(torch.cat(blocks).numpy(), (matrix.toarray() @ weights)[:, 1:], atol=1e-12)


def test_users_and_items_without_interactions_score_zero() -> None:
    graph = BipartiteGraph.from_interactions(torch.tensor([1, 2]), torch.tensor([1, 2]), 4, 5)
    matrix = interactions(graph)
    scores = matrix @ ridge_weights(matrix, 1.0, np.ones(4))
    assert np.isfinite(scores).all()
    assert not scores[3].any()
    assert not scores[:, 3:].any()
