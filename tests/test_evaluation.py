"""Evaluation: per-user values, and who is evaluated."""

from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.evaluator import Evaluator
from recbole.model.general_recommender import BPR
from recbole.trainer import Trainer

from recmodels.data.evaluation import ItemHits, MetricRecorder
from recmodels.data.loading import load_dataset
from recmodels.data.split import (
    Splits,
    interactions,
    raw_users,
    split,
)
from recmodels.errors import DataError
from tests import atomic as data
from tests.atomic import PAIRS, atomic, make_config, make_splits, write

root = data.root


def test_users_absent_from_a_part_are_not_evaluated_and_users_without_history_are(root: Path) -> None:
    files = {"a": [("u1", "x"), ("u1", "y"), ("u2", "z")], "b": [("u1", "z")], "c": [("new", "x"), ("u2", "y")]}
    for part, pairs in files.items():
        write(root, atomic(pairs), f"toy.{part}.inter")
    config = make_config(root, benchmark_filename=list(files), metrics=["Recall"], topk=1, valid_metric="recall@1")
    with pytest.raises(DataError, match="user 'u1' has interacted with all 3 items"):
        load_dataset(config)
    write(root, atomic([*files["a"], ("u2", "w"), ("u3", "v")]), "toy.a.inter")
    splits = split(config, load_dataset(config), 1)
    assert raw_users(splits.dataset)[splits.valid.uid_list.numpy()].tolist() == ["u1"]
    assert sorted(raw_users(splits.dataset)[splits.test.uid_list.numpy()]) == ["new", "u2"]
    trainer = Trainer(config, BPR(config, splits.train.dataset))
    recorder = MetricRecorder(trainer.evaluator)
    trainer.evaluate(splits.test, load_best_model=False, show_progress=False)
    assert recorder.per_user["recall@1"].shape == (2,)


ALL_TOPK = ["Recall", "NDCG", "MRR", "Hit", "Precision", "MAP"]


def evaluated(root: Path, topk: list[int]) -> tuple[Splits, Trainer, MetricRecorder, dict[str, float], dict]:
    splits = make_splits(root, metrics=ALL_TOPK, topk=topk, valid_metric="recall@3")
    config = splits.train.config
    torch.manual_seed(0)
    trainer = Trainer(config, BPR(config, splits.train.dataset))
    config["metric_decimal_place"] = 4
    rounding = Trainer(config, trainer.model)
    rounded = rounding.evaluate(splits.test, load_best_model=False, show_progress=False)
    recorder = MetricRecorder(trainer.evaluator)
    result = trainer.evaluate(splits.test, load_best_model=False, show_progress=False)
    return splits, trainer, recorder, result, rounded


def test_means_equal_the_mean_over_users_exactly_and_recboles_to_four_decimals(root: Path) -> None:
    _, _, recorder, result, rounded = evaluated(root, [3, 1])
    assert list(result) == [f"{metric.lower()}@{k}" for metric in ALL_TOPK for k in (3, 1)]
    for name, value in result.items():
        assert type(value) is float
        assert value == recorder.per_user[name].mean()
        assert round(value, 4) == rounded[name]
    assert any(round(value, 4) != value for value in result.values())


def test_per_user_values_equal_brute_force_recall_and_ndcg(root: Path) -> None:
    splits, trainer, recorder, _, _ = evaluated(root, [2, 5])
    train, valid, test = (list(zip(*interactions(p), strict=True)) for p in splits[:3])
    user_table, item_table = (e.weight.detach() for e in (trainer.model.user_embedding, trainer.model.item_embedding))
    for row, user in enumerate(splits.test.uid_list.tolist()):
        seen = {0} | {int(item) for u, item in train + valid if u == user}
        positive = {int(item) for u, item in test if u == user}
        scores = item_table @ user_table[user]
        ranking = [item for item in torch.argsort(-scores).tolist() if item not in seen]
        for k in (2, 5):
            gains = [1 / np.log2(rank + 2) for rank, item in enumerate(ranking[:k]) if item in positive]
            ideal = sum(1 / np.log2(rank + 2) for rank in range(min(k, len(positive))))
            assert recorder.per_user[f"recall@{k}"][row] == len(gains) / len(positive)
            assert recorder.per_user[f"ndcg@{k}"][row] == pytest.approx(sum(gains) / ideal, abs=1e-12)


def test_a_recorder_leaves_other_evaluators_as_they_are(root: Path) -> None:
    write(root, atomic(PAIRS))
    config = make_config(root, metrics=["Recall"])
    recorded, other = Evaluator(config), Evaluator(config)
    MetricRecorder(recorded)
    assert "topk_result" in vars(recorded.metric_class["recall"])
    assert "topk_result" not in vars(other.metric_class["recall"])


def test_per_user_values_are_those_of_the_last_evaluation(root: Path) -> None:
    splits, trainer, recorder, _, _ = evaluated(root, [3])
    before = recorder.per_user
    result = trainer.evaluate(splits.valid, load_best_model=False, show_progress=False)
    assert recorder.per_user["recall@3"].mean() == result["recall@3"]
    assert len(recorder.per_user["recall@3"]) == len(splits.valid.uid_list)
    assert before["recall@3"] is not recorder.per_user["recall@3"]


def test_item_hits_are_those_of_a_loop_over_users_and_lists(root: Path) -> None:
    splits = make_splits(root, metrics=["Recall"], topk=[1, 3], valid_metric="recall@3")
    config = splits.train.config
    torch.manual_seed(0)
    trainer = Trainer(config, BPR(config, splits.train.dataset))
    hits, seen = ItemHits(splits.dataset.item_num, [1, 3]), []
    own = type(trainer.eval_collector).eval_batch_collect

    def watched(self: object, scores: torch.Tensor, *rest: object) -> None:
        seen.append((scores.clone(), rest[1], rest[2]))
        own(self, scores, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(trainer.eval_collector), "eval_batch_collect", watched)
        with hits.collected_from(trainer.eval_collector):
            trainer.evaluate(splits.test, load_best_model=False, show_progress=False)
        n_before = hits.n_tested.sum()
        trainer.evaluate(splits.test, load_best_model=False, show_progress=False)
    assert hits.n_tested.sum() == n_before == len(splits.test.dataset)
    want = {k: np.zeros(splits.dataset.item_num, dtype=int) for k in (1, 3)}
    for scores, users, items in seen[: len(seen) // 2]:
        for user, item in zip(users.tolist(), items.tolist(), strict=True):
            better = int((scores[user] > scores[user, item]).sum())
            for k in want:
                want[k][item] += better < k
    assert all((hits.hits[k] == want[k]).all() for k in want)
    assert 0 < want[3].sum() < n_before
