"""The contract of the models that are fitted at once, and their run folders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from torch.testing import assert_close

from recmodels.data.split import interactions
from recmodels.errors import CheckpointError, ParamError
from recmodels.experiments.run import evaluate, resume, stored_result, train
from recmodels.experiments.session import Session, prepare, resolve_train
from recmodels.experiments.trainers import trainer_of
from recmodels.filters import plateau
from recmodels.layers import load_layer, properties_root
from recmodels.models import FILTERS, GFCF, ChebyCF, GraphFilter
from recmodels.models.graph_filter import IdealPassParams
from recmodels.training.closed_form import ClosedFormTrainer
from recmodels.training.plain_trainer import SaveBest
from tests.runs import MEASURED, files_of, options, same_state
from tests.worlds import groups, scores, session, top1_in_group, unseen, write_groups

RANK = 8
filters = pytest.mark.parametrize("name", FILTERS)


def fitted(root: Path, name: str, **overrides: Any) -> Session:  # noqa: ANN401
    of = session(root, model=name, **{"ideal_rank": RANK, **overrides})
    of.model.fit()
    return of


def dense(of: Session) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R, `Du^-1/2 R Di^-1/2` and the item degrees (clamped to 1), float64, by plain counting."""
    matrix = np.zeros((of.model.n_users, of.model.n_items))
    for user, item in zip(*interactions(of.splits.train), strict=True):
        matrix[user, item] = 1
    users, items = matrix.sum(1).clip(1), matrix.sum(0).clip(1)
    return matrix, matrix / np.sqrt(users)[:, None] / np.sqrt(items), items


def interrupted(model: GFCF) -> None:
    raise KeyboardInterrupt


@filters
def test_the_keys_of_its_yaml_are_the_fields_of_its_params(name: str) -> None:
    layer = load_layer(properties_root() / "model" / f"{name}.yaml", name)
    assert sorted(layer.values) == sorted(FILTERS[name].Params.keys())
    assert issubclass(FILTERS[name], GraphFilter)
    assert issubclass(FILTERS[name].Params, IdealPassParams)


def test_gfcf_is_its_published_formula(tmp_path: Path) -> None:
    of = fitted(tmp_path, "GFCF", ideal_weight=0.3)
    assert isinstance(of.model, GFCF)
    matrix, normalized, degrees = dense(of)
    v = np.linalg.svd(normalized)[2][:RANK].T
    want = matrix @ (normalized.T @ normalized + 0.3 * np.diag(degrees**-0.5) @ v @ v.T @ np.diag(degrees**0.5))
    np.testing.assert_allclose(scores(of.model).numpy()[:, 1:], want[:, 1:], atol=1e-5)


def test_chebycf_is_its_published_formula(tmp_path: Path) -> None:
    of = fitted(tmp_path, "ChebyCF", cheby_order=5, cheby_flatness=2.0, degree_power=0.4, ideal_weight=0.2)
    assert isinstance(of.model, ChebyCF)
    matrix, normalized, degrees = dense(of)
    _, singular, vt = np.linalg.svd(normalized)
    frequencies = 1 - 2 * np.pad(singular, (0, len(vt) - len(singular))) ** 2
    roots, targets = -np.cos((np.arange(6) + 0.5) / 6 * np.pi), plateau(-np.cos(np.arange(6) / 5 * np.pi), 2.0)
    response = np.polynomial.Polynomial.fit(roots, targets, 5)(frequencies)
    smooth = vt.T @ np.diag(response) @ vt + 0.2 * vt[:RANK].T @ vt[:RANK]
    want = matrix @ np.diag(degrees**-0.4) @ smooth @ np.diag(degrees**0.4)
    np.testing.assert_allclose(scores(of.model).numpy()[:, 1:], want[:, 1:], atol=2e-5)


@filters
def test_predict_agrees_with_full_sort_predict(name: str, tmp_path: Path) -> None:
    model = fitted(tmp_path, name).model
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randint(0, n, (200,), generator=generator) for n in (model.n_users, model.n_items))
    got = model.predict(Interaction({model.USER_ID: users, model.ITEM_ID: items}))
    assert_close(got, scores(model)[users, items])


@filters
def test_scores_do_not_depend_on_the_block_of_users(name: str, tmp_path: Path) -> None:
    model = fitted(tmp_path, name).model
    alone = model.full_sort_predict(Interaction({model.USER_ID: torch.tensor([7])}))
    assert_close(alone, scores(model)[7])


