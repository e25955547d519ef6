"""How a file of ratings is laid out: separator, header and columns, as given or as its first lines tell."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recmodels.data.atomic_files import SEPARATORS
from recmodels.data.atomic_writing import ITEM, RATING, TIMESTAMP, USER
from recmodels.errors import DataError, ParamError
from recmodels.typed_values import is_number, nearest

HEAD_BYTES, HEAD_LINES = 1 << 16, 50
SKIPPED = "-"
COLUMNS = {"user": USER, "item": ITEM, "rating": RATING, "timestamp": TIMESTAMP}
# Names of columns in the field's files, in small letters and without "_", "-", " " and a type.
HEADER_NAMES = {
    USER: ("user", "userid", "uid", "reviewerid"),
    ITEM: ("item", "itemid", "iid", "movie", "movieid", "bookid", "isbn", "productid", "businessid", "asin")
    + ("artistid", "trackid", "songid", "gameid"),
    RATING: ("rating", "ratings", "bookrating", "score", "stars", "overall"),
    TIMESTAMP: ("timestamp", "time", "ts", "unixreviewtime"),
}
_NO_PUNCTUATION = str.maketrans("", "", "_- ")
_ORDER = ("::", "\t", ",", ";", "|", " ")  # a text with commas between two tabs is more common than the reverse
_WORDS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " ", "\\t": "\t"}


@dataclass(frozen=True)
class Layout:
    """How a file of ratings is laid out.

    Attributes:
        separator: between two columns.
        has_header: whether the first line that is not blank names the columns.
        fields: for every column of the file the field it holds, None for a column that is left out.
        is_guessed: whether anything was not given.
    """

    separator: str
    has_header: bool
    fields: tuple[str | None, ...]
    is_guessed: bool

    def describe(self) -> str:
        """Separator, header and columns in words."""
        words = {field: word for word, field in COLUMNS.items()}
        columns = ", ".join(words[field] if field else SKIPPED for field in self.fields)
        separator = SEPARATORS.get(self.separator, repr(self.separator))
        header = "a header" if self.has_header else "no header"
        guessed = " (guessed from the first lines)" if self.is_guessed else ""
        return f"separated by {separator}, {header}, columns {columns}{guessed}"


def find_layout(
    path: Path, separator: str | None = None, has_header: bool | None = None, columns: str | None = None
) -> Layout:
    """The layout of a file; what is not given is guessed from its first lines.

    Args:
        path: the file.
        separator: one or more characters, or a word: tab, comma, semicolon, pipe, space.
        has_header: whether the first line names the columns.
        columns: fields of the first columns from `COLUMNS`, separated by commas; `-` leaves one out, and so are the
            columns after the last.

    Raises:
        DataError: no file, or an empty or binary one; or the columns cannot be told.
        ParamError: a column is unknown, given twice, beyond the file's columns, or user or item is not among them.
    """
    n_blank, lines = _head(path)
    first = f"{path}, line {n_blank + 1}"
    is_guessed = separator is None or has_header is None or columns is None
    separator = _guess_separator(first, lines) if separator is None else _WORDS.get(separator, separator)
    if not separator or "\n" in separator or '"' in separator:
        raise ParamError(f"separator: got {separator!r}; expected characters that stand between two columns")
    rows = [_cells(line, separator) for line in lines]
    if has_header is None:
        has_header = _is_header(rows)
    if columns is not None:
        fields = _given_fields(columns, len(rows[0]))
    else:
        fields = _named_fields(first, rows[0]) if has_header else _usual_fields(first, rows[0], separator)
    return Layout(separator, has_header, fields, is_guessed)


def _head(path: Path) -> tuple[int, list[str]]:
    """How many blank lines there are before the first one that is not, and the first of those, whole.

    Latin-1 serves, because nothing here depends on letters beyond ASCII.
    """
    if path.is_dir():
        raise DataError(f"{path}: got a folder; expected a file of ratings, e.g. {path / 'ratings.dat'}")
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a file of ratings, e.g. ratings.dat, ratings.csv or u.data")
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if b"\0" in head:
        raise DataError(f"{path}: got a binary file or UTF-16; expected plain text. Unpack it, or save it as UTF-8")
    lines = head.removeprefix(b"\xef\xbb\xbf").decode("latin-1").split("\n")
    whole = lines[:-1] if len(head) == HEAD_BYTES and len(lines) > 1 else lines
    filled = [line.rstrip("\r") for line in whole if line.strip()]
    if not filled:
        raise DataError(f"{path}: got an empty file; expected a line for every rating")
    if any("\r" in line for line in filled[:HEAD_LINES]):
        raise DataError(
            f"{path}: got a carriage return within a line; expected lines that end in a line feed. Save it so"
        )
    return next(place for place, line in enumerate(whole) if line.strip()), filled[:HEAD_LINES]


def _guess_separator(where: str, lines: Sequence[str]) -> str:
    """The separator that gives all lines the same number of columns, else the first that occurs in the first line."""
    used = [separator for separator in _ORDER if separator in lines[0]]
    even = [s for s in used if len({len(_cells(line, s)) for line in lines}) == 1]
    if not used:
        known = ", ".join(SEPARATORS.values())
        raise DataError(
            f"{where}: got {lines[0][:60]!r}, in which nothing separates columns; expected one of {known}. "
            "Set --separator"
        )
    return (even or used)[0]


def _cells(line: str, separator: str) -> list[str]:
    cells = line.split(separator) if len(separator) > 1 else next(csv.reader([line], delimiter=separator), [""])
    return [cell.strip() for cell in cells]


def _is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first line names user and item, or has words where all later lines have numbers."""
    if {USER, ITEM} <= {_field_of(name) for name in rows[0]}:
        return True
    later = [row for row in rows[1:] if len(row) == len(rows[0])]
    columns = list(zip(*later, strict=True))
    return any(
        not is_number(name) and all(map(is_number, column)) for name, column in zip(rows[0], columns, strict=False)
    )


