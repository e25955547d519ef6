"""Under autocast, ranking losses and LightGCL's contrast are what they are in float32, value and gradient."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recmodels.graph import BipartiteGraph
from recmodels.kernels import kth_largest_score
from recmodels.losses import uniformity
from recmodels.models.ranking_term import LOSSES
from recmodels.objectives import (
    AlignmentUniformity,
    BilateralRanking,
    ContrastForm,
    Distillation,
    LowRankContrast,
    Objective,
    PairwiseRanking,
    SampledSoftmaxRanking,
    SoftmaxRanking,
    Teacher,
    TopKSoftmaxRanking,
)
from recmodels.perturbed_views import LowRankView
from recmodels.records import Batch
from recmodels.scoring import Scorer, Temperature
from recmodels.streams import stream
from recmodels.views import PropagationView
from tests.conftest import random_graph

N_TRIPLES = 4096  # sums over the pairs of such a batch are beyond float16
narrow = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
OBJECTIVES: dict[str, Callable[[BipartiteGraph], Objective]] = {
    "bpr": lambda graph: PairwiseRanking(1.0, graph, 0.5),
    "softmax": lambda graph: SoftmaxRanking(1.0, graph, 0.5),
    "sampled_softmax": lambda graph: SampledSoftmaxRanking(1.0, graph),
    "bsl": lambda graph: BilateralRanking(1.0, graph, 0.5),
    "slk": lambda graph: TopKSoftmaxRanking(1.0, graph, 5, 0.5),
    "directau": lambda graph: AlignmentUniformity(1.0, 1.0),
    "distill": lambda graph: Distillation(1.0, graph, Teacher(5.0, 0.5, 0.1, None)),
    "LightGCL": lambda graph: LowRankContrast(
        graph, LowRankView(graph, 3, stream(0, "svd")), ContrastForm(0.2, "sum", "all"), 1.0
    ),
}


def _ego(graph: BipartiteGraph) -> Tensor:
    return torch.randn(graph.n_nodes, 8, generator=torch.Generator().manual_seed(1))


def _term(name: str, ego: Tensor) -> Tensor:
    """That of a batch of a random graph, with inner products of a few hundred as scores."""
    graph, generator = random_graph(60, 90), torch.Generator().manual_seed(2)
    scorer = Scorer(graph, "inner", Temperature(0.01, 1.0, 0), has_bias=True)
    users = torch.randint(1, graph.n_users, (N_TRIPLES,), generator=generator)
    items = graph.n_users + torch.randint(1, graph.n_items, (2, N_TRIPLES), generator=generator)
    encoding = scorer(PropagationView(graph.normalized_adjacency(), 2)(ego))
    return OBJECTIVES[name](graph)(encoding, Batch.of(users, *items))


def test_every_ranking_loss_is_here() -> None:
    assert set(OBJECTIVES) == {*LOSSES, "LightGCL", "distill"}


@narrow
@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("length", [1.0, 1e-5])
def test_a_term_is_that_of_float32(name: str, dtype: torch.dtype, length: float) -> None:
    ego = (length * _ego(random_graph(60, 90))).requires_grad_()
    want = _term(name, ego)
    with torch.autocast("cpu", dtype=dtype):
        got = _term(name, ego)
    gradients = [torch.autograd.grad(value, ego)[0] for value in (got, want)]  # outside, as the trainer
    assert torch.equal(got, want)
    assert torch.equal(*gradients)
    assert want.isfinite()
    assert gradients[1].isfinite().all()


@narrow
def test_the_low_rank_view_propagates_in_float32(dtype: torch.dtype) -> None:
    graph = random_graph(60, 90)
    view, ego = LowRankView(graph, 3, stream(0, "svd")), 1e5 * _ego(graph)
    with torch.autocast("cpu", dtype=dtype):
        got, of_narrow = view(ego), view(_ego(graph).to(dtype))
    assert torch.equal(got, view(ego))
    assert torch.equal(of_narrow, view(_ego(graph).to(dtype).float()))


@narrow
def test_thresholds_of_the_best_k_are_those_of_float32(dtype: torch.dtype) -> None:
    anchors, candidates = 1e3 * torch.randn(2, 40, 8, generator=torch.Generator().manual_seed(3))
    with torch.autocast("cpu", dtype=dtype):
        got = kth_largest_score(anchors, candidates, 5)
        of_narrow = kth_largest_score(anchors.to(dtype), candidates.to(dtype), 5)
    assert torch.equal(got, kth_largest_score(anchors, candidates, 5))
    assert torch.equal(of_narrow, kth_largest_score(anchors.to(dtype).float(), candidates.to(dtype).float(), 5))


@narrow
def test_uniformity_sums_pairs_in_float32(dtype: torch.dtype) -> None:
    x, counts = F.normalize(torch.randn(300, 8, generator=torch.Generator().manual_seed(4)), dim=-1), torch.arange(300)
    with torch.autocast("cpu", dtype=dtype):
        got, of_narrow = uniformity(x, counts + 1), uniformity(x.to(dtype), counts + 1)
    assert torch.equal(got, uniformity(x, counts + 1))
    assert torch.equal(of_narrow, uniformity(x.to(dtype).float(), counts + 1))
    assert got.isfinite()
