import math

import pytest
import torch

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
