"""Keys of a run, and of RecBole's models, that nothing reads: what moves no bit is no part of a run's identity."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from recmodels.errors import ParamError
from recmodels.experiments.session import deciding_values, prepare, remarks, resolve_train
from recmodels.experiments.trainers import trainer_of
from recmodels.params import Params
from recmodels.training.baseline_unread import ReadParams
from recmodels.training.baselines import BASELINES, OrderedUsers
from tests.runs import arguments, options, same_state
from tests.test_unread_keys import other_values
from tests.worlds import scores

pytestmark = pytest.mark.usefixtures("undrawn")
# Quick, and so that every key matters in two epochs on 60 users.
ANNEALED = {"anneal_cap": 0.2, "total_anneal_steps": 8}
QUICK: dict[str, dict[str, Any]] = {
    "ItemKNN": {"k": 5},
    "NCEPLRec": {"rank": 8},
    "ADMMSLIM": {"k": 3},
    "MacridVAE": {"encoder_hidden_size": [8], "embedding_size": 8, **ANNEALED},
    "RecVAE": {"hidden_dimension": 8, "latent_dimension": 4},
    "MultiVAE": {"mlp_hidden_size": [8], "latent_dimension": 4, **ANNEALED},
    "SimpleX": {"history_len": 4},
}
NEEDS_MORE = {"use_pretrain", "inter_matrix_type"}  # files of trained models, a column of ratings
# Keys of a run, and another value.
RUN: dict[str, Any] = {
    "epochs": 3,
    "train_batch_size": 40,
    "shuffle": False,
    "learner": "sgd",
    "learning_rate": 0.5,
    "weight_decay": 0.1,
    "train_neg_sample_args": {"distribution": "popularity"},
    "clip_grad_norm": {"max_norm": 1e-3},
    "guard_max_skips": 3,
    "guard_max_rollbacks": 1,
    "guard_lr_factor": 0.3,
}
OF_GUARDS = {"guard_max_skips", "guard_max_rollbacks", "guard_lr_factor"}


def state(root: Path, **overrides: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
    """What two epochs leave, and the scores."""
    of = prepare(resolve_train(options(root, **{"epochs": 2, **overrides})))
    trainer_of(of, root / "run").fit(of.splits.train, of.splits.valid)
    found = {key: value for key, value in of.model.state_dict().items() if isinstance(value, torch.Tensor)}
    pairs = {} if of.resolved.model == "NeuMF" else {"scores": scores(of.model.eval())}
    return found | pairs


def decides(root: Path, chosen: dict[str, Any], **more: Any) -> bool:  # noqa: ANN401
    one, two = (deciding_values(resolve_train(options(root, **{"epochs": 2, **chosen, **of}))) for of in ({}, more))
    return one != two


@pytest.mark.parametrize(
    ("chosen", "unread"),
    [
        ({"model": "LightGCN"}, OF_GUARDS),
        ({"model": "LightGCN", "guard_nonfinite": "skip"}, OF_GUARDS - {"guard_max_skips"}),
        ({"model": "LightGCN", "guard_nonfinite": "rollback"}, {"guard_max_skips"}),
        ({"model": "BPR"}, OF_GUARDS),
        ({"model": "MultiVAE"} | QUICK["MultiVAE"], OF_GUARDS | {"train_neg_sample_args"}),
        ({"model": "EASE"}, set(RUN)),
        ({"model": "GFCF", "ideal_rank": 4}, set(RUN)),
    ],
)
def test_a_key_of_a_run_that_nothing_reads_is_no_part_of_its_identity(
    chosen: dict[str, Any], unread: set[str], tmp_path: Path
) -> None:
    assert {key for key, value in RUN.items() if not decides(tmp_path, chosen, **{key: value})} == unread
    base = state(tmp_path, **chosen)
    moving = {key for key, value in RUN.items() if not same_state(base, state(tmp_path, **chosen, **{key: value}))}
    assert moving == set(RUN) - unread - OF_GUARDS  # guards act on what is not finite only


@pytest.mark.parametrize("name", BASELINES)
def test_a_key_of_a_baseline_is_part_of_the_identity_if_it_moves_a_bit(name: str, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"model": name, **QUICK.get(name, {})}
    params = resolve_train(options(tmp_path, **chosen)).params
    assert isinstance(params, ReadParams)
    base, wrong = state(tmp_path, **chosen), []
    for key in sorted({field.name for field in dataclasses.fields(params)} - NEEDS_MORE):
        for value in _others(params, key):
            try:
                changes = decides(tmp_path, chosen, **{key: value})
            except ParamError:
                continue
            if changes == same_state(base, state(tmp_path, **{**chosen, key: value})):
                wrong.append(f"{key}: {value} is {'' if changes else 'no '}part of the identity")
    assert not wrong, "\n".join(wrong)


def _others(params: Params, key: str) -> list[Any]:
    """Other values of a key of a baseline: the last of a list raised, a path that nobody has."""
    value = getattr(params, key)
    if value is None:
        return ["nowhere"]
    if isinstance(value, list):
        return [[*value[:-1], value[-1] + 0.25 if isinstance(value[-1], float) else value[-1] + 2]]
    return other_values(type(params), key, value)


def test_a_fit_says_which_keys_of_epochs_it_does_not_read(tmp_path: Path) -> None:
    given = arguments(tmp_path, model="GFCF", learning_rate=0.1, epochs=3)
    (found,) = remarks(resolve_train(given))
    assert "nothing reads it at these values: " in found
    assert "epochs" in found
    assert "learning_rate" in found
    assert "GFCF has no epochs" in found


def test_users_come_in_their_order_where_nothing_is_shuffled(tmp_path: Path) -> None:
    of = prepare(resolve_train(options(tmp_path, model="MultiVAE", shuffle=False, train_batch_size=25)))
    assert isinstance(of.splits.train, OrderedUsers)
    batches = [batch[of.model.USER_ID] for batch in of.splits.train]
    assert [len(batch) for batch in batches] == [25, 25, 11]
    assert torch.equal(torch.cat(batches), torch.arange(of.model.n_users))
