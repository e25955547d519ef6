from collections import Counter
from itertools import combinations, permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from recmodels.errors import ParamError
from recmodels.graph import BipartiteGraph, incoming_edges
from recmodels.records import Subgraphs
from recmodels.sampling import (
    BfsSampler,
    HopSampler,
    draw_centers,
    neighborhoods,
    other_centers,
    subgraph_adjacency,
)

N_DRAWS = 20_000
REJECT_BELOW = 1e-3  # the seed is fixed, so a correct sampler passes always or never


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def build(pairs, n_users, n_items):
    users, items = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    return BipartiteGraph.from_interactions(users, items, n_users, n_items)


@st.composite
def graphs(draw):
    n_users, n_items = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    pair = st.tuples(st.integers(0, n_users - 1), st.integers(0, n_items - 1))
    return build(draw(st.lists(pair, max_size=20)), n_users, n_items)


def random_graph(n_users, n_items, n_edges):
    generator = seeded(5)
    users = torch.randint(n_users, (n_edges,), generator=generator)
    items = torch.randint(n_items, (n_edges,), generator=generator)
    return BipartiteGraph.from_interactions(users, items, n_users, n_items)


def all_nodes(graph):
    return torch.arange(graph.n_nodes)


def neighbor_sets(graph):
    ends = graph.indptr.tolist()
    return [set(graph.indices[a:b].tolist()) for a, b in zip(ends, ends[1:], strict=False)]


def hops_of(neighbors, center):
    """[{center}, one-hop nodes, two-hop nodes, ...] by breadth-first search."""
    hops, seen = [{center}], {center}
    while hops[-1]:
        hops.append(set().union(*(neighbors[v] for v in hops[-1])) - seen)
        seen |= hops[-1]
    return hops[:-1]


def valid_rows(subgraphs):
    return [row[keep].tolist() for row, keep in zip(subgraphs.nodes, subgraphs.mask, strict=True)]


def assert_padded_with_center(subgraphs, centers, size):
    nodes, mask = subgraphs
    assert nodes.shape == mask.shape == (len(centers), size)
    assert nodes.dtype == torch.int64
    assert mask.dtype == torch.bool
    assert torch.equal(nodes[:, 0], centers)
    assert bool(mask[:, 0].all())
    assert torch.equal(nodes[~mask], centers[:, None].expand_as(nodes)[~mask])
    assert all(len(row) == len(set(row)) for row in valid_rows(subgraphs))


def p_value(observed, probability):
    """Of the chi-square test that the counts of `observed` follow the law `probability` (outcome -> mass)."""
    assert set(observed) <= set(probability)
    total = sum(observed.values())
    return chisquare([observed[x] for x in probability], [total * p for p in probability.values()]).pvalue


def uniform_over(outcomes):
    outcomes = list(outcomes)
    return dict.fromkeys(outcomes, 1 / len(outcomes))


def sets_of(subgraphs, start=1):
    return Counter(frozenset(row[start:]) for row in valid_rows(subgraphs))


