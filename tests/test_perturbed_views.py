import copy
import re

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from recmodels.graph import BipartiteGraph
from recmodels.perturbed_views import DROPS, DroppedView, LowRankView, NoisyView, drop_edges, drop_nodes
from recmodels.streams import stream
from recmodels.views import Aggregation, PropagationView
from tests.conftest import random_graph

WIDTH, N_HOPS, RATE = 4, 3, 0.3
LIGHTGCNPP = Aggregation(target=0.6, source=-0.1, is_unit=True, ego_share=0.2)


def _graph() -> BipartiteGraph:
    return random_graph(21, 31)


def _ego(graph: BipartiteGraph) -> Tensor:
    return torch.randn(graph.n_nodes, WIDTH, generator=torch.Generator().manual_seed(1))


def _encoder(graph: BipartiteGraph, aggregation: Aggregation = Aggregation()) -> PropagationView:  # noqa: B008
    return PropagationView(aggregation.adjacency(graph), N_HOPS, aggregation=aggregation)


def _edges(graph: BipartiteGraph) -> set[tuple[int, int]]:
    """Both directions of every edge, one entry of the CSR form at a time."""
    bounds = graph.indptr.tolist()
    return {(v, int(graph.indices[k])) for v in range(graph.n_nodes) for k in range(bounds[v], bounds[v + 1])}


def _dense(graph: BipartiteGraph) -> Tensor:
    """The normalized adjacency of a graph by a loop over its edges."""
    edges, dense = _edges(graph), torch.zeros(graph.n_nodes, graph.n_nodes)
    degree = [sum(row == v for row, _ in edges) for v in range(graph.n_nodes)]
    for row, column in edges:
        dense[row, column] = (degree[row] * degree[column]) ** -0.5
    return dense


def test_the_edges_are_numbered_as_the_rows_of_the_users_have_them() -> None:
    graph = _graph()
    pairs = [tuple(pair) for pair in graph.ends.T.tolist()]
    assert pairs == sorted(edge for edge in _edges(graph) if edge[0] < graph.n_users)
    assert graph.n_edges == len(pairs)


def test_a_part_of_a_graph_has_exactly_the_kept_edges_in_both_directions() -> None:
    graph = _graph()
    before = graph.indices.clone()
    keep = torch.rand(graph.n_edges, generator=torch.Generator().manual_seed(2)) < 0.5
    part = graph.with_edges(keep)
    kept = [tuple(pair) for pair in graph.ends.T[keep].tolist()]
    assert _edges(part) == {*kept, *((item, user) for user, item in kept)}
    assert all(bool((row.diff() > 0).all()) for row in part.indices.split(part.degrees.tolist()))
    assert torch.equal(graph.indices, before)
    assert torch.equal(graph.with_edges(torch.ones_like(keep)).indices, graph.indices)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropping_edges_leaves_exactly_the_rest(rate: float) -> None:
    graph = _graph()
    part = drop_edges(graph, rate, stream(0, "drop"))
    assert part.n_edges == graph.n_edges - round(rate * graph.n_edges)
    assert _edges(part) <= _edges(graph)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5])
def test_dropping_nodes_takes_all_edges_of_its_share_of_each_side(rate: float) -> None:
    graph = random_graph(21, 31, density=1.0)  # whoever keeps an edge was not dropped
    part = drop_nodes(graph, rate, stream(0, "drop"))
    users, items = part.degrees.split([graph.n_users, graph.n_items])
    gone_users, gone_items = round(rate * 20), round(rate * 30)
    assert [int((side[1:] == 0).sum()) for side in (users, items)] == [gone_users, gone_items]
    assert part.n_edges == (20 - gone_users) * (30 - gone_items)


def test_every_edge_and_every_node_is_dropped_about_as_often() -> None:
    graph, generator, n_draws = random_graph(5, 6, density=1.0), stream(0, "drop"), 600
    kept = torch.zeros(2, graph.n_nodes)
    for _ in range(n_draws):
        for row, drop in enumerate((drop_edges, drop_nodes)):
            kept[row] += drop(graph, 0.5, generator).degrees
    share = kept / n_draws / graph.degrees.clamp(min=1)
    real = torch.cat([graph.users, graph.items])
    # an edge stays with 1/2; a node drop keeps 2 of 4 users and 3 of 5 items (round(2.5) = 2 go)
    assert_close(share[0, real], torch.full((9,), 0.5), atol=0.05, rtol=0)
    assert_close(share[1, real], torch.full((9,), 0.5 * 0.6), atol=0.06, rtol=0)


