"""Carving a valid part out of the train part of a fixed split."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from recmodels.data.atomic_files import available_datasets, check_file, nearest
from recmodels.data.atomic_writing import ITEM, USER, Target, copy_of, table, write_dataset
from recmodels.data.import_summary import fixed_split_commands, parts, summary
from recmodels.data.interaction_tables import Table, check_disjoint, check_ids, without_duplicates
from recmodels.errors import DataError, ParamError
from recmodels.streams import stream


def n_carved(n_train: np.ndarray, valid: float) -> np.ndarray:
    """How many of a user's train pairs become valid pairs: the share, rounded half up, and never all of them.

    Args:
        n_train: (n,) train pairs of each user.
        valid: share, between 0 and 1.

    Returns:
        (n,) int64; 0 for a user with one pair, or with so few that the share is less than half a pair.
    """
    return np.minimum(np.floor(n_train * valid + 0.5).astype(np.int64), np.maximum(n_train - 1, 0))


def valid_rows(frame: pd.DataFrame, valid: float, generator: torch.Generator) -> np.ndarray:
    """Which rows of a train part become the valid part.

    Args:
        frame: distinct pairs, user_id and item_id as categories of strings. The order of the rows decides nothing.
        valid: share of each user's rows, between 0 and 1; see `n_carved`.
        generator: CPU; drawn from once per row.

    Returns:
        (E,) bool.
    """
    users, items = (_ranks(frame[field]) for field in (USER, ITEM))
    draws = np.empty(len(frame), dtype=np.int64)
    draws[np.lexsort((items, users))] = torch.randperm(len(frame), generator=generator).numpy()
    by_user = np.lexsort((draws, users))
    counts = np.bincount(users)
    places = np.arange(len(frame)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.zeros(len(frame), dtype=bool)
    chosen[by_user] = places < np.repeat(n_carved(counts, valid), counts)
    return chosen


def carve(train: Table, valid: float, split_seed: int) -> np.ndarray:
    """`valid_rows` of the stream (split_seed, "carve"), which nothing else draws from.

    Raises:
        DataError: no user has enough pairs to give one.
    """
    chosen = valid_rows(train.frame, valid, stream(split_seed, "carve"))
    if not chosen.any():
        raise DataError(
            f"{train.path}: got no user with enough train pairs to give {valid:g} of them to the valid part; expected "
            f"some with {max(2, int(np.ceil(0.5 / valid)))} pairs or more. Raise --valid; an import with "
            "--valid=0 makes no valid part"
        )
    return chosen


def carve_dataset(source: Path, target: Target, valid: float = 0.1, split_seed: int = 2020) -> str:
    """Carves a valid part out of the train part of a data set that already is in atomic files.

    Args:
        source: the data set's own folder, with `<dataset>.train.inter` and `<dataset>.test.inter`, never changed.
        target: where the files are written; the same folder gets the two carved files, another one copies of train
            and test too.
        valid: share of each user's train pairs that becomes the valid part; see `n_carved`.
        split_seed: of the carving.

    Returns:
        A summary for reading.

    Raises:
        DataError: a file is absent or malformed, a pair occurs twice, or a file to write exists already.
        ParamError: the share is not between 0 and 1.
    """
    names = part_names(valid)
    copied = ("train", "test") if source.resolve() != target.folder.resolve() else ()
    target.check([*copied, *names])
    paths = {part: source / f"{target.dataset}.{part}.inter" for part in ("train", "test")}
    (train, header), (test, _) = (_read_atomic(path, target.dataset) for path in paths.values())
    check_disjoint(train, test)
    chosen = carve(train, valid, split_seed)
    writes = {part: copy_of(paths[part]) for part in copied}
    writes |= {name: table(train.frame[mask], header) for name, mask in zip(names, (~chosen, chosen), strict=True)}
    files = write_dataset(target, writes)
    rows = [("read", f"{len(train):,} train and {len(test):,} test pairs of {source}"), *parts(train, test, chosen)]
    return summary(rows, files, fixed_split_commands(target, train.frame.columns.tolist(), names))


def part_names(valid: float) -> tuple[str, str]:
    """Suffixes of what is left of train and of the valid part, e.g. train90 and valid10.

    Raises:
        ParamError: the share is not between 0 and 1.
    """
    if not 0 < valid < 1:
        raise ParamError(f"valid: got {valid:g}; expected a share above 0 and below 1, e.g. 0.1")
    return f"train{100 * (1 - valid):g}", f"valid{100 * valid:g}"


def _read_atomic(path: Path, dataset: str) -> tuple[Table, list[str]]:
    """One part of a fixed split, every column as a category of strings, and its header."""
    if not path.is_file():
        others = [name for name in available_datasets(path.parent.parent) if name not in (dataset, "ml-100k")]
        known = f" In {path.parent.parent}: {nearest(dataset, others)}" if others else ""
        raise DataError(
            f"data set {dataset!r}: no file {path}; expected {dataset}.train.inter and {dataset}.test.inter.{known} "
            "Set --data_path to the parent of the folder, or import the data set first"
        )
    check_file(path, [])
    with path.open("rb") as file:
        is_filled = np.fromiter((not line.isspace() for line in file), dtype=bool)
    frame = pd.read_csv(path, sep="\t", dtype="category", na_filter=False, index_col=False)
    header = list(frame.columns)
    frame.columns = pd.Index([column.partition(":")[0] for column in header])
    if not {USER, ITEM} <= set(frame.columns):
        raise DataError(f"{path}, line 1: got columns {list(frame.columns)}; expected {USER} and {ITEM} among them")
    read = Table(path, frame, np.flatnonzero(is_filled)[1:] + 1)
    check_ids(read)
    return without_duplicates(read, None, "keep one row of a pair"), header


def _ranks(ids: pd.Series) -> np.ndarray:
    """(E,) rank of each id among the sorted ids."""
    names = ids.cat.categories.to_numpy(dtype=object)
    ranks = np.empty(len(names), dtype=np.int64)
    ranks[np.argsort(names)] = np.arange(len(names))
    return ranks[ids.cat.codes.to_numpy()]
