"""Frequency classes against their definition, id by id."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recmodels.graph import BipartiteGraph
from recmodels.tables.frequency import all_most_frequent_first, distinct_ranks, frequency_ranks, node_ranks
from tests.conftest import random_graph

COUNTS = st.lists(st.integers(0, 12), min_size=1, max_size=40)
QUANTILES = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=6, unique=True).map(sorted)


@settings(deadline=None, max_examples=60)
@given(COUNTS, QUANTILES)
def test_ranks_are_those_of_a_loop(counts: list[int], quantiles: list[float]) -> None:
    falling = sorted(counts, reverse=True)
    want = [sum(count > falling[int(len(counts) * q)] for q in quantiles) for count in counts]
    assert frequency_ranks(torch.tensor(counts), quantiles).tolist() == want


@settings(deadline=None, max_examples=60)
@given(COUNTS, QUANTILES)
def test_a_class_above_a_quantile_holds_at_most_its_share_and_follows_the_counts(
    counts: list[int], quantiles: list[float]
) -> None:
    ranks = frequency_ranks(torch.tensor(counts), quantiles)
    for above, quantile in enumerate(reversed(quantiles), 1):  # the lowest threshold is the one of the last quantile
        assert int((ranks >= above).sum()) <= len(counts) * quantile
    order = torch.tensor(counts).argsort()
    assert (ranks[order].diff() >= 0).all()


@settings(deadline=None, max_examples=60)
@given(COUNTS)
def test_distinct_ranks_number_the_counts(counts: list[int]) -> None:
    values = sorted(set(counts))
    assert distinct_ranks(torch.tensor(counts)).tolist() == [values.index(count) for count in counts]


def test_the_upper_class_of_a_fifth_is_a_fifth_and_ties_stay_below() -> None:
    assert frequency_ranks(torch.tensor([5, 4, 3, 2, 1]), [0.2]).tolist() == [1, 0, 0, 0, 0]
    assert frequency_ranks(torch.tensor([5, 5, 3, 2, 1]), [0.2]).tolist() == [0, 0, 0, 0, 0]  # an empty class
    assert frequency_ranks(torch.arange(10), [0.1, 0.6]).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2]


def test_all_counts_alike_are_one_class() -> None:
    assert frequency_ranks(torch.full((6,), 3), [0.2, 0.5]).tolist() == [0] * 6
    assert frequency_ranks(torch.tensor([], dtype=torch.int64), [0.2]).tolist() == []


def test_a_quantile_that_no_float_holds_is_not_rounded_down() -> None:
    assert int(frequency_ranks(torch.arange(100), [0.29]).sum()) == 29
    assert int(frequency_ranks(torch.arange(100), [1 - 1e-13]).sum()) == 99


def test_sides_are_merged_by_the_relative_place_of_their_nodes() -> None:
    pairs = torch.tensor([[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [3, 1], [4, 1], [4, 2]])  # users 1..4, items 1..3
    graph = BipartiteGraph.from_interactions(pairs[:, 0], pairs[:, 1], 5, 4)
    # users 1, 2, 4, 3 at 0, 1/4, 1/2, 3/4; items 1, 2, 3 at 0, 1/3, 2/3; then the padding
    assert all_most_frequent_first(graph).tolist() == [1, 6, 2, 7, 4, 8, 3, 0, 5]


def test_each_side_has_ranks_of_its_own_without_the_padding() -> None:
    graph = random_graph(n_users=21, n_items=31)
    ranks = node_ranks(graph, ([0.3], None))
    assert ranks[0] == ranks[graph.n_users] == 0
    assert ranks[graph.users].equal(frequency_ranks(graph.degrees[graph.users], [0.3]))
    assert ranks[graph.items].equal(distinct_ranks(graph.degrees[graph.items]))
    many = BipartiteGraph(200, graph.n_items, torch.cat([torch.zeros(179).long(), graph.indptr]), graph.indices)
    assert node_ranks(many, ([0.3], None))[200:].equal(ranks[21:])  # the other side's size is none of its business
