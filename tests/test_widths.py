"""Widths of nodes: sizes, orders, budgets."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recmodels.errors import ParamError
from recmodels.graph import BipartiteGraph
from recmodels.tables.frequency import node_ranks
from recmodels.tables.widths import power_rule_widths, reversed_widths, shuffled_widths, widths_by_rank
from tests.conftest import random_graph

GRAPH = random_graph(n_users=61, n_items=41, density=0.3)
RANKS = node_ranks(GRAPH, ([0.1, 0.6], [0.2]))
SIDES = (GRAPH.users, GRAPH.items)


def _by_rank() -> Tensor:
    return widths_by_rank(GRAPH, RANKS, ([4, 8, 16], [3, 9]))


def test_a_node_has_the_width_of_its_class_on_its_side() -> None:
    widths = _by_rank()
    assert widths[GRAPH.users].tolist() == [[4, 8, 16][rank] for rank in RANKS[GRAPH.users]]
    assert widths[GRAPH.items].tolist() == [[3, 9][rank] for rank in RANKS[GRAPH.items]]
    assert (widths[0], widths[GRAPH.n_users]) == (4, 3)


def test_reversed_gives_the_widest_to_the_rarest_and_takes_nothing_away() -> None:
    widths, turned = _by_rank(), reversed_widths(GRAPH, _by_rank())
    for nodes in SIDES:
        assert turned[nodes].sort().values.equal(widths[nodes].sort().values)
        assert (turned[nodes][GRAPH.degrees[nodes].argsort(descending=True, stable=True)].diff() >= 0).all()
    assert (turned[0], turned[GRAPH.n_users]) == (4, 3)


def test_shuffled_follows_its_generator_and_takes_nothing_away() -> None:
    widths = _by_rank()
    first, again, other = (shuffled_widths(GRAPH, widths, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)
    assert not first.equal(widths)
    for nodes in SIDES:
        assert first[nodes].sort().values.equal(widths[nodes].sort().values)


@settings(deadline=None, max_examples=40)
@given(budget=st.integers(GRAPH.n_nodes, 40 * GRAPH.n_nodes), exponent=st.floats(0, 2), widest=st.integers(1, 32))
def test_the_power_rule_fits_its_budget_and_follows_popularity(budget: int, exponent: float, widest: int) -> None:
    widths = power_rule_widths(GRAPH, node_ranks(GRAPH, (None, None)), budget, exponent, widest)
    assert int(widths.sum()) <= budget
    assert widths.min() >= 1
    assert widths.max() <= widest
    for nodes in SIDES:
        assert (widths[nodes][GRAPH.degrees[nodes].argsort()].diff() >= 0).all()


def test_the_power_rule_uses_its_budget_up_to_one_step_of_its_largest_class() -> None:
    ranks = node_ranks(GRAPH, (None, None))
    for budget in (500, 1000, 2000):
        left = budget - int(power_rule_widths(GRAPH, ranks, budget, 0.5, 64).sum())
        assert 0 <= left < 40, (budget, left)


def test_widths_are_proportional_to_the_power_of_the_mean_count() -> None:
    users = torch.cat([torch.full((16,), 1), torch.arange(2, 6)])  # one user of 16 items, four of one
    graph = BipartiteGraph.from_interactions(users, torch.arange(1, 21), 6, 21)
    widths = power_rule_widths(graph, node_ranks(graph, ([0.2], [0.2])), 10**6, 0.5, 8)
    assert widths[1] == 8
    limited = power_rule_widths(graph, node_ranks(graph, ([0.2], [0.2])), 27 + 21, 0.5, 8)
    scale = int(limited[graph.n_users + 1])  # items have the mean popularity of their side, the user four times it
    assert limited[1] in (2 * scale, 2 * scale + 1)
    assert limited[2] == max(1, scale // 2)


@pytest.mark.parametrize("exponent", [8.0, 300.0])
def test_an_extreme_exponent_gives_the_budget_to_the_most_popular(exponent: float) -> None:
    widths = power_rule_widths(GRAPH, node_ranks(GRAPH, (None, None)), GRAPH.n_nodes + 100, exponent, 64)
    assert int(widths.sum()) > GRAPH.n_nodes + 36  # all but what one more node would need
    assert int((widths > 1).sum()) < 20


def test_an_exponent_of_zero_is_one_width() -> None:
    widths = power_rule_widths(GRAPH, RANKS, 10 * GRAPH.n_nodes + 7, 0.0, 64)
    assert widths.tolist() == [10] * GRAPH.n_nodes


def test_a_budget_below_the_smallest_table_is_refused_with_both_numbers() -> None:
    with pytest.raises(ParamError, match=r"adae_budget: got 101 parameters, but the smallest table has 102"):
        power_rule_widths(GRAPH, RANKS, 101, 0.5, 64)
