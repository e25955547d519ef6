"""Checks of a data set, before RecBole reads it and after: each finding is one DataError that says what to do."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from recmodels.errors import DataError

FIELD_TYPES = ("token", "token_seq", "float", "float_seq")
SEPARATORS = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "::": "'::'", "|": "'|'", " ": "a space"}
CHUNK_BYTES = 1 << 24


def available_datasets(data_path: Path) -> list[str]:
    """Names of the data sets under `data_path` that have an interaction file, and ml-100k, which is bundled."""
    return sorted({"ml-100k"} | {file.parent.name for file in data_path.glob("*/*.inter")})


def check_files(
    folder: Path,
    dataset: str,
    benchmark_filename: Sequence[str] | None,
    fields: Sequence[str],
    separator: str = "\t",
    encoding: str = "utf-8",
) -> None:
    """Checks the interaction files before anything is built from them.

    Every line is decoded and its separators are counted, in blocks; values are not parsed.

    Args:
        folder: the data set's own folder.
        dataset: its name, the stem of the file names.
        benchmark_filename: the three suffixes of a fixed split, or None for one `.inter` file.
        fields: names the header must have, e.g. the user and the item field.
        separator: `field_separator`.
        encoding: of the files.

    Raises:
        DataError: folder or file missing, empty, header only, undecodable, without a field or a type, or a row with
            another number of columns; names file, line, got, expected, and the next step.
    """
    if not folder.is_dir():
        raise DataError(_missing(folder, dataset, f"no folder {folder}"))
    for name in _file_names(dataset, benchmark_filename):
        path = folder / name
        if not path.is_file():
            raise DataError(_missing(folder, dataset, f"no file {path}"))
        _check_rows(path, _check_header(path, fields, separator, encoding), separator, encoding)


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


def nearest(name: str, known: Sequence[str]) -> str:
    """A phrase that suggests the nearest known name, or lists what there is."""
    close = get_close_matches(name, known, 1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}."


_FILTERS = "Loosen val_interval, user_inter_num_interval, item_inter_num_interval or filter_inter_by_user_or_item"


def _file_names(dataset: str, benchmark_filename: Sequence[str] | None) -> list[str]:
    if benchmark_filename is None:
        return [f"{dataset}.inter"]
    if isinstance(benchmark_filename, str) or len(benchmark_filename) != 3:
        raise DataError(
            f"benchmark_filename: got {benchmark_filename!r}; expected three suffixes, [train, valid, test]"
        )
    return [f"{dataset}.{part}.inter" for part in benchmark_filename]


def _missing(folder: Path, dataset: str, got: str) -> str:
    known = available_datasets(folder.parent)
    others = [name for name in known if name != dataset]
    return (
        f"data set {dataset!r}: {got}; expected {folder / dataset}.inter, or the three files of benchmark_filename. "
        f"In {folder.parent}: {nearest(dataset, others)} "
        "Put the atomic files there (https://recbole.io/dataset_list.html) or set data_path and dataset"
    )


def _check_header(path: Path, fields: Sequence[str], separator: str, encoding: str) -> int:
    """Returns the number of columns."""
    with path.open("rb") as file:
        raw = file.readline()
    header = _decode(path, 1, raw, encoding).rstrip("\r\n")
    if not header:
        raise DataError(
            f"{path}, line 1: got an empty {'line' if raw else 'file'}; expected a header like {_example(fields)}"
        )
    columns = header.split(separator)
    used = next((s for s in SEPARATORS if s in header), None)
    if len(columns) == 1 and used is not None:
        raise DataError(
            f"{path}, line 1: columns are separated by {SEPARATORS[used]}; expected "
            f"{SEPARATORS.get(separator, repr(separator))}. Set field_separator: {used!r} or rewrite the file"
        )
    for column in columns:
        if column.count(":") != 1 or column.split(":")[1] not in FIELD_TYPES:
            raise DataError(f"{path}, line 1: got column {column!r}; expected <name>:<type>, type one of {FIELD_TYPES}")
    names = [column.split(":")[0] for column in columns]
    for field in fields:
        if field not in names:
            raise DataError(
                f"{path}, line 1: no field {field!r}; got {names}: {nearest(field, names)} Set USER_ID_FIELD, "
                "ITEM_ID_FIELD and load_col to the names in the file"
            )
    return len(columns)


def _check_rows(path: Path, n_columns: int, separator: str, encoding: str) -> None:
    n_lines, n_rows = 1, 0
    with path.open("rb") as file:
        file.readline()
        while lines := file.readlines(CHUNK_BYTES):
            block = b"".join(lines)
            _decode(path, n_lines + 1, block, encoding)
            n_rows += _check_block(path, n_lines, lines, n_columns, separator.encode(encoding))
            n_lines += len(lines)
    if n_rows == 0:
        raise DataError(f"{path}: got a header and no rows; expected one interaction per line")


def _check_block(path: Path, n_before: int, lines: list[bytes], n_columns: int, separator: bytes) -> int:
    """Returns the number of lines that are not blank."""
    columns = np.fromiter((line.count(separator) for line in lines), dtype=np.int64, count=len(lines)) + 1
    filled = np.fromiter((not line.isspace() for line in lines), dtype=bool, count=len(lines))
    for row in np.flatnonzero(filled & (columns != n_columns)):
        if b'"' not in lines[row]:  # a quoted value may hold a separator or a line break
            raise DataError(
                f"{path}, line {n_before + row + 1}: got {columns[row]} columns ({lines[row][:60]!r}); "
                f"expected {n_columns}, as in the header. Mend the row or field_separator"
            )
    return int(filled.sum())


def _decode(path: Path, line: int, raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        at = line + raw[: error.start].count(b"\n")
        raise DataError(
            f"{path}, line {at}: byte {raw[error.start]:#04x} is not {encoding}; expected text in {encoding}. "
            "Set encoding, e.g. latin-1, or convert the file"
        ) from error


def _example(fields: Sequence[str]) -> str:
    return repr("\t".join(f"{field}:token" for field in fields))