@filters
def test_a_state_dict_restores_the_scores_and_holds_singular_vectors_only(name: str, tmp_path: Path) -> None:
    one, other = fitted(tmp_path, name).model, session(tmp_path, model=name, ideal_rank=RANK).model
    assert {key: tuple(value.shape) for key, value in one.state_dict().items()} == {"basis": (one.n_items, RANK)}
    assert one.n_fitted == one.n_items * RANK
    assert not torch.equal(scores(other), scores(one))
    other.load_state_dict(one.state_dict())
    assert torch.equal(scores(other), scores(one))


@filters
def test_fitting_twice_gives_the_same_bits_whatever_the_global_stream(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = fitted(tmp_path, name)
    torch.manual_seed(2)
    assert same_state(first.model.state_dict(), fitted(tmp_path, name).model.state_dict())


@filters
def test_planted_groups_are_found_and_popularity_does_not_find_them(name: str, tmp_path: Path) -> None:
    write_groups(tmp_path)
    of = fitted(tmp_path, name, ideal_rank=4)
    assert top1_in_group(of) > 0.97
    user_groups, item_groups = groups(of).split([of.model.n_users, of.model.n_items])
    most_frequent = torch.where(unseen(of), torch.from_numpy(dense(of)[0].sum(0)), -1.0).argmax(1)
    assert (item_groups[most_frequent] == user_groups)[1:].double().mean() < 0.4


@filters
def test_a_rank_of_all_users_or_items_is_refused_before_the_run(name: str, tmp_path: Path) -> None:
    with pytest.raises(ParamError, match=r"ideal_rank: got 61, expected at most 60: fewer than users \(61\) and items"):
        session(tmp_path, model=name, ideal_rank=61)


@filters
def test_a_guard_that_needs_batches_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ParamError, match=f"guard_nonfinite: got 'skip', expected 'raise': {name} is not trained"):
        session(tmp_path, model=name, guard_nonfinite="skip", ideal_rank=RANK)


@filters
def test_a_run_is_an_ordinary_folder_that_evaluates_again(name: str, tmp_path: Path) -> None:
    of = fitted(tmp_path, name)
    folder = train(resolve_train(options(tmp_path, model=name, ideal_rank=RANK)), str(tmp_path / "run"))
    result = stored_result(folder)
    assert result is not None
    assert set(files_of(folder)) == {
        ".lock", "config.yaml", "log.txt", "checkpoint.pt", "result.json", "test_users.npz", "test_frequency.npz"
    }  # fmt: skip
    assert (result["best_epoch"], result["epochs_run"], result["n_parameters"]) == (0, 1, of.model.n_fitted)
    assert result["split_sha256"] == of.splits.sha256
    assert evaluate(str(folder)) == result["test"]
    assert result["best_valid"].keys() == result["test"].keys()
    with np.load(folder / "test_users.npz") as users:
        assert users["ndcg@10"].mean() == result["test"]["ndcg@10"]


def test_an_interrupted_fit_is_fitted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = resolve_train(options(tmp_path, model="GFCF", ideal_rank=RANK))
    undisturbed = stored_result(train(resolved, str(tmp_path / "undisturbed")))
    with monkeypatch.context() as patch:
        patch.setattr(GFCF, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(resolved, str(tmp_path / "run"))
    resumed = stored_result(resume(str(tmp_path / "run")))
    assert undisturbed is not None
    assert resumed is not None
    assert {k: v for k, v in resumed.items() if k not in MEASURED} == {
        k: v for k, v in undisturbed.items() if k not in MEASURED
    }


def test_an_edited_configuration_does_not_evaluate(tmp_path: Path) -> None:
    folder = train(resolve_train(options(tmp_path, model="GFCF", ideal_rank=RANK)), str(tmp_path / "run"))
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("ideal_weight: 0.3", "ideal_weight: 0.4"))
    with pytest.raises(CheckpointError, match=r"config.yaml.ideal_weight: got 0.3, expected 0.4"):
        evaluate(str(folder))


def test_a_fit_validates_once_and_saves_it(tmp_path: Path) -> None:
    of = prepare(resolve_train(options(tmp_path, model="GFCF", ideal_rank=RANK, epochs=9)))
    (tmp_path / "run").mkdir()
    trainer = trainer_of(of, tmp_path / "run")
    assert isinstance(trainer, ClosedFormTrainer)
    assert [type(callback) for callback in trainer.callbacks] == [SaveBest]
    best, valid = trainer.fit(of.splits.train, of.splits.valid)
    assert trainer.early_stop.history == [(0, best)]
    assert valid == trainer.evaluate(of.splits.valid)
    assert json.dumps(valid)  # plain numbers
