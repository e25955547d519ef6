"""The run folder: its name, its files, its log."""

import hashlib
import io
import json
import logging
import os
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from recmodels.errors import CheckpointError, UserError
from recmodels.files import write_bytes

CONFIG, RESULT, USERS = "config.yaml", "result.json", "test_users.npz"
FREQUENCY = "test_frequency.npz"
MADE_FROM = "made_from.json"
STUDY, TRIALS = "study.json", "trials"  # of a search, whose trials are run folders
LAST, BEST = "last.pt", "checkpoint.pt"
# What numpy raises where an npz is cut off, changed or of something else.
DAMAGED_ARRAYS = (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile, zlib.error)


def new_run_folder(model: str, dataset: str, runs_dir: str, run_dir: str | None) -> Path:
    """Creates the folder of a new run.

    Args:
        model: name of the model.
        dataset: name of the data set.
        runs_dir: parent of folders named by us: `<model>-<dataset>-<time>-<hash>`.
        run_dir: the folder itself, which must be absent or empty; None names one.

    Raises:
        UserError: `run_dir` holds files, or cannot be created or written to.
    """
    if run_dir is None:
        unique = hashlib.sha256(f"{os.getpid()}/{time.time_ns()}".encode()).hexdigest()[:6]
        folder = Path(runs_dir) / f"{model}-{dataset}-{time.strftime('%Y%m%d-%H%M%S')}-{unique}"
    else:
        folder = Path(run_dir)
        if folder.is_dir() and any(folder.iterdir()):
            hint = f"--resume={folder} continues it" if (folder / CONFIG).exists() else "choose another folder"
            raise UserError(f"--run_dir={folder}: the folder is not empty; {hint}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create the run folder {folder}: {error.strerror}; choose another --run_dir") from error
    _probe(folder)
    return folder


def _probe(folder: Path) -> None:
    """Writes a file that vanishes, because permissions do not tell of read-only mounts and full disks."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise UserError(
            f"cannot write into the run folder {folder}: {error.strerror}; choose another --run_dir"
        ) from error


def made_from(folder: Path) -> dict[str, Any]:
    """Under `made_from`, the run that the one in a folder is made from, and how; empty for most runs."""
    try:
        return {"made_from": json.loads((folder / MADE_FROM).read_text(encoding="utf-8"))}
    except (FileNotFoundError, ValueError):
        return {}


def existing_run_folder(path: str) -> Path:
    """The folder of an earlier run.

    Raises:
        CheckpointError: there is no such folder, or it is not a run's.
    """
    folder = Path(path)
    if not folder.is_dir():
        siblings = [p.name for p in folder.parent.glob("*") if (p / CONFIG).exists()] if folder.parent.is_dir() else []
        known = f"; runs in {folder.parent}: {', '.join(sorted(siblings)[-5:])}" if siblings else ""
        raise CheckpointError(f"no run folder {folder}{known}")
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder} is not a run folder: it has no {CONFIG}, which every run writes first")
    return folder


@contextmanager
def logging_to(folder: Path, level: str) -> Iterator[None]:
    """Sends the log to `log.txt` of the folder and to the terminal while the block runs.

    Args:
        folder: the run folder; an existing log is continued.
        level: name of the lowest level shown.
    """
    root = logging.getLogger()
    file, terminal = logging.FileHandler(folder / "log.txt", encoding="utf-8"), logging.StreamHandler()
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    terminal.setFormatter(logging.Formatter("%(message)s"))
    before = root.level, root.handlers[:]
    root.setLevel(level)
    for handler in (file, terminal):
        root.addHandler(handler)
    try:
        yield
    finally:
        for handler in (file, terminal):
            root.removeHandler(handler)
        file.close()
        root.setLevel(before[0])


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes a compressed npz without pickles, atomically.

    Raises:
        ValueError: an array holds Python objects, which only a pickle can store.
    """
    objects = [name for name, array in arrays.items() if array.dtype.hasobject]
    if objects:
        raise ValueError(f"{path}: arrays {objects} hold Python objects, which would be pickled")
    buffer = io.BytesIO()
    named: Any = arrays  # numpy's annotation takes the first keyword for its own `allow_pickle`, which 1.26 lacks
    np.savez_compressed(buffer, **named)
    write_bytes(path, buffer.getvalue())
