"""Atomic files, and RecBole data sets and splits made from them, for the tests of the data package."""

import sys
from pathlib import Path

import pytest
import torch
from recbole.data.dataset import Dataset
from recbole.model.general_recommender import BPR

from recmodels.compat import RecboleConfig
from recmodels.data.loading import load_dataset
from recmodels.data.split import (
    Splits,
    interactions,
    raw_items,
    raw_users,
    split,
)

CPU = torch.device("cpu")
PAIRS = [(f"u{u}", f"i{i}") for u in range(12) for i in range(15) if (3 * u + 5 * i) % 4 != 0]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the data sets, beside an empty working directory, with arguments RecBole would read if it could."""
    (tmp_path / "cwd").mkdir()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr(sys, "argv", ["x", "--learning_rate=9", "--dataset=other"])
    return tmp_path / "data"


def write(root: Path, text: str, name: str = "toy.inter") -> Path:
    """Writes a file into the folder of its data set."""
    path = root / name.split(".")[0] / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def atomic(pairs: list[tuple[str, str]]) -> str:
    """Content of an interaction file."""
    return "\n".join(["user_id:token\titem_id:token", *("\t".join(pair) for pair in pairs)]) + "\n"


def make_config(root: Path, **more: object) -> RecboleConfig:
    """A configuration of the data set toy for RecBole's BPR."""
    values = {"dataset": "toy", "data_path": str(root), "checkpoint_dir": str(root / "saved"), "embedding_size": 4}
    return RecboleConfig(values | more, BPR, CPU)


def make_splits(root: Path, pairs: list[tuple[str, str]] = PAIRS, split_seed: int = 1, **more: object) -> Splits:
    """Writes, loads and splits the data set toy."""
    write(root, atomic(pairs))
    config = make_config(root, **more)
    return split(config, load_dataset(config), split_seed)


def raw_pairs(part: object, dataset: Dataset) -> list[tuple[str, str]]:
    """The interactions of a part under their raw names."""
    users, items = interactions(part)
    return list(zip(raw_users(dataset)[users], raw_items(dataset)[items], strict=True))
