"""Finished runs, read from their folders and checked."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from recmodels.errors import CheckpointError
from recmodels.experiments.folder import CONFIG, RESULT
from recmodels.experiments.session import NO_NUMBER
from recmodels.layers import load_yaml
from recmodels.typed_values import TypeMismatchError, convert, describe, nearest

ROW_NAME = "row"
_NOT_COMPARED = NO_NUMBER | {"model", "dataset", "seed"}
_REQUIRED: dict[str, Any] = {"model": str, "dataset": str, "seed": int, "split_sha256": str, "test": dict}
_OPTIONAL: dict[str, Any] = {
    "best_epoch": int | None,
    "epochs_run": int | None,
    "seconds_per_epoch": float | None,
    "peak_rss_mb": float | None,
    "n_parameters": int | None,
    "versions": dict,
    "hardware": dict,
    ROW_NAME: str,
}


class Run(NamedTuple):
    """A finished run.

    Attributes:
        folder: where it lies.
        result: the content of its `result.json`.
        config: the content of its `config.yaml`.
    """

    folder: Path
    result: dict[str, Any]
    config: dict[str, Any]

    @property
    def settings(self) -> dict[str, str]:
        """Every value that decides a number, without the seed: flat names, the inner ones dotted, to text."""
        return dict(sorted(_flat({key: self.config[key] for key in self.config if key not in _NOT_COMPARED}).items()))


def read_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The finished runs in some folders.

    Args:
        paths: run folders, or folders above run folders; one found twice counts once.

    Returns:
        Runs by folder, and a line for each unfinished run.

    Raises:
        CheckpointError: a path is no folder or has no run below, a `result.json` or `config.yaml` is damaged, or they
            contradict each other. All at once.
    """
    folders, problems = _run_folders(paths)
    finished = [folder for folder in folders if (folder / RESULT).is_file()]
    unfinished = [folder.as_posix() for folder in folders if folder not in finished]
    skipped = [
        f"{path}: unfinished, no {RESULT} yet; recmodels train --resume={path} continues it" for path in unfinished
    ]
    runs = []
    for folder in finished:
        run = Run(folder, *(_mapping(folder / name, problems) for name in (RESULT, CONFIG)))
        problems += _contradictions(run) if run.result and run.config else []
        runs.append(run)
    if problems:
        raise CheckpointError("\n  - ".join([f"runs: {len(problems)} problems", *problems][len(problems) == 1 :]))
    return runs, skipped


def _run_folders(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Every folder with a result or a configuration, once, and what is wrong with the paths."""
    found: dict[Path, Path] = {}
    problems = []
    for path in paths:
        inner = sorted({file.parent for name in (RESULT, CONFIG) for file in path.rglob(name)})
        for folder in inner:
            found.setdefault(folder.resolve(), folder)
        if not inner:
            near = nearest(path.name, [entry.name for entry in path.parent.glob("*") if entry.is_dir()])
            reason = f"no run below it, which is a folder with {CONFIG}" if path.is_dir() else f"no such folder{near}"
            problems.append(f"{path}: {reason}")
    return sorted(found.values()), problems


def _mapping(path: Path, problems: list[str]) -> dict[str, Any]:
    """A file of names and values; empty, with a problem added, if it is not."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else load_yaml(text, str(path))
    except (OSError, ValueError) as error:
        problems.append(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
        return {}
    if not isinstance(content, dict) or not content:
        problems.append(f"{path}: expected names and values, got {type(content).__name__}")
        return {}
    return content


def _contradictions(run: Run) -> list[str]:
    """What is absent from a result, has the wrong type, or is not what the configuration says."""
    path, problems = run.folder / RESULT, []
    for key, hint in (_REQUIRED | _OPTIONAL).items():
        if key in run.result or key in _REQUIRED:
            problems += _mismatch(path, key, hint, run.result.get(key))
    test = run.result.get("test")
    for metric, value in test.items() if isinstance(test, dict) else ():
        problems += _mismatch(path, f"test.{metric}", float, value)
    for key in ("model", "dataset", "seed"):
        if run.result.get(key) != run.config.get(key):
            got, expected = run.config.get(key), run.result.get(key)
            problems.append(f"{run.folder / CONFIG}: {key}: got {got!r}, expected {expected!r} as in {RESULT}")
    return problems


def _mismatch(path: Path, key: str, hint: Any, value: Any) -> list[str]:
    try:
        convert(hint, value)
    except TypeMismatchError:
        return [f"{path}: {key}: expected {describe(hint)}, got {value!r}"]
    return []


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Leaves under dotted names, as JSON text."""
    found: dict[str, str] = {}
    for key, value in values.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: json.dumps(value)}
        found |= inner
    return found
