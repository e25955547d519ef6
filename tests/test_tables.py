import math

import pytest
import torch

from recmodels.graph import BipartiteGraph
from recmodels.tables import INITIALIZATIONS, PlainTable
from tests.conftest import random_graph


def _table(init="xavier_uniform", seed=0):
    graph = random_graph(n_users=40, n_items=300)
    return graph, PlainTable(graph, 16, init, torch.Generator().manual_seed(seed))


def test_the_table_is_its_weight():
    _, table = _table()
    assert table() is table.weight
    assert table().shape == (340, 16)
    assert list(table.picker_parameters()) == []


def test_each_side_has_its_own_xavier_bound():
    graph, table = _table()
    for side, rows in zip(table.weight.split([graph.n_users, graph.n_items]), (40, 300), strict=True):
        bound = math.sqrt(6 / (rows + 16))
        assert side.abs().max() <= bound
        assert side.abs().max() > 0.95 * bound


@pytest.mark.parametrize("init", list(INITIALIZATIONS))
def test_initialisation_follows_its_generator_only(init):
    weights = []
    for torch_seed, seed in ((1, 0), (2, 0), (3, 5)):
        torch.manual_seed(torch_seed)
        weights.append(_table(init, seed)[1].weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_svd_start_is_the_best_approximation_of_the_normalized_interactions():
    graph, table = _table("svd")
    adjacency = graph.normalized_adjacency(torch.float64).matrix().to_dense()
    dense = adjacency[: graph.n_users, graph.n_users :]
    u, s, vt = torch.linalg.svd(dense)
    best = (u[:, :16] * s[:16]) @ vt[:16]
    users, items = table.weight.detach().double().split([graph.n_users, graph.n_items])
    rows, columns = graph.degrees.split([graph.n_users, graph.n_items])
    torch.testing.assert_close(
        (users @ items.T)[rows > 0][:, columns > 0], best[rows > 0][:, columns > 0], atol=1e-6, rtol=0
    )
    assert items[columns == 0].norm(dim=-1).min() > 0


def test_the_svd_start_fills_a_table_wider_than_the_matrix():
    graph = random_graph(n_users=6, n_items=5)
    weight = PlainTable(graph, 16, "svd", torch.Generator().manual_seed(0)).weight
    assert weight.shape == (11, 16)
    assert weight.isfinite().all()
    assert (weight[:, 4:] != 0).all()


def test_the_svd_start_has_no_dead_column_where_the_matrix_has_a_low_rank():
    users, items = torch.cartesian_prod(torch.arange(1, 31), torch.arange(1, 31)).T
    together = users % 4 == items % 4  # four groups: rank 4
    graph = BipartiteGraph.from_interactions(users[together], items[together], 31, 31)
    weight = PlainTable(graph, 16, "svd", torch.Generator().manual_seed(0)).weight
    assert weight.norm(dim=0).min() > 0.1
