"""Every key of every model: what moves no bit is no part of a run's identity, and what is no part of it moves none."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

import pytest
import torch
from recbole.data.interaction import Interaction

from recmodels.errors import ParamError
from recmodels.experiments.session import Session
from recmodels.models import FILTERS, MODELS, GraphFilter, GraphRecommender, LightGCN
from recmodels.models.width_search import SearchParams
from recmodels.params import Params
from tests.runs import write_rows
from tests.worlds import scores, session, triples

N_NODES, N_GROUPS = 24, 4
STEPS = (0, 0, 1, 2)  # epochs, of several steps and long enough for an E-step that is not the first
# Small and quick, and so that every term counts from the first of the epochs on.
SMALL: dict[str, Any] = {"embedding_size": 8, "n_layers": 2, "reg_weight": 0.1, "topk": [5], "valid_metric": "NDCG@5"}
SMALL |= {"num_clusters": 3, "warm_up_step": 1, "m_step": 2, "proto_reg": 0.5, "ssl_reg": 0.5, "ssl_weight": 0.5}
SMALL |= {"ot_weight": 0.5, "ot_centers": [4, 4], "ot_iters": 2, "ot_gw_outer": 2, "ot_gw_inner": 2, "q": 2}
SMALL |= {"ot_negatives_per_center": 2, "ot_hop1": 1, "ot_hop2": 2, "ideal_rank": 3, "cheby_order": 3}
# Another value for the keys of which no other one can be made up.
OTHERS: dict[str, list[Any]] = {
    "rec_temperature_end": [0.3],
    "adae_quantiles": [[0.4], "distinct"],
    "adae_item_quantiles": [[0.5]],
    "adae_dims": [[1, 3]],
    "adae_item_dims": [[3, 2]],
    "adae_budget": [0.6],
    "ot_centers": [[3, 4]],
    "ot_view_a": ["hop:1"],
    "ot_view_b": ["noise:1"],
    "ot_negatives": [["view_a"]],
}
PLUS, NO_RANKING = {"aggregation": "lightgcn++"}, {"bpr_weight": 0}
NO_SSL, NO_STRUCTURE, NO_PROTOTYPES = {"ssl_weight": 0}, {"ssl_reg": 0}, {"proto_reg": 0}
RANK = {"table": "adaptive", "adae_dims": [2, 8]}
# What is chosen beside SMALL; a key is then moved to every other value that is allowed.
CHOSEN: dict[str, list[dict[str, Any]]] = {
    "LightGCN": [
        {},
        PLUS,
        {"reg_weight": 0},
        NO_RANKING,
        {"rec_loss": "softmax", "rec_item_bias": True},
        {"rec_loss": "bsl", "rec_temperature_epochs": 2, "rec_temperature_end": 0.5},
        {"rec_loss": "slk", "slk_k": 3, "rec_similarity": "cosine", "rec_temperature_learned": True},
        {"rec_loss": "sampled_softmax"},
        {"rec_loss": "directau"},
        {"rec_loss": "directau", "bpr_weight": 0},
        RANK,
        RANK | {"adae_budget": 0.5},
        {"table": "adaptive", "adae_mode": "original"},
        {"table": "adaptive", "adae_mode": "fix"},
    ],
    "NCL": [{}, NO_STRUCTURE, NO_PROTOTYPES, NO_STRUCTURE | NO_PROTOTYPES],
    "NCL_OT": [
        {},
        {"ot_weight": 0},
        {"ot_weight": 0} | NO_STRUCTURE,
        NO_STRUCTURE | NO_PROTOTYPES,
        {"ot_share": 0},
        {"ot_share": 1},
        {"ot_share": 0.5, "ot_gw_plan": "wasserstein"},
        {"ot_share": 1, "ot_gw_plan": "wasserstein"},
        {"ot_share": 0, "ot_cost": "cosine", "ot_threshold": 0},
        {"ot_sampler": "cluster", "ot_structure": "feature"} | NO_PROTOTYPES,
        {"ot_sampler": "walk", "ot_sample_graph": "reach2", "ot_structure": "reach2", "ot_share": 0.5},
    ],
    "SGL": [{}, NO_SSL, {"drop_ratio": 0}],
    "SimGCL": [{}, NO_SSL, PLUS],
    "XSimGCL": [{}, NO_SSL, PLUS],
    "LightGCL": [{}, NO_SSL, NO_SSL | {"dropout": 0}],
    "GFCF": [{}],
    "ChebyCF": [{}],
}
# What moves nothing, and is part of the identity all the same.
ALLOWED = {
    "agg_edge_dropout": {"bpr_weight": 0},  # LightGCN without its ranking term has no use for its encoder in training
    "table": {"adae_mode": "original"},  # a control, whose rows are those of the plain table
}
# Of the search for widths; runs of it are in test_inert_keys.py, since its second level is a callback of the trainer.
SEARCHED = set(SearchParams.keys())
CASES = [
    pytest.param(name, chosen, id=f"{name}-{'-'.join(map(str, chosen.values()))}")
    for name, points in CHOSEN.items()
    for chosen in points
]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Session]:
    """A session of every model on one small planted data set."""
    root = tmp_path_factory.mktemp("planted")
    group = torch.arange(N_NODES) % N_GROUPS
    likes = torch.rand(N_NODES, N_NODES, generator=torch.Generator().manual_seed(0))
    pairs = (likes < torch.where(group[:, None] == group, 0.7, 0.1)).nonzero()
    write_rows(root, [f"u{user}\ti{item}" for user, item in pairs.tolist()])
    return {name: session(root, model=name, **_own(name, SMALL)) for name in CHOSEN}


def _own(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values whose keys the model has, and those of every run."""
    own = set((MODELS | FILTERS)[name].Params.keys())
    return {key: value for key, value in values.items() if key in own or key in ("topk", "valid_metric")}