@given(graph=graphs(), hop1=st.integers(0, 4), hop2=st.integers(0, 8), seed=st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_hops_have_the_right_distances_and_are_filled_as_far_as_nodes_exist(graph, hop1, hop2, seed):
    if hop1 + hop2 == 0:
        hop1 = 1
    subgraphs = HopSampler(graph, hop1, hop2)(all_nodes(graph), seeded(seed))
    assert_padded_with_center(subgraphs, all_nodes(graph), 1 + hop1 + hop2)
    neighbors = neighbor_sets(graph)
    for center, (nodes, mask) in enumerate(zip(*subgraphs, strict=True)):
        _, one, two = (hops_of(neighbors, center) + [set(), set()])[:3]
        near = set(nodes[1 : 1 + hop1][mask[1 : 1 + hop1]].tolist())
        far = set(nodes[1 + hop1 :][mask[1 + hop1 :]].tolist())
        assert near <= one
        assert len(near) == min(hop1, len(one))
        assert far <= two
        assert len(far) == min(hop2, len(two))


@given(graph=graphs(), size=st.integers(1, 12), seed=st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_bfs_takes_whole_hops_and_only_the_last_one_in_part(graph, size, seed):
    subgraphs = BfsSampler(graph, size)(all_nodes(graph), seeded(seed))
    assert_padded_with_center(subgraphs, all_nodes(graph), size)
    neighbors = neighbor_sets(graph)
    for center, row in enumerate(valid_rows(subgraphs)):
        for hop in hops_of(neighbors, center):
            part, row = set(row[: len(hop)]), row[len(hop) :]
            assert part <= hop
            assert part == hop or not row
        assert not row
    reachable = [sum(map(len, hops_of(neighbors, c))) for c in range(graph.n_nodes)]
    assert subgraphs.mask.sum(1).tolist() == [min(size, r) for r in reachable]


@given(graph=graphs(), seed=st.integers(0, 9), data=st.data())
@settings(max_examples=100, deadline=None)
def test_with_room_for_all_hops_reach_two_and_bfs_the_whole_component(graph, seed, data):
    centers = torch.tensor(data.draw(st.lists(st.integers(0, graph.n_nodes - 1), max_size=6)), dtype=torch.int64)
    neighbors = neighbor_sets(graph)
    two_hops = [set().union(*hops_of(neighbors, c)[:3]) for c in centers.tolist()]
    everything = [set().union(*hops_of(neighbors, c)) for c in centers.tolist()]
    n = graph.n_nodes
    assert [set(row) for row in valid_rows(HopSampler(graph, n, n)(centers, seeded(seed)))] == two_hops
    assert [set(row) for row in valid_rows(BfsSampler(graph, n)(centers, seeded(seed)))] == everything


@given(graph=graphs(), seed=st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_sampling_leaves_the_graph_unchanged(graph, seed):
    before = graph.indptr.clone(), graph.indices.clone(), graph.indptr.diff()
    centers = all_nodes(graph)
    for sampler in (HopSampler(graph, 2, 3), BfsSampler(graph, 5)):
        subgraph_adjacency(graph, sampler(centers, seeded(seed)))
    incoming_edges(graph, centers)
    assert torch.equal(graph.indptr, before[0])
    assert torch.equal(graph.indices, before[1])
    assert torch.equal(graph.degrees, before[2])
    assert torch.equal(centers, all_nodes(graph))


@pytest.mark.parametrize("n_edges", [0, 1])
def test_one_user_and_one_item(n_edges):
    graph = build([(0, 0)] * n_edges, 1, 1)
    expected = [[0, 1], [1, 0]] if n_edges else [[0], [1]]
    for sampler in (HopSampler(graph, 2, 2), BfsSampler(graph, 4)):
        subgraphs = sampler(all_nodes(graph), seeded())
        assert valid_rows(subgraphs) == expected
        assert subgraph_adjacency(graph, subgraphs)[:, 0, 1].tolist() == [n_edges, n_edges]


def test_an_isolated_center_gives_just_itself_beside_connected_ones():
    graph = build([(1, 1), (1, 2), (2, 1)], 3, 3)
    centers = torch.tensor([0, 1, 3])
    for sampler in (HopSampler(graph, 3, 3), BfsSampler(graph, 5)):
        rows = valid_rows(sampler(centers, seeded()))
        assert [rows[0], set(rows[1]), rows[2]] == [[0], {1, 2, 4, 5}, [3]]


def test_no_centers_give_no_subgraphs():
    graph = build([(0, 0)], 1, 1)
    empty = torch.empty(0, dtype=torch.int64)
    assert HopSampler(graph, 1, 2)(empty, seeded()).nodes.shape == (0, 4)
    assert BfsSampler(graph, 3)(empty, seeded()).nodes.shape == (0, 3)


def test_neighbors_are_uniform_over_all_subsets():
    graph = build([(0, item) for item in range(6)], 1, 6)
    observed = sets_of(HopSampler(graph, 2, 0)(torch.zeros(N_DRAWS, dtype=torch.int64), seeded()))
    assert p_value(observed, uniform_over(map(frozenset, combinations(range(1, 7), 2)))) > REJECT_BELOW


def repeated_draws_law(mass, k):
    """Law of the set of the first k distinct outcomes of repeated draws from `mass`."""
    law = Counter()
    for order in permutations(mass, k):
        rest, probability = sum(mass.values()), 1.0
        for node in order:
            probability *= mass[node] / rest
            rest -= mass[node]
        law[frozenset(order)] += probability
    return law


def walk_mass(graph, center):
    """Two-hop node -> probability that a two-step walk from `center` ends there."""
    neighbors, mass = neighbor_sets(graph), Counter()
    for middle in neighbors[center]:
        for end in neighbors[middle] - {center}:
            mass[end] += 1 / len(neighbors[center]) / len(neighbors[middle])
    return mass


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_two_hop_nodes_follow_the_law_of_repeated_walks_however_they_are_drawn(monkeypatch, rounds):
    monkeypatch.setattr(neighborhoods, "ROUNDS", rounds)
    monkeypatch.setattr(neighborhoods, "DRAWS_PER_PLACE", 1)  # most rows fall short and are completed
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]
    graph = build(pairs, 6, 2)
    law = repeated_draws_law(walk_mass(graph, 0), 3)
    observed = sets_of(HopSampler(graph, 0, 3)(torch.zeros(N_DRAWS, dtype=torch.int64), seeded()))
    assert p_value(observed, law) > REJECT_BELOW
    assert chisquare(list(observed.values())).pvalue < 1e-9  # the walks' law is far from the uniform one


@pytest.mark.parametrize("rounds", [0, 2])
def test_two_hop_draws_are_exact_with_and_without_walks(monkeypatch, rounds):
    monkeypatch.setattr(neighborhoods, "ROUNDS", rounds)
    graph = random_graph(60, 40, 300)
    neighbors = neighbor_sets(graph)
    for center, row in enumerate(valid_rows(HopSampler(graph, 0, 25)(all_nodes(graph), seeded()))):
        two = (hops_of(neighbors, center) + [set(), set()])[2]
        assert set(row[1:]) <= two
        assert len(row) == 1 + min(25, len(two))


@pytest.mark.parametrize(
    ("pairs", "kept"),
    [
        ([(0, item) for item in range(5)], 0),  # the first hop does not fit
        ([(0, 0)] + [(user, 0) for user in range(1, 6)], 1),  # the second does not fit
        ([(0, 0), (1, 0)] + [(1, item) for item in range(1, 6)], 2),  # the third does not fit
    ],
)
def test_the_hop_that_does_not_fit_is_subsampled_uniformly(pairs, kept):
    graph = build(pairs, 6, 6)
    last = sorted(hops_of(neighbor_sets(graph), 0)[1 + kept])
    subgraphs = BfsSampler(graph, 3 + kept)(torch.zeros(N_DRAWS, dtype=torch.int64), seeded())
    assert len(last) == 5
    observed = sets_of(subgraphs, start=1 + kept)
    assert p_value(observed, uniform_over(map(frozenset, combinations(last, 2)))) > REJECT_BELOW


@pytest.mark.parametrize("make", [lambda g: HopSampler(g, 4, 9), lambda g: BfsSampler(g, 14)])
def test_a_generator_decides_the_sample_whatever_the_thread_count(make):
    graph = random_graph(300, 200, 3000)
    centers = all_nodes(graph)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = make(graph)(centers, seeded(3))
        torch.set_num_threads(2)
        threaded, other = make(graph)(centers, seeded(3)), make(graph)(centers, seeded(4))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone.nodes, threaded.nodes)
    assert torch.equal(alone.mask, threaded.mask)
    assert not torch.equal(alone.nodes, other.nodes)


@given(graph=graphs(), seed=st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_subgraph_adjacency_is_the_block_of_the_dense_adjacency(graph, seed):
    dense = torch.zeros(graph.n_nodes, graph.n_nodes)
    for node, near in enumerate(neighbor_sets(graph)):
        dense[node, list(near)] = 1
    for sampler in (HopSampler(graph, 2, 3), BfsSampler(graph, 6)):
        nodes, mask = sampler(all_nodes(graph), seeded(seed))
        valid = mask[:, :, None] & mask[:, None, :]
        expected = dense[nodes[:, :, None], nodes[:, None, :]] * valid
        assert torch.equal(subgraph_adjacency(graph, Subgraphs(nodes, mask)), expected)


@given(graph=graphs(), data=st.data())
@settings(max_examples=100, deadline=None)
def test_incoming_edges_lists_the_neighbors_of_each_target(graph, data):
    nodes = data.draw(st.lists(st.integers(0, graph.n_nodes - 1), max_size=8))
    neighbors = neighbor_sets(graph)
    expected = [(source, index) for index, node in enumerate(nodes) for source in sorted(neighbors[node])]
    source, index = incoming_edges(graph, torch.tensor(nodes, dtype=torch.int64))
    assert source.dtype == index.dtype == torch.int64
    assert list(zip(source.tolist(), index.tolist(), strict=True)) == expected


@given(pool=st.lists(st.integers(0, 99), unique=True, max_size=12), count=st.integers(0, 15), seed=st.integers(0, 9))
@settings(deadline=None)
def test_drawn_centers_are_distinct_nodes_of_the_pool(pool, count, seed):
    drawn = draw_centers(torch.tensor(pool, dtype=torch.int64), count, seeded(seed)).tolist()
    assert len(drawn) == len(set(drawn)) == min(count, len(pool))
    assert set(drawn) <= set(pool)


def test_drawn_centers_are_uniform():
    generator, pool = seeded(), torch.tensor([3, 5, 8, 9, 11])
    observed = Counter(frozenset(draw_centers(pool, 2, generator).tolist()) for _ in range(5000))
    assert p_value(observed, uniform_over(map(frozenset, combinations(pool.tolist(), 2)))) > REJECT_BELOW


@given(n=st.integers(0, 9), k=st.integers(0, 11), seed=st.integers(0, 9))
@settings(deadline=None)
def test_other_centers_are_distinct_and_never_the_row_itself(n, k, seed):
    others = other_centers(n, k, seeded(seed))
    assert others.dtype == torch.int64
    assert others.shape == (n, min(k, max(n - 1, 0)))
    for row, values in enumerate(others.tolist()):
        assert len(set(values)) == len(values)
        assert set(values) <= set(range(n)) - {row}


@pytest.mark.parametrize("k", [1, 2, 3])
def test_other_centers_are_uniform_over_all_others_the_last_included(k):
    generator, n = seeded(), 5
    draws = torch.stack([other_centers(n, k, generator) for _ in range(2000)])
    for row in range(n):
        others = [x for x in range(n) if x != row]
        observed = Counter(frozenset(values) for values in draws[:, row].tolist())
        assert p_value(observed, uniform_over(map(frozenset, combinations(others, k)))) > REJECT_BELOW


@pytest.mark.parametrize("k", [6, 7, 100])
def test_as_many_others_as_there_are_give_all_of_them(k):
    others = other_centers(7, k, seeded())
    assert [set(row) for row in others.tolist()] == [set(range(7)) - {row} for row in range(7)]


@pytest.mark.parametrize(
    ("make", "name", "got", "nearest"),
    [
        (lambda g: HopSampler(g, -1, 3), "HopSampler: hop1", -1, 0),
        (lambda g: HopSampler(g, 3, -2), "HopSampler: hop2", -2, 0),
        (lambda g: HopSampler(g, 0, 0), r"HopSampler: hop1 \+ hop2", 0, 1),
        (lambda g: BfsSampler(g, 0), "BfsSampler: size", 0, 1),
    ],
)
def test_a_size_out_of_range_is_named_with_its_bound(make, name, got, nearest):
    message = f"^{name} must be >= {nearest}, got {got}; nearest valid choice: {nearest}$"
    with pytest.raises(ParamError, match=message):
        make(build([(0, 0)], 1, 1))


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="count must be >= 0, got -1"):
        draw_centers(torch.arange(3), -1, seeded())
    with pytest.raises(ValueError, match="got n=3, k=-1"):
        other_centers(3, -1, seeded())
    with pytest.raises(ValueError, match="got n=-3, k=1"):
        other_centers(-3, 1, seeded())
