import copy
from dataclasses import FrozenInstanceError

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torch_geometric.nn import LGConv

from recmodels import tiling
from recmodels.adjacency import Adjacency
from recmodels.graph import BipartiteGraph
from tests.conftest import random_graph


def build(pairs, n_users, n_items):
    users, items = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    return BipartiteGraph.from_interactions(users, items, n_users, n_items)


@st.composite
def interactions(draw):
    n_users, n_items = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    pair = st.tuples(st.integers(0, n_users - 1), st.integers(0, n_items - 1))
    return draw(st.lists(pair, max_size=25)), n_users, n_items


def networkx_graph(pairs, n_users, n_items):
    graph = nx.Graph()
    graph.add_nodes_from(range(n_users + n_items))
    graph.add_edges_from((user, n_users + item) for user, item in pairs)
    return graph


def dense(graph):
    block = torch.zeros(graph.n_nodes, graph.n_nodes, dtype=torch.float64)
    rows = torch.repeat_interleave(torch.arange(graph.n_nodes), graph.degrees)
    block[rows, graph.indices] = 1
    return block


def example():
    return build([(1, 1), (1, 2), (2, 1), (3, 3), (3, 1), (1, 2)], 5, 5)


@given(data=interactions())
@settings(max_examples=150, deadline=None)
def test_rows_are_the_sorted_neighbors_that_networkx_finds(data):
    graph, oracle = build(*data), networkx_graph(*data)
    ends = graph.indptr.tolist()
    assert graph.n_nodes == oracle.number_of_nodes()
    assert len(graph.indices) == ends[-1] == 2 * oracle.number_of_edges()
    for node in oracle:
        assert graph.indices[ends[node] : ends[node + 1]].tolist() == sorted(oracle[node])
    assert graph.degrees.tolist() == [degree for _, degree in oracle.degree()]


@given(data=interactions(), shuffle=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_neither_order_nor_repetition_of_pairs_matters(data, shuffle):
    pairs, n_users, n_items = data
    again = pairs + pairs[:3]
    shuffle.shuffle(again)
    one, two = build(pairs, n_users, n_items), build(again, n_users, n_items)
    assert torch.equal(one.indptr, two.indptr)
    assert torch.equal(one.indices, two.indices)


@given(data=interactions())
@settings(deadline=None)
def test_has_edge_agrees_with_networkx_on_every_pair(data):
    graph, oracle = build(*data), networkx_graph(*data)
    nodes = torch.arange(graph.n_nodes)
    found = graph.has_edge(nodes[:, None].expand(-1, len(nodes)), nodes[None, :].expand(len(nodes), -1))
    assert np.array_equal(found.numpy(), nx.to_numpy_array(oracle, nodelist=range(len(nodes))).astype(bool))


def test_users_and_items_leave_out_the_padding_rows():
    graph = build([(1, 1)], 3, 4)
    assert graph.users.tolist() == [1, 2]
    assert graph.items.tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(3, 0)], r"user ids must lie in \[0, 3\), got 3..3"),
        ([(-1, 0), (1, 0)], r"user ids must lie in \[0, 3\), got -1..1"),
        ([(0, 4)], r"item ids must lie in \[0, 4\), got 4..4"),
        ([(0, 3), (0, -2)], r"item ids must lie in \[0, 4\), got -2..3"),
    ],
)
def test_an_id_out_of_range_is_named_with_its_bounds(pairs, message):
    with pytest.raises(ValueError, match=message):
        build(pairs, 3, 4)


@pytest.mark.parametrize(("users", "items"), [((2,), (3,)), ((2, 1), (2, 1))])
def test_pairs_of_other_shapes_are_refused(users, items):
    with pytest.raises(ValueError, match="equal 1-d tensors"):
        BipartiteGraph.from_interactions(
            torch.zeros(users, dtype=torch.int64), torch.zeros(items, dtype=torch.int64), 2, 2
        )


def test_a_graph_refuses_assignment():
    with pytest.raises(FrozenInstanceError):
        example().n_users = 9


@given(data=interactions())
@settings(max_examples=100, deadline=None)
def test_normalized_adjacency_is_the_dense_formula(data):
    graph = build(*data)
    adjacency = dense(graph)
    degree = adjacency.sum(1)
    scale = torch.where(degree > 0, degree.rsqrt(), 0)
    normalized = graph.normalized_adjacency(torch.float64)
    assert_close(normalized.matrix().to_dense(), scale[:, None] * adjacency * scale, atol=1e-12, rtol=0)
    assert normalized.transpose is normalized
    single = graph.normalized_adjacency().values
    assert single.dtype == torch.float32
    assert torch.equal(single, normalized.values.float())


def test_isolated_nodes_have_empty_rows():
    graph = example()
    isolated = (graph.degrees == 0).nonzero().flatten()
    assert isolated.tolist() == [0, 4, 5, 9]
    matrix = graph.normalized_adjacency()
    assert matrix.n_nodes == 10
    assert matrix.indptr.diff()[isolated].tolist() == [0, 0, 0, 0]
    assert bool(matrix.values.isfinite().all())


