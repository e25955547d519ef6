"""Scores: similarity, temperature and bias, and the gradients of what is learned."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from recmodels.graph import BipartiteGraph
from recmodels.records import Encoding
from recmodels.scoring import Scorer, Temperature
from tests.conftest import random_graph


def _readout() -> tuple[BipartiteGraph, Encoding]:
    graph = random_graph()
    x = torch.randn(graph.n_nodes, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    return graph, Encoding(x, (x,), x, x)


def _scores(graph: BipartiteGraph, encoding: Encoding) -> Tensor:
    users, items = encoding.scored.split([graph.n_users, graph.n_items])
    return users @ items.T


@pytest.mark.parametrize("similarity", ["inner", "cosine"])
@pytest.mark.parametrize("temperature", [1.0, 0.2])
@pytest.mark.parametrize("is_learned", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_score_is_similarity_over_temperature_plus_bias(
    similarity: str, temperature: float, is_learned: bool, has_bias: bool
) -> None:
    graph, encoding = _readout()
    scorer = Scorer(graph, similarity, Temperature(temperature, 1.0, 0, is_learned), has_bias).double()
    users, items = encoding.final.split([graph.n_users, graph.n_items])
    want = F.cosine_similarity(users[:, None], items, dim=-1) if similarity == "cosine" else users @ items.T
    want = want / temperature
    if scorer.bias is not None:
        with torch.no_grad():
            scorer.bias.copy_(torch.linspace(-1, 1, graph.n_items))
        want = want + scorer.bias
    assert_close(_scores(graph, scorer(encoding)), want, atol=1e-6, rtol=1e-6)
    assert (scorer.bias is not None) == has_bias


def test_plain_inner_products_copy_nothing() -> None:
    graph, encoding = _readout()
    assert Scorer(graph, "inner", Temperature(1.0, 1.0, 0), has_bias=False)(encoding).scored is encoding.final


def test_a_learned_temperature_and_a_bias_get_the_gradient_of_the_formula() -> None:
    graph, encoding = _readout()
    scorer = Scorer(graph, "cosine", Temperature(0.5, 1.0, 0, is_learned=True), has_bias=True).double()
    weights = torch.randn(graph.n_users, graph.n_items, dtype=torch.float64)
    got = torch.autograd.grad((weights * _scores(graph, scorer(encoding))).sum(), [scorer.log_temperature, scorer.bias])
    users, items = F.normalize(encoding.final, dim=-1).split([graph.n_users, graph.n_items])
    log_temperature = scorer.log_temperature.detach().clone().requires_grad_()
    scores = users @ items.T / log_temperature.exp()
    (want,) = torch.autograd.grad((weights * scores).sum(), log_temperature)
    assert_close(got[0], want, atol=1e-10, rtol=1e-10)
    assert_close(got[1], weights.sum(0), atol=1e-10, rtol=1e-10)


def test_a_scheduled_temperature_moves_geometrically_and_stays_at_its_end() -> None:
    schedule = Temperature(0.8, 0.2, 4)
    assert [schedule.at(epoch) for epoch in (0, 2, 4, 9)] == pytest.approx([0.8, 0.4, 0.2, 0.2])
    graph, encoding = _readout()
    scorer = Scorer(graph, "cosine", schedule, has_bias=False)
    scorer.on_epoch_start(2)
    assert scorer.temperature == pytest.approx(0.4)
    start = Scorer(graph, "cosine", Temperature(0.4, 1.0, 0), has_bias=False)
    assert_close(scorer(encoding).scored, start(encoding).scored)


def test_a_learned_temperature_keeps_its_start_and_is_positive() -> None:
    scorer = Scorer(random_graph(), "cosine", Temperature(0.15, 1.0, 0, is_learned=True), has_bias=False)
    scorer.on_epoch_start(7)
    assert float(scorer.temperature.detach()) == pytest.approx(0.15)
    with torch.no_grad():
        scorer.log_temperature.fill_(-50.0)
    assert float(scorer.temperature.detach()) > 0
    assert math.isfinite(float(scorer.temperature.detach()))
