"""Ranking losses against loops over the batch, and against each other where they must meet."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from recmodels.graph import BipartiteGraph
from recmodels.losses import alignment, log_mean_exp, top_k_weights, uniformity
from recmodels.objectives import (
    AlignmentUniformity,
    BilateralRanking,
    Objective,
    PairwiseRanking,
    RankingObjective,
    SampledSoftmaxRanking,
    SoftmaxRanking,
    TopKSoftmaxRanking,
)
from recmodels.records import Batch, Encoding
from tests.conftest import ranked_world


def _agree(objective: Objective, want: Tensor, encoding: Encoding, batch: Batch) -> None:
    got = objective(encoding, batch)
    assert_close(got, want, atol=1e-10, rtol=1e-10)
    gradients = [torch.autograd.grad(value, encoding.ego, retain_graph=True)[0] for value in (got, want)]
    assert_close(*gradients, atol=1e-10, rtol=1e-10)


def _scores(encoding: Encoding, user: Tensor, items: list[Tensor]) -> Tensor:
    return torch.stack([(encoding.scored[user] * encoding.scored[item]).sum() for item in items])


def _catalog(graph: BipartiteGraph) -> list[Tensor]:
    return list(graph.items)


def test_softmax_is_the_cross_entropy_of_each_positive_among_all_real_items() -> None:
    graph, encoding, batch = ranked_world()
    terms = [
        F.cross_entropy(_scores(encoding, user, _catalog(graph)), pos - graph.n_users - 1)
        for user, pos in zip(batch.user, batch.pos, strict=True)
    ]
    _agree(SoftmaxRanking(1.0, graph), torch.stack(terms).mean(), encoding, batch)


@pytest.mark.parametrize("ratio", [0.4, 1.0, 5.0])
def test_bsl_takes_log_mean_exp_over_the_positives_of_the_user_in_the_batch(ratio: float) -> None:
    graph, encoding, batch = ranked_world()
    terms = []
    for user in batch.user:
        own = _scores(encoding, user, [pos for other, pos in zip(batch.user, batch.pos, strict=True) if other == user])
        positive = ratio * (torch.logsumexp(own / ratio, 0) - math.log(len(own)))
        terms.append(torch.logsumexp(_scores(encoding, user, _catalog(graph)), 0) - positive)
    _agree(BilateralRanking(1.0, graph, ratio), torch.stack(terms).mean(), encoding, batch)


def test_bsl_with_a_hot_positive_side_is_the_softmax() -> None:
    graph, encoding, batch = ranked_world()
    softmax, bsl = SoftmaxRanking(1.0, graph)(encoding, batch), BilateralRanking(1.0, graph, 1e7)(encoding, batch)
    assert_close(bsl, softmax, atol=1e-6, rtol=0)
    assert BilateralRanking(1.0, graph, 1.0)(encoding, batch) < softmax


@pytest.mark.parametrize(("k", "ratio"), [(1, 0.5), (4, 0.5), (4, 2.0), (100, 1.0)])
def test_slk_weighs_positives_by_how_far_they_are_from_the_best_k(k: int, ratio: float) -> None:
    graph, encoding, batch = ranked_world()
    weights, terms = [], []
    for user, pos in zip(batch.user, batch.pos, strict=True):
        scores = _scores(encoding, user, _catalog(graph))
        threshold = scores.detach().sort(descending=True).values[min(k, len(scores)) - 1]
        weights.append(torch.sigmoid((_scores(encoding, user, [pos])[0].detach() - threshold) / ratio))
        terms.append(F.cross_entropy(scores, pos - graph.n_users - 1))
    for place, user in enumerate(batch.user):
        own = [weight for weight, other in zip(weights, batch.user, strict=True) if other == user]
        terms[place] = terms[place] * weights[place] / torch.stack(own).mean()
    _agree(TopKSoftmaxRanking(1.0, graph, k, ratio), torch.stack(terms).mean(), encoding, batch)


def test_slk_with_hot_weights_is_the_softmax_and_with_cold_ones_prefers_the_best() -> None:
    graph, encoding, batch = ranked_world()
    softmax = SoftmaxRanking(1.0, graph)(encoding, batch)
    assert_close(TopKSoftmaxRanking(1.0, graph, 3, 1e7)(encoding, batch), softmax, atol=1e-6, rtol=0)
    assert TopKSoftmaxRanking(1.0, graph, 3, 0.1)(encoding, batch) < softmax


def test_weights_of_the_best_k_have_mean_one_even_where_all_positives_are_far_below() -> None:
    scores, groups = torch.tensor([-900.0, -901.0, 3.0, 1.0]), torch.tensor([0, 0, 1, 1])
    weights = top_k_weights(scores.requires_grad_(), torch.tensor([0.0, 2.0]), groups, 1.0)
    far = 2 * torch.tensor([1.0, math.exp(-1)]) / (1 + math.exp(-1))
    near = 2 * torch.sigmoid(torch.tensor([1.0, -1.0]))
    assert_close(weights, torch.cat([far, near]))
    assert not weights.requires_grad


def test_sampled_softmax_corrects_every_candidate_of_the_batch_by_its_share_of_the_interactions() -> None:
    graph, encoding, batch = ranked_world()
    n_edges = graph.indices.numel() / 2
    correction = {int(item): math.log(int(graph.degrees[item]) / n_edges) for item in batch.pos}
    terms = []
    for user, pos in zip(batch.user, batch.pos, strict=True):
        scores = _scores(encoding, user, list(batch.pos)) - torch.tensor(
            [correction[int(i)] for i in batch.pos], dtype=torch.float64
        )
        positive = _scores(encoding, user, [pos])[0] - correction[int(pos)]
        terms.append(torch.logsumexp(scores, 0) - positive)
    _agree(SampledSoftmaxRanking(1.0, graph), torch.stack(terms).mean(), encoding, batch)


def test_sampled_softmax_estimates_the_softmax_over_all_items() -> None:
    graph, encoding, _ = ranked_world()
    users = torch.repeat_interleave(torch.arange(graph.n_users), graph.degrees[: graph.n_users])
    items = graph.indices[: len(users)]
    drawn = torch.randint(len(users), (20_000,), generator=torch.Generator().manual_seed(0))
    batch = Batch.of(users[drawn], items[drawn], items[drawn])
    log_n = math.log(len(drawn))  # the sum over the batch is that many times the mean
    got = SampledSoftmaxRanking(1.0, graph)(encoding, batch) - log_n
    positive = -SampledSoftmaxRanking(1.0, graph).log_share[batch.pos].double().mean()
    want = SoftmaxRanking(1.0, graph)(encoding, batch) - positive
    assert_close(got, want, atol=0.02, rtol=0)


def test_directau_pulls_partners_together_and_spreads_each_side() -> None:
    _, encoding, batch = ranked_world(12)
    unit = F.normalize(encoding.final, dim=-1)
    align = torch.stack([(unit[u] - unit[i]).square().sum() for u, i in zip(batch.user, batch.pos, strict=True)]).mean()
    sides = []
    for ids in (batch.user, batch.pos):
        pairs = [(i, j) for i in range(12) for j in range(12) if i != j]
        potentials = [(-2 * (unit[ids[i]] - unit[ids[j]]).square().sum()).exp() for i, j in pairs]
        sides.append(torch.stack(potentials).mean().log())
    _agree(AlignmentUniformity(1.0, 0.7), align + 0.7 * (sides[0] + sides[1]) / 2, encoding, batch)


def test_a_batch_of_one_has_no_pair_to_spread() -> None:
    _, encoding, batch = ranked_world(1)
    term = AlignmentUniformity(1.0, 1.0)(encoding, batch)
    unit = F.normalize(encoding.final, dim=-1)
    assert_close(term, alignment(unit[batch.user], unit[batch.pos]).mean())


def test_uniformity_lies_between_a_point_and_the_widest_spread() -> None:
    point = F.normalize(torch.ones(4, 3), dim=-1)
    assert_close(uniformity(point, torch.tensor([1, 2, 1, 1])), torch.tensor(0.0))
    poles = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert_close(uniformity(poles, torch.tensor([1, 1])), torch.tensor(-8.0))


def test_log_mean_exp_moves_from_the_mean_to_the_maximum_and_does_not_overflow() -> None:
    scores, groups = torch.tensor([1.0, 3.0, -500.0, 700.0]), torch.tensor([0, 0, 1, 1])
    assert_close(log_mean_exp(scores, groups, 2, 1e6), torch.tensor([2.0, 100.0]), atol=0.2, rtol=0)
    assert_close(log_mean_exp(scores, groups, 2, 1e-3), torch.tensor([3.0, 700.0]), atol=1e-2, rtol=0)


def test_log_mean_exp_passes_gradcheck() -> None:
    scores = torch.randn(9, dtype=torch.float64, requires_grad=True)
    groups = torch.tensor([0, 1, 1, 2, 0, 2, 2, 2, 1])
    assert torch.autograd.gradcheck(lambda s: log_mean_exp(s, groups, 3, 0.7), scores)


def test_bpr_ranks_scores_and_not_the_readout() -> None:
    graph, encoding, batch = ranked_world()
    user, pos, neg = encoding.scored[batch.user], encoding.scored[batch.pos], encoding.scored[batch.neg]
    want = -F.logsigmoid((user * (pos - neg)).sum(-1)).mean()
    _agree(PairwiseRanking(1.0, graph), want, encoding, batch)


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_an_interaction_of_a_busy_user_counts_less_and_the_mean_over_all_interactions_stays(exponent: float) -> None:
    graph, encoding, batch = ranked_world()
    n = graph.degrees[: graph.n_users].double()
    all_users = torch.repeat_interleave(torch.arange(graph.n_users), graph.degrees[: graph.n_users])
    importance = n.clamp(min=1) ** -exponent / (n[all_users] ** -exponent).mean()

    def weighted(losses: list[Tensor]) -> Tensor:
        return (importance[batch.user] * torch.stack(losses)).mean()

    pairs = list(zip(batch.user, batch.pos, batch.neg, strict=True))
    softmax = [F.cross_entropy(_scores(encoding, u, _catalog(graph)), p - graph.n_users - 1) for u, p, _ in pairs]
    bpr = [-F.logsigmoid(encoding.scored[u] @ (encoding.scored[p] - encoding.scored[n])) for u, p, n in pairs]
    _agree(SoftmaxRanking(1.0, graph, exponent), weighted(softmax), encoding, batch)
    _agree(PairwiseRanking(1.0, graph, exponent), weighted(bpr), encoding, batch)


def test_importance_weighs_the_loss_of_a_user_as_a_whole() -> None:
    graph, encoding, batch = ranked_world()
    one_user = Batch.of(*(ids[batch.user == batch.user[0]] for ids in batch.triples))
    for pair in (
        [SampledSoftmaxRanking(1.0, graph, exponent) for exponent in (0.0, 0.5)],
        [BilateralRanking(1.0, graph, 0.7, exponent) for exponent in (0.0, 0.5)],
        [TopKSoftmaxRanking(1.0, graph, 3, 0.7, exponent) for exponent in (0.0, 0.5)],
    ):
        plain, weighted = pair
        factor = weighted.importance[batch.user[0]]
        assert factor != 1
        assert_close(weighted(encoding, one_user), factor * plain(encoding, one_user), atol=1e-12, rtol=1e-12)


def test_importance_is_one_in_the_mean_over_the_interactions_and_leaves_plain_losses_alone() -> None:
    graph, _, _ = ranked_world()
    n = graph.degrees[: graph.n_users].double()
    for exponent in (0.0, 0.5, 2.0):
        assert_close((n * RankingObjective(1.0, graph, exponent).importance).sum(), n.sum())
    assert torch.equal(RankingObjective(1.0, graph).importance, torch.ones(graph.n_users, dtype=torch.float64))
