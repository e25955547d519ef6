"""The teacher's targets and the term that is learned from them, against loops; its keys, and what a student gains."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from recmodels.config import COMMAND_LINE
from recmodels.errors import ParamError
from recmodels.experiments import run
from recmodels.experiments.session import deciding_values, remarks, resolve_train
from recmodels.graph import BipartiteGraph
from recmodels.models import MODELS, LightGCN
from recmodels.models.distillation_term import DistillationParams
from recmodels.objectives import Distillation, SoftmaxRanking, Teacher
from recmodels.objectives.distillation import Targets
from recmodels.objectives.ranking import user_importance
from recmodels.records import Batch, Encoding
from recmodels.ridge import ridge_weights
from recmodels.spectral import normalized_interactions
from recmodels.training import checkpoint
from tests.conftest import ranked_world
from tests.runs import StopAt, options, same_state
from tests.worlds import session, triples

TEACHER = Teacher(penalty=2.0, user_exponent=0.3, temperature=0.2, top=4)
TAUGHT: dict[str, Any] = {"distill_weight": 0.5, "distill_penalty": 2.0, "distill_top": 6}


def _targets(graph: BipartiteGraph, teacher: Teacher) -> torch.Tensor:
    """(n_users, n_items - 1) shares of all real items, by a loop."""
    matrix = normalized_interactions(graph, 0, 0)
    importance = user_importance(graph, teacher.user_exponent).numpy()
    scores = torch.from_numpy(matrix.toarray() @ ridge_weights(matrix, teacher.penalty, importance))[:, 1:]
    shares = torch.zeros_like(scores)
    for user, row in enumerate(scores):
        best = row.argsort(descending=True)[: teacher.top or len(row)]
        shares[user, best] = (row[best] / teacher.temperature).softmax(0)
    return shares


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("exponent", [0.0, 0.5])
@pytest.mark.parametrize("top", [4, 100, None])
def test_the_term_is_the_cross_entropy_against_the_teachers_shares(
    has_bias: bool, exponent: float, top: int | None
) -> None:
    graph, encoding, batch = ranked_world(has_bias=has_bias)
    teacher = TEACHER._replace(top=top)
    targets = _targets(graph, teacher)
    term = Distillation(1.0, graph, teacher, exponent)
    items = encoding.scored[graph.n_users + 1 :]
    losses = [-(targets[user] * (items @ encoding.scored[user]).log_softmax(0)).sum() for user in batch.user]
    want = (term.importance[batch.user] * torch.stack(losses)).mean()
    got = term(encoding, batch)
    assert_close(got, want, atol=1e-6, rtol=0)  # shares are rounded to the weights' own precision
    gradients = [torch.autograd.grad(value, encoding.ego, retain_graph=True)[0] for value in (got, want)]
    assert_close(*gradients, atol=1e-6, rtol=0)


def test_a_teacher_who_knows_one_item_is_the_softmax_of_that_item() -> None:
    graph, encoding, batch = ranked_world()
    term = Distillation(1.0, graph, TEACHER._replace(top=1))
    best = _targets(graph, TEACHER._replace(top=1)).argmax(1)
    own = Batch.of(batch.user, graph.n_users + 1 + best[batch.user], batch.neg)
    assert_close(term(encoding, batch), SoftmaxRanking(1.0, graph)(encoding, own))


def test_means_are_those_by_the_shares_of_the_users() -> None:
    rows = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    targets = Targets(torch.tensor([[2, 0], [1, 3]], dtype=torch.int32), torch.tensor([[0.75, 0.25], [0.5, 0.5]]))
    want = torch.stack([0.5 * rows[1] + 0.5 * rows[3], *2 * [0.75 * rows[2] + 0.25 * rows[0]]])
    assert_close(targets.mean_of(rows, torch.tensor([1, 0, 0])), want)
    dense = Targets(None, torch.tensor([[0.25, 0, 0.75, 0], [0, 0.5, 0, 0.5]]))
    assert_close(dense.mean_of(rows, torch.tensor([1, 0, 0])), want)


@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_a_student_who_knows_the_targets_has_the_reported_value_and_no_other_has_less(exponent: float) -> None:
    graph, _, _ = ranked_world()
    targets = _targets(graph, TEACHER._replace(top=None))
    # Rows whose products are the logarithms of the shares: one-hot items, a row of logarithms for each user.
    scored = torch.zeros(graph.n_nodes, targets.shape[1], dtype=torch.float64)
    scored[: graph.n_users], scored[graph.n_users + 1 :] = targets.log(), torch.eye(targets.shape[1])
    term = Distillation(1.0, graph, TEACHER._replace(top=None), exponent)
    assert term.report() == {}
    batch = Batch.of(graph.ends[0], graph.ends[1], graph.ends[1])  # an epoch
    perfect, other = (term(Encoding(x, (x,), x, x), batch) for x in (scored, scored * 1.1))
    assert term.report()["entropy"] == pytest.approx(float(perfect), abs=1e-6)
    assert other > perfect + 1e-6


def test_a_model_that_moves_takes_its_targets_along() -> None:
    graph, encoding, batch = ranked_world()
    for top in (None, 4):
        term = Distillation(1.0, graph, TEACHER._replace(top=top))
        term(encoding, batch)
        assert {buffer.device.type for buffer in term.to("meta").buffers()} == {"meta"}
        assert not term.state_dict()


@pytest.mark.parametrize("model", [name for name, cls in MODELS.items() if issubclass(cls, LightGCN)])
def test_every_model_with_an_encoder_can_be_taught(model: str, tmp_path: Path) -> None:
    of = session(tmp_path, model=model, **TAUGHT)
    of.model.on_epoch_start(0)
    assert of.model.weights()["distill"] == 0.5
    terms = of.model.terms(of.model.batch(triples(of)))
    terms["distill"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in of.model.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in of.model.parameters())


def test_an_interrupted_run_fits_the_same_teacher_again(tmp_path: Path) -> None:
    changes = TAUGHT | {"model": "LightGCN", "epochs": 4}
    whole = run.train(resolve_train(options(tmp_path, **changes)), str(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        run.train(resolve_train(options(tmp_path, **changes)), str(tmp_path / "cut"), watchers=[StopAt(2)])
    run.resume(str(tmp_path / "cut"))
    one, two = (checkpoint.load(folder / "last.pt", None)["weights"] for folder in (whole, tmp_path / "cut"))
    assert same_state(one, two)
    assert not [name for name in one if name.startswith("objectives")]


def test_a_student_without_positives_learns_from_its_teacher_alone(tmp_path: Path) -> None:
    of = session(tmp_path, model="LightGCN", bpr_weight=0, rec_similarity="cosine", rec_temperature=0.2, **TAUGHT)
    of.model.on_epoch_start(0)
    batch, optimizer = of.model.batch(triples(of)), torch.optim.Adam(of.model.parameters(), 0.05)
    before = float(of.model.terms(batch)["distill"].detach())
    for _ in range(60):
        optimizer.zero_grad()
        of.model.weighted_sum(of.model.terms(batch)).backward()
        optimizer.step()
    after = float(of.model.terms(batch)["distill"].detach())
    floor = of.model.report()["distill/entropy"]  # of an epoch, of which this is a batch
    assert floor - 0.2 < after < before - 0.5 * (before - floor)


def test_a_run_without_a_teacher_is_the_run_it_was_before_there_were_teachers(tmp_path: Path) -> None:
    plain = resolve_train(options(tmp_path, model="LightGCN"))
    off = resolve_train(options(tmp_path, model="LightGCN", distill_weight=0, distill_penalty=7))
    assert not [key for key in deciding_values(off) if key.startswith("distill")]
    assert deciding_values(plain) == deciding_values(off)
    typed = dict.fromkeys(("distill_weight", "distill_penalty"), COMMAND_LINE)
    (told,) = remarks(dataclasses.replace(off, origin={**off.origin, **typed}))
    assert "distill_penalty" in told
    assert "distill_weight" not in told


@pytest.mark.parametrize("unread", [{"rec_loss": "directau", "train_batch_unit": "users"}, {"slk_k": 10**6}])
def test_a_loss_that_does_not_count_refuses_nothing(unread: dict[str, Any], tmp_path: Path) -> None:
    changes = TAUGHT | {"bpr_weight": 0, "rec_loss": "slk"} | unread
    assert set(session(tmp_path, model="LightGCN", **changes).model.weights()) == {"distill", "reg"}


def test_weights_of_users_beside_directau_are_refused_with_a_teacher_too(tmp_path: Path) -> None:
    with pytest.raises(ParamError, match="rec_user_exponent: directau counts the interactions alike"):
        resolve_train(options(tmp_path, model="LightGCN", rec_loss="directau", rec_user_exponent=0.5, **TAUGHT))


def test_the_keys_reach_the_teacher(tmp_path: Path) -> None:
    changes = TAUGHT | {"rec_user_exponent": 0.5, "distill_user_exponent": 0.4, "distill_temperature": 0.3}
    model = session(tmp_path, model="NCL", **changes).model
    assert isinstance(model.params, DistillationParams)
    (term,) = (o for o in model.objectives if isinstance(o, Distillation))
    assert (term.weight, term.teacher) == (0.5, Teacher(2.0, 0.4, 0.3, 6))
    assert len(set(term.importance.tolist())) > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distill_weight": -1}, "distill_weight.*>= 0.*-1"),
        ({"distill_user_exponent": 5}, "distill_user_exponent.*<= 4.*5"),
        ({"distill_penalty": 1e-20}, "distill_penalty.*>= 0.001.*1e-20"),
        ({"distill_temperature": 0}, "distill_temperature.*>= 1e-06.*0"),
        ({"distill_top": 0}, "distill_top.*>= 1.*0"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ParamError, match=message):
        resolve_train(options(tmp_path, model="LightGCN", **changes))
