"""Two-hop reachability, drawn from and read off in blocks, against the dense A @ A without its diagonal."""

from collections import Counter
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from recmodels.errors import ParamError
from recmodels.graph import BipartiteGraph
from recmodels.records import Subgraphs
from recmodels.sampling import (
    BfsSampler,
    HopSampler,
    Neighbors,
    TwoHopNodes,
    TwoHopPaths,
    TwoHopWalks,
    WalkSampler,
    neighborhoods,
    structure,
    subgraph_reach2,
)
from recmodels.sampling.neighborhoods import Neighborhood, TwoHop, neighborhood
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
    repeated_draws_law,
    seeded,
    sets_of,
    uniform_over,
    valid_rows,
)

LAWS = ("walk", "count", "binary")
# Around user 0: user 1 shares two items with it, users 2 to 5 one, of which user 5 the rare one.
PAIRS = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 1), (3, 1), (4, 1), (5, 2)]


def dense(graph: BipartiteGraph) -> Tensor:
    """(N, N) float64 adjacency, one neighbor at a time."""
    matrix = torch.zeros(graph.n_nodes, graph.n_nodes, dtype=torch.float64)
    for node, near in enumerate(neighbor_sets(graph)):
        for other in near:
            matrix[node, other] = 1
    return matrix


def paths(graph: BipartiteGraph) -> Tensor:
    """(N, N) A @ A with zero diagonal."""
    square = dense(graph) @ dense(graph)
    return square.fill_diagonal_(0)


def reach_sets(graph: BipartiteGraph) -> list[set[int]]:
    return [set(row.nonzero().flatten().tolist()) for row in paths(graph)]


def law_of(graph: BipartiteGraph, name: str) -> Tensor:
    """(N, N) exact probability that a single draw from each node gives each other; a row of zeros for no neighbor."""
    a = dense(graph)
    mass = {
        "adjacency": a,
        "walk": (a @ torch.diag(a.sum(1).clamp(min=1).reciprocal()) @ a).fill_diagonal_(0),
        "count": paths(graph),
        "binary": (paths(graph) > 0).double(),
    }[name]
    return mass / mass.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)


def row_law(graph: BipartiteGraph, name: str, center: int) -> dict[int, float]:
    return {node: float(p) for node, p in enumerate(law_of(graph, name)[center]) if p > 0}


