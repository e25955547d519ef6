"""What the keys of the ranking component make, and which combinations are refused."""

import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from recmodels.errors import ParamError
from recmodels.experiments import run
from recmodels.experiments.session import resolve_train, training_problems
from recmodels.losses import uniformity
from recmodels.models import MODELS
from recmodels.models.ranking_term import LOSSES, RankingParams
from recmodels.objectives import BilateralRanking, RankingObjective, TopKSoftmaxRanking
from recmodels.params import LARGEST_TEMPERATURE, SMALLEST_TEMPERATURE
from tests.runs import options
from tests.worlds import session, triples


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_takes_its_name_and_its_weight(loss: str, tmp_path: Path) -> None:
    model = session(tmp_path, model="LightGCN", rec_loss=loss, bpr_weight=0.25).model
    assert isinstance(model.params, RankingParams)
    assert model.weights()[loss] == 0.25
    assert set(model.weights()) == {loss, "reg"}


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_that_need_batches_of_interactions_are_refused_by_users(loss: str, tmp_path: Path) -> None:
    resolved = resolve_train(options(tmp_path, model="LightGCN", rec_loss=loss, train_batch_unit="users"))
    wanted = loss in ("sampled_softmax", "directau")
    start = f"train_batch_unit: got 'users' beside rec_loss '{loss}', whose "
    assert [problem.startswith(start) for problem in training_problems(resolved)] == [True] * wanted


