"""Checks of loaded interactions: each finding is one error that says what to do."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from recmodels.errors import DataError, ParamError
from recmodels.typed_values import nearest


def check_interactions(users: np.ndarray, items: np.ndarray, user_tokens: np.ndarray, n_items: int) -> None:
    """Checks the loaded and filtered interactions.

    Args:
        users: (E,) internal user ids.
        items: (E,) internal item ids.
        user_tokens: raw user names by internal id.
        n_items: items including the padding row.

    Raises:
        DataError: a missing id, fewer than 2 users or items, or a user with every item.
    """
    n_distinct_users, n_distinct_items = len(np.unique(users)), len(np.unique(items))
    found = f"{len(users)} interactions of {n_distinct_users} users and {n_distinct_items} items"
    if len(users) and min(users.min(), items.min()) == 0:
        raise DataError(f"{found}, some without a user or an item; expected both in every row. Fill or drop those rows")
    if n_distinct_users < 2 or n_distinct_items < 2:
        raise DataError(f"{found} are left; expected at least 2 users and 2 items. {_FILTERS}")
    degrees = np.bincount(np.unique(users * n_items + items) // n_items)
    if degrees.max() >= n_items - 1:
        name = str(user_tokens[int(degrees.argmax())])
        raise DataError(
            f"user {name!r} has interacted with all {n_items - 1} items, so no negative can be sampled; expected at "
            f"most {n_items - 2}. Set user_inter_num_interval, e.g. '[0,{n_items - 2}]', or load more items"
        )


def check_repeats(
    users: np.ndarray, items: np.ndarray, user_tokens: np.ndarray, item_tokens: np.ndarray, file: str | None = None
) -> None:
    """Checks that every pair occurs once: a split could part its copies, and in a part it would count twice.

    Args:
        users: (E,) internal user ids.
        items: (E,) internal item ids.
        user_tokens: raw user names by internal id.
        item_tokens: raw item names by internal id.
        file: suffix of a fixed split's file that these are the rows of; None for data that are to be split.

    Raises:
        DataError: a pair occurs twice; names the file of a fixed split, the count, one pair, and what to do.
    """
    pairs, counts = np.unique(users.astype(np.int64) * len(item_tokens) + items, return_counts=True)
    if len(pairs) == len(users):
        return
    worst = int(counts.argmax())
    user, item = divmod(int(pairs[worst]), len(item_tokens))
    where, remedy = ("", _REPEATS) if file is None else (f"benchmark_filename {file!r}: ", _FIXED_REPEATS)
    raise DataError(
        f"{where}{len(users) - len(pairs)} of {len(users)} interactions repeat a user-item pair: user "
        f"{str(user_tokens[user])!r} and item {str(item_tokens[item])!r} occur {counts[worst]} times; expected each "
        f"pair once, because {remedy}, or set repeatable: true if repeats are what is to be predicted"
    )


def check_overlap(pairs: Mapping[str, np.ndarray], benchmark_filename: Sequence[str]) -> None:
    """Checks that the parts of a fixed split have no pair in common.

    Args:
        pairs: train, valid and test: (E,) one number per user-item pair.
        benchmark_filename: the three suffixes; one file for both valid and test is selection on test, and allowed.

    Raises:
        DataError: a pair is in two parts; names the parts and the count.
    """
    file_of = dict(zip(pairs, benchmark_filename, strict=True))
    for one, other in combinations(pairs, 2):
        n_common = len(np.intersect1d(pairs[one], pairs[other]))
        is_train = one == "train"
        if n_common and (is_train or file_of[one] != file_of[other]):
            raise DataError(
                f"benchmark_filename {list(benchmark_filename)}: got {n_common} user-item pairs that are in both {one} "
                f"and {other}; expected none. Remove them from one of the files, or set repeatable: true if repeats "
                "are what is to be predicted"
            )


def check_topk(topk: Sequence[int], n_items: int) -> None:
    """Checks that recommendation lists are not longer than there are items.

    Args:
        topk: lengths of the lists.
        n_items: items including the padding row.

    Raises:
        ParamError: a list is longer than the items.
    """
    if max(topk) >= n_items:
        raise ParamError(
            f"topk: got {max(topk)} in {list(topk)}; expected at most {n_items - 1}, the number of items that are left "
            "after filtering"
        )


def check_value_filters(intervals: Mapping[str, Any], is_number: Mapping[str, bool]) -> None:
    """Checks `val_interval` against the columns that are loaded.

    Args:
        intervals: column to an interval in words, or to a list of names.
        is_number: loaded column to whether it holds numbers.

    Raises:
        DataError: the column is not loaded, or wants the other form.
    """
    for column, wanted in intervals.items():
        where = f"val_interval.{column}: got {wanted!r}"
        if column not in is_number:
            near = nearest(column, is_number)
            raise DataError(f"{where}, but loaded are {', '.join(is_number)}{near}; add the column to load_col")
        if is_number[column] and isinstance(wanted, list):
            raise DataError(f"{where} for a column of numbers; expected an interval like '[3,inf)'")
        if not is_number[column] and not isinstance(wanted, list):
            raise DataError(f"{where} for a column of names; expected a list of the names that stay")


def check_parts(sizes: Mapping[str, int], benchmark_filename: Sequence[str] | None) -> None:
    """Raises DataError if train, valid or test has no interaction."""
    empty = [part for part, size in sizes.items() if size == 0]
    if empty:
        counts = ", ".join(f"{part} {size}" for part, size in sizes.items())
        key = f"the files of benchmark_filename {benchmark_filename}" if benchmark_filename else "eval_args.split"
        raise DataError(
            f"empty part {', '.join(empty)}: got {counts} interactions; expected some in each. Change {key}"
        )


def empty_after_filtering(n_loaded: int) -> DataError:
    """The error for filters that leave nothing of `n_loaded` interactions."""
    return DataError(f"none of {n_loaded} interactions is left after filtering; expected some. {_FILTERS}")


_REPEATS = "a split puts one copy into train and another into test. Set rm_dup_inter: first (or last)"
_FIXED_REPEATS = "a copy would count once more. Remove it from the file, since a fixed split is read unfiltered"
_FILTERS = "Loosen val_interval, user_inter_num_interval, item_inter_num_interval or filter_inter_by_user_or_item"