@pytest.mark.parametrize("aggregation", [Aggregation(), LIGHTGCNPP], ids=["lightgcn", "lightgcn++"])
@pytest.mark.parametrize("drop", DROPS)
def test_a_dropped_view_is_the_encoder_on_the_dropped_graph(drop: str, aggregation: Aggregation) -> None:
    graph = _graph()
    ego, view = _ego(graph), DroppedView(_encoder(graph, aggregation), graph, drop, RATE)
    view.on_epoch_start(3, stream(0, "ssl", 3))
    twin = stream(0, "ssl", 3)
    n_graphs = N_HOPS if drop == "walk" else 1
    parts = [(drop_nodes if drop == "node" else drop_edges)(graph, RATE, twin) for _ in range(n_graphs)]
    hop = ego
    for number, got in enumerate(view(ego).hops[1:]):
        alone = PropagationView(aggregation.adjacency(parts[number % n_graphs]), 1, aggregation=aggregation)
        hop = alone(hop).hops[1]
        assert_close(got, hop, atol=1e-6, rtol=1e-5)


def test_a_dropped_graph_is_normalized_by_its_own_degrees() -> None:
    graph = _graph()
    view = DroppedView(_encoder(graph), graph, "edge", RATE)
    view.on_epoch_start(0, stream(0, "ssl"))
    dense = view.adjacency_of(1).matrix().to_dense()
    assert_close(dense, _dense(drop_edges(graph, RATE, stream(0, "ssl"))), atol=1e-6, rtol=0)
    assert torch.equal(dense, dense.T)
    assert view.adjacency_of(1).transpose is view.adjacency_of(1)


@pytest.mark.parametrize("drop", DROPS)
def test_a_dropped_view_is_drawn_anew_every_epoch_from_its_stream_alone(drop: str) -> None:
    graph = _graph()
    ego, view = _ego(graph), DroppedView(_encoder(graph), graph, drop, RATE)
    finals = []
    for epoch in (0, 1, 0):
        view.on_epoch_start(epoch, stream(0, "ssl", epoch))
        finals.append(view(ego).final)
        assert torch.equal(view(ego).final, finals[-1])
    assert torch.equal(finals[0], finals[2])
    assert not torch.equal(finals[0], finals[1])


@pytest.mark.parametrize("drop", DROPS)
def test_a_dropped_view_is_the_whole_graph_in_evaluation_and_before_its_first_epoch(drop: str) -> None:
    graph = _graph()
    ego, encoder = _ego(graph), _encoder(graph)
    view, want = DroppedView(encoder, graph, drop, RATE), encoder(ego).final
    assert torch.equal(view(ego).final, want)
    view.on_epoch_start(0, stream(0, "ssl"))
    assert not torch.equal(view(ego).final, want)
    assert torch.equal(view.eval()(ego).final, want)
    assert f"drop={drop}, rate=0.3" in repr(view)


def test_walks_draw_a_graph_for_every_hop() -> None:
    graph = _graph()
    view = DroppedView(_encoder(graph), graph, "walk", RATE)
    view.on_epoch_start(0, stream(0, "ssl"))
    matrices = [view.adjacency_of(number).matrix().to_dense() for number in range(1, N_HOPS + 1)]
    assert not any(torch.equal(matrices[0], other) for other in matrices[1:])


@pytest.mark.parametrize(("drop", "rate"), [("edges", 0.1), ("edge", 1.0), ("edge", -0.1)])
def test_an_unknown_drop_and_a_rate_out_of_range_are_refused(drop: str, rate: float) -> None:
    graph = _graph()
    with pytest.raises(ValueError, match=re.escape(f"one of edge, node, walk and rate in [0, 1), got {drop!r} and")):
        DroppedView(_encoder(graph), graph, drop, rate)


def test_the_drawn_graph_follows_the_dtype_of_the_view() -> None:
    graph = _graph()
    view = DroppedView(_encoder(graph), graph, "edge", RATE).double()
    view.on_epoch_start(0, stream(0, "ssl"))
    assert view(_ego(graph).double()).final.dtype == torch.float64


def test_noise_has_its_length_the_sign_of_what_it_is_added_to_and_reaches_later_hops() -> None:
    graph, noise = _graph(), 0.1
    ego, encoder = _ego(graph), _encoder(graph)
    view = NoisyView(encoder, noise)
    view.on_epoch_start(0, stream(0, "ssl"))
    encoding = view(ego)
    assert encoding.hops[0] is ego
    isolated = graph.degrees == 0
    for number in range(1, N_HOPS + 1):
        clean = encoder.next_hop(encoding.hops[number - 1], number)
        added = encoding.hops[number] - clean
        assert_close(added[~isolated].norm(dim=-1), torch.full((int((~isolated).sum()),), noise), atol=1e-6, rtol=0)
        assert bool((added * clean >= -1e-7).all())
        assert not added[isolated].any()
    assert_close(encoding.final, sum(encoding.hops) / (N_HOPS + 1))


