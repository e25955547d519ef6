"""Reading of LightGCN's files: a line holds a user and then the items, separated by spaces."""

from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from recmodels.data.atomic_writing import ITEM, USER
from recmodels.data.interaction_tables import Table, check_filled, check_ids
from recmodels.errors import DataError


class AdjacencyLists(NamedTuple):
    """One file of LightGCN's format.

    Attributes:
        table: a row per user and item, in the order of the file.
        n_empty: lines with a user and no item.
    """

    table: Table
    n_empty: int


def read_adjacency_lists(path: Path) -> AdjacencyLists:
    """Reads `train.txt` or `test.txt`; blank lines are passed over.

    Raises:
        DataError: no such file, not UTF-8, an id that cannot be in an atomic file, or no pair at all.
    """
    if path.is_dir() or not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        raise DataError(f"{path}: got {got}; expected a file of LightGCN's format, in the same folder as the other one")
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: got a byte that is not UTF-8 ({error}); expected text in UTF-8") from error
    # not split(): other white space within an id is to be found and refused
    words = [[word for word in line.removesuffix("\r").split(" ") if word] for line in lines]
    n_items = np.array([max(len(line) - 1, 0) for line in words])
    users = np.repeat(np.array([line[0] if line else "" for line in words], dtype=object), n_items)
    items = list(chain.from_iterable(line[1:] for line in words))
    frame = pd.DataFrame({USER: pd.Categorical(users), ITEM: pd.Categorical(items)})
    table = Table(path, frame, np.repeat(np.arange(1, len(words) + 1), n_items))
    check_filled(table, "; expected in each line a user and then its items, separated by spaces")
    check_ids(table, "ids are separated by spaces alone")
    return AdjacencyLists(table, sum(len(line) == 1 for line in words))