def _given_fields(columns: str, n_columns: int) -> tuple[str | None, ...]:
    names = [name.strip() for name in columns.split(",")]
    expected = f"expected names out of {', '.join(COLUMNS)} and {SKIPPED!r} for a column that is left out"
    for name in names:
        if name not in COLUMNS and name != SKIPPED:
            raise ParamError(f"columns: unknown column {name!r} in {columns!r}; {expected}{nearest(name, COLUMNS)}")
        if name != SKIPPED and names.count(name) > 1:
            raise ParamError(f"columns: got {name!r} twice in {columns!r}; expected each column once")
    if not {"user", "item"} <= set(names):
        raise ParamError(f"columns: got {columns!r}; expected both user and item among them")
    if len(names) > n_columns:
        raise ParamError(f"columns: got {len(names)} names, {columns!r}; expected at most {n_columns}, as in the file")
    return (*(COLUMNS.get(name) for name in names), *[None] * (n_columns - len(names)))


def _named_fields(where: str, header: Sequence[str]) -> tuple[str | None, ...]:
    fields = tuple(_field_of(name) for name in header)
    for field in (USER, ITEM):
        if field not in fields:
            raise DataError(
                f"{where}: no column of {field.removesuffix('_id')}s; got the header {list(header)}; expected a "
                f"name like {HEADER_NAMES[field][1]}. Say which column is which, e.g. {_example(len(header))}"
            )
    for field in filter(None, fields):
        if fields.count(field) > 1:
            raise DataError(
                f"{where}: got several columns that look like {field} in the header {list(header)}; expected "
                "one. Say which column is which, e.g. --columns=user,-,item"
            )
    return fields


def _usual_fields(where: str, row: Sequence[str], separator: str) -> tuple[str | None, ...]:
    if not 2 <= len(row) <= len(COLUMNS):
        raise DataError(
            f"{where}: got {len(row)} column{'s' * (len(row) != 1)} without a header, separated by "
            f"{SEPARATORS.get(separator, repr(separator))}; expected user,item, perhaps then rating and timestamp. Say "
            f"which column is which, e.g. {_example(len(row))}, or set --separator"
        )
    return tuple(COLUMNS.values())[: len(row)]


def _example(n_columns: int) -> str:
    """An option to type for a file of so many columns."""
    return f"--columns={','.join(('user', 'item', SKIPPED, 'timestamp')[: max(n_columns, 2)])}"


def _field_of(name: str) -> str | None:
    plain = name.partition(":")[0].casefold().translate(_NO_PUNCTUATION)
    return next((field for field, names in HEADER_NAMES.items() if plain in names), None)
