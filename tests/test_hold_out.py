"""Held-out interactions: what they change and what they do not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recmodels.data.hold_out import HeldOut, hold_out
from recmodels.data.split import Splits, interactions
from recmodels.errors import DataError
from tests.worlds import session


def _pairs(users: np.ndarray, items: np.ndarray) -> set[tuple[int, int]]:
    return set(zip(users.tolist(), items.tolist(), strict=True))


def _held(root: Path, share: float = 0.2, seed: int = 0, **overrides: object) -> tuple[Splits, Splits, HeldOut]:
    of = session(root, model="LightGCN", **overrides)
    rest, held = hold_out(of.config, of.splits, share, torch.Generator().manual_seed(seed))
    return of.splits, rest, held


@pytest.mark.parametrize("unit", ["interactions", "users"])
def test_train_and_held_out_make_up_the_training_part(unit: str, tmp_path: Path) -> None:
    whole, rest, held = _held(tmp_path, train_batch_unit=unit)
    kept, taken = _pairs(*interactions(rest.train)), _pairs(held.users.numpy(), held.items.numpy())
    assert kept | taken == _pairs(*interactions(whole.train))
    assert not kept & taken
    assert len(taken) == round(0.2 * (len(kept) + len(taken)))
    batches = np.concatenate([np.asarray(batch["user_id"]) for batch in rest.train])
    assert len(batches) == len(kept)


def test_the_other_parts_and_their_histories_stay(tmp_path: Path) -> None:
    whole, rest, _ = _held(tmp_path)
    assert rest.sha256 == whole.sha256
    assert rest.valid is whole.valid
    assert rest.test is whole.test
    assert len(interactions(whole.train)[0]) > len(interactions(rest.train)[0])


def test_the_weights_are_not_told_by_their_negatives_what_is_held_out(tmp_path: Path) -> None:
    """Held-out items are drawn as often as any other that is not in the loader's own part."""
    whole, rest, held = _held(tmp_path, share=0.4)
    kept, taken = _pairs(*interactions(rest.train)), _pairs(held.users.numpy(), held.items.numpy())
    np.random.seed(0)  # noqa: NPY002  (RecBole's sampler draws from it)
    drawn: list[tuple[int, int]] = []
    for _ in range(20):
        for batch in rest.train:
            drawn += zip(batch["user_id"].tolist(), batch["neg_item_id"].tolist(), strict=True)
    assert not kept & set(drawn)
    users, items = np.unique(held.users.numpy()), whole.dataset.item_num - 1
    # What a user may be given is all but what is kept; each of it is as likely.
    n_kept = {user: sum(of == user for of, _ in kept) for user in users.tolist()}
    n_held = {user: sum(of == user for of, _ in taken) for user in users.tolist()}
    of_users = [user for user, _ in drawn if user in n_held]
    expected = sum(n_held[user] / (items - n_kept[user]) for user in of_users)
    assert sum(pair in taken for pair in drawn) == pytest.approx(expected, rel=0.1)


def test_held_out_interactions_are_no_negatives_of_the_picker(tmp_path: Path) -> None:
    _, rest, held = _held(tmp_path)
    met = _pairs(*interactions(rest.train)) | _pairs(held.users.numpy(), held.items.numpy())
    np.random.seed(0)  # noqa: NPY002  (RecBole's sampler draws from it)
    drawn = held.negatives.sample_by_user_ids(held.users.numpy(), held.items.numpy(), 20)
    assert not met & _pairs(np.tile(held.users.numpy(), 20), drawn.numpy())


def test_where_items_may_be_met_again_a_search_keeps_the_sampler(tmp_path: Path) -> None:
    whole, rest, held = _held(tmp_path, repeatable=True)
    assert rest.train.negatives is held.negatives is whole.train.negatives
    for batch in rest.train:
        assert (batch["neg_item_id"] != batch["item_id"]).all()


def test_they_follow_the_generator(tmp_path: Path) -> None:
    same, again, other = (_held(tmp_path, seed=seed)[2] for seed in (1, 1, 2))
    assert same.users.equal(again.users)
    assert same.items.equal(again.items)
    assert not (same.users.equal(other.users) and same.items.equal(other.items))


def test_a_share_that_takes_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="adae_holdout: 1e-05 of .* are 0; expected at least one"):
        _held(tmp_path, share=1e-5)
