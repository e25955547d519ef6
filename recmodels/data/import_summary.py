"""What an import says when it is done: what was read, dropped and written, and what to type next."""

import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recmodels.data.atomic_writing import ITEM, USER, Target
from recmodels.data.interaction_tables import Table
from recmodels.layers import load_layer, properties_root

_PARTS = "--benchmark_filename"


def summary(rows: Sequence[tuple[str, str]], files: Sequence[Path], commands: Mapping[str, str]) -> str:
    """The whole text.

    Args:
        rows: a word and what it says; empty texts are left out.
        files: what was written.
        commands: what can be typed next, by what it is, the first is what most want.
    """
    told = [*((word, text) for word, text in rows if text), *(("wrote", str(path)) for path in files)]
    return "\n".join([*(f"{word:<9}{text}" for word, text in told), *_labelled(commands)])


def size(*frames: pd.DataFrame) -> str:
    """Pairs, users, items and density of tables without common pairs, in words."""
    n_pairs = sum(map(len, frames))
    n_users, n_items = (len(set().union(*(frame[field].unique() for frame in frames))) for field in (USER, ITEM))
    density = n_pairs / (n_users * n_items)
    return f"{n_pairs:,} pairs of {n_users:,} users and {n_items:,} items, density {density:.4%}"


def lost(read: pd.DataFrame, kept: pd.DataFrame) -> str:
    """Users and items of which no row is left, in words; empty if there are none."""
    n_users, n_items = (read[field].nunique() - kept[field].nunique() for field in (USER, ITEM))
    return f"{n_users:,} users and {n_items:,} items of which no row is left" if n_users or n_items else ""


def parts(train: Table, test: Table, chosen: np.ndarray) -> list[tuple[str, str]]:
    """Sizes of a fixed split, and who is missing where.

    Args:
        train: the whole train part.
        test: the test part.
        chosen: (E,) which train rows are the valid part; none of them where there is no such part.
    """
    n_chosen = int(chosen.sum())
    carved = f"; carved into {len(train) - n_chosen:,} and {n_chosen:,} for valid" if n_chosen else ""
    known = [set(train.frame[field].unique()) for field in (USER, ITEM)]
    unknown = [len(set(test.frame[field].unique()) - ids) for field, ids in zip((USER, ITEM), known, strict=True)]
    n_without = len(known[0]) - train.frame[USER][chosen].nunique() if n_chosen else 0
    return [
        ("kept", size(train.frame, test.frame)),
        ("train", f"{len(train):,} pairs{carved}"),
        ("valid", f"{n_without:,} of {len(known[0]):,} users have too few train pairs to give one" * bool(n_without)),
        ("test", f"{len(test):,} pairs; {unknown[0]:,} users and {unknown[1]:,} items of them are not in train"),
    ]


def train_command(target: Target, fields: Collection[str], *more: str) -> str:
    """The command that trains on what was written.

    Args:
        target: where it was written.
        fields: columns of its files.
        more: further options; those are added that undo what the shipped configuration of a data set of that name
            expects and the files do not have.
    """
    words = ["recmodels", "train", "--model=LightGCN", f"--dataset={target.dataset}", f"--data_path={target.data_path}"]
    return shlex.join([*words, *more, *_undone(target.dataset, fields, any(_PARTS in option for option in more))])


def fixed_split_commands(target: Target, fields: Collection[str], names: Sequence[str]) -> dict[str, str]:
    """Training with selection on the carved valid part, if there is one, and with selection on test; by what it is."""
    splits = {"valid-picked": f"[{','.join(names)},test]"} if names else {}
    splits["test-picked"] = "[train,test,test]"
    return {label: train_command(target, fields, f"{_PARTS}={split}") for label, split in splits.items()}


def _undone(dataset: str, fields: Collection[str], is_split: bool) -> list[str]:
    file = properties_root() / "dataset" / f"{dataset}.yaml"
    shipped = load_layer(file, file.name).values if file.is_file() else {}
    absent = {
        f"{_PARTS}=null": shipped.get("benchmark_filename") and not is_split,
        f"--load_col={{inter: [{', '.join(fields)}]}}": {*shipped.get("load_col", {}).get("inter", [])} - {*fields},
        "--val_interval=null": {*shipped.get("val_interval", {})} - {*fields},
    }
    return [option for option, is_needed in absent.items() if is_needed]


def _labelled(commands: Mapping[str, str]) -> list[str]:
    words = ["next", *["or"] * (len(commands) - 1)]
    named = zip(words, commands.items(), strict=True)
    return [f"{word}{f', {label}' if label else ''}: {command}" for word, (label, command) in named]
