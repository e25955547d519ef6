"""LightGCN and NCL against RecBole's own classes: same data, copied weights, same batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.model.general_recommender import NCL as RecboleNCL  # noqa: N811  (a class)
from recbole.model.general_recommender import LightGCN as RecboleLightGCN
from torch import Tensor

from recmodels.experiments.session import Session, prepare, resolve_train
from recmodels.objectives import PrototypeContrast
from tests.worlds import objective, scores, triples

TOLERANCE = 1e-9
BASE = {"dataset": "ml-100k", "use_gpu": False, "init": "normal", "reg_weight": 0.01}
SETTINGS: dict[str, dict[str, Any]] = {
    "LightGCN": {"model": "LightGCN", "n_layers": 2},
    "LightGCN squared": {"model": "LightGCN", "n_layers": 3, "require_pow": True},
    "NCL": {"model": "NCL", "n_layers": 3, "ssl_reg": 1e-3, "proto_reg": 1e-3, "num_clusters": 50},
    "NCL deep contrast": {"model": "NCL", "n_layers": 1, "hyper_layers": 2, "alpha": 1.5, "num_clusters": 7},
}


@contextmanager
def _double() -> Iterator[None]:
    """RecBole's losses create tensors of the default dtype."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


class Pair:
    """Our model and RecBole's in float64 with the same weights, adjacency, clusters and batch."""

    def __init__(self, name: str) -> None:
        self.session: Session = prepare(resolve_train(BASE | SETTINGS[name]))
        self.ours = self.session.model.double().train()
        theirs = RecboleNCL if self.session.resolved.model == "NCL" else RecboleLightGCN
        self.theirs = theirs(self.session.config, self.session.splits.train.dataset)
        self.adjacency_name = "norm_adj_mat" if theirs is RecboleNCL else "norm_adj_matrix"
        self.their_adjacency: Tensor = getattr(self.theirs, self.adjacency_name)
        exact = self.ours.graph.normalized_adjacency(torch.float64).matrix().to_sparse_coo()
        setattr(self.theirs.double(), self.adjacency_name, exact)
        self.ours.encoder.adjacency.values.copy_(exact.coalesce().values())
        users, items = self.sides(self.ours.table.weight.detach())
        self.theirs.user_embedding.weight.data.copy_(users)
        self.theirs.item_embedding.weight.data.copy_(items)
        self.batch: Interaction = triples(self.session, 512)
        if theirs is RecboleNCL:
            self._share_clusters()

    def sides(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Users and items of a tensor of nodes."""
        users, items = rows.split([self.ours.n_users, self.ours.n_items])
        return users, items

    def _share_clusters(self) -> None:
        generator = torch.Generator().manual_seed(1)
        prototypes = objective(self.ours, "proto")
        assert isinstance(prototypes, PrototypeContrast)
        self.ours.epoch = prototypes.starts_at
        for centroids in (prototypes.user_centroids, prototypes.item_centroids):
            centroids.copy_(F.normalize(torch.randn(centroids.shape, generator=generator), dim=-1))
        n_clusters = len(prototypes.user_centroids)
        prototypes.assignment.copy_(torch.randint(n_clusters, prototypes.assignment.shape, generator=generator))
        self.theirs.user_centroids, self.theirs.item_centroids = prototypes.user_centroids, prototypes.item_centroids
        self.theirs.user_2cluster, self.theirs.item_2cluster = self.sides(prototypes.assignment)

    def their_terms(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Their loss, and its unweighted parts by our names."""
        parts: dict[str, Tensor] = {}
        losses = {self.theirs.mf_loss: "bpr", self.theirs.reg_loss: "reg"}
        hooks = [loss.register_forward_hook(lambda m, _, out: parts.update({losses[m]: out.sum()})) for loss in losses]
        with _double():
            loss = self.theirs.calculate_loss(self.batch)
        for hook in hooks:
            hook.remove()
        if not isinstance(loss, tuple):
            return loss.sum(), parts
        parts["ssl"], parts["proto"] = loss[1] / self.theirs.ssl_reg, loss[2] / self.theirs.proto_reg
        return torch.stack([part.sum() for part in loss]).sum(), parts


@pytest.fixture(scope="module", params=SETTINGS)
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


def _distance(got: Tensor, want: Tensor) -> float:
    """Normwise relative error."""
    return float(((got - want).norm() / want.norm()).detach())


def test_our_adjacency_is_theirs_up_to_their_shifted_degrees(pair: Pair) -> None:
    ours = pair.ours.graph.normalized_adjacency().matrix().to_dense()
    torch.testing.assert_close(ours, pair.their_adjacency.to_dense(), atol=1e-6, rtol=0)


def test_loss_and_every_part_are_theirs(pair: Pair) -> None:
    ours = pair.ours.terms(pair.ours.batch(pair.batch))
    their_loss, theirs = pair.their_terms()
    assert set(ours) == set(theirs)
    for name, term in ours.items():
        assert _distance(term, theirs[name]) < TOLERANCE, name
    assert _distance(pair.ours.weighted_sum(ours), their_loss) < TOLERANCE


def test_score_differences_are_where_their_bpr_is_exact(pair: Pair) -> None:
    user, pos, neg = pair.ours.batch(pair.batch).triples
    final = pair.ours.encode().final
    difference = (final[user] * (final[pos] - final[neg])).sum(-1).abs().max()
    assert 0.01 < difference < 1


def test_gradients_are_theirs(pair: Pair) -> None:
    (ours,) = torch.autograd.grad(pair.ours.calculate_loss(pair.batch), pair.ours.table.weight)
    loss, _ = pair.their_terms()
    theirs = torch.autograd.grad(loss, [pair.theirs.user_embedding.weight, pair.theirs.item_embedding.weight])
    for got, want in zip(pair.sides(ours), theirs, strict=True):
        assert _distance(got, want) < TOLERANCE


def test_full_ranking_scores_are_theirs(pair: Pair) -> None:
    users = Interaction({pair.ours.USER_ID: torch.arange(pair.ours.n_users)})
    with torch.no_grad():
        theirs = pair.theirs.eval().full_sort_predict(users).view(pair.ours.n_users, -1)
    assert _distance(scores(pair.ours.eval()), theirs) < TOLERANCE
