"""SGL against RecBole's own class: same data, copied weights, same dropped graphs, same batch."""

from typing import Any, NamedTuple

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.model.general_recommender import SGL as RecboleSGL  # noqa: N811  (a class)
from torch import Tensor

from recmodels.experiments.session import prepare, resolve_train
from recmodels.models import SGL
from recmodels.models.sgl import DROPS
from recmodels.objectives import ViewContrast
from recmodels.perturbed_views import DroppedView
from tests.worlds import objective, scores, triples

BATCH, TOLERANCE = 512, 1e-9
# RecBole sums BPR over the batch, and the contrast over it and against all nodes.
SETTINGS: dict[str, Any] = {
    **{"model": "SGL", "dataset": "ml-100k", "use_gpu": False, "init": "normal", "reg_weight": 0.01},
    **{"bpr_weight": BATCH, "ssl_weight": 0.05, "ssl_reduction": "sum", "ssl_candidates": "all", "drop_ratio": 0.2},
}


class Pair(NamedTuple):
    """Both models in float64 with the same weights and graphs, and a batch."""

    ours: SGL
    theirs: RecboleSGL
    batch: Interaction


@pytest.fixture(scope="module", params=DROPS)
def pair(request: pytest.FixtureRequest) -> Pair:
    session = prepare(resolve_train(SETTINGS | {"type": request.param}))
    ours = session.model
    assert isinstance(ours, SGL)
    theirs = RecboleSGL(session.config, session.splits.train.dataset).double()
    ours.double().train().on_epoch_start(0)
    users, items = ours.table.weight.detach().split([ours.n_users, ours.n_items])
    theirs.user_embedding.weight.data.copy_(users)
    theirs.item_embedding.weight.data.copy_(items)
    contrast = objective(ours, "ssl")
    assert isinstance(contrast, ViewContrast)
    theirs.train_graph = _matrix(ours.encoder.adjacency)
    theirs.sub_graph1, theirs.sub_graph2 = (_graphs(view) for view in (contrast.first, contrast.second))
    return Pair(ours, theirs, triples(session, BATCH))


def _matrix(adjacency: Any) -> Tensor:  # noqa: ANN401
    return adjacency.matrix().to_sparse_coo()


def _graphs(view: Any) -> Any:  # noqa: ANN401
    """One graph for all hops, or a list with one for each, as RecBole keeps them."""
    assert isinstance(view, DroppedView)
    assert len(view.dropped) == (view.n_hops if view.drop == "walk" else 1)
    graphs = [_matrix(dropped) for dropped in view.dropped]
    return graphs if view.drop == "walk" else graphs[0]


def _distance(got: Tensor, want: Tensor) -> float:
    """Normwise relative error."""
    return float(((got - want).norm() / want.norm()).detach())


def _their_loss(pair: Pair) -> Tensor:
    torch.set_default_dtype(torch.float64)  # of the tensors that their regularizer makes
    try:
        return pair.theirs.calculate_loss(pair.batch)
    finally:
        torch.set_default_dtype(torch.float32)


def test_loss_and_gradient_are_theirs(pair: Pair) -> None:
    ours, theirs = pair.ours.calculate_loss(pair.batch), _their_loss(pair)
    assert _distance(ours, theirs.sum()) < TOLERANCE
    tables = [pair.theirs.user_embedding.weight, pair.theirs.item_embedding.weight]
    want = torch.cat(torch.autograd.grad(theirs.sum(), tables))
    (got,) = torch.autograd.grad(ours, pair.ours.table.weight)
    assert _distance(got, want) < TOLERANCE


def test_the_contrast_alone_is_theirs(pair: Pair) -> None:
    views = [pair.theirs.forward(graph) for graph in (pair.theirs.sub_graph1, pair.theirs.sub_graph2)]
    (user1, item1), (user2, item2) = views
    users, items = pair.batch[pair.ours.USER_ID], pair.batch[pair.ours.ITEM_ID]
    want = pair.theirs.calc_ssl_loss(users, items, user1, user2, item1, item2)
    term = pair.ours.terms(pair.ours.batch(pair.batch))["ssl"]
    assert _distance(0.05 * term, want) < TOLERANCE


def test_scores_are_theirs(pair: Pair) -> None:
    users = Interaction({pair.ours.USER_ID: torch.arange(pair.ours.n_users)})
    pair.ours.eval()
    with torch.no_grad():
        theirs = pair.theirs.full_sort_predict(users).view(pair.ours.n_users, -1)
    assert _distance(scores(pair.ours), theirs) < TOLERANCE
    pair.ours.train()


@pytest.mark.parametrize("name", DROPS)
def test_their_dropped_graphs_are_normalized_and_thinned_as_ours(name: str) -> None:
    session = prepare(resolve_train(SETTINGS | {"type": name}))
    theirs = RecboleSGL(session.config, session.splits.train.dataset)
    drawn = theirs.create_adjust_matrix(is_sub=True).tocoo()
    degrees = torch.bincount(torch.from_numpy(drawn.row).long(), minlength=session.model.graph.n_nodes).double()
    own = degrees.clamp(min=1).rsqrt()
    torch.testing.assert_close(
        torch.from_numpy(drawn.data).double(), own[drawn.row] * own[drawn.col], atol=1e-6, rtol=1e-6
    )
    share = drawn.nnz / session.model.graph.indices.numel()
    assert share == pytest.approx(0.64 if name == "ND" else 0.8, abs=0.05 if name == "ND" else 1e-4)