def other_values(params: type[Params], key: str, value: Any) -> list[Any]:  # noqa: ANN401
    """Values that differ from the given one, of the key's type and within its choices."""
    if key in OTHERS:
        return [other for other in OTHERS[key] if other != value]
    (field,) = (field for field in dataclasses.fields(params) if field.name == key)
    if field.metadata["choices"]:
        return [choice for choice in field.metadata["choices"] if choice != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int) and float not in (hint := get_type_hints(params)[key], *get_args(hint)):
        return [value + 1]
    return [value / 2 if value else 0.5] if isinstance(value, int | float) else []


def outcome(of: Session, values: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Losses of STEPS, scores after each, and what is stored."""
    name = of.resolved.model
    config = of.config.final_config_dict | values
    model = (MODELS | FILTERS)[name](config, of.splits.train.dataset)
    if isinstance(model, GraphFilter):
        model.fit()
        return {"scores": _scores(model), **model.state_dict()}
    found: dict[str, torch.Tensor] = {}
    optimizer = torch.optim.SGD(model.weight_parameters(), lr=0.1)
    for number, epoch in enumerate(STEPS):
        model.train()
        if number == 0 or STEPS[number - 1] != epoch:
            model.on_epoch_start(epoch)
        optimizer.zero_grad()
        found[f"loss {number}"] = loss = model.calculate_loss(triples(of))
        loss.backward()
        optimizer.step()
        found[f"scores {number}"] = _scores(model.eval())
    return {**found, **model.state_dict()}


def _scores(model: GraphRecommender | GraphFilter) -> torch.Tensor:
    if isinstance(model, GraphRecommender):
        return scores(model)
    return model.full_sort_predict(Interaction({model.USER_ID: torch.arange(model.n_users)}))


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def deciding(params: Params) -> dict[str, Any]:
    """What of the model is in the identity of a run."""
    return {key: value for key, value in params.as_values().items() if key not in params.inert_keys()}


def variants(params: Params) -> Iterator[tuple[str, Any, Params]]:
    """Every key with another value, and the parameters with it, if they are allowed."""
    values, cls = params.as_values(), type(params)
    for key, given in values.items():
        for value in other_values(cls, key, given):
            try:
                yield key, value, cls.from_mapping(values | {key: value})
            except ParamError:
                continue


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_what_moves_a_bit_and_nothing_else_is_part_of_the_identity(
    name: str, chosen: dict[str, Any], planted: dict[str, Session]
) -> None:
    of = planted[name]
    cls = (MODELS | FILTERS)[name].Params
    params = cls.from_mapping(of.resolved.params.as_values() | chosen)
    base, wrong = outcome(of, params.as_values()), []
    for key, value, moved in variants(params):
        is_shared = name != "LightGCN" and key in set(LightGCN.Params.keys())
        if key in SEARCHED or (is_shared and (chosen or key.startswith("adae_"))):
            continue
        is_same = same(base, outcome(of, moved.as_values()))
        is_allowed = is_same and key in ALLOWED and ALLOWED[key].items() <= chosen.items()
        if is_same != (deciding(moved) == deciding(params)) and not is_allowed:
            wrong.append(f"{key}: {value} {'moves nothing, but is' if is_same else 'moves something, but is not'}")
    assert not wrong, "\n".join(wrong)
