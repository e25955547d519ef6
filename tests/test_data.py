import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data.dataset import Dataset
from recbole.evaluator import Evaluator
from recbole.model.general_recommender import BPR
from recbole.trainer import Trainer
from recbole.utils import FeatureType

from recmodels.compat import RecboleConfig, bundled_ml_100k
from recmodels.data.checks import available_datasets, check_files, check_interactions
from recmodels.data.evaluation import MetricRecorder
from recmodels.data.loading import AtomicDataset, dataset_folder, filled, load_dataset
from recmodels.data.split import (
    Splits,
    eval_users_per_batch,
    fingerprint,
    interactions,
    raw_items,
    raw_users,
    reseed_loader,
    split,
)
from recmodels.errors import DataError, ParamError
from recmodels.streams import global_streams

CPU = torch.device("cpu")
PAIRS = [(f"u{u}", f"i{i}") for u in range(12) for i in range(15) if (3 * u + 5 * i) % 4 != 0]
ML_100K = {"load_col": {"inter": ["user_id", "item_id", "rating"]}, "val_interval": {"rating": "[3,inf)"}}


class Bomb:
    def __reduce__(self):
        return open, ("exploded", "w")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cwd").mkdir()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr(sys, "argv", ["x", "--learning_rate=9", "--dataset=other"])
    return tmp_path / "data"


def write(root: Path, text: str, name: str = "toy.inter") -> Path:
    path = root / name.split(".")[0] / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def atomic(pairs: list[tuple[str, str]]) -> str:
    return "\n".join(["user_id:token\titem_id:token", *("\t".join(pair) for pair in pairs)]) + "\n"


def make_config(root: Path, **more: object) -> RecboleConfig:
    values = {"dataset": "toy", "data_path": str(root), "checkpoint_dir": str(root / "saved"), "embedding_size": 4}
    return RecboleConfig(values | more, BPR, CPU)


def make_splits(root: Path, pairs: list[tuple[str, str]] = PAIRS, split_seed: int = 1, **more: object) -> Splits:
    write(root, atomic(pairs))
    config = make_config(root, **more)
    return split(config, load_dataset(config), split_seed)


def raw_pairs(part: object, dataset: Dataset) -> list[tuple[str, str]]:
    users, items = interactions(part)
    return list(zip(raw_users(dataset)[users], raw_items(dataset)[items], strict=True))


# loading


def test_every_interaction_of_the_file_is_loaded_under_its_own_names(root: Path) -> None:
    write(root, atomic(PAIRS))
    dataset = load_dataset(make_config(root))
    assert raw_pairs(dataset, dataset) == PAIRS
    assert raw_users(dataset)[0] == raw_items(dataset)[0] == "[PAD]"


def test_ml_100k_is_the_bundled_copy_unless_the_data_path_has_its_own(root: Path) -> None:
    assert dataset_folder(str(root), "ml-100k") == bundled_ml_100k()
    (root / "ml-100k").mkdir()
    assert dataset_folder(str(root), "ml-100k") == root / "ml-100k"
    assert dataset_folder(str(root), "toy") == root / "toy"


def test_bundled_ml_100k_with_ratings_from_3_holds_the_interactions_that_pandas_counts(root: Path) -> None:
    config = make_config(root, dataset="ml-100k", **ML_100K)
    splits = split(config, load_dataset(config), 2020)
    frame = pd.read_csv(bundled_ml_100k() / "ml-100k.inter", sep="\t", dtype=str)
    frame = frame[frame["rating:float"].astype(float) >= 3]
    expected = set(zip(frame["user_id:token"], frame["item_id:token"], strict=True))
    parts = [raw_pairs(part, splits.dataset) for part in (splits.train, splits.valid, splits.test)]
    assert sum(map(len, parts)) == len(frame) == 82520
    assert set().union(*parts) == expected
    assert config["data_path"] == str(bundled_ml_100k())