@given(data=interactions(), seed=st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_propagation_agrees_with_pyg(data, seed):
    graph = build(*data)
    x = torch.randn(graph.n_nodes, 4, generator=torch.Generator().manual_seed(seed))
    rows = torch.repeat_interleave(torch.arange(graph.n_nodes), graph.degrees)
    expected = LGConv()(x, torch.stack([graph.indices, rows]))
    assert_close(graph.normalized_adjacency().matrix() @ x, expected, atol=1e-6, rtol=0)


def directed():
    """[[0, 2], [0, 3]] with its transpose."""
    index = torch.tensor
    transpose = Adjacency(index([0, 0, 2]), index([0, 1]), torch.tensor([2.0, 3.0]))
    return Adjacency(index([0, 1, 2]), index([1, 1]), torch.tensor([2.0, 3.0]), transpose)


def test_double_converts_the_values_of_both_directions_and_no_index():
    matrix = directed().double()
    for one in (matrix, matrix.transpose):
        assert one.values.dtype == torch.float64
        assert one.indptr.dtype == one.indices.dtype == torch.int32
    assert matrix.matrix().to_dense().tolist() == [[0, 2], [0, 3]]
    assert matrix.transpose.matrix().to_dense().tolist() == [[0, 0], [2, 3]]


@pytest.mark.parametrize("make", [directed, lambda: example().normalized_adjacency()])
def test_a_deep_copy_is_equal_and_shares_nothing(make):
    matrix = make()
    twin = copy.deepcopy(matrix)
    assert (twin.transpose is twin) == (matrix.transpose is matrix)
    pairs = ((matrix, twin), (matrix.transpose, twin.transpose))
    before = [one.matrix().to_dense().clone() for one, _ in pairs]
    assert [torch.equal(other.matrix().to_dense(), x) for (_, other), x in zip(pairs, before, strict=True)] == [
        True
    ] * 2
    for _, other in pairs:
        other.values.zero_()
    assert [torch.equal(one.matrix().to_dense(), x) for (one, _), x in zip(pairs, before, strict=True)] == [True] * 2


@pytest.mark.parametrize("make", [directed, lambda: example().normalized_adjacency()])
def test_a_graph_is_no_part_of_the_weights(make):
    assert make().state_dict() == {}
    assert list(make().parameters()) == []


def test_the_matrix_shares_the_buffers():
    adjacency = example().normalized_adjacency()
    assert adjacency.matrix().values().data_ptr() == adjacency.values.data_ptr()


def dense_of_sides(adjacency):
    return torch.cat([sum(part.to_dense() for part in parts) for _, parts in adjacency.sides()])


@pytest.mark.parametrize("tile_nodes", [4, 1000])
@pytest.mark.parametrize("target", [0.5, 0.3])
def test_the_parts_of_both_sides_add_up_to_the_matrix(target, tile_nodes, monkeypatch):
    monkeypatch.setattr(tiling, "TILE_NODES", tile_nodes)
    graph = random_graph(11, 14)
    adjacency = graph.normalized_adjacency(torch.float64, target=target)
    for whole in (adjacency, adjacency.transpose):
        assert [rows for rows, _ in whole.sides()] == [slice(0, 11), slice(11, 25)]
        assert torch.equal(dense_of_sides(whole), whole.matrix().to_dense())
    factors = torch.rand(adjacency.edge_numbers().max() + 1, dtype=torch.float64)[adjacency.edge_numbers()]
    scaled = adjacency.scaled(factors)
    assert scaled.tiling is adjacency.tiling is adjacency.transpose.tiling
    assert scaled.indices is adjacency.indices is adjacency.transpose.indices
    for whole in (scaled, scaled.transpose):
        assert torch.equal(dense_of_sides(whole), whole.matrix().to_dense())
    narrow = copy.deepcopy(adjacency).to(torch.float32)
    assert torch.equal(dense_of_sides(narrow), narrow.matrix().to_dense())


def test_a_matrix_of_unknown_structure_has_one_part():
    ((rows, (matrix,)),) = directed().sides()
    assert rows == slice(0, 2)
    assert torch.equal(matrix.to_dense(), directed().matrix().to_dense())


def test_a_move_between_devices_makes_new_parts(monkeypatch):
    monkeypatch.setattr(tiling, "TILE_NODES", 4)
    adjacency = random_graph(11, 14).normalized_adjacency()
    adjacency.sides()
    there = copy.deepcopy(adjacency).to("meta")
    assert there.scaled(torch.ones_like(there.values)).tiling.indices.device.type == "meta"
    back = there.to_empty(device="cpu")
    for name in ("indptr", "indices", "values"):
        getattr(back, name).copy_(getattr(adjacency, name))
    assert torch.equal(dense_of_sides(back), adjacency.matrix().to_dense())
