"""Checkpoints: tensors and plain data, replaced atomically, never unpickled."""

import os
import pickle
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recmodels.errors import CheckpointError

FORMAT = "recmodels-checkpoint"
VERSION = 1
_HEADER = ("format", "version")
_SCALARS = (bool, int, float, str, type(None))


def save(path: str | Path, state: Mapping[str, Any]) -> None:
    """Writes `state` so that a kill at any moment leaves a loadable file.

    The file is written under a temporary name in the same folder and synced; it takes the place of the existing one in
    one step; that one is then kept as `previous(path)`. A temporary that a killed process left behind is
    overwritten by the next save. One process at a time may save to one path.

    Args:
        path: the file; its folder is made when absent.
        state: nested dicts (keys str or int), lists and tuples of tensors, numbers, strings and None.

    Raises:
        TypeError: anything else in `state`; the message names the key path.
        ValueError: a key of `state` is reserved for the header.
    """
    path = Path(path)
    reserved = [key for key in _HEADER if key in state]
    if reserved:
        raise ValueError(f"checkpoint state of {path}: keys {reserved} are reserved for the header")
    payload = {"format": FORMAT, "version": VERSION, **{key: _plain(value, str(key)) for key, value in state.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        _write(temporary, payload)
        kept = _keep_previous(path)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if kept is not None:  # only now: the replaced file may be damaged, and its predecessor the only whole one
        os.replace(kept, previous(path))
        kept.unlink(missing_ok=True)  # rename(2) does nothing when both names are the same file
    _sync_folder(path.parent)


def previous(path: str | Path) -> Path:
    """Where `save` keeps the file it replaces: `last.pt` -> `last.prev.pt`."""
    path = Path(path)
    return path.with_name(f"{path.stem}.prev{path.suffix}")


def load(
    path: str | Path, expected: Mapping[str, Any] | None, optional: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Reads what `save` wrote, on the CPU and without the header.

    Args:
        path: the file.
        expected: top-level entries that must be equal, such as the model or `split_sha256`; a dictionary is compared
            key by key, and what is absent counts as None. None checks nothing.
        optional: entry to keys of such a dictionary that need not be there, but must be equal where they are.

    Raises:
        CheckpointError: the file is missing, truncated, corrupt, foreign, holds pickled code (which is not executed),
            is of an unknown version, or differs from `expected`.
    """
    path = Path(path)
    _check_archive(path)
    state = _check_header(path, _read(path))
    wrong = []
    for key, value in (expected or {}).items():
        wrong += differences(state.get(key), _with_optional(value, state.get(key), (optional or {}).get(key, {})), key)
    if wrong:
        raise CheckpointError(f"{path}: belongs to another run: {'; '.join(wrong)}")
    return state


def _with_optional(expected: Any, got: Any, optional: Mapping[str, Any]) -> Any:
    """The expected dictionary with those optional keys that are there."""
    there = {key: value for key, value in optional.items() if isinstance(got, dict) and key in got}
    return {**expected, **there} if there else expected


def load_newest(
    path: str | Path,
    expected: Mapping[str, Any] | None,
    warn: Callable[[str], object],
    optional: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Loads `path`, or the file before it when `path` is refused.

    Args:
        path: the newest file.
        expected: as in `load`.
        warn: told why `path` was refused and which file is used instead.
        optional: as in `load`.

    Raises:
        CheckpointError: both files are refused; the message has both reasons.
    """
    older = previous(path)
    try:
        return load(path, expected, optional)
    except CheckpointError as error:
        newest_error = error
    try:
        state = load(older, expected, optional)
    except CheckpointError as error:
        raise CheckpointError(f"no usable checkpoint: {newest_error}; {error}") from error
    warn(f"{newest_error}; using {older} instead")
    return state


def differences(got: Any, expected: Any, name: str = "") -> list[str]:
    """What differs, by the names of the innermost keys; an absent key counts as None."""
    if isinstance(got, dict) and isinstance(expected, dict):
        keys = dict.fromkeys([*expected, *got])
        return [
            text for key in keys for text in differences(got.get(key), expected.get(key), f"{name}.{key}".strip("."))
        ]
    if isinstance(expected, dict):
        return [f"{name}: got {got!r}, expected {len(expected)} keys"]
    return [] if got == expected else [f"{name}: got {got!r}, expected {expected!r}"]


def _plain(value: Any, where: str) -> Any:
    # Exact types: a subclass, such as numpy.float64 of float, would be pickled by class and refused by `load`.
    kind = type(value)
    if kind in (Tensor, nn.Parameter):
        return value.detach()
    if kind in _SCALARS:
        return value
    if kind in (list, tuple):
        return kind(_plain(item, f"{where}[{index}]") for index, item in enumerate(value))
    if kind in (dict, OrderedDict) and all(type(key) in (str, int) for key in value):
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    raise TypeError(
        f"checkpoint entry {where}: got {kind.__module__}.{kind.__qualname__}, expected a tensor or plain data "
        "(dict with str or int keys, list, tuple, bool, int, float, str, None)"
    )


def _write(path: Path, payload: dict[str, Any]) -> None:
    with path.open("wb") as file:
        try:
            torch.save(payload, file)
        except RuntimeError as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # behind torch's complaint about half an archive
                raise KeyboardInterrupt from None
            raise
        file.flush()
        os.fsync(file.fileno())


def _keep_previous(path: Path) -> Path | None:
    """A second name of the file at `path`, for after its replacement; None when there is no file."""
    if not path.exists():
        return None
    kept = path.with_name(f".{path.name}.prev.tmp")
    kept.unlink(missing_ok=True)
    try:
        os.link(path, kept)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, kept)
    return kept


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_archive(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; expected a file that recmodels wrote")
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            start = file.read(2)
        # A zip archive has its table of contents at the end, so a truncated one only begins like one.
        reason = "truncated" if start in (b"PK", b"P", b"") else "not a recmodels checkpoint (and not read any further)"
        raise CheckpointError(f"{path}: {reason}; {path.stat().st_size} bytes")
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except Exception as error:  # damaged tables of contents raise nearly anything
        raise CheckpointError(f"{path}: corrupt: {error}") from error
    if bad is not None:
        raise CheckpointError(f"{path}: corrupt: the check sum of {bad} is wrong")


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: holds pickled code or objects, which are never executed") from error
    except Exception as error:  # a foreign archive raises nearly anything
        reason = str(error).splitlines()[:1] or [type(error).__name__]
        raise CheckpointError(f"{path}: corrupt or not a recmodels checkpoint: {reason[0]}") from error


def _check_header(path: Path, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = f"keys {sorted(map(str, content))[:8]}" if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path}: not a recmodels checkpoint: got {found}, expected format: {FORMAT!r}")
    if content.get("version") != VERSION:
        raise CheckpointError(f"{path}: unknown version: got {content.get('version')!r}, expected {VERSION}")
    return {key: value for key, value in content.items() if key not in _HEADER}