def test_planted_pickles_are_not_opened_and_the_working_directory_stays_empty(root: Path) -> None:
    (root / "saved").mkdir()
    for name in ("toy-Dataset.pth", "toy-AtomicDataset.pth", "toy-for-BPR-dataloader.pth"):
        (root / "saved" / name).write_bytes(pickle.dumps(Bomb()))
    splits = make_splits(root)
    assert len(splits.dataset) == len(PAIRS)
    assert list(Path.cwd().iterdir()) == []
    pickle.loads((root / "saved" / "toy-Dataset.pth").read_bytes()).close()
    assert [path.name for path in Path.cwd().iterdir()] == ["exploded"]


def test_nothing_is_downloaded(root: Path) -> None:
    with pytest.raises(DataError, match="nothing is downloaded"):
        AtomicDataset(make_config(root))


@pytest.mark.parametrize("copy_on_write", [False, True])
def test_missing_features_become_padding_the_mean_and_the_empty_sequence(root: Path, copy_on_write: bool) -> None:
    write(root, atomic([("a", "x"), ("a", "y"), ("b", "z"), ("b", "x")]))
    header = "item_id:token\tkind:token\tprice:float\ttags:token_seq\tsizes:float_seq\n"
    write(root, header + "x\tk\t1.5\tr s\t1 2\ny\t\t\t\t\nz\tk\t2.5\tr\t3\n", "toy.item")
    load = {"inter": ["user_id", "item_id"], "item": ["item_id", "kind", "price", "tags", "sizes"]}
    with pd.option_context("mode.copy_on_write", copy_on_write):
        config = make_config(root, load_col=load, eval_args={"split": {"RS": [0.5, 0.25, 0.25]}, "group_by": None})
        dataset = load_dataset(config)
        items = split(config, dataset, 1).dataset.item_feat
    of = {token: row for row, token in enumerate(raw_items(dataset))}
    assert items["kind"].tolist() == [0, 1, 0, 1]
    assert items["price"].tolist() == [2.0, 1.5, 2.0, 2.5]
    assert items["tags"][of["x"]].tolist() == [1, 2]
    assert items["tags"][of["y"]].tolist() == [0, 0]
    assert items["sizes"][of["z"]].tolist() == [3.0, 0.0]


def test_filling_leaves_a_complete_column_as_it_is() -> None:
    assert filled(pd.Series([1.0, 3.0]), FeatureType.FLOAT).tolist() == [1.0, 3.0]
    assert filled(pd.Series([2, 1]), FeatureType.TOKEN).tolist() == [2, 1]


