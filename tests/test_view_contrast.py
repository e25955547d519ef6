import itertools
import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from recmodels.graph import BipartiteGraph
from recmodels.objectives import (
    CANDIDATES,
    REDUCTIONS,
    ContrastForm,
    HopContrast,
    LowRankContrast,
    PairContrast,
    ViewContrast,
)
from recmodels.perturbed_views import DroppedView, LowRankView, NoisyView
from recmodels.records import Batch, Encoding
from recmodels.streams import stream
from recmodels.views import PropagationView
from tests.conftest import random_graph

WIDTH, N_HOPS, TEMPERATURE = 5, 3, 0.2
FORMS = [ContrastForm(TEMPERATURE, *choice) for choice in itertools.product(REDUCTIONS, CANDIDATES)]
forms = pytest.mark.parametrize("form", FORMS, ids=["-".join(form[1:]) for form in FORMS])
precisions = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])


def _graph() -> BipartiteGraph:
    return random_graph(9, 12)


def _batch(graph: BipartiteGraph) -> Batch:
    """Users and items that occur once, twice and three times."""
    user = torch.tensor([1, 4, 1, 7, 8, 1, 4])
    pos = graph.n_users + torch.tensor([2, 2, 11, 5, 2, 11, 7])
    return Batch.of(user, pos, graph.n_users + torch.tensor([1, 2, 3, 4, 5, 6, 7]))


