"""Samplers that leave the hops: random walks and clusters."""

from collections import Counter
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recmodels.errors import ParamError
from recmodels.graph import BipartiteGraph
from recmodels.sampling import ClusterSampler, WalkSampler, samplers
from tests.test_sampling import (
    N_DRAWS,
    REJECT_BELOW,
    all_nodes,
    assert_padded_with_center,
    build,
    graphs,
    hops_of,
    neighbor_sets,
    p_value,
    random_graph,
    seeded,
    sets_of,
    uniform_over,
    valid_rows,
)
from tests.test_two_hop import law_of

NEAR = ("adjacency", "count", "binary")


def visits_law(step: Tensor, center: int, n_steps: int, k: int) -> dict[tuple[int, ...], float]:
    """Law of the first k distinct nodes other than the center, by all walks of n steps; a row of zeros stays."""
    walks: Counter[tuple[int, tuple[int, ...]]] = Counter({(center, ()): 1.0})
    for _ in range(n_steps):
        longer: Counter[tuple[int, tuple[int, ...]]] = Counter()
        for (at, seen), probability in walks.items():
            moves = {node: float(p) for node, p in enumerate(step[at]) if p > 0} or {at: 1.0}
            for node, p in moves.items():
                is_new = node != center and node not in seen and len(seen) < k
                longer[node, (*seen, node) if is_new else seen] += probability * p
        walks = longer
    law: Counter[tuple[int, ...]] = Counter()
    for (_, seen), probability in walks.items():
        law[seen] += probability
    return dict(law)


@pytest.mark.parametrize("near", NEAR)
@pytest.mark.parametrize("center", [0, 7, 5])
def test_a_walk_gives_the_first_distinct_nodes_it_visits(near: str, center: int) -> None:
    # Users 0 to 3 and items 6 to 9; user 4 and item 10 are a component of their own, user 5 is isolated.
    graph = build([(0, 0), (0, 1), (1, 0), (1, 2), (2, 1), (2, 2), (2, 3), (3, 3), (4, 4)], 6, 5)
    n_steps = samplers.STEPS_PER_PLACE * 2
    drawn = WalkSampler(graph, 3, near)(torch.full((N_DRAWS,), center), seeded(1))
    observed = Counter(tuple(row[1:]) for row in valid_rows(drawn))
    law = visits_law(law_of(graph, near), center, n_steps, 2)
    if len(law) == 1:
        assert observed.keys() == law.keys()
    else:
        assert p_value(observed, law) > REJECT_BELOW


@given(graph=graphs(), size=st.integers(1, 7), near=st.sampled_from(NEAR), seed=st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_a_walk_stays_in_the_component_and_first_visits_a_neighbor(
    graph: BipartiteGraph, size: int, near: str, seed: int
) -> None:
    subgraphs = WalkSampler(graph, size, near)(all_nodes(graph), seeded(seed))
    assert_padded_with_center(subgraphs, all_nodes(graph), size)
    beside = [set(row.nonzero().flatten().tolist()) for row in law_of(graph, near)]
    for center, row in enumerate(valid_rows(subgraphs)):
        assert set(row) <= set().union(*hops_of(beside, center))
        assert set(row[1:2]) <= beside[center]
        assert len(row) > 1 or size == 1 or not beside[center]


def test_a_walk_is_drawn_from_its_generator_and_leaves_the_graph_as_it_is() -> None:
    graph = random_graph(30, 20, 150)
    before = graph.indptr.clone(), graph.indices.clone()
    for near in NEAR:
        first, again, other = (WalkSampler(graph, 8, near)(all_nodes(graph), seeded(s)).nodes for s in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
    assert torch.equal(graph.indptr, before[0])
    assert torch.equal(graph.indices, before[1])


@given(graph=graphs(), size=st.integers(1, 6), n_clusters=st.integers(1, 4), seed=st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_a_cluster_gives_its_other_connected_nodes_of_the_centers_side(
    graph: BipartiteGraph, size: int, n_clusters: int, seed: int
) -> None:
    assignment = torch.randint(n_clusters, (graph.n_nodes,), generator=seeded(seed))
    before = assignment.clone()
    subgraphs = ClusterSampler(graph, assignment, size)(all_nodes(graph), seeded(seed))
    assert_padded_with_center(subgraphs, all_nodes(graph), size)
    assert torch.equal(assignment, before)
    neighbors = neighbor_sets(graph)
    for center, row in enumerate(valid_rows(subgraphs)):
        members = {
            node
            for node in range(graph.n_nodes)
            if neighbors[node]
            and neighbors[center]
            and assignment[node] == assignment[center]
            and (node < graph.n_users) == (center < graph.n_users)
        }
        assert set(row[1:]) <= members - {center}
        assert len(row) == 1 + min(size - 1, len(members - {center}))


@pytest.mark.parametrize("center", [1, 2, 5])
def test_the_nodes_of_a_cluster_are_a_uniform_subset(center: int) -> None:
    graph = build([(user, 0) for user in range(7)], 7, 1)
    assignment = torch.tensor([0, 1, 1, 0, 1, 1, 1, 1])  # the item has the cluster number of users, but another side
    drawn = ClusterSampler(graph, assignment, 3)(torch.full((N_DRAWS,), center), seeded(2))
    others = [node for node in (1, 2, 4, 5, 6) if node != center]
    assert p_value(sets_of(drawn), uniform_over(map(frozenset, combinations(others, 2)))) > REJECT_BELOW


def test_no_centers_give_no_subgraphs() -> None:
    graph, none = build([(0, 0)], 1, 1), torch.empty(0, dtype=torch.int64)
    for sampler in (WalkSampler(graph, 3), ClusterSampler(graph, torch.zeros(2, dtype=torch.int64), 3)):
        assert sampler(none, seeded()).nodes.shape == (0, 3)


def test_a_size_out_of_range_is_named_with_its_bound() -> None:
    graph = build([(0, 0)], 1, 1)
    with pytest.raises(ParamError, match=r"^WalkSampler: size must be >= 1, got 0; nearest valid choice: 1$"):
        WalkSampler(graph, 0)
    with pytest.raises(ParamError, match=r"^ClusterSampler: size must be >= 1, got 0; nearest valid choice: 1$"):
        ClusterSampler(graph, torch.zeros(2, dtype=torch.int64), 0)
