import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from recmodels.clustering import Clusters
from recmodels.graph import BipartiteGraph
from recmodels.objectives import EgoNorm, Objective, PairwiseRanking, PrototypeContrast, StructureContrast
from recmodels.objectives import contrast as contrast_module
from recmodels.records import Batch, Encoding
from recmodels.views import PropagationView
from tests.conftest import random_graph

WIDTH, TEMPERATURE = 5, 0.2


def _world() -> tuple[BipartiteGraph, Encoding, Batch]:
    """A float64 encoding of a random graph and a batch in which nodes repeat."""
    graph = random_graph(8, 11, density=0.6)
    assert (graph.degrees == 0).sum() == 2  # padding only: an isolated node has no direction after a hop
    generator = torch.Generator().manual_seed(3)
    ego = torch.randn(graph.n_nodes, WIDTH, dtype=torch.float64, generator=generator).requires_grad_()
    encoding = PropagationView(graph.normalized_adjacency(torch.float64), 2)(ego)
    users = torch.randint(1, 8, (20,), generator=generator)
    items = 8 + torch.randint(1, 11, (2, 20), generator=generator)
    return graph, encoding, Batch.of(users, items[0], items[1])


def _agree(got: Tensor, want: Tensor, ego: Tensor) -> None:
    """Value and gradient are equal."""
    assert_close(got, want, atol=1e-10, rtol=1e-10)
    gradients = [torch.autograd.grad(value, ego, retain_graph=True)[0] for value in (got, want)]
    assert_close(*gradients, atol=1e-10, rtol=1e-10)


def _infonce(anchor: Tensor, positive: Tensor, candidates: list[Tensor]) -> Tensor:
    """-log of the share of the positive, term by term."""
    similarity = lambda x, y: (x @ y) / (x.norm() * y.norm()) / TEMPERATURE  # noqa: E731
    denominator = torch.stack([similarity(anchor, c).exp() for c in candidates]).sum()
    return denominator.log() - similarity(anchor, positive)


