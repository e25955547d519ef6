"""Checks of atomic files before RecBole reads them: each finding is one DataError that names file, line and remedy."""

import codecs
import csv
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from recmodels.errors import DataError

FIELD_TYPES = ("token", "token_seq", "float", "float_seq")
SEPARATORS = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "::": "'::'", "|": "'|'", " ": "a space"}
CHUNK_BYTES = 1 << 24


def check_files(
    folder: Path,
    dataset: str,
    benchmark_filename: Sequence[str] | None,
    fields: Sequence[str],
    separator: str = "\t",
    encoding: str = "utf-8",
) -> None:
    """Checks the interaction files before anything is built from them.

    Args:
        folder: the data set's own folder.
        dataset: its name, the stem of the file names.
        benchmark_filename: the three suffixes of a fixed split, or None for one `.inter` file.
        fields: names the header must have, e.g. the user and the item field.
        separator: `field_separator`.
        encoding: of the files.

    Raises:
        DataError: folder or file missing, with the nearest that exists; or what `check_file` finds.
    """
    if not folder.is_dir():
        raise DataError(_missing(folder, dataset, f"no folder {folder}"))
    for name in _file_names(dataset, benchmark_filename):
        path = folder / name
        if not path.is_file():
            raise DataError(_missing(folder, dataset, f"no file {path}"))
        check_file(path, fields, separator, encoding)


def check_file(path: Path, fields: Sequence[str], separator: str = "\t", encoding: str = "utf-8") -> None:
    """Checks one atomic file: every line is decoded and its columns are counted, in blocks; values are not parsed.

    Args:
        path: the file.
        fields: names the header must have.
        separator: `field_separator`.
        encoding: of the file; line breaks are the bytes of ASCII.

    Raises:
        DataError: empty, header only, undecodable, a byte order mark, a header without a field or a type, a row with
            another number of columns, or a quote that is not closed in its line and would swallow the rows below;
            names file, line, got, expected, and the next step.
    """
    n_columns, n_lines, n_rows = _check_header(path, fields, separator, encoding), 1, 0
    with path.open("rb") as file:
        file.readline()
        while lines := file.readlines(CHUNK_BYTES):
            _decode(path, n_lines + 1, b"".join(lines), encoding)
            n_rows += _check_block(path, n_lines, lines, n_columns, separator, encoding)
            n_lines += len(lines)
    if n_rows == 0:
        raise DataError(f"{path}: got a header and no rows; expected one interaction per line")


def available_datasets(data_path: Path) -> list[str]:
    """Names of the data sets under `data_path` that have an interaction file, and ml-100k, which is bundled."""
    return sorted({"ml-100k"} | {file.parent.name for file in data_path.glob("*/*.inter")})


def nearest(name: str, known: Sequence[str]) -> str:
    """A phrase that suggests the nearest known name, or lists what there is."""
    close = get_close_matches(name, known, 1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}."


def _file_names(dataset: str, benchmark_filename: Sequence[str] | None) -> list[str]:
    if benchmark_filename is None:
        return [f"{dataset}.inter"]
    if isinstance(benchmark_filename, str) or len(benchmark_filename) != 3:
        raise DataError(
            f"benchmark_filename: got {benchmark_filename!r}; expected three suffixes, [train, valid, test]"
        )
    return [f"{dataset}.{part}.inter" for part in benchmark_filename]


def _missing(folder: Path, dataset: str, got: str) -> str:
    files = sorted(folder.glob(f"{dataset}.*.inter"))
    parts = [file.name.removeprefix(f"{dataset}.").removesuffix(".inter") for file in files]
    if parts:
        return (
            f"data set {dataset!r}: {got}; in that folder is a fixed split with the parts {', '.join(parts)}: name its "
            f"train, valid and test part, e.g. {_benchmark_example(parts)}"
        )
    known = available_datasets(folder.parent)
    others = [name for name in known if name != dataset]
    return (
        f"data set {dataset!r}: {got}; expected {folder / dataset}.inter, or the three files of benchmark_filename. "
        f"In {folder.parent}: {nearest(dataset, others)} "
        "Put the atomic files there (https://recbole.io/dataset_list.html) or set data_path and dataset"
    )


def _benchmark_example(suffixes: Sequence[str]) -> str:
    """An option to type: parts whose names say what they are, the first one where none does."""
    roles = ("train", "valid", "test")
    parts = [next((name for name in suffixes if name.startswith(role)), suffixes[0]) for role in roles]
    return shlex.quote(f"--benchmark_filename=[{','.join(parts)}]")


def _check_header(path: Path, fields: Sequence[str], separator: str, encoding: str) -> int:
    """Returns the number of columns."""
    with path.open("rb") as file:
        raw = file.readline()
    if raw.startswith(codecs.BOM_UTF8) and codecs.lookup(encoding).name != "utf-8-sig":
        raise DataError(
            f"{path}, line 1: got a byte order mark before the header; expected none in {encoding}. "
            "Set encoding: utf-8-sig, or save the file without the mark"
        )
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


def _check_block(path: Path, n_before: int, lines: list[bytes], n_columns: int, separator: str, encoding: str) -> int:
    """Returns the number of lines that are not blank."""
    mark = separator.encode(encoding).removeprefix(codecs.BOM_UTF8)
    columns = np.fromiter((line.count(mark) for line in lines), dtype=np.int64, count=len(lines)) + 1
    filled = np.fromiter((not line.isspace() for line in lines), dtype=bool, count=len(lines))
    quoted = np.fromiter((b'"' in line for line in lines), dtype=bool, count=len(lines))
    for row in np.flatnonzero(filled & (quoted | (columns != n_columns))):
        found = count_columns(lines[row].decode(encoding), separator) if quoted[row] else int(columns[row])
        if found != n_columns:
            got = "a quote that is not closed in its line" if found is None else f"{found} columns"
            remedy = (
                'Remove the quote or double it inside "..."' if found is None else "Mend the row or field_separator"
            )
            raise DataError(
                f"{path}, line {n_before + row + 1}: got {got} ({lines[row][:60]!r}); "
                f"expected {n_columns} columns, as in the header. {remedy}"
            )
    return int(filled.sum())


def count_columns(text: str, separator: str) -> int | None:
    """Columns of a row with quotes as pandas counts them; None if a value that begins with a quote does not end."""
    if len(separator) > 1:  # pandas then splits at the separator alone
        return text.count(separator) + 1
    rows = list(csv.reader([text, "the line below"], delimiter=separator))
    return len(rows[0]) if len(rows) == 2 else None


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