@given(graph=graphs(), hop2=st.integers(1, 8), law=st.sampled_from(LAWS), seed=st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_every_law_draws_distinct_two_hop_nodes_as_far_as_they_exist(
    graph: BipartiteGraph, hop2: int, law: str, seed: int
) -> None:
    subgraphs = HopSampler(graph, 0, hop2, law)(all_nodes(graph), seeded(seed))
    assert_padded_with_center(subgraphs, all_nodes(graph), 1 + hop2)
    for row, reached in zip(valid_rows(subgraphs), reach_sets(graph), strict=True):
        assert set(row[1:]) <= reached
        assert len(row) == 1 + min(hop2, len(reached))


@pytest.mark.parametrize("center", [0, 2, 3, 6, 7])
@pytest.mark.parametrize("make", [TwoHopWalks, TwoHopPaths, TwoHopNodes])
def test_single_proposals_follow_their_law_where_they_do_not_give_the_center(make: type[TwoHop], center: int) -> None:
    graph = build(PAIRS, 6, 3)
    name = {TwoHopWalks: "walk", TwoHopPaths: "count", TwoHopNodes: "binary"}[make]
    drawn = make(graph).propose(torch.tensor([center]), N_DRAWS, seeded(2)).flatten().tolist()
    observed = Counter(node for node in drawn if node != center)
    assert p_value(observed, row_law(graph, name, center)) > REJECT_BELOW
    if make is TwoHopPaths:
        assert len(drawn) == sum(observed.values())  # no draw is lost on the diagonal


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_one_node_is_drawn_with_the_exact_probability(law: str, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighborhoods, "ROUNDS", rounds)
    graph = random_graph(9, 7, 25)
    center = int(paths(graph).gt(0).sum(1).argmax())
    near: Neighborhood = neighborhood(graph, law)
    drawn = near.draw(torch.full((N_DRAWS,), center), 1, seeded(3))
    assert p_value(Counter(drawn.flatten().tolist()), row_law(graph, law, center)) > REJECT_BELOW


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_count_draws_by_number_of_paths_and_binary_uniformly(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighborhoods, "ROUNDS", rounds)
    monkeypatch.setattr(neighborhoods, "DRAWS_PER_PLACE", 1)  # most rows fall short and are completed
    graph, centers = build(PAIRS, 6, 3), torch.zeros(N_DRAWS, dtype=torch.int64)
    count, binary = (sets_of(HopSampler(graph, 0, 3, law)(centers, seeded(4))) for law in ("count", "binary"))
    by_paths = {node: float(n) for node, n in enumerate(paths(graph)[0]) if n > 0}
    assert by_paths == {1: 2, 2: 1, 3: 1, 4: 1, 5: 1}
    assert p_value(count, repeated_draws_law(by_paths, 3)) > REJECT_BELOW
    assert p_value(binary, uniform_over(map(frozenset, combinations(range(1, 6), 3)))) > REJECT_BELOW
    assert chisquare(list(count.values())).pvalue < 1e-9  # the two laws are far apart


def test_the_order_of_pairs_with_a_common_neighbor_does_not_matter_and_every_look_is_needed() -> None:
    graph = random_graph(40, 90, 500)
    left, right = (x.flatten() for x in torch.meshgrid(all_nodes(graph), all_nodes(graph), indexing="ij"))
    for first_look in (1, 4, 100):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(neighborhoods, "_FIRST_LOOK", first_look)
            found = TwoHopNodes(graph)._have_common_neighbor(left, right).view(graph.n_nodes, -1)
        assert torch.equal(found, (dense(graph) @ dense(graph)) > 0)


@given(graph=graphs(), size=st.integers(1, 12), near=st.sampled_from(["count", "binary"]), seed=st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_bfs_on_reach2_takes_whole_hops_of_it_and_only_the_last_one_in_part(
    graph: BipartiteGraph, size: int, near: str, seed: int
) -> None:
    subgraphs = BfsSampler(graph, size, near)(all_nodes(graph), seeded(seed))
    assert_padded_with_center(subgraphs, all_nodes(graph), size)
    reached = reach_sets(graph)
    for center, row in enumerate(valid_rows(subgraphs)):
        hops = hops_of(reached, center)
        assert len(row) == min(size, sum(map(len, hops)))
        for hop in hops:
            part, row = set(row[: len(hop)]), row[len(hop) :]
            assert part <= hop
            assert part == hop or not row


@pytest.mark.parametrize(("near", "law"), [("count", {2: 2.0, 3: 1.0, 4: 1.0}), ("binary", {2: 1.0, 3: 1.0, 4: 1.0})])
def test_the_hop_of_reach2_that_does_not_fit_is_drawn_by_paths_from_the_hop_before(
    near: str, law: dict[int, float]
) -> None:
    # User 1 alone is beside user 0; users 2 to 4 are beside user 1, the first of them by two items.
    graph = build([(0, 0), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (4, 2)], 5, 3)
    observed = sets_of(BfsSampler(graph, 4, near)(torch.zeros(N_DRAWS, dtype=torch.int64), seeded(6)), start=2)
    assert p_value(observed, repeated_draws_law(law, 2)) > REJECT_BELOW


@given(graph=graphs(), seed=st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_the_block_is_that_of_the_dense_product(graph: BipartiteGraph, seed: int) -> None:
    want = paths(graph).float()
    for sampler in (HopSampler(graph, 2, 3), BfsSampler(graph, 6), HopSampler(graph, 0, 4, "binary")):
        nodes, mask = sampler(all_nodes(graph), seeded(seed))
        valid = mask[:, :, None] & mask[:, None, :]
        expected = want[nodes[:, :, None], nodes[:, None, :]] * valid
        for weights, block in (("count", expected), ("binary", expected.clamp(max=1))):
            assert torch.equal(subgraph_reach2(graph, Subgraphs(nodes, mask), weights), block)


@pytest.mark.parametrize("columns", [1, 200, 10**6])
def test_the_block_does_not_depend_on_how_many_subgraphs_share_a_product(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = random_graph(30, 20, 150)
    subgraphs = HopSampler(graph, 3, 5)(all_nodes(graph), seeded())
    whole = subgraph_reach2(graph, subgraphs, "count")
    monkeypatch.setattr(structure, "_MAX_COLUMNS", columns)
    assert torch.equal(subgraph_reach2(graph, subgraphs, "count"), whole)
    assert whole.max() > 1


def test_no_centers_give_no_blocks() -> None:
    graph = build([(0, 0)], 1, 1)
    none = HopSampler(graph, 0, 2, "count")(torch.empty(0, dtype=torch.int64), seeded())
    assert subgraph_reach2(graph, none, "count").shape == (0, 3, 3)


def test_two_hop_reachability_is_never_made_as_a_whole() -> None:
    n_users = 200_000  # all beside each other: A @ A would hold 4e10 pairs, 40 GB at a byte each
    graph = build([(user, 0) for user in range(n_users)], n_users, 1)
    centers = torch.arange(50)
    for law in ("count", "binary"):
        for sampler in (HopSampler(graph, 0, 6, law), WalkSampler(graph, 7, law)):
            subgraphs = sampler(centers, seeded())
            assert bool(subgraphs.mask.all())
            block = subgraph_reach2(graph, subgraphs, law)
            assert torch.equal(block, (1 - torch.eye(7)).expand(50, 7, 7))


def test_the_names_of_neighborhoods_and_what_is_none() -> None:
    graph = build(PAIRS, 6, 3)
    named = {"adjacency": Neighbors, "walk": TwoHopWalks, "count": TwoHopPaths, "binary": TwoHopNodes}
    assert {name: type(neighborhood(graph, name)) for name in named} == named
    message = "^neighborhood: must be one of adjacency, walk, count, binary, got 'counts'$"
    for make in (
        lambda: HopSampler(graph, 1, 1, "counts"),
        lambda: BfsSampler(graph, 2, "counts"),
        lambda: WalkSampler(graph, 2, "counts"),
    ):
        with pytest.raises(ParamError, match=message):
            make()
    with pytest.raises(ParamError, match=r"^subgraph_reach2: weights must be one of binary, count, got 'walk'$"):
        subgraph_reach2(graph, BfsSampler(graph, 2)(all_nodes(graph), seeded()), "walk")
    with pytest.raises(NotImplementedError, match="TwoHop does not draw"):
        TwoHop(graph).propose(all_nodes(graph), 1, seeded())
