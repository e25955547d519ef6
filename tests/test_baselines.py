import numpy as np

from recmodels.data.split import interactions
from recmodels.experiments.session import prepare, resolve_train
from recmodels.training.baselines import BaselineResult, run_baseline


def _resolved(**overrides):
    return resolve_train({"model": "LightGCN", "dataset": "ml-100k", "show_progress": False, **overrides})


def _popularity_recall(splits, k=10):
    """Mean recall of the most frequent training items that the user has not met, by plain counting."""
    n_items = splits.dataset.item_num
    (train_users, train_items), valid = interactions(splits.train), interactions(splits.valid)
    counts = np.bincount(train_items, minlength=n_items).astype(float)
    seen = {(u, i) for users, items in ((train_users, train_items), valid) for u, i in zip(users, items, strict=True)}
    wanted = {}
    for user, item in zip(*interactions(splits.test), strict=True):
        wanted.setdefault(user, set()).add(item)
    hits = []
    for user, items in wanted.items():
        scores = np.array([-1.0 if i == 0 or (user, i) in seen else counts[i] for i in range(n_items)])
        hits.append(len(items & set(np.argsort(-scores, kind="stable")[:k].tolist())) / len(items))
    return float(np.mean(hits))


def test_popularity_counts_every_interaction_whatever_the_batch(tmp_path):
    resolved = _resolved()
    session = prepare(resolved)
    small, large = (
        run_baseline("Pop", resolved.recbole_values() | {"train_batch_size": size}, 2020, str(tmp_path))
        for size in (64, 50_000)
    )
    assert isinstance(small, BaselineResult)
    assert small == large
    assert small.split_sha256 == session.splits.sha256
    # Ties of equally popular items may fall either way.
    assert abs(small.test["recall@10"] - _popularity_recall(session.splits)) < 2e-3


def test_a_trained_recbole_model_is_tested_on_our_split(tmp_path):
    resolved = _resolved(epochs=1)
    result = run_baseline("BPR", resolved.recbole_values(), 2020, str(tmp_path))
    assert result.split_sha256 == prepare(resolved).splits.sha256
    assert 0 < result.test["recall@10"] < 1
