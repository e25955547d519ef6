import re

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch_geometric.nn import GATConv, LGConv

from recmodels.graph import BipartiteGraph
from recmodels.kernels import propagate
from recmodels.node_views import (
    AttentionView,
    HopView,
    MeanView,
    NextHopView,
    NoiseView,
    node_view,
    view_problem,
)
from recmodels.records import Encoding
from recmodels.views import Aggregation, PropagationView
from tests.conftest import random_graph

WIDTH, N_HOPS, NOISE = 4, 3, 0.1
NODES = torch.tensor([5, 12, 5, 1, 0])  # a node twice, and an isolated one


def _ego(graph: BipartiteGraph) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(graph.n_nodes, WIDTH, dtype=torch.float64, generator=generator).requires_grad_()


def _encoder(graph: BipartiteGraph, n_extra_hops: int = 0) -> PropagationView:
    return PropagationView(graph.normalized_adjacency(torch.float64), N_HOPS, n_extra_hops)


def _encoded(graph: BipartiteGraph, n_extra_hops: int = 0) -> Encoding:
    encoded: Encoding = _encoder(graph, n_extra_hops)(_ego(graph))
    return encoded


def _edges(graph: BipartiteGraph) -> Tensor:
    """(2, E): neighbor, node; one entry of the CSR form at a time."""
    bounds = graph.indptr.tolist()
    pairs = [(graph.indices[k], v) for v in range(graph.n_nodes) for k in range(bounds[v], bounds[v + 1])]
    return torch.tensor(pairs).T


def _dense(graph: BipartiteGraph) -> Tensor:
    adjacency = torch.zeros(graph.n_nodes, graph.n_nodes, dtype=torch.float64)
    adjacency[tuple(_edges(graph))] = 1
    scale = adjacency.sum(1).clamp(min=1).rsqrt()
    return scale[:, None] * adjacency * scale


@pytest.mark.parametrize("n_extra_hops", [0, 2])
def test_propagation_is_repeated_multiplication_read_out_over_the_first_hops(n_extra_hops: int) -> None:
    graph = random_graph()
    encoding, dense = _encoded(graph, n_extra_hops), _dense(graph)
    hops = [_ego(graph)]
    for _ in range(N_HOPS + n_extra_hops):
        hops.append(dense @ hops[-1])
    assert len(encoding.hops) == len(hops)
    for got, want in zip(encoding.hops, hops, strict=True):
        assert_close(got, want, atol=1e-12, rtol=1e-12)
    assert_close(encoding.final, sum(hops[: N_HOPS + 1]) / (N_HOPS + 1), atol=1e-12, rtol=1e-12)
    assert encoding.hops[0] is encoding.ego


@pytest.mark.parametrize("ego_share", [0.0, 0.2, None])
def test_lightgcnpp_scales_to_unit_length_weighs_degrees_apart_and_reads_out_hop_0_by_its_share(
    ego_share: float | None,
) -> None:
    graph = random_graph()
    aggregation = Aggregation(target=0.6, source=-0.1, is_unit=True, ego_share=ego_share)
    view = PropagationView(graph.normalized_adjacency(torch.float64, 0.6, -0.1), N_HOPS, aggregation=aggregation)
    edges = (_dense(graph) > 0).double()
    degrees = edges.sum(1).clamp(min=1)
    weights = degrees[:, None] ** -0.6 * edges * degrees**0.1
    hops = [_ego(graph)]
    for _ in range(N_HOPS):
        hops.append(weights @ (hops[-1] / hops[-1].norm(dim=1, keepdim=True).clamp(min=1e-12)))
    share = 1 / (N_HOPS + 1) if ego_share is None else ego_share
    want = share * hops[0] + (1 - share) * sum(hops[1:]) / N_HOPS
    assert_close(view(_ego(graph)).final, want, atol=1e-12, rtol=1e-12)
    assert_close(aggregation.adjacency(graph).values.double(), view.adjacency.values, atol=1e-6, rtol=1e-6)


