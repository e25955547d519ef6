"""The contract of every model; a new name in MODELS is tested without a word here."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.data.interaction import Interaction
from torch.testing import assert_close

from recmodels.errors import ParamError
from recmodels.experiments.session import Session
from recmodels.layers import load_layer, properties_root
from recmodels.models import MODELS, GraphRecommender, Parts
from recmodels.objectives import StructureContrast, ViewContrast
from recmodels.params import Params
from tests.runs import same_state
from tests.worlds import scores, session, triples

EPOCH = 4  # warm-ups are over, and an E-step is due
pytestmark = pytest.mark.parametrize("name", MODELS)


def _weight_keys(name: str) -> list[str]:
    """The published spellings of objective weights."""
    return [key for key in sorted(MODELS[name].Params.keys()) if key.endswith(("_weight", "_reg"))]


def _started(root: Path, name: str, **overrides: Any) -> Session:  # noqa: ANN401
    """A model with every objective active, at the start of epoch EPOCH."""
    of = session(root, model=name, **dict.fromkeys(_weight_keys(name), 0.5) | overrides)
    of.model.train()
    of.model.on_epoch_start(EPOCH)
    return of


def _terms(of: Session) -> dict[str, float]:
    terms = of.model.terms(of.model.batch(triples(of)))
    return {name: float(term.detach()) for name, term in terms.items()}


def _step(of: Session) -> None:
    """One gradient step, large enough to be seen in float32 scores."""
    of.model.zero_grad()
    of.model.calculate_loss(triples(of)).backward()
    torch.optim.SGD(of.model.weight_parameters(), lr=0.1).step()


def test_the_keys_of_its_yaml_and_its_components_are_the_fields_of_its_params(name: str) -> None:
    keys, components = set(MODELS[name].Params.keys()), (properties_root() / "component").iterdir()
    own = load_layer(properties_root() / "model" / f"{name}.yaml", name).values
    shared = [set(load_layer(file, file.name).values) for file in components]
    assert issubclass(MODELS[name].Params, Params)
    assert set(own).union(*(part for part in shared if part & keys)) == keys


def test_it_is_a_composition_that_scores_every_node(name: str, tmp_path: Path) -> None:
    model = session(tmp_path, model=name).model
    assert isinstance(model, GraphRecommender)
    assert type(model) is MODELS[name]
    parts = model.build(model.params, model.graph)
    assert isinstance(parts, Parts)
    assert parts.table().shape[0] == model.encode().final.shape[0] == model.graph.n_nodes


def test_predict_agrees_with_full_sort_predict(name: str, tmp_path: Path) -> None:
    model = session(tmp_path, model=name).model.eval()
    pairs = torch.cartesian_prod(torch.arange(model.n_users), torch.arange(model.n_items))
    single = model.predict(Interaction({model.USER_ID: pairs[:, 0], model.ITEM_ID: pairs[:, 1]}))
    assert_close(single.detach().view(model.n_users, model.n_items), scores(model), atol=1e-6, rtol=1e-5)


def test_weights_and_terms_follow_the_seed_only(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = _started(tmp_path, name, seed=3)
    torch.manual_seed(2)
    again, other = _started(tmp_path, name, seed=3), _started(tmp_path, name, seed=4)
    assert same_state(first.model.state_dict(), again.model.state_dict())
    assert not torch.equal(first.model.table(), other.model.table())
    terms = _terms(first)
    assert terms == _terms(again)
    assert all(terms[key] != value for key, value in _terms(other).items())


def test_a_state_dict_restores_scores_and_terms(name: str, tmp_path: Path) -> None:
    trained, fresh = (_started(tmp_path, name, seed=seed) for seed in (3, 4))
    _step(trained)
    assert not torch.equal(scores(fresh.model.eval()), scores(trained.model.eval()))
    fresh.model.load_state_dict(trained.model.state_dict())
    assert torch.equal(scores(fresh.model.eval()), scores(trained.model.eval()))


def test_the_evaluation_cache_lives_until_train_or_load_state_dict(name: str, tmp_path: Path) -> None:
    of = _started(tmp_path, name)
    before = scores(of.model.eval())
    assert scores(of.model.train().eval()).equal(before)
    of.model.train()
    _step(of)
    after = scores(of.model.eval())
    assert not torch.equal(after, before)
    assert of.model.scored() is of.model.scored()
    changed = {key: 2 * value if value.is_floating_point() else value for key, value in of.model.state_dict().items()}
    of.model.load_state_dict(changed)
    assert not torch.equal(scores(of.model), after)
    assert torch.equal(scores(of.model), scores(of.model.train().eval()))


def test_every_parameter_gets_a_gradient(name: str, tmp_path: Path) -> None:
    of = _started(tmp_path, name)
    of.model.calculate_loss(triples(of)).backward()
    assert list(of.model.named_parameters())
    for key, parameter in of.model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key


def test_repr_lists_every_objective_with_its_weight(name: str, tmp_path: Path) -> None:
    model = session(tmp_path, model=name, **dict.fromkeys(_weight_keys(name), 0.375)).model
    text = repr(model)
    assert len(model.objectives) == len(_weight_keys(name))
    for objective in model.objectives:
        assert f"{type(objective).__name__}(" in text
        assert f"'{objective.name}', weight=0.375" in text


def test_every_weight_of_zero_takes_one_objective_out(name: str, tmp_path: Path) -> None:
    full = _terms(_started(tmp_path, name))
    gone = set()
    for key in _weight_keys(name):
        without = _started(tmp_path, name, **{key: 0})
        left = _terms(without)
        (missing,) = set(full) - set(left)
        assert left == {term: full[term] for term in left}  # the others see the same draws
        assert not any(entry.startswith(f"{missing}/") for entry in without.model.report())
        gone.add(missing)
    assert gone == set(full)


def test_the_loss_is_the_weighted_sum_of_its_terms(name: str, tmp_path: Path) -> None:
    weights = {key: 0.25 + place for place, key in enumerate(_weight_keys(name))}
    of, twin = _started(tmp_path, name, **weights), _started(tmp_path, name, **weights)
    want = sum(twin.model.weights()[key] * term for key, term in _terms(twin).items())
    assert sorted(twin.model.weights().values()) == sorted(weights.values())
    assert_close(float(of.model.calculate_loss(triples(of)).detach()), want, atol=0, rtol=1e-5)


def test_padding_rows_learn_only_from_published_denominators(name: str, tmp_path: Path) -> None:
    of = _started(tmp_path, name)
    ego = of.model.table().detach().requires_grad_()
    encoding, batch = of.model.encoder(ego), of.model.batch(triples(of))
    for objective in of.model.active_objectives():
        (gradient,) = torch.autograd.grad(objective(encoding, batch), ego, retain_graph=True)
        padding = gradient[[0, of.model.n_users]].abs().sum()
        assert gradient.abs().sum() > 0, objective.name
        has_padding = isinstance(objective, StructureContrast) or (
            isinstance(objective, ViewContrast) and objective.form.candidates == "all"
        )
        assert (padding > 0) == has_padding, objective.name


def test_float64_gives_the_terms_of_float32(name: str, tmp_path: Path) -> None:
    single, double = _started(tmp_path, name), _started(tmp_path, name)
    double.model.double()
    double.model.on_epoch_start(EPOCH)
    terms = double.model.terms(double.model.batch(triples(double)))
    assert {term.dtype for term in terms.values()} == {torch.float64}
    assert_close({key: float(term.detach()) for key, term in terms.items()}, _terms(single), atol=1e-4, rtol=1e-4)
    assert scores(double.model.eval()).dtype == torch.float64


def test_a_deep_copy_is_a_model_of_its_own(name: str, tmp_path: Path) -> None:
    of = _started(tmp_path, name)
    twin = Session(of.resolved, of.config, of.splits, copy.deepcopy(of.model))
    assert _terms(twin) == _terms(of)
    before = scores(of.model.eval())
    _step(twin)
    assert not torch.equal(scores(twin.model.eval()), before)
    assert torch.equal(scores(of.model.train().eval()), before)


def test_a_model_without_a_loss_in_its_first_epoch_is_refused(name: str, tmp_path: Path) -> None:
    nothing = dict.fromkeys(_weight_keys(name), 0)
    with pytest.raises(ParamError, match="bpr_weight: no term of the loss counts in epoch 0; raise one of bpr_weight"):
        session(tmp_path, model=name, **nothing)
    later = {key: f"{key.split('_')[0]}_starts_at" for key in _weight_keys(name)}
    for key in (key for key, start in later.items() if start in set(MODELS[name].Params.keys())):
        with pytest.raises(ParamError, match=rf"{key} \(from epoch 2\)"):
            session(tmp_path, model=name, **nothing | {key: 0.5, later[key]: 2})
        assert len(session(tmp_path, model=name, **nothing | {key: 0.5, later[key]: 0}).model.objectives) == 1
