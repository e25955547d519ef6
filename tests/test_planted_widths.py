"""A planted truth for the search: frequent users need width, rare users overfit with it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recmodels.experiments import run
from recmodels.experiments.session import resolve_train
from recmodels.training.bilevel import table_of
from tests.runs import Started, options, start

N_GROUPS, USERS_PER_GROUP, ITEMS_PER_GROUP, N_RARE = 12, 6, 10, 280
SETTINGS: dict[str, Any] = {
    "model": "LightGCN",
    "n_layers": 1,
    "reg_weight": 0.0,
    "rec_loss": "softmax",
    "rec_similarity": "cosine",
    "rec_temperature": 0.15,
    "train_batch_size": 256,
    "epochs": 30,
    "eval_step": 30,
    "table": "adaptive",
    "adae_quantiles": [0.2],
    "adae_item_quantiles": [0.5],
    "adae_dims": [2, 16],
}
SEARCH = SETTINGS | {
    "adae_mode": "auto",
    "adae_picker": "logits",
    "adae_picker_lr": 0.1,
    "adae_warmup": 5,
    "adae_every": 1,
    "adae_holdout": 0.2,
}


def write_world(root: Path, has_rare_groups: bool = False) -> None:
    """Frequent users like nine in ten items of their own group, of twelve; rare users have four items.

    Those of rare users are from anywhere, which only memory can fit, or in the control from a group of their own too.
    """
    generator = torch.Generator().manual_seed(0)
    n_items, rows = N_GROUPS * ITEMS_PER_GROUP, []
    for user in range(N_GROUPS * USERS_PER_GROUP):
        own = torch.arange(ITEMS_PER_GROUP) + user // USERS_PER_GROUP * ITEMS_PER_GROUP
        rows += [f"f{user}\ti{item}" for item in own[torch.rand(len(own), generator=generator) < 0.9].tolist()]
    for user in range(N_RARE):
        first, n = (user % N_GROUPS * ITEMS_PER_GROUP, ITEMS_PER_GROUP) if has_rare_groups else (0, n_items)
        rows += [f"r{user}\ti{first + item}" for item in torch.randperm(n, generator=generator)[:4].tolist()]
    folder = root / "data" / "planted"
    folder.mkdir(parents=True)
    (folder / "planted.inter").write_text("\n".join(["user_id:token\titem_id:token", *rows]) + "\n")


def chance_of_wide(of: Started) -> Tensor:
    """(2,) probability of the wide candidate for rare and for frequent users."""
    picker = table_of(of.session.model).users.picker
    return picker(torch.tensor([0, 1]), None).detach().softmax(-1)[:, 1]


@pytest.mark.parametrize("changes", [{}, {"adae_gates": "hard"}, {"adae_share": False}])
def test_the_picker_finds_who_needs_width(changes: dict[str, Any], tmp_path: Path) -> None:
    write_world(tmp_path)
    rare, frequent = chance_of_wide(start(tmp_path, **SEARCH | changes).fit())
    assert frequent > 0.9
    assert rare < 0.45


def test_rare_users_with_groups_of_their_own_are_found_to_need_width_too(tmp_path: Path) -> None:
    """The control: the same counts and settings, and only what rare users like is another."""
    write_world(tmp_path, has_rare_groups=True)
    rare, frequent = chance_of_wide(start(tmp_path, **SEARCH).fit())
    assert frequent > 0.9
    assert rare > 0.55


def test_what_it_finds_is_worth_more_than_its_reverse_at_the_same_size(tmp_path: Path, undrawn: None) -> None:
    write_world(tmp_path)
    ndcg = {}
    for order in ("frequency", "reversed"):
        chosen = options(tmp_path, **SETTINGS, adae_mode="rank", adae_order=order)
        result = run.stored_result(run.train(resolve_train(chosen), str(tmp_path / order)))
        assert result is not None
        ndcg[order] = result["test"]["ndcg@10"]
    assert ndcg["frequency"] > 1.3 * ndcg["reversed"]
