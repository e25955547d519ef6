"""Data sets in the field's formats become RecBole's atomic files."""

from pathlib import Path

import numpy as np

from recmodels.data.adjacency_lists import read_adjacency_lists
from recmodels.data.atomic_writing import RATING, Target, table, write_dataset
from recmodels.data.carving import carve, part_names
from recmodels.data.import_summary import fixed_split_commands, lost, parts, size, summary, train_command
from recmodels.data.interaction_tables import Table, check_disjoint, check_filled, rating_values, without_duplicates
from recmodels.data.ratings_files import read_ratings
from recmodels.data.ratings_layout import Layout
from recmodels.errors import DataError, ParamError


def import_ratings(
    path: Path, layout: Layout, target: Target, min_rating: float | None = None, duplicates: str | None = None
) -> str:
    """Writes `<dataset>.inter` from a file of ratings.

    Repeated pairs are seen to before the threshold, as RecBole does, so a pair's last rating can drop the pair.

    Args:
        path: the file.
        layout: how it is laid out, from `find_layout`.
        target: where the data set is written.
        min_rating: lower ratings are dropped; None keeps all.
        duplicates: `first`, `last` or `keep`; None refuses repeated pairs.

    Returns:
        A summary for reading.

    Raises:
        DataError: the file is malformed, a pair occurs twice, nothing is left, or the data set exists.
        ParamError: there is no column of ratings for the threshold.
    """
    target.check([""])
    if min_rating is not None and RATING not in layout.fields:
        raise ParamError(f"min_rating: got {min_rating:g}, but {path} has no column of ratings: {layout.describe()}")
    read = read_ratings(path, layout)
    single = without_duplicates(
        read, duplicates, "keep one row of a pair with --duplicates=first or last, or all: keep"
    )
    kept = single if min_rating is None else single.where(rating_values(single.frame[RATING]) >= min_rating)
    check_filled(kept, f" with a rating of at least {min_rating}, of {len(single):,}; lower --min_rating")
    files = write_dataset(target, {"": table(kept.frame)})
    distinct = without_duplicates(kept, "first") if duplicates == "keep" else kept
    n_repeats = len(kept) - len(distinct)
    rows = [
        ("read", f"{len(read):,} rows of {path}, {layout.describe()}"),
        ("read", f"as {read.encoding}, because the file is not UTF-8" * (read.encoding != "utf-8")),
        ("dropped", f"{len(read) - len(single):,} rows that repeat a pair; {_threshold(single, kept, min_rating)}"),
        ("dropped", lost(read.frame, kept.frame)),
        ("kept", size(distinct.frame)),
        ("kept", f"{n_repeats:,} further rows that repeat a pair" * (n_repeats > 0)),
    ]
    return summary(
        rows, files, {"": train_command(target, kept.frame.columns.tolist(), *["--repeatable=true"] * (n_repeats > 0))}
    )


def _threshold(before: Table, after: Table, min_rating: float | None) -> str:
    if min_rating is None:
        return "no threshold, ratings of every value are kept"
    return f"{len(before) - len(after):,} rows with a rating below {min_rating:g}"


def import_lightgcn(
    folder: Path, target: Target, valid: float = 0.1, split_seed: int = 2020, duplicates: str | None = None
) -> str:
    """Writes train and test, and train carved into two, from LightGCN's `train.txt` and `test.txt`.

    Args:
        folder: holds both files.
        target: where the data set is written.
        valid: share of each user's train pairs that becomes the valid part; see `recmodels.data.carving`. 0: there is
            none, and train is not carved.
        split_seed: of the carving.
        duplicates: `first` keeps one of the repeated items of a user within a file; None refuses them.

    Returns:
        A summary for reading.

    Raises:
        DataError: a file is absent or malformed, a pair occurs twice, or the data set exists.
        ParamError: the share is not between 0 and 1.
    """
    names = part_names(valid) if valid else ()
    target.check(["train", "test", *names])
    if not folder.is_dir():
        got = "a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: got {got}; expected a folder with LightGCN's train.txt and test.txt")
    lists = [read_adjacency_lists(folder / f"{part}.txt") for part in ("train", "test")]
    train, test = (without_duplicates(part.table, duplicates, "keep one: --duplicates=first") for part in lists)
    check_disjoint(train, test)
    chosen = carve(train, valid, split_seed) if names else np.zeros(len(train), bool)
    carved = (train.frame[~chosen], train.frame[chosen])
    frames = {"train": train.frame, "test": test.frame, **dict(zip(names, carved, strict=False))}
    files = write_dataset(target, {name: table(frame) for name, frame in frames.items()})
    n_read = [len(part.table) for part in lists]
    rows = [
        ("read", f"{n_read[0]:,} train and {n_read[1]:,} test pairs of {folder}"),
        ("dropped", f"{n_read[0] - len(train) + n_read[1] - len(test):,} that repeat a pair"),
        ("empty", f"{lists[0].n_empty:,} users without a train item, {lists[1].n_empty:,} without a test item"),
        *parts(train, test, chosen),
    ]
    return summary(rows, files, fixed_split_commands(target, train.frame.columns.tolist(), names))