def test_unequal_exponents_keep_their_transpose_for_any_number_of_derivatives() -> None:
    adjacency = random_graph().normalized_adjacency(torch.float64, 0.6, -0.1)
    assert_close(adjacency.transpose.matrix().to_dense(), adjacency.matrix().to_dense().T)
    x = torch.randn(adjacency.n_nodes, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: propagate(adjacency, t), x)
    assert torch.autograd.gradgradcheck(lambda t: propagate(adjacency, t).square(), x)


def test_propagation_is_pyg_lgconv() -> None:
    graph = random_graph()
    encoding, layer, want = _encoded(graph), LGConv(), _ego(graph)
    for hop in encoding.hops[1:]:
        want = layer(want, _edges(graph))
        assert_close(hop, want, atol=1e-12, rtol=1e-12)


def test_hop_views_read_that_hop() -> None:
    encoding = _encoded(random_graph())
    for hop in range(-N_HOPS - 1, N_HOPS + 1):
        assert torch.equal(HopView(hop)(encoding, NODES), encoding.hops[hop][NODES])


@pytest.mark.parametrize(("first", "last"), [(0, 3), (1, 2), (2, 2)])
def test_mean_views_average_both_ends_and_what_is_between(first: int, last: int) -> None:
    encoding = _encoded(random_graph())
    want = sum(encoding.hops[hop][NODES] for hop in range(first, last + 1)) / (last - first + 1)
    assert_close(MeanView(first, last)(encoding, NODES), want, atol=1e-14, rtol=1e-14)


def test_the_next_hop_is_one_multiplication_more() -> None:
    graph = random_graph()
    encoding = _encoded(graph)
    view = NextHopView(_encoder(graph))
    want = (_dense(graph) @ encoding.hops[-1])[NODES]
    assert_close(view(encoding, NODES), want, atol=1e-12, rtol=1e-12)
    assert_close(view(encoding, NODES), _encoded(graph, 1).hops[-1][NODES], atol=1e-12, rtol=1e-12)


def _dropping(graph: BipartiteGraph, aggregation: Aggregation) -> PropagationView:
    adjacency = graph.normalized_adjacency(torch.float64, aggregation.target, aggregation.source)
    return PropagationView(adjacency, N_HOPS, aggregation=aggregation._replace(edge_dropout=0.4))


