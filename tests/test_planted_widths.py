"""A planted truth for the search: frequent users need width, rare users overfit with it. Fixed widths show it first."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recmodels.experiments import run
from recmodels.experiments.session import resolve_train
from recmodels.training.bilevel import table_of
from tests.runs import Started, options, start, write_rows

N_GROUPS, ITEMS_PER_GROUP, N_HITS, N_FREQUENT, N_RARE = 12, 10, 20, 72, 300
SETTINGS: dict[str, Any] = {
    "model": "LightGCN",
    "n_layers": 1,
    "aggregation": "lightgcn++",
    "agg_ego_share": 1.0,  # propagation would fill narrow rows
    "reg_weight": 0.0,
    "rec_loss": "softmax",
    "rec_similarity": "cosine",
    "rec_temperature": 0.2,
    "learning_rate": 0.01,
    "train_batch_size": 256,
    "epochs": 30,
    "eval_step": 30,
    "table": "adaptive",
    "adae_quantiles": [0.2],
    "adae_item_quantiles": [0.5],
    "adae_dims": [2, 16],
}
SEARCH = SETTINGS | {
    "adae_item_dims": [15, 16],
    "adae_mode": "auto",
    "adae_picker": "logits",
    "adae_picker_lr": 0.1,
    "adae_warmup": 5,
    "adae_every": 1,
    "adae_holdout": 0.2,
}


def write_world(root: Path, has_rare_tastes: bool = False) -> None:
    """Frequent users like nine in ten items of three groups of twelve; rare users have six items.

    Those are mostly hits, which one dimension tells from the rest, and two in five are from anywhere, which only memory
    can fit. In the control rare users have a taste of their own instead: eight items of two groups.
    """
    generator = torch.Generator().manual_seed(0)
    n_items, rows = N_GROUPS * ITEMS_PER_GROUP, []
    for user in range(N_FREQUENT):
        liked = _items_of_groups(3, generator)
        rows += [f"f{user}\ti{item}" for item in liked[torch.rand(len(liked), generator=generator) < 0.9].tolist()]
    for user in range(N_RARE):
        if has_rare_tastes:
            liked = _items_of_groups(2, generator)
            chosen = liked[torch.randperm(len(liked), generator=generator)[:8]].tolist()
        else:
            n_hits = int((torch.rand(6, generator=generator) < 0.6).sum())
            hits = torch.randperm(N_HITS, generator=generator)[:n_hits] * (n_items // N_HITS)
            anywhere = torch.randperm(n_items, generator=generator)
            chosen = torch.cat([hits, anywhere[~torch.isin(anywhere, hits)][: 6 - n_hits]]).tolist()
        rows += [f"r{user}\ti{item}" for item in chosen]
    write_rows(root, rows)


def _items_of_groups(n: int, generator: torch.Generator) -> torch.Tensor:
    groups = torch.randperm(N_GROUPS, generator=generator)[:n]
    return (groups[:, None] * ITEMS_PER_GROUP + torch.arange(ITEMS_PER_GROUP)).flatten()


def ndcg_with(root: Path, widths: list[int]) -> dict[str, float]:
    """Test ndcg@10 of rare and of frequent users where they have these widths, all items 16."""
    chosen = options(root, **SETTINGS | {"adae_mode": "rank", "adae_dims": widths, "adae_item_dims": [16, 16]})
    folder = run.train(resolve_train(chosen), str(root / "-".join(map(str, widths))))
    with np.load(folder / "test_users.npz") as stored:
        is_rare = np.char.startswith(stored["user"].astype(str), "r")
        return {"rare": stored["ndcg@10"][is_rare].mean(), "frequent": stored["ndcg@10"][~is_rare].mean()}


def chance_of_wide(of: Started) -> tuple[float, float]:
    """Mean probability of the wide candidate for rare and for frequent users."""
    table = table_of(of.session.model)
    chances, buckets = table.probabilities()[0][1:, 1].detach(), table.users.buckets[1:]
    return float(chances[buckets == 0].mean()), float(chances[buckets == 1].mean())


def test_the_truth_is_in_the_data(tmp_path: Path, undrawn: None) -> None:
    write_world(tmp_path)
    mixed, wide, swapped = (ndcg_with(tmp_path, widths) for widths in ([2, 16], [16, 16], [16, 2]))
    assert mixed["rare"] > 1.2 * wide["rare"]
    assert mixed["frequent"] > 2 * swapped["frequent"]


def test_and_in_the_control_it_is_another(tmp_path: Path, undrawn: None) -> None:
    write_world(tmp_path, has_rare_tastes=True)
    mixed, wide = (ndcg_with(tmp_path, widths) for widths in ([2, 16], [16, 16]))
    assert wide["rare"] > 1.5 * mixed["rare"]


NETWORK = {"adae_picker": "network", "adae_picker_lr": 0.02, "adae_warmup": 10}
CASES = [
    pytest.param(changes, seed, marks=[] if seed == 1 else pytest.mark.slow)
    for changes in ({}, {"adae_share": False}, {"adae_keep_length": True}, NETWORK)
    for seed in (1, 2, 3)
]


@pytest.mark.parametrize(("changes", "seed"), CASES)
def test_the_picker_finds_who_needs_width(changes: dict[str, Any], seed: int, tmp_path: Path) -> None:
    write_world(tmp_path)
    rare, frequent = chance_of_wide(start(tmp_path, **SEARCH | changes, seed=seed).fit())
    assert frequent > 0.8
    assert rare < 0.2


def test_with_uniform_gates_nearly_to_the_end_all_users_stay_wide(tmp_path: Path) -> None:
    """The control: as many epochs, and one step of the picker after them. Uniform gates teach it nothing."""
    write_world(tmp_path)
    before = start(tmp_path, "before", **SEARCH, seed=1)
    rests = {"adae_warmup": SEARCH["epochs"] - 1, "adae_every": len(before.session.splits.train)}
    of = start(tmp_path, **SEARCH | rests, seed=1).fit()
    assert chance_of_wide(of) == pytest.approx(chance_of_wide(before), abs=0.05)
    assert table_of(of.session.model).preferred_widths()[: of.session.model.n_users].eq(16).all()


@pytest.mark.slow
def test_from_noise_nobody_is_found_to_need_width(tmp_path: Path) -> None:
    """Of independent pairs nothing can be learned but which of them are held out, if anything told the weights."""
    likes = torch.rand(200, 100, generator=torch.Generator().manual_seed(0)) < 0.3
    write_rows(tmp_path, [f"u{user}\ti{item}" for user, item in likes.nonzero().tolist()])
    plain = {"rec_loss": "bpr", "rec_similarity": "inner", "rec_temperature": 1.0, "aggregation": "lightgcn"}
    widths = {"embedding_size": 64, "adae_dims": [2, 64], "adae_item_dims": None, "adae_item_quantiles": None}
    longer = {"adae_warmup": 0, "train_batch_size": 512, "epochs": 60, "eval_step": 60}
    of = start(tmp_path, **SEARCH | plain | widths | longer).fit()
    assert float(table_of(of.session.model).probabilities()[0][1:, 1].mean()) < 0.05


@pytest.mark.parametrize(("changes", "seed"), CASES)
def test_rare_users_with_tastes_of_their_own_are_found_to_need_it_too(
    changes: dict[str, Any], seed: int, tmp_path: Path
) -> None:
    """The control: the same settings, and only what rare users like is another."""
    write_world(tmp_path, has_rare_tastes=True)
    rare, frequent = chance_of_wide(start(tmp_path, **SEARCH | changes, seed=seed).fit())
    assert frequent > 0.7
    assert rare > 0.7
