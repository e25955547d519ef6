"""Loading: what is in the files comes out, and nothing else happens."""

import pickle
from pathlib import Path

import pandas as pd
import pytest
from recbole.utils import FeatureType

from recmodels.compat import bundled_ml_100k
from recmodels.data.loading import AtomicDataset, dataset_folder, filled, load_dataset
from recmodels.data.split import (
    raw_items,
    raw_users,
    split,
)
from recmodels.errors import DataError
from tests import atomic as data
from tests.atomic import PAIRS, atomic, make_config, make_splits, raw_pairs, write

root = data.root
ML_100K = {"load_col": {"inter": ["user_id", "item_id", "rating"]}, "val_interval": {"rating": "[3,inf)"}}


class Bomb:
    def __reduce__(self):
        return open, ("exploded", "w")


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
