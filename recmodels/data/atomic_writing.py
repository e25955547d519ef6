"""Writing of atomic files: all files of a data set or none."""

import filecmp
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from recmodels.errors import DataError
from recmodels.files import in_the_way

USER, ITEM, RATING, TIMESTAMP = "user_id", "item_id", "rating", "timestamp"
FIELD_KINDS = {USER: "token", ITEM: "token", RATING: "float", TIMESTAMP: "float"}
WHOLE = ("", "train", "test")  # suffixes of what other parts are carved out of, or must not overlap with
Write = Callable[[BinaryIO], object]


@dataclass(frozen=True)
class Target:
    """Where a data set is written.

    Attributes:
        data_path: folder of the data sets.
        dataset: name, which is also that of the folder and the stem of the file names.
        overwrite: whether files that exist are replaced.
    """

    data_path: Path
    dataset: str
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuses a name that is no plain folder name."""
        if not re.fullmatch(r"[\w][\w.+-]*", self.dataset):
            raise DataError(
                f"dataset: got {self.dataset!r}; expected a plain folder name of letters, digits, '_', '-', '+' and "
                "'.', e.g. ml-1m; its parent is data_path"
            )

    @property
    def folder(self) -> Path:
        """The data set's own folder."""
        return self.data_path / self.dataset

    def files(self, suffixes: Sequence[str]) -> list[Path]:
        """The files with these suffixes; `''` is the whole, `'train'` a part."""
        return [self.folder / ".".join(filter(None, (self.dataset, suffix, "inter"))) for suffix in suffixes]

    def check(self, suffixes: Sequence[str]) -> None:
        """Raises DataError if one of the files exists and may not be replaced, or a file stands for the folder."""
        other = in_the_way(self.folder)
        if other:
            raise DataError(
                f"{other}: got a file; expected a folder, or nothing, where {self.folder} is to be made. Choose "
                "another folder or name, or move the file away"
            )
        existing = [str(path) for path in self.files(suffixes) if path.exists()]
        if existing and not self.overwrite:
            raise DataError(
                f"{', '.join(existing)}: got what already exists; expected a new data set. Choose another name or "
                "folder, or add --overwrite"
            )

    def check_others(self, suffixes: Sequence[str], changed: Sequence[Path]) -> None:
        """Raises DataError if parts stay as they are although what they belong to changes.

        Args:
            suffixes: of all files that are written.
            changed: those of them whose content changes.
        """
        others = set(self.folder.glob(f"{self.dataset}.*")) - set(self.files(suffixes))
        stale = sorted(str(path) for path in others if path.suffix == ".inter")
        whole = [str(path) for path in changed if path in self.files(WHOLE)]
        if stale and whole:
            raise DataError(
                f"{', '.join(stale)}: got parts of the data set that would stay beside another {', '.join(whole)}; "
                "expected none, because training could mix the two. Remove them, or choose another name or folder"
            )


def write_dataset(target: Target, writes: Mapping[str, Write]) -> list[Path]:
    """Writes the files of a data set under temporary names and renames them when all of them are complete.

    If anything fails, what was not there before is removed again, made folders included, and an older file is either
    as it was or, where the failure came between two of the renames, its finished replacement.

    Args:
        target: where; its folder is made.
        writes: suffix to what writes the content into an open binary file.

    Returns:
        The files, in the order of `writes`.

    Raises:
        DataError: a file exists and may not be replaced, other parts of what is replaced would stay, or the machine
            refuses to write.
    """
    target.check(list(writes))
    paths = target.files(list(writes))
    temporaries = [path.with_name(f".{path.name}.tmp") for path in paths]
    fresh = [path for path in paths if not path.exists()]
    made = [folder for folder in (target.folder, *target.folder.parents) if not folder.exists()]
    try:
        target.folder.mkdir(parents=True, exist_ok=True)
        for temporary, write in zip(temporaries, writes.values(), strict=True):
            _write(temporary, write)
        pairs = zip(temporaries, paths, strict=True)
        changed = [path for new, path in pairs if path not in fresh and not filecmp.cmp(new, path, shallow=False)]
        target.check_others(list(writes), changed)
        for temporary, path in zip(temporaries, paths, strict=True):
            temporary.replace(path)
    except BaseException as error:
        _remove([*temporaries, *fresh], made)
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise DataError(
                f"cannot write into {target.folder}: {reason}; expected a folder that can be written and room for the "
                "files. Choose another folder or free disk space"
            ) from error
        raise
    return paths


def table(frame: pd.DataFrame, header: Sequence[str] | None = None) -> Write:
    """What writes a table as an atomic file.

    Args:
        frame: values without tabs, line breaks and quotes.
        header: `name:type` of each column; None for columns that are named as in `FIELD_KINDS`.
    """
    names = header or [f"{name}:{FIELD_KINDS[name]}" for name in frame.columns]
    return partial(frame.to_csv, sep="\t", header=list(names), index=False, mode="wb", lineterminator="\n")


def copy_of(path: Path) -> Write:
    """What writes the bytes of another file."""

    def write(file: BinaryIO) -> None:
        with path.open("rb") as source:
            shutil.copyfileobj(source, file)

    return write


def _write(path: Path, write: Write) -> None:
    with path.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _remove(files: Sequence[Path], folders: Sequence[Path]) -> None:
    """Removes what is there of the files, then the folders, innermost first, as far as they exist."""
    for path in files:
        if path.parent.is_dir():
            path.unlink(missing_ok=True)
    for folder in folders:
        if folder.is_dir():
            folder.rmdir()