# checks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"toy\.inter, line 1: got an empty file; expected a header like 'user_id:token\\titem_id:token'"),
        ("user_id:token\titem_id:token\n", "got a header and no rows"),
        ("user_id:token\titem_id:token\n\n\n", "got a header and no rows"),
        ("user_id\titem_id\n1\t2\n", "line 1: got column 'user_id'; expected <name>:<type>"),
        ("user_id:token\titem_id:int\n1\t2\n", "line 1: got column 'item_id:int'"),
        ("uid:token\titem_id:token\n1\t2\n", "no field 'user_id'; got .*'uid'.*USER_ID_FIELD"),
        ("user_id:token\titem:token\n1\t2\n", "no field 'item_id'.*did you mean 'item'"),
        ("user_id:token,item_id:token\n1,2\n", "separated by a comma; expected a tab. Set field_separator: ','"),
        ("user_id:token\titem_id:token\n1\t2\n3\n", r"line 3: got 1 columns \(b'3.*expected 2"),
        ("user_id:token\titem_id:token\n1\t2\t9\n", "line 2: got 3 columns"),
        ("user_id:token\titem_id:token\n1,2\n", "line 2: got 1 columns"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line_and_what_was_expected(root: Path, text: str, message: str) -> None:
    write(root, text)
    with pytest.raises(DataError, match=message):
        load_dataset(make_config(root))


def test_undecodable_bytes_are_refused_with_their_line(root: Path) -> None:
    write(root, "").write_bytes(b"user_id:token\titem_id:token\n1\t2\n\n\xe9\t3\n")
    with pytest.raises(DataError, match=r"line 4: byte 0xe9 is not utf-8.*latin-1"):
        load_dataset(make_config(root))


def test_a_file_in_another_encoding_loads_when_the_encoding_is_named(root: Path) -> None:
    write(root, "").write_bytes(atomic([("é", "x"), ("é", "y"), ("b", "z"), ("b", "x")]).encode("latin-1"))
    assert "é" in raw_users(load_dataset(make_config(root, encoding="latin-1")))


def test_a_bad_row_far_into_a_file_is_found_at_its_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recmodels.data.checks.CHUNK_BYTES", 100)
    path = write(root, atomic([*[("a", "b")] * 500, ("only",), *[("a", "b")] * 50]))  # type: ignore[list-item]
    with pytest.raises(DataError, match="line 502: got 1 columns"):
        check_files(path.parent, "toy", None, ["user_id", "item_id"])


def test_a_quoted_value_may_hold_the_separator(root: Path) -> None:
    path = write(root, 'user_id:token\titem_id:token\n1\t"a\tb"\n2\tc\n')
    check_files(path.parent, "toy", None, ["user_id", "item_id"])


def test_windows_line_ends_load_like_unix_ones(root: Path) -> None:
    write(root, "").write_bytes(atomic(PAIRS).replace("\n", "\r\n").encode())
    dataset = load_dataset(make_config(root))
    assert raw_pairs(dataset, dataset) == PAIRS


def test_a_missing_data_set_is_named_with_the_nearest_that_exists(root: Path) -> None:
    write(root, atomic(PAIRS), "gowalla.inter")
    (root / "empty").mkdir()
    assert available_datasets(root) == ["gowalla", "ml-100k"]
    with pytest.raises(DataError, match="data set 'gowala': no folder .*gowala.*did you mean 'gowalla'"):
        load_dataset(make_config(root, dataset="gowala"))
    with pytest.raises(DataError, match="did you mean 'ml-100k'"):
        load_dataset(make_config(root, dataset="ml100k"))
    with pytest.raises(DataError, match=r"no file .*empty\.inter"):
        load_dataset(make_config(root, dataset="empty"))


def test_a_field_that_load_col_asks_for_must_be_in_the_file(root: Path) -> None:
    write(root, atomic(PAIRS))
    with pytest.raises(DataError, match="no field 'rating'"):
        load_dataset(make_config(root, load_col={"inter": ["user_id", "item_id", "rating"]}))
    with pytest.raises(DataError, match=r"load_col\.inter: got \['user_id'\], without 'item_id'"):
        load_dataset(make_config(root, load_col={"inter": ["user_id"]}))


def test_a_value_that_is_no_number_is_a_data_error_with_the_value(root: Path) -> None:
    write(root, "user_id:token\titem_id:token\trating:float\na\tb\t3\na\tc\tgood\n")
    with pytest.raises(DataError, match="data set 'toy'.*good"):
        load_dataset(make_config(root, load_col={"inter": ["user_id", "item_id", "rating"]}))


def test_filters_that_leave_nothing_are_named_with_the_count(root: Path) -> None:
    write(root, atomic(PAIRS))
    with pytest.raises(DataError, match=f"none of {len(PAIRS)} interactions .*user_inter_num_interval"):
        load_dataset(make_config(root, user_inter_num_interval="[99,inf)"))


def test_too_few_users_or_items_are_counted() -> None:
    names = np.array(["[PAD]", "a", "b"])
    with pytest.raises(DataError, match="2 interactions of 1 users and 2 items"):
        check_interactions(np.array([1, 1]), np.array([1, 2]), names, 4)
    with pytest.raises(DataError, match="2 interactions of 2 users and 1 items"):
        check_interactions(np.array([1, 2]), np.array([1, 1]), names, 4)


def test_a_user_with_every_item_is_named_and_one_with_all_but_one_is_accepted() -> None:
    names, items = np.array(["[PAD]", "a", "b"]), np.array([1, 2, 3, 1, 1])
    with pytest.raises(DataError, match="user 'b' has interacted with all 3 items.*user_inter_num_interval"):
        check_interactions(np.array([2, 2, 2, 1, 1]), items, names, 4)
    check_interactions(np.array([2, 2, 1, 1, 1]), np.array([1, 2, 1, 1, 3]), names, 4)


def test_a_row_without_an_item_in_a_fixed_split_is_refused(root: Path) -> None:
    for part, pairs in {"train": [("a", "x"), ("b", "")], "valid": [("a", "y")], "test": [("b", "y")]}.items():
        write(root, atomic(pairs), f"toy.{part}.inter")
    with pytest.raises(DataError, match="some without a user or an item"):
        load_dataset(make_config(root, benchmark_filename=["train", "valid", "test"]))


def test_empty_parts_are_named_with_all_counts(root: Path) -> None:
    with pytest.raises(DataError, match=r"empty part valid: got train \d+, valid 0, test 12 .*eval_args.split"):
        make_splits(root, eval_args={"split": {"LS": "test_only"}, "order": "RO", "mode": "full"})


def test_sampled_evaluation_is_refused_by_name(root: Path) -> None:
    with pytest.raises(ParamError, match="eval_args.mode.valid: got 'uni100'; expected 'full'"):
        make_splits(root, eval_args={"mode": "uni100"})


def test_an_unknown_split_is_a_data_error_that_shows_eval_args(root: Path) -> None:
    with pytest.raises(DataError, match="split of 'toy' by eval_args .*XS"):
        make_splits(root, eval_args={"split": {"XS": [1]}})


# split


def test_a_fixed_split_is_kept_row_by_row(root: Path) -> None:
    files = {"train": PAIRS[:100], "valid": PAIRS[100:115], "test": PAIRS[115:]}
    for part, pairs in files.items():
        write(root, atomic(pairs), f"toy.{part}.inter")
    config = make_config(root, benchmark_filename=list(files))
    splits = split(config, load_dataset(config), 1)
    for part, pairs in files.items():
        assert sorted(raw_pairs(getattr(splits, part), splits.dataset)) == sorted(pairs)


def test_benchmark_filename_must_name_three_files(root: Path) -> None:
    write(root, atomic(PAIRS))
    with pytest.raises(DataError, match=r"benchmark_filename: got \['train', 'test'\]; expected three"):
        load_dataset(make_config(root, benchmark_filename=["train", "test"]))


def test_the_parts_are_disjoint_and_together_the_data_set(root: Path) -> None:
    splits = make_splits(root)
    parts = [raw_pairs(part, splits.dataset) for part in (splits.train, splits.valid, splits.test)]
    assert sorted(sum(parts, [])) == sorted(PAIRS)


def test_the_split_depends_on_its_seed_only(root: Path) -> None:
    torch.manual_seed(1)
    first = make_splits(root, split_seed=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert make_splits(root, split_seed=5, seed=99).sha256 == first.sha256
    assert torch.equal(torch.get_rng_state(), state)
    assert make_splits(root, split_seed=6).sha256 != first.sha256


def test_one_data_set_can_be_split_twice(root: Path) -> None:
    write(root, atomic(PAIRS))
    config = make_config(root)
    dataset = load_dataset(config)
    hashes = [split(config, dataset, seed).sha256 for seed in (1, 2, 1)]
    assert hashes[0] == hashes[2] != hashes[1]
    assert "neg_item_id" not in dataset.field2type


def parts_of(root: Path, files: list[list[tuple[str, str]]]) -> str:
    for part, pairs in zip(("a", "b", "c"), files, strict=True):
        write(root, atomic(pairs), f"toy.{part}.inter")
    config = make_config(root, benchmark_filename=["a", "b", "c"])
    return split(config, load_dataset(config), 1).sha256


def test_the_fingerprint_ignores_order_inside_a_part_and_internal_ids(root: Path) -> None:
    files = [PAIRS[:100], PAIRS[100:115], PAIRS[115:]]
    assert parts_of(root, files) == parts_of(root, [pairs[::-1] for pairs in files])


def test_the_fingerprint_changes_when_one_interaction_moves_repeats_or_is_renamed(root: Path) -> None:
    files = [PAIRS[:100], PAIRS[100:115], PAIRS[115:]]
    moved = [PAIRS[:99], PAIRS[99:115], PAIRS[115:]]
    swapped = [files[0], files[2], files[1]]
    repeated = [[*PAIRS[:100], PAIRS[0]], *files[1:]]
    renamed = [[*PAIRS[:99], (PAIRS[99][0], "new")], *files[1:]]
    hashes = [parts_of(root, files) for files in (files, moved, swapped, repeated, renamed)]
    assert len(set(hashes)) == 5


def test_the_fingerprint_is_that_of_a_process_with_another_hash_seed(root: Path) -> None:
    here = parts_of(root, [PAIRS[:100], PAIRS[100:115], PAIRS[115:]])
    code = (
        "import sys, torch\n"
        "from recbole.model.general_recommender import BPR\n"
        "from recmodels.compat import RecboleConfig\n"
        "from recmodels.data.loading import load_dataset\n"
        "from recmodels.data.split import split\n"
        "values = {'dataset': 'toy', 'data_path': sys.argv[1], 'benchmark_filename': ['a', 'b', 'c']}\n"
        "config = RecboleConfig(values, BPR, torch.device('cpu'))\n"
        "print(split(config, load_dataset(config), 1).sha256)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "77", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", code, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == here


# loaders


def test_evaluation_masks_exactly_what_earlier_parts_hold(root: Path) -> None:
    splits = make_splits(root)
    pairs = [set(zip(*interactions(part), strict=True)) for part in (splits.train, splits.valid, splits.test)]
    for loader, seen, positive in ((splits.valid, pairs[0], pairs[1]), (splits.test, pairs[0] | pairs[1], pairs[2])):
        found_seen, found_positive = set(), set()
        for users, (rows, history), positive_rows, positive_items in loader:
            ids = users["user_id"]
            found_seen |= set(zip(ids[rows].tolist(), history.tolist(), strict=True))
            found_positive |= set(zip(ids[positive_rows].tolist(), positive_items.tolist(), strict=True))
        users_here = {user for user, _ in positive}
        assert found_positive == positive
        assert found_seen == {pair for pair in seen if pair[0] in users_here}


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


def test_negatives_are_never_interactions_of_train(root: Path) -> None:
    splits = make_splits(root)
    seen = set(zip(*interactions(splits.train), strict=True))
    for batch in splits.train:
        assert not seen & set(zip(batch["user_id"].tolist(), batch["neg_item_id"].tolist(), strict=True))
        assert batch["neg_item_id"].min() >= 1


def order_of(splits: Splits, seed: int, epoch: int) -> list[list[int]]:
    reseed_loader(splits.train, seed, epoch)
    with global_streams(seed, "negatives", epoch):
        batches = [torch.stack([b[k] for k in ("user_id", "item_id", "neg_item_id")]) for b in splits.train]
    return torch.cat(batches, 1).tolist()


def test_a_reseeded_loader_repeats_its_epoch_whatever_came_before(root: Path) -> None:
    splits = make_splits(root, train_batch_size=16)
    first = order_of(splits, 3, 4)
    order_of(splits, 3, 5)
    assert order_of(splits, 3, 4) == first == order_of(make_splits(root, train_batch_size=16), 3, 4)
    assert order_of(splits, 3, 5) != first != order_of(splits, 4, 4)
    assert sorted(zip(*first[:2], strict=True)) == sorted(zip(*interactions(splits.train), strict=True))


@settings(deadline=None)
@given(st.integers(1, 10**7), st.integers(0, 10**10), st.sampled_from([2, 4, 8]))
def test_scores_of_a_batch_fill_the_budget_and_stay_within_it_unless_one_user_exceeds_it(
    n_items: int, budget: int, itemsize: int
) -> None:
    users = eval_users_per_batch(n_items, budget, itemsize)
    assert users == 1 or users * n_items * itemsize <= budget
    assert (users + 1) * n_items * itemsize > budget


def test_users_per_evaluation_batch_come_from_the_byte_budget_unless_scores_are_counted(root: Path) -> None:
    n_items = 16
    assert make_splits(root, eval_batch_bytes=5 * n_items * 4 + 3).valid.step == 5
    assert make_splits(root, eval_batch_bytes=10**6, eval_batch_size=2 * n_items).test.step == 2
    assert make_splits(root, eval_batch_bytes=1).test.step == 1


def test_the_fingerprint_of_the_parts_is_the_one_of_the_splits(root: Path) -> None:
    splits = make_splits(root)
    assert fingerprint([splits.train.dataset, splits.valid.dataset, splits.test.dataset]) == splits.sha256
    assert len(bytes.fromhex(splits.sha256)) == 32


# evaluation

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