def test_the_copies_of_a_user_would_be_most_of_directaus_uniformity() -> None:
    x = F.normalize(torch.randn(16, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    n = 12  # interactions of each user
    once, copied = uniformity(x, torch.ones(16)), uniformity(x, torch.full((16,), n))
    pairs, copies = n * n * 16 * 15 * once.exp(), n * (n - 1) * 16  # the potential of a copy is 1
    assert_close(copied.exp(), (pairs + copies) / (16 * n * (16 * n - 1)))
    assert copies / (pairs + copies) > 0.5


def test_every_learned_part_of_the_score_gets_a_gradient_and_is_saved(tmp_path: Path) -> None:
    choice = {"rec_loss": "softmax", "rec_similarity": "cosine", "rec_temperature": 0.2}
    of = session(tmp_path, model="LightGCN", rec_item_bias=True, rec_temperature_learned=True, **choice)
    of.model.calculate_loss(triples(of)).backward()
    for name in ("scorer.bias", "scorer.log_temperature"):
        assert dict(of.model.named_parameters())[name].grad.abs().sum() > 0
        assert name in of.model.state_dict()


def test_a_scheduled_temperature_follows_the_epoch(tmp_path: Path) -> None:
    choice = {"rec_loss": "softmax", "rec_temperature": 0.4, "rec_temperature_end": 0.1, "rec_temperature_epochs": 2}
    model = session(tmp_path, model="LightGCN", **choice).model
    seen = []
    for epoch in range(4):
        model.on_epoch_start(epoch)
        seen.append(float(model.scorer.temperature))
    assert seen == pytest.approx([0.4, 0.2, 0.1, 0.1])


def test_the_ratio_of_bsl_reaches_it(tmp_path: Path) -> None:
    model = session(tmp_path, model="NCL", rec_loss="bsl", bsl_ratio=2.5).model
    (bsl,) = (o for o in model.objectives if isinstance(o, BilateralRanking))
    assert bsl.ratio == 2.5


def test_k_and_ratio_of_slk_reach_it(tmp_path: Path) -> None:
    model = session(tmp_path, model="NCL", rec_loss="slk", slk_k=7, slk_ratio=2.5).model
    (slk,) = (o for o in model.objectives if isinstance(o, TopKSoftmaxRanking))
    assert (slk.k, slk.ratio) == (7, 2.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rec_loss": "softmx"}, "rec_loss.*softmx.*softmax"),
        ({"slk_k": 0}, "slk_k.*>= 1.*0"),
        ({"slk_ratio": 0}, "slk_ratio: must be >= 1e-06, got 0.0"),
        ({"bsl_ratio": 1e-7}, "bsl_ratio: must be >= 1e-06, got 1e-07"),
        ({"rec_temperature": 1e-46}, "rec_temperature: must be >= 1e-06, got 1e-46"),
        ({"rec_temperature_end": 1e-46}, "rec_temperature_end: must be >= 1e-06, got 1e-46"),
        ({"rec_user_exponent": 500}, "rec_user_exponent: must be <= 4, got 500.0"),
        ({"rec_temperature_learned": True, "rec_temperature_epochs": 3}, "rec_temperature_epochs: a learned"),
        ({"rec_temperature_epochs": 3}, "rec_temperature_end: no value, expected a number >= 1e-06"),
        ({"bpr_weight": 0, "rec_item_bias": True}, "bpr_weight: with 0 nothing trains rec_item_bias"),
        ({"rec_loss": "directau", "rec_item_bias": True}, "rec_loss: directau compares embeddings"),
        ({"aggregation": "lightgcn+"}, r"aggregation.*'lightgcn\+\+', got 'lightgcn\+'"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ParamError, match=re.compile(message, re.DOTALL)):
        resolve_train(options(tmp_path, model="LightGCN", **changes))


def test_slk_asks_for_no_more_items_than_there_are(tmp_path: Path) -> None:
    n_items = session(tmp_path, model="LightGCN", rec_loss="slk", slk_k=80).splits.dataset.item_num - 1
    assert n_items == 80
    with pytest.raises(
        ParamError, match="^configuration: slk_k: got 81; expected at most 80, the number of items that are left after"
    ):
        run.train(resolve_train(options(tmp_path, model="LightGCN", rec_loss="slk", slk_k=81)), "run")
    assert not Path("run").exists()
    session(tmp_path, model="LightGCN", slk_k=81)  # which nothing reads then


@pytest.mark.parametrize("model", MODELS)
def test_no_temperature_is_smaller_than_the_smallest_or_larger_than_the_largest(model: str) -> None:
    is_one = re.compile(r"(.*_)?(temp|temperature|tau)(_end)?|(bsl|slk)_ratio").fullmatch
    temperatures = [entry.metadata["bounds"] for entry in fields(MODELS[model].Params) if is_one(entry.name)]
    assert len(temperatures) >= 6
    assert all(bounds["ge"] >= SMALLEST_TEMPERATURE for bounds in temperatures)
    assert all(bounds["le"] <= LARGEST_TEMPERATURE for bounds in temperatures)


@pytest.mark.parametrize("key", ["rec_temperature", "bsl_ratio"])
def test_the_largest_temperature_trains(key: str, tmp_path: Path) -> None:
    of = session(tmp_path, model="LightGCN", rec_loss="bsl", **{key: LARGEST_TEMPERATURE})
    of.model.on_epoch_start(0)
    of.model.weighted_sum(of.model.terms(of.model.batch(triples(of)))).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in of.model.parameters())


def test_a_schedule_that_nothing_reads_needs_no_end(tmp_path: Path) -> None:
    unread = {"rec_loss": "directau", "rec_temperature_epochs": 2}
    assert resolve_train(options(tmp_path, model="LightGCN", **unread)).params.rec_temperature_end is None


def test_the_largest_exponent_leaves_importances_of_any_users_in_float32() -> None:
    degrees = torch.tensor([0, 1, 10**3, 10**6, 10**9])
    graph = SimpleNamespace(n_users=5, degrees=degrees)
    found = RankingObjective(1.0, graph, 4.0).importance.float()  # type: ignore[arg-type]
    assert found.isfinite().all()
    assert (found > torch.finfo(torch.float32).tiny).all()


def test_items_with_a_bias_are_ranked_by_it(tmp_path: Path) -> None:
    model = session(tmp_path, model="LightGCN", rec_item_bias=True).model.eval()
    plain = model.scored().split([model.n_users, model.n_items])
    before = plain[0] @ plain[1].T
    with torch.no_grad():
        model.scorer.bias[3] = 50.0
    model.train().eval()
    after = model.scored().split([model.n_users, model.n_items])
    assert torch.allclose((after[0] @ after[1].T - before)[:, 3], torch.tensor(50.0), atol=1e-4)
