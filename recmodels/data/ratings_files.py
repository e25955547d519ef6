"""Reading of rating files in blocks: memory is that of the table, not of the text."""

import csv
from codecs import BOM_UTF8
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from recmodels.data.atomic_files import CHUNK_BYTES, count_columns
from recmodels.data.atomic_writing import FIELD_KINDS, TIMESTAMP
from recmodels.data.interaction_tables import Table, check_table
from recmodels.data.ratings_layout import Layout
from recmodels.errors import DataError


def read_ratings(path: Path, layout: Layout) -> Table:
    """Reads a file of ratings.

    Args:
        path: text in UTF-8 or latin-1, see `find_encoding`; blank lines are passed over.
        layout: how it is laid out.

    Returns:
        Its rows with the fields of the layout, ratings and ids as written but for blanks around them.

    Raises:
        DataError: a byte is damaged, a line has another number of columns than the layout, an id cannot be in an atomic
            file, a rating or timestamp is no number, or there is no row; names the line.
    """
    try:
        table = _read(path, layout, "utf-8")
    except UnicodeDecodeError:
        table = _read(path, layout, find_encoding(path))
    check_table(table)
    return table


def find_encoding(path: Path) -> str:
    """`utf-8` or `latin-1`, which every file could be, and is taken for if most lines beyond ASCII are no UTF-8.

    Raises:
        DataError: the file is UTF-8 but for some lines, or ends within a character of it; names the first such line.
    """
    n_valid, n_broken, first = 0, 0, ""
    with path.open("rb") as file:
        is_marked = file.read(len(BOM_UTF8)) == BOM_UTF8
        file.seek(0)
        for number, line in enumerate(file, start=1):
            try:
                n_valid += bool(line.decode("utf-8")) and not line.isascii()
            except UnicodeDecodeError as error:
                n_broken += 1
                byte, reason = line[error.start], error.reason
                first = first or f"line {number}: got byte {byte:#04x}, which is not UTF-8 ({reason})"
    is_cut = n_broken == 1 and "unexpected end of data" in first  # Python's reason for an end within a character
    if n_valid < n_broken and not is_marked and not is_cut:
        return "latin-1"
    if n_broken:
        raise DataError(
            f"{path}, {first}; {n_broken:,} such lines, and {n_valid:,} with letters beyond ASCII that are UTF-8; "
            "expected all text to be UTF-8, or latin-1. Mend the line, or save the file as UTF-8"
        )
    return "utf-8"


def _read(path: Path, layout: Layout, encoding: str) -> Table:
    frames, lines = [], []
    with path.open("rb") as file:
        if file.read(len(BOM_UTF8)) != BOM_UTF8:
            file.seek(0)
        n_before = _skip_header(file) if layout.has_header else 0
        while block := file.readlines(CHUNK_BYTES):
            text = [line.decode(encoding) for line in block]
            filled = _filled(path, n_before, text, layout)
            if len(filled):
                frames.append(_parse("".join(text[row] for row in filled), layout))
                lines.append(filled + n_before + 1)
            n_before += len(block)
    if not frames:
        raise DataError(f"{path}: got {'a header and ' * layout.has_header}no rows; expected a line for every rating")
    return Table(path, _joined(frames), np.concatenate(lines), encoding)


def _skip_header(file: BinaryIO) -> int:
    """Reads up to the first line that is not blank, which is the header; returns how many lines that were."""
    return next((number for number, line in enumerate(iter(file.readline, b""), start=1) if not line.isspace()), 0)


def _filled(path: Path, n_before: int, lines: list[str], layout: Layout) -> np.ndarray:
    """Places of the lines that are not blank, each with as many columns as the layout."""
    n_columns, mark = len(layout.fields), layout.separator
    filled = np.fromiter((not line.isspace() for line in lines), dtype=bool, count=len(lines))
    columns = np.fromiter((line.count(mark) for line in lines), dtype=np.int64, count=len(lines)) + 1
    quoted = np.fromiter(('"' in line for line in lines), dtype=bool, count=len(lines))
    mixed = np.fromiter((len(mark) > 1 and "\t" in line for line in lines), dtype=bool, count=len(lines))
    for row in np.flatnonzero(filled & (quoted | mixed | (columns != n_columns))):
        found = _count(lines[row], mark) if quoted[row] else int(columns[row])
        if found != n_columns or mixed[row]:
            got = "a quote that is not closed in its line" if found is None else f"{found} columns"
            raise DataError(
                f"{path}, line {n_before + row + 1}: got {'a tab within ' * bool(mixed[row])}{got} "
                f"({lines[row][:60]!r}); expected {n_columns}, {layout.describe()}. Mend the line, or set --separator"
            )
    return np.flatnonzero(filled).astype(np.int32)


def _count(line: str, separator: str) -> int | None:
    try:
        return count_columns(line, separator)
    except csv.Error:  # a carriage return within the line, or a value beyond 128 KiB
        return None


def _parse(text: str, layout: Layout) -> pd.DataFrame:
    """The fields of whole lines; ids and ratings as categories of strings, timestamps as numbers if they are.

    Blanks beside a separator belong to neither cell: `4` and ` 4` would be two items of one name.
    """
    kept = {place: field for place, field in enumerate(layout.fields) if field}
    text, is_long = text.replace("\r\n", "\n"), len(layout.separator) > 1
    frame = pd.read_csv(
        StringIO(text.replace(layout.separator, "\t") if is_long else text),
        sep="\t" if is_long else layout.separator,
        header=None,
        names=list(range(len(layout.fields))),
        usecols=list(kept),
        dtype={place: "category" for place, field in kept.items() if field != TIMESTAMP},
        quoting=csv.QUOTE_NONE if is_long else csv.QUOTE_MINIMAL,  # as pandas does with a long separator
        engine="c",
        float_precision="round_trip",
        index_col=False,
        lineterminator="\n",
        low_memory=False,  # otherwise types are guessed in parts of the block
        na_filter=False,
    )
    for place, field in kept.items():
        if field != TIMESTAMP:
            frame[place] = _stripped(frame[place])
    return frame.rename(columns=kept)[[field for field in FIELD_KINDS if field in kept.values()]]


def _stripped(column: pd.Series) -> pd.Series:
    """A category of strings without blanks at their ends."""
    stripped = column.cat.categories.str.strip(" ")
    if stripped.equals(column.cat.categories):
        return column
    codes, names = pd.factorize(stripped)
    return pd.Series(pd.Categorical.from_codes(codes[column.cat.codes], names), index=column.index)


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.DataFrame({field: _column(frame[field] for frame in frames) for field in frames[0].columns})


def _column(parts: Iterable[pd.Series]) -> pd.Series | pd.Categorical:
    columns = list(parts)
    if isinstance(columns[0].dtype, pd.CategoricalDtype):
        return pd.api.types.union_categoricals(columns)
    return pd.concat(columns, ignore_index=True)