@pytest.mark.parametrize("aggregation", [Aggregation(), Aggregation(0.6, -0.1, False, 0.2)], ids=["same", "asymmetric"])
def test_edge_dropout_leaves_out_both_directions_of_an_edge_and_scales_the_others(aggregation: Aggregation) -> None:
    graph = random_graph()
    view = _dropping(graph, aggregation)
    whole = view.adjacency.matrix().to_dense()
    ego = torch.eye(graph.n_nodes, dtype=torch.float64, requires_grad=True)
    kept = view(ego).hops[1]  # of unit vectors: the matrix itself
    is_kept = kept != 0
    assert_close(kept, torch.where(is_kept, whole / 0.6, 0), atol=1e-12, rtol=0)
    assert torch.equal(is_kept, is_kept.T)
    assert 0 < is_kept.sum() < (whole != 0).sum()
    probe = torch.randn(kept.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    (gradient,) = torch.autograd.grad((kept * probe).sum(), ego)
    assert_close(gradient, kept.detach().T @ probe, atol=1e-12, rtol=0)
    assert torch.equal(view.eval()(ego).hops[1], whole)


def test_edge_dropout_is_drawn_anew_every_step_by_the_stream_of_the_epoch() -> None:
    graph = random_graph()
    view = _dropping(graph, Aggregation())

    def steps(seed: int) -> list[Tensor]:
        view.on_epoch_start(0, torch.Generator().manual_seed(seed))
        return [view(_ego(graph)).final for _ in range(2)]

    first, again, other = steps(1), steps(1), steps(2)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_edge_dropout_leaves_out_its_share_and_keeps_the_mean() -> None:
    graph = random_graph(n_users=60, n_items=90)
    view = _dropping(graph, Aggregation())
    whole = view.adjacency.values
    draws = torch.stack([view._draw_edges(view.edge_numbers).values / whole for _ in range(400)])
    share = float((draws == 0).double().mean())
    assert abs(share - 0.4) < 5 * (0.24 / (draws.numel() / 2)) ** 0.5
    assert_close(draws.mean(0), torch.ones_like(whole), atol=5 * (0.4 / 0.6 / 400) ** 0.5, rtol=0)


def test_the_next_hop_is_the_encoders_whatever_its_aggregation() -> None:
    graph, aggregation = random_graph(), Aggregation(0.6, -0.1, True, 0.2)
    encoder = PropagationView(aggregation.adjacency(graph).double(), N_HOPS, 1, aggregation)
    encoding = encoder(torch.randn(graph.n_nodes, WIDTH, generator=torch.Generator().manual_seed(3)).double())
    shorter = encoding._replace(hops=encoding.hops[:-1])
    assert torch.equal(NextHopView(encoder)(shorter, NODES), encoding.hops[-1][NODES])


@pytest.mark.parametrize("nodes", [torch.arange(16), NODES], ids=["all", "some"])
def test_attention_over_asked_nodes_is_pyg_gatconv_over_the_graph(nodes: Tensor) -> None:
    graph = random_graph()
    encoding, view = _encoded(graph), AttentionView(graph, WIDTH, 1).double()
    whole = GATConv(WIDTH, WIDTH, add_self_loops=True).double()
    whole.load_state_dict(view.attention.state_dict())
    got, want = view(encoding, nodes), whole(encoding.hops[1], _edges(graph))[nodes]
    assert_close(got, want, atol=1e-12, rtol=1e-12)
    probe = torch.randn(got.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for mine, theirs in zip(
        torch.autograd.grad((got * probe).sum(), [encoding.ego, *view.parameters()]),
        torch.autograd.grad((want * probe).sum(), [encoding.ego, *whole.parameters()]),
        strict=True,
    ):
        assert_close(mine, theirs, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    "text", ["hop:0", "hop:-1", "hop:3", "mean:0-3", "mean:2-2", "next", "gat:0", "gat:-2", "noise:0-3"]
)
def test_every_form_names_a_view_that_passes_gradients_to_all_it_parts(text: str) -> None:
    graph = random_graph()
    encoding = _encoded(graph)
    assert view_problem(text, N_HOPS) is None
    layer = node_view(text, graph, _encoder(graph), WIDTH, NOISE).double()
    out = layer(encoding, NODES)
    assert out.shape == (len(NODES), WIDTH)
    for gradient in torch.autograd.grad(out.square().sum(), [encoding.ego, *layer.parameters()]):
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


def test_the_forms_name_the_views_with_their_numbers() -> None:
    graph = random_graph()
    make = lambda text: node_view(text, graph, _encoder(graph), WIDTH, NOISE)  # noqa: E731
    assert repr(make("hop:-2")) == "HopView(-2)"
    assert repr(make("mean:1-3")) == "MeanView(1..3)"
    assert isinstance(make("next"), NextHopView)
    noisy = make("noise:1-2")
    assert isinstance(noisy, NoiseView)
    assert (noisy.noisy.noise, noisy.noisy.n_hops, noisy.mean.first, noisy.mean.last) == (NOISE, 2, 1, 2)
    attention = make("gat:2")
    assert isinstance(attention, AttentionView)
    assert attention.hop == 2
    assert {tuple(p.shape) for p in attention.parameters()} == {(WIDTH, WIDTH), (1, 1, WIDTH), (WIDTH,)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hop",
        "hop:",
        "hop:1.5",
        "hop:x",
        "mean:1",
        "mean:-1-2",
        "next:1",
        "gta:1",
        "Hop:1",
        "noise",
        "noise:1",
        "noise:-1-2",
    ],
)
def test_an_unknown_form_is_an_error_that_lists_the_forms(text: str) -> None:
    want = f"must be hop:K, mean:I-J, next, gat:K or noise:I-J, got {text!r}"
    assert view_problem(text, N_HOPS) == want
    graph = random_graph()
    with pytest.raises(ValueError, match=re.escape(want)):
        node_view(text, graph, _encoder(graph), WIDTH, NOISE)


@pytest.mark.parametrize("text", ["hop:4", "hop:-5", "gat:4", "gat:-5", "mean:0-4", "mean:5-6", "noise:0-4"])
def test_a_hop_that_does_not_exist_is_a_problem(text: str) -> None:
    problem = view_problem(text, N_HOPS)
    assert problem is not None
    assert "names a hop outside 0..3" in problem
    assert problem.endswith(f"got {text!r}")


def test_a_range_upside_down_names_the_right_one() -> None:
    assert view_problem("mean:3-1", N_HOPS) == "must name the lower hop first, got 'mean:3-1'; did you mean 'mean:1-3'?"
    assert view_problem("noise:2-0", N_HOPS).endswith("did you mean 'noise:0-2'?")


def test_noise_that_would_reach_no_hop_is_refused() -> None:
    assert view_problem("mean:0-0", N_HOPS) is None
    problem = view_problem("noise:0-0", N_HOPS)
    assert (
        problem == "must reach hop 1 or beyond, because hop 0 has no noise, got 'noise:0-0'; did you mean 'noise:0-1'?"
    )


@pytest.mark.parametrize(("first", "last"), [(0, 3), (1, 3), (1, 2), (2, 2)])
@pytest.mark.parametrize("aggregation", [Aggregation(), Aggregation(0.6, -0.1, True, 0.2)], ids=["plain", "unit"])
def test_a_noise_view_is_the_mean_of_noisy_hops_by_hand(first: int, last: int, aggregation: Aggregation) -> None:
    graph = random_graph()
    adjacency = graph.normalized_adjacency(torch.float64, aggregation.target, aggregation.source)
    encoder = PropagationView(adjacency, N_HOPS, aggregation=aggregation)
    view = NoiseView(encoder, first, last, NOISE)
    view.on_epoch_start(0, torch.Generator().manual_seed(7))
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(7)))
    generator, hops = torch.Generator().manual_seed(seed), [_ego(graph)]
    for number in range(1, last + 1):
        clean = encoder.next_hop(hops[-1], number)
        drawn = torch.rand(clean.shape, generator=generator)
        unit = (drawn / drawn.norm(dim=-1, keepdim=True)).double()
        hops.append(clean + NOISE * unit * clean.detach().sign())
    want = torch.stack(hops[first:]).mean(0)[NODES]
    assert_close(view(encoder(_ego(graph)), NODES), want, atol=1e-7, rtol=0)  # the noise is drawn in float32


def test_noise_is_new_at_every_call_the_streams_own_and_off_in_evaluation() -> None:
    graph = random_graph()
    encoding, view = _encoded(graph), NoiseView(_encoder(graph), 1, 2, NOISE)
    out = []
    for seed in (1, 1, 2):
        view.on_epoch_start(0, torch.Generator().manual_seed(seed))
        out.append([view(encoding, NODES) for _ in range(2)])
    assert torch.equal(out[0][0], out[1][0])
    assert torch.equal(out[0][1], out[1][1])
    assert not torch.equal(out[0][0], out[0][1])
    assert not torch.equal(out[0][0], out[2][0])
    assert torch.equal(view.eval()(encoding, NODES), MeanView(1, 2)(encoding, NODES))