def _total(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum()


def test_pairwise_ranking_is_the_mean_of_minus_log_sigmoid() -> None:
    graph, encoding, batch = _world()
    want = torch.stack([
        -torch.sigmoid(encoding.final[u] @ encoding.final[p] - encoding.final[u] @ encoding.final[n]).log()
        for u, p, n in zip(*batch.triples, strict=True)
    ]).mean()  # fmt: skip
    _agree(PairwiseRanking(1.0, graph)(encoding, batch), want, encoding.ego)


@pytest.mark.parametrize("squared", [False, True])
def test_ego_norm_is_the_norm_of_each_block_over_the_batch_size(squared: bool) -> None:
    _, encoding, batch = _world()
    blocks = torch.stack([_total([encoding.ego[v].square().sum() for v in ids]) for ids in batch.triples])
    want = (blocks / 2 if squared else blocks.sqrt()).sum() / 20
    _agree(EgoNorm(1.0, squared)(encoding, batch), want, encoding.ego)


@pytest.mark.parametrize("item_weight", [0.0, 1.0, 2.5])
def test_structure_contrast_sums_infonce_over_batch_rows_among_all_of_the_side(item_weight: float) -> None:
    graph, encoding, batch = _world()
    ego, context = encoding.ego, encoding.hops[2]
    users, items = list(ego[: graph.n_users]), list(ego[graph.n_users :])  # padding rows included, as published
    want = _total([_infonce(context[u], ego[u], users) for u in batch.user])
    want = want + item_weight * _total([_infonce(context[i], ego[i], items) for i in batch.pos])
    _agree(StructureContrast(graph, 2, TEMPERATURE, item_weight, 1.0)(encoding, batch), want, ego)


def _prototypes(graph: BipartiteGraph, m_step: int = 1, starts_at: int = 0, n_clusters: int = 3) -> PrototypeContrast:
    return PrototypeContrast(graph, WIDTH, n_clusters, m_step, TEMPERATURE, weight=1.0, starts_at=starts_at).double()


def test_prototype_contrast_sums_infonce_over_batch_rows_among_all_centroids() -> None:
    graph, encoding, batch = _world()
    objective = _prototypes(graph)
    objective.on_epoch_start(0, encoding.ego.detach(), torch.Generator().manual_seed(0))
    sides = ((batch.user, objective.user_centroids), (batch.pos, objective.item_centroids))
    for _, centroids in sides:
        centroids.copy_(F.normalize(centroids, dim=-1))  # k-means made them of unit length in float32 only
    rows = [(v, centroids) for ids, centroids in sides for v in ids]
    want = _total([_infonce(encoding.ego[v], c[objective.assignment[v]], list(c)) for v, c in rows])
    _agree(objective(encoding, batch), want, encoding.ego)


def test_the_e_step_clusters_the_ego_embeddings_of_each_side() -> None:
    graph, encoding, _ = _world()
    objective = _prototypes(graph)
    objective.on_epoch_start(0, encoding.ego.detach(), torch.Generator().manual_seed(0))
    for nodes, centroids in ((graph.users, objective.user_centroids), (graph.items, objective.item_centroids)):
        points, assignment = encoding.ego.detach()[nodes], objective.assignment[nodes]
        assert set(assignment.tolist()) == {0, 1, 2}
        means = torch.stack([points[assignment == k].mean(0) for k in range(3)])
        assert_close(centroids, F.normalize(means, dim=-1), atol=1e-5, rtol=0)  # k-means is float32


def test_padding_is_left_out_of_k_means() -> None:
    graph, encoding, _ = _world()
    states = []
    for padding in (0.0, 1e6):
        ego = encoding.ego.detach().clone()
        ego[[0, graph.n_users]] = padding
        objective = _prototypes(graph)
        objective.on_epoch_start(0, ego, torch.Generator().manual_seed(0))
        states.append(objective.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    ("m_step", "starts_at", "want"),
    [(1, 0, [0, 1, 2, 3, 4, 5]), (2, 0, [0, 2, 4]), (2, 1, [1, 2, 4]), (3, 2, [2, 3]), (2, 5, [5]), (9, 1, [1])],
)
def test_the_e_step_runs_at_the_first_epoch_and_at_multiples_of_m_step(
    m_step: int, starts_at: int, want: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, encoding, _ = _world()
    objective = _prototypes(graph, m_step, starts_at)
    clustered: list[int] = []
    kmeans = contrast_module.kmeans

    def counted(points: Tensor, n_clusters: int, generator: torch.Generator) -> Clusters:
        clustered.append(len(points))
        return kmeans(points, n_clusters, generator)

    monkeypatch.setattr(contrast_module, "kmeans", counted)
    due = []
    for epoch in range(6):
        if objective.is_active(epoch):
            objective.on_epoch_start(epoch, encoding.ego.detach(), torch.Generator().manual_seed(epoch))
        if clustered:
            assert clustered == [7, 10]  # users and items without padding
            due.append(epoch)
            clustered.clear()
    assert due == want


def test_clusters_stay_between_e_steps_and_travel_with_the_state() -> None:
    graph, encoding, batch = _world()
    objective, other = _prototypes(graph, m_step=2), _prototypes(graph, m_step=2)
    objective.on_epoch_start(0, encoding.ego.detach(), torch.Generator().manual_seed(0))
    first = objective(encoding, batch)
    objective.on_epoch_start(1, -encoding.ego.detach(), torch.Generator().manual_seed(1))
    assert torch.equal(objective(encoding, batch), first)
    other.load_state_dict(objective.state_dict())
    assert torch.equal(other(encoding, batch), first)
    objective.on_epoch_start(2, -encoding.ego.detach(), torch.Generator().manual_seed(2))
    assert not torch.equal(objective(encoding, batch), first)


def test_more_clusters_than_nodes_are_clipped_to_each_side() -> None:
    graph, encoding, batch = _world()
    objective = _prototypes(graph, n_clusters=1000)
    objective.on_epoch_start(0, encoding.ego.detach(), torch.Generator().manual_seed(0))
    assert objective.user_centroids.shape == (7, WIDTH)
    assert objective.item_centroids.shape == (10, WIDTH)
    want = F.normalize(encoding.ego.detach()[graph.users], dim=-1)
    assert_close(objective.user_centroids[objective.assignment[graph.users]], want, atol=1e-6, rtol=0)
    assert math.isfinite(float(objective(encoding, batch).detach()))


def test_an_objective_counts_from_its_start_and_says_so() -> None:
    objective = _prototypes(random_graph(), starts_at=2)
    assert [objective.is_active(epoch) for epoch in range(4)] == [False, False, True, True]
    assert "'proto', weight=1, starts_at=2" in repr(objective)
    assert objective.report() == {}


def test_the_base_computes_no_term() -> None:
    _, encoding, batch = _world()
    with pytest.raises(NotImplementedError, match="Objective does not compute a term"):
        Objective(1.0)(encoding, batch)


def test_the_sides_follow_the_device_but_not_the_state() -> None:
    graph, _, _ = _world()
    objective = _prototypes(graph)
    assert {"users", "items"} <= dict(objective.named_buffers()).keys()
    assert set(objective.state_dict()) == {"user_centroids", "item_centroids", "assignment"}
    assert torch.equal(objective.users, graph.users)
    assert torch.equal(objective.items, graph.items)


def test_only_the_norm_is_a_regularizer() -> None:
    graph, _, _ = _world()
    others = [PairwiseRanking(1.0, graph), StructureContrast(graph, 2, TEMPERATURE, 1.0, 1.0), _prototypes(graph)]
    assert [o.is_regularizer for o in (EgoNorm(1.0, True), *others)] == [True, False, False, False]
