"""Tables of interactions with their line numbers, and the checks of what was read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from recmodels.data.atomic_writing import ITEM, RATING, TIMESTAMP, USER
from recmodels.errors import DataError


@dataclass(frozen=True)
class Table:
    """Interactions of one file.

    Attributes:
        path: where they were read.
        frame: user_id and item_id as categories of strings, perhaps rating as a category of strings and timestamp as
            numbers; in the order of the file.
        lines: (E,) line of each row in the file, from 1.
        encoding: of the file.
    """

    path: Path
    frame: pd.DataFrame
    lines: np.ndarray
    encoding: str = "utf-8"

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.frame)

    def where(self, mask: np.ndarray) -> "Table":
        """The rows for which a (E,) mask is true."""
        return replace(self, frame=self.frame[mask], lines=self.lines[mask])

    def pair(self, row: int) -> str:
        """The pair of a row in words."""
        user, item = self.frame[USER].iloc[row], self.frame[ITEM].iloc[row]
        return f"user {user!r} and item {item!r}"


def check_table(table: Table) -> None:
    """Checks ids, ratings and timestamps of a file of ratings.

    Raises:
        DataError: `check_ids`, or a rating or timestamp is no finite number; names the line.
    """
    check_ids(table, "if all columns look shifted, set --separator or --columns")
    if RATING in table.frame:
        is_bad = ~np.isfinite(rating_values(table.frame[RATING]))
        _raise_first(table, RATING, is_bad, _rating_rule(table.frame[RATING], is_bad))
    if TIMESTAMP in table.frame:
        column = table.frame[TIMESTAMP]
        if column.dtype.kind not in "iuf":
            column = pd.to_numeric(column.astype(str), errors="coerce")
        _raise_first(table, TIMESTAMP, ~np.isfinite(column.to_numpy(dtype=np.float64)), _NUMBER_RULE)


def check_ids(table: Table, hint: str = "") -> None:
    """Raises DataError if the reader of atomic files would not give an id back; names the line.

    Args:
        table: ids as categories of strings.
        hint: what else the mistake may be.
    """
    rule = (_ID_RULE, hint)
    for field in (USER, ITEM):
        column = table.frame[field].cat
        _raise_first(table, field, _is_unreadable(column.categories)[column.codes], "; ".join(filter(None, rule)))


def rating_values(ratings: pd.Series) -> np.ndarray:
    """(E,) float64 of a category of strings, NaN where a string is no number."""
    numbers = pd.to_numeric(ratings.cat.categories.to_series(), errors="coerce")
    return numbers.to_numpy(dtype=np.float64)[ratings.cat.codes]


def pair_codes(*frames: pd.DataFrame) -> list[np.ndarray]:
    """For every table (E,) int64, one number per user-item pair, the same in all the tables."""
    users, items = (_joint_codes([frame[field] for frame in frames]) for field in (USER, ITEM))
    n_items = 1 + max((int(codes.max()) for codes in items if len(codes)), default=0)
    return [user * n_items + item for user, item in zip(users, items, strict=True)]


def without_duplicates(table: Table, duplicates: str | None, remedy: str = "") -> Table:
    """The table with every user-item pair once.

    Args:
        table: rows in the order of the file.
        duplicates: `first` or `last` keeps that row of a pair, `keep` all of them, None refuses repeated pairs.
        remedy: what to do about a repeated pair, for the error.

    Raises:
        DataError: a pair occurs twice and `duplicates` is None; names the first repeated pair and both lines.
    """
    if duplicates == "keep":
        return table
    codes = pd.Series(pair_codes(table.frame)[0])
    repeated = codes.duplicated(keep="last" if duplicates == "last" else "first").to_numpy()
    if not repeated.any():
        return table
    if duplicates is None:
        row = int(repeated.argmax())
        earlier = int((codes == codes[row]).to_numpy().argmax())
        raise DataError(
            f"{table.path}, line {table.lines[row]}: got {table.pair(row)} again, after line {table.lines[earlier]} "
            f"(rows that repeat a pair: {int(repeated.sum()):,}); expected each pair once. Remove the repetitions, or "
            f"{remedy}"
        )
    return table.where(~repeated)


def check_disjoint(train: Table, test: Table) -> None:
    """Raises DataError if a pair is both in train and in test; names it and its lines."""
    train_codes, test_codes = pair_codes(train.frame, test.frame)
    common = np.isin(test_codes, train_codes)
    if common.any():
        row = int(common.argmax())
        earlier = int((train_codes == test_codes[row]).argmax())
        raise DataError(
            f"{test.path}, line {test.lines[row]}: got {test.pair(row)}, which are in train too ({train.path}, line "
            f"{train.lines[earlier]}; pairs in both: {int(common.sum()):,}); expected none. Remove them from one file"
        )


def check_filled(table: Table, reason: str) -> None:
    """Raises DataError if there is no row; `reason` says where they went and what to change."""
    if not len(table):
        raise DataError(f"{table.path}: got no interaction{reason}")


def _joint_codes(columns: Sequence[pd.Series]) -> list[np.ndarray]:
    known = columns[0].cat.categories
    for column in columns[1:]:
        known = known.union(column.cat.categories, sort=False)
    return [known.get_indexer(c.cat.categories).astype(np.int64)[c.cat.codes.to_numpy()] for c in columns]


def _is_unreadable(ids: pd.Index) -> np.ndarray:
    """For every id whether an atomic file would not give it back."""
    names = ids.to_numpy(dtype=object)
    bad = np.asarray(ids.str.contains(r'[\t\r\n"\0]', regex=True) | (ids.str.strip() == ""), dtype=bool)
    text = "\n".join(["id", *names[~bad]]) + "\n"
    back = pd.read_csv(StringIO(text), sep="\t", dtype=str)["id"]
    bad[~bad] = back.to_numpy(dtype=object) != names[~bad]  # what pandas takes for missing comes back as NaN
    return bad


def _raise_first(table: Table, field: str, is_bad: np.ndarray, expected: str) -> None:
    if is_bad.any():
        row = int(is_bad.argmax())
        value = str(table.frame[field].iloc[row])
        raise DataError(f"{table.path}, line {table.lines[row]}: got {field} {value!r}; expected {expected}")


def _rating_rule(ratings: pd.Series, is_bad: np.ndarray) -> str:
    """What is expected in place of the first bad rating; a decimal comma alone is told as such."""
    value = str(ratings.iloc[int(is_bad.argmax())])
    if re.fullmatch(r"[+-]?\d+,\d+", value):
        return f"a number with a decimal point, {value.replace(',', '.')}. Replace the decimal commas in the file"
    return _NUMBER_RULE


_ID_RULE = (
    "a name without tabs, line breaks and quotes that is neither empty nor a word for a missing value such as NaN or "
    "null, because readers of atomic files would change it. Rename the id or remove the line"
)
_NUMBER_RULE = (
    "a finite number. Mend or remove the line; if the column holds something else, name the columns, e.g. "
    "--columns=user,item,-; if this is a header, add --header"
)