def test_noise_is_uniform_before_it_is_scaled() -> None:
    graph = random_graph(200, 300, density=0.2)
    ego = torch.randn(graph.n_nodes, 2, generator=torch.Generator().manual_seed(0))
    view = NoisyView(_encoder(graph), 1.0)
    view.on_epoch_start(0, stream(0, "ssl"))
    hop = view.next_hop(ego, 1) - _encoder(graph).next_hop(ego, 1)
    ratio = hop[graph.degrees > 0].abs()
    slope = (ratio[:, 0] / ratio[:, 1]).sort().values
    quartiles = slope[torch.tensor([len(slope) // 4, len(slope) // 2, 3 * len(slope) // 4])]
    assert_close(quartiles, torch.tensor([0.5, 1.0, 2.0]), atol=0, rtol=0.25)  # of a ratio of two uniforms


def test_noise_follows_its_stream_moves_on_within_an_epoch_and_is_off_in_evaluation() -> None:
    graph = _graph()
    ego, encoder = _ego(graph), _encoder(graph)
    first, second = NoisyView(encoder, 0.1), NoisyView(encoder, 0.1)
    finals = []
    for _ in range(2):
        generator = stream(0, "ssl", 5)
        first.on_epoch_start(5, generator)
        second.on_epoch_start(5, generator)
        finals.append([view(ego).final for view in (first, second, first)])
    assert all(torch.equal(one, again) for one, again in zip(*finals, strict=True))
    assert not torch.equal(finals[0][0], finals[0][1])
    assert not torch.equal(finals[0][0], finals[0][2])
    assert torch.equal(first.eval()(ego).final, encoder(ego).final)
    assert torch.equal(NoisyView(encoder, 0.0)(ego).final, encoder(ego).final)
    assert "noise=0.1" in repr(first)


def test_noise_is_a_constant_to_the_gradient_and_the_same_in_double_precision() -> None:
    graph = _graph()
    ego, view = _ego(graph), NoisyView(_encoder(graph), 0.1)
    view.on_epoch_start(0, stream(0, "ssl"))
    twin = copy.deepcopy(view).double()
    single, double = view(ego).final, twin(ego.double()).final
    assert_close(single.double(), double, atol=1e-6, rtol=0)
    x = ego.clone().requires_grad_()
    probe = torch.randn(single.shape, generator=torch.Generator().manual_seed(3))
    got, want = (torch.autograd.grad((of(x).final * probe).sum(), x)[0] for of in (view, _encoder(graph)))
    assert torch.equal(got, want)


def test_the_low_rank_view_is_the_truncated_decomposition_of_the_dense_matrix() -> None:
    graph, rank = _graph(), 5
    ego, view = _ego(graph), LowRankView(graph, rank, stream(0, "svd"))
    whole = _dense(graph)
    u, s, vt = torch.linalg.svd(whole[: graph.n_users, graph.n_users :], full_matrices=False)
    block = u[:, :rank] * s[:rank] @ vt[:rank]
    dense = torch.zeros_like(whole)
    dense[: graph.n_users, graph.n_users :], dense[graph.n_users :, : graph.n_users] = block, block.T
    assert_close(view(ego), dense @ ego, atol=1e-5, rtol=1e-4)
    assert not view(ego)[graph.degrees == 0].any()
    assert not view.state_dict()
    assert repr(view) == "LowRankView(rank=5)"


def test_a_rank_beyond_the_smaller_side_is_clipped_to_it_and_exact() -> None:
    graph = random_graph(6, 12, density=0.6)
    view, ego = LowRankView(graph, 1000, stream(0, "svd")), _ego(graph)
    assert view.rank == 5
    assert_close(view(ego), _dense(graph) @ ego, atol=1e-5, rtol=1e-4)


def test_the_low_rank_view_does_not_depend_on_its_start() -> None:
    graph = _graph()
    ego = _ego(graph)
    one, other = (LowRankView(graph, 4, stream(seed, "svd"))(ego) for seed in (0, 1))
    assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("aggregation", [Aggregation(), LIGHTGCNPP, Aggregation(target=0.6, source=-0.1)])
def test_at_full_rank_every_hop_is_the_encoders_own(aggregation: Aggregation) -> None:
    graph = random_graph(6, 12, density=0.6)
    hops = _encoder(graph, aggregation).eval()(_ego(graph)).hops
    view = LowRankView(graph, 1000, stream(0, "svd"), aggregation)
    for before, after in zip(hops[:-1], hops[1:], strict=True):
        assert_close(view(before), after, atol=1e-5, rtol=1e-4)