def _ego(graph: BipartiteGraph, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(graph.n_nodes, WIDTH, generator=torch.Generator().manual_seed(1), dtype=dtype)


def _encoder(graph: BipartiteGraph, dtype: torch.dtype = torch.float64) -> PropagationView:
    return PropagationView(graph.normalized_adjacency(dtype), N_HOPS)


def _wanted(first: Tensor, second: Tensor, graph: BipartiteGraph, form: ContrastForm) -> Tensor:
    """The term, anchor by anchor and candidate by candidate, in float64."""
    batch, total = _batch(graph), torch.zeros((), dtype=torch.float64)
    first, second = first.double(), second.double()
    sides = [(batch.user.tolist(), range(graph.n_users)), (batch.pos.tolist(), range(graph.n_users, graph.n_nodes))]
    for occurring, everyone in sides:
        anchors = sorted(set(occurring)) if form.candidates == "distinct" else occurring
        candidates = {"all": list(everyone), "batch": occurring, "distinct": sorted(set(occurring))}[form.candidates]
        terms = []
        for anchor in anchors:
            cosines = torch.stack([F.cosine_similarity(first[anchor], second[node], dim=0) for node in candidates])
            own = F.cosine_similarity(first[anchor], second[anchor], dim=0)
            terms.append((cosines / form.temperature).exp().sum().log() - own / form.temperature)
        total = total + (sum(terms) if form.reduction == "sum" else sum(terms) / len(terms))
    return total


def _noisy(graph: BipartiteGraph, dtype: torch.dtype, form: ContrastForm) -> ViewContrast:
    views = [NoisyView(_encoder(graph, dtype), 0.3) for _ in range(2)]
    return ViewContrast(graph, (views[0], views[1]), form, 1.0)


class _Fixed(PairContrast):
    """Contrasts two tensors that are given."""

    def __init__(self, graph: BipartiteGraph, form: ContrastForm, *pair: Tensor) -> None:
        super().__init__(graph, form, 1.0)
        self.pair = pair

    def pairs(self, encoding: Encoding) -> list[tuple[Tensor, Tensor]]:
        return [(self.pair[0], self.pair[1])]


@precisions
@forms
def test_the_contrast_of_two_views_is_that_of_a_loop(form: ContrastForm, dtype: torch.dtype, tolerance: float) -> None:
    graph = _graph()
    ego, objective = _ego(graph, dtype).requires_grad_(), _noisy(graph, dtype, form)
    found = []
    for is_loop in (False, True):
        objective.on_epoch_start(0, ego.detach(), stream(0, "ssl"))
        if is_loop:
            value = _wanted(objective.first(ego).final, objective.second(ego).final, graph, form)
        else:
            value = objective(_encoder(graph, dtype)(ego), _batch(graph))
        found.append((value.detach().double(), torch.autograd.grad(value, ego)[0]))
    (value, gradient), (want, want_gradient) = found
    assert_close(value, want, atol=tolerance, rtol=tolerance)
    assert_close(gradient, want_gradient, atol=10 * tolerance, rtol=10 * tolerance)


@precisions
@forms
def test_the_contrast_of_readout_and_hop_is_that_of_a_loop(
    form: ContrastForm, dtype: torch.dtype, tolerance: float
) -> None:
    graph = _graph()
    encoding = _encoder(graph, dtype)(_ego(graph, dtype))
    got = HopContrast(graph, 1, form, 1.0)(encoding, _batch(graph))
    assert_close(got.double(), _wanted(encoding.final, encoding.hops[1], graph, form), atol=tolerance, rtol=tolerance)


@forms
def test_the_low_rank_contrast_adds_up_every_hop_against_the_propagation_of_the_hop_before(form: ContrastForm) -> None:
    graph = _graph()
    encoding, view = _encoder(graph)(_ego(graph)), LowRankView(graph, 3, stream(0, "svd")).double()
    got = LowRankContrast(graph, view, form, 1.0)(encoding, _batch(graph))
    want = sum(_wanted(encoding.hops[k], view(encoding.hops[k - 1]), graph, form) for k in range(1, N_HOPS + 1))
    assert_close(got, want, atol=1e-10, rtol=1e-10)


@forms
def test_gradients_of_both_sides_of_a_pair_are_those_of_finite_differences(form: ContrastForm) -> None:
    graph = _graph()
    pair = [_ego(graph).requires_grad_(), (_ego(graph) + 0.3).requires_grad_()]
    encoding, batch = _encoder(graph)(_ego(graph)), _batch(graph)
    assert torch.autograd.gradcheck(lambda a, b: _Fixed(graph, form, a, b)(encoding, batch), pair)


@forms
def test_padding_and_other_nodes_are_candidates_only_where_all_are(form: ContrastForm) -> None:
    graph = _graph()
    second = _ego(graph).requires_grad_()
    value = _Fixed(graph, form, _ego(graph) + 1, second)(_encoder(graph)(_ego(graph)), _batch(graph))
    reached = torch.autograd.grad(value, second)[0].abs().sum(1) > 0
    in_batch = torch.zeros(graph.n_nodes, dtype=torch.bool)
    in_batch[torch.cat([_batch(graph).user, _batch(graph).pos])] = True
    assert torch.equal(reached, torch.ones_like(in_batch) if form.candidates == "all" else in_batch)


def test_with_every_node_once_in_the_batch_the_three_choices_differ_by_padding_only() -> None:
    graph = random_graph(10, 10)
    batch = Batch.of(graph.users, graph.items, graph.items)
    encoding = _encoder(graph)(_ego(graph))
    found = {
        name: HopContrast(graph, 2, ContrastForm(TEMPERATURE, "mean", name), 1.0)(encoding, batch)
        for name in CANDIDATES
    }
    assert_close(found["batch"], found["distinct"], atol=1e-12, rtol=0)
    assert found["all"] > found["batch"]


def test_two_views_draw_apart_and_anew_every_epoch_from_the_stream_of_the_objective() -> None:
    graph = _graph()
    views = [DroppedView(_encoder(graph), graph, "edge", 0.4) for _ in range(2)]
    objective = ViewContrast(graph, (views[0], views[1]), FORMS[0], 1.0)
    encoding, values = _encoder(graph)(_ego(graph)), []
    for epoch in (0, 1, 0):
        objective.on_epoch_start(epoch, encoding.ego, stream(0, "ssl", epoch))
        assert not torch.equal(objective.first.adjacency_of(1).values, objective.second.adjacency_of(1).values) or (
            not torch.equal(objective.first.adjacency_of(1).indices, objective.second.adjacency_of(1).indices)
        )
        values.append(objective(encoding, _batch(graph)))
    assert torch.equal(values[0], values[2])
    assert not torch.equal(values[0], values[1])


def test_each_view_is_propagated_once_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, calls = _graph(), []
    next_hop = PropagationView.next_hop
    monkeypatch.setattr(
        PropagationView, "next_hop", lambda self, hop, number: calls.append(self) or next_hop(self, hop, number)
    )
    objective = _noisy(graph, torch.float64, FORMS[0])
    encoding = _encoder(graph)(_ego(graph))
    calls.clear()
    objective(encoding, _batch(graph))
    assert calls == [objective.first] * N_HOPS + [objective.second] * N_HOPS
    calls.clear()
    HopContrast(graph, 1, FORMS[0], 1.0)(encoding, _batch(graph))
    assert not calls


@pytest.mark.parametrize("form", [ContrastForm(0.1, "max", "all"), ContrastForm(0.1, "sum", "none")])
def test_an_unknown_form_is_refused_with_the_choices(form: ContrastForm) -> None:
    want = "expected a reduction of ('sum', 'mean') and candidates of ('all', 'batch', 'distinct'), got ContrastForm"
    with pytest.raises(ValueError, match=re.escape(want)):
        HopContrast(_graph(), 1, form, 1.0)


def test_the_base_contrasts_nothing_and_the_form_is_shown() -> None:
    graph = _graph()
    with pytest.raises(NotImplementedError, match="PairContrast does not say what it contrasts"):
        PairContrast(graph, FORMS[0], 1.0)(_encoder(graph)(_ego(graph)), _batch(graph))
    assert "temperature=0.2, reduction='sum', candidates='all'" in repr(HopContrast(graph, 1, FORMS[0], 0.5))
