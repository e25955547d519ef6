"""The loader of training triples against RecBole's own loader and sampler."""

from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.utils import create_samplers

from recmodels.data.split import interactions
from recmodels.data.triples import NegativeItems, TripleLoader, UserTripleLoader
from recmodels.experiments.session import Session, prepare, resolve_train
from recmodels.streams import global_streams


def _session(**overrides: Any) -> Session:  # noqa: ANN401
    given = {"model": "LightGCN", "dataset": "ml-100k", "use_gpu": False, "train_batch_size": 3000}
    return prepare(resolve_train(given | overrides))


def _recbole_sampler(session: Session) -> Any:  # noqa: ANN401
    parts = [loader.dataset for loader in session.splits[:3]]
    return create_samplers(session.config, session.splits.dataset, parts)[0]


@pytest.mark.parametrize("sample_num", [1, 3])
@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_negatives_are_those_of_recboles_sampler(distribution: str, sample_num: int) -> None:
    session = _session(train_neg_sample_args={"distribution": distribution, "sample_num": sample_num})
    theirs, train = _recbole_sampler(session), session.splits.train.dataset
    users, items = (ids[:2000] for ids in interactions(train))
    drawn = []
    for sampler in (theirs, NegativeItems(theirs, train)):
        with global_streams(3, "negatives"):
            drawn.append(sampler.sample_by_user_ids(users, items, sample_num))
    assert drawn[0].shape == (2000 * sample_num,)
    assert torch.equal(*drawn)


def test_a_user_who_has_met_all_items_but_one_gets_that_one() -> None:
    session = _session()
    train = session.splits.train.dataset
    user, n_items = 7, train.item_num
    train.inter_feat[train.uid_field] = torch.full((n_items - 2,), user)
    train.inter_feat[train.iid_field] = torch.tensor([item for item in range(1, n_items) if item != 5])
    sampler = NegativeItems(_recbole_sampler(_session()), train)
    with global_streams(0, "negatives"):
        assert sampler.sample_by_user_ids([user] * 4, [1, 2, 3, 4], 2).tolist() == [5] * 8


@pytest.mark.parametrize("sample_num", [1, 2])
def test_a_batch_has_the_columns_and_sizes_of_recboles_loader(sample_num: int) -> None:
    session = _session(train_neg_sample_args={"sample_num": sample_num})
    ours = session.splits.train
    theirs = TrainDataLoader(session.config, ours.dataset, _recbole_sampler(session), shuffle=True)
    sizes = [[(batch.columns, len(batch)) for batch in loader] for loader in (ours, theirs)]
    assert sizes[0] == sizes[1]
    assert len(ours) == len(theirs) == len(sizes[0])


def test_an_epoch_holds_every_interaction_once_in_an_order_of_the_generator() -> None:
    session = _session()
    loader = session.splits.train
    assert isinstance(loader, TripleLoader)

    def rows(seed: int) -> np.ndarray:
        loader.generator.manual_seed(seed)
        return np.concatenate([np.stack([b["user_id"], b["item_id"]], 1) for b in loader])

    first, again, other = rows(1), rows(1), rows(2)
    want = np.stack(interactions(loader), 1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(np.unique(first, axis=0), np.unique(want, axis=0))
    assert len(first) == len(want)


def test_without_shuffle_the_order_is_that_of_the_data() -> None:
    loader = _session(shuffle=False).splits.train
    users = torch.cat([batch["user_id"] for batch in loader])
    assert torch.equal(users, loader.dataset.inter_feat["user_id"])


@pytest.mark.parametrize("sample_num", [1, 2])
def test_a_batch_of_users_has_all_their_interactions_with_negatives_they_have_not_met(sample_num: int) -> None:
    sampling = {"distribution": "uniform", "sample_num": sample_num}
    session = _session(train_batch_unit="users", train_batch_size=100, train_neg_sample_args=sampling)
    loader = session.splits.train
    assert isinstance(loader, UserTripleLoader)
    users, items = interactions(loader)
    met = set(zip(users.tolist(), items.tolist(), strict=True))
    batches = list(loader)
    assert len(batches) == len(loader) == -(-len(np.unique(users)) // 100)
    seen = [np.unique(batch["user_id"]) for batch in batches]
    assert [len(some) for some in seen[:-1]] == [100] * (len(batches) - 1)
    assert np.array_equal(np.sort(np.concatenate(seen)), np.unique(users))
    for batch in batches:
        pairs = list(zip(batch["user_id"].tolist(), batch["item_id"].tolist(), strict=True))
        own = set(np.unique(batch["user_id"]).tolist())
        assert sorted(pairs) == sorted(sample_num * [pair for pair in met if pair[0] in own])
        assert not met & set(zip(batch["user_id"].tolist(), batch["neg_item_id"].tolist(), strict=True))


def test_batches_of_users_follow_the_generator_or_the_users() -> None:
    def order(seed: int, **overrides: Any) -> list[int]:  # noqa: ANN401
        loader = _session(train_batch_unit="users", train_batch_size=50, **overrides).splits.train
        loader.generator.manual_seed(seed)
        return list(dict.fromkeys(user for batch in loader for user in batch["user_id"].tolist()))

    assert order(1) == order(1) != order(2)
    assert order(1, shuffle=False) == sorted(order(1))
