"""Finished runs, read from their folders and checked."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from recmodels.config import read_layers
from recmodels.errors import CheckpointError
from recmodels.experiments.folder import CONFIG, RESULT, STUDY, TRIALS
from recmodels.experiments.session import NO_NUMBER, PARAMS, values_sha256
from recmodels.experiments.unread import unread_by_fits, unread_keys
from recmodels.layers import Layer
from recmodels.plain_yaml import load_yaml
from recmodels.reporting.metric_names import name_problem, range_problem
from recmodels.reporting.user_metrics import disagreements
from recmodels.typed_values import TypeMismatchError, convert, describe, leaves, nearest

ROW_NAME = "row"
_NOT_COMPARED = NO_NUMBER | {"model", "dataset", "seed"}
# Types of what is read; a mapping of types is one of keys that may be absent.
_REQUIRED: dict[str, Any] = {
    "model": str,
    "dataset": str,
    "seed": int,
    "split_sha256": str,
    "test": dict[str, float],
}
_OPTIONAL: dict[str, Any] = {
    "config_sha256": str,
    "test_seen_in_valid": float,
    "best_epoch": int | None,
    "epochs_run": int | None,
    "seconds_per_epoch": float | None,
    "peak_rss_mb": float | None,
    "n_parameters": int | None,
    "n_stored": int | None,
    "versions": dict[str, str],
    "hardware": {"cpu": str | None, "gpu": str | None, "cores": int | None, "torch_threads": int | None},
    ROW_NAME: str,
}
_CONFIG: dict[str, Any] = {
    "split_seed": int,
    "valid_metric": str,
    "repeatable": bool,
    "benchmark_filename": tuple[str, str, str] | None,
    "eval_args": {"split": dict, "order": str, "group_by": str | None, "mode": str | dict},
}
# Empty where the system did not tell.
_MAY_BE_EMPTY = frozenset(("versions", "hardware", "hardware.cpu", "hardware.gpu"))
_LONGEST_VALUE = 80  # characters of a value in a table


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
    def keys(self) -> frozenset[str]:
        """Flat names of the whole configuration, the inner ones dotted."""
        return frozenset(_flat(self.config))

    @property
    def settings(self) -> dict[str, str]:
        """Every value that decides a number, without the seed: flat names, the inner ones dotted, to text.

        Keys that nothing reads at these values are left out, so that a run from before they existed compares.
        """
        left_out = _NOT_COMPARED | unread_by_fits(self.result["model"])
        left_out |= _unread_keys(json.dumps(self.config, sort_keys=True))
        return dict(sorted(_flat({key: self.config[key] for key in self.config if key not in left_out}).items()))


@cache
def _unread_keys(config: str) -> frozenset[str]:
    """What nothing reads at the values of a configuration, as JSON; nothing where it no longer resolves."""
    resolved, _ = read_layers([Layer("", json.loads(config))], PARAMS)
    return unread_keys(resolved) if resolved else frozenset()


def read_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The finished runs in some folders.

    Args:
        paths: run folders, or folders above run folders; one found twice counts once.

    Returns:
        Runs by folder, and a line for each unfinished run and each search whose trials are among them.

    Raises:
        CheckpointError: a path is no folder or has no run below, a `result.json` or `config.yaml` is damaged, they
            contradict each other, or a metric is none that the run can have had. All at once.
    """
    folders, problems = _run_folders(paths)
    finished = [folder for folder in folders if (folder / RESULT).is_file()]
    skipped = _skipped([folder for folder in folders if folder not in finished])
    runs = []
    for folder in finished:
        run = Run(folder, *(_mapping(folder / name, problems) for name in (RESULT, CONFIG)))
        damage = _damage(run)
        problems += damage + (_contradictions(run) if run.result and run.config else [])
        problems += [] if damage or not run.result else _impossible(folder, run.result["test"])
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
            problems.append(f"{path}: {_no_run(path)}")
    return sorted(found.values()), problems


def _skipped(folders: Sequence[Path]) -> list[str]:
    """What to do about runs without a result; those of a search have none, lest it choose by the test part."""
    searches = [_search_of(folder) for folder in folders]
    lines = [
        f"{folder.as_posix()}: unfinished, no {RESULT} yet; recmodels train --resume={folder.as_posix()} continues it"
        for folder, search in zip(folders, searches, strict=True)
        if search is None
    ]
    counts = Counter(search.as_posix() for search in searches if search is not None)
    return lines + [
        f"{search}/{TRIALS}: {count} trials of a search, which are not tested; recmodels tune --report={search} ranks "
        "them and says how to test the winner"
        for search, count in counts.items()
    ]


def _search_of(folder: Path) -> Path | None:
    """The folder of the search that a run is a trial of; None for other runs."""
    trials = folder.absolute().parent
    if trials.name != TRIALS or not (trials.parent / STUDY).is_file():
        return None
    return trials.parent if folder.is_absolute() else Path(os.path.relpath(trials.parent))


def _no_run(path: Path) -> str:
    """Why no run is found at a path."""
    if path.is_dir():
        return f"no run below it, which is a folder with {CONFIG}"
    if path.exists():
        return "got a file, expected a folder"
    return f"no such folder{nearest(path.name, [entry.name for entry in path.parent.glob('*') if entry.is_dir()])}"


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


def _damage(run: Run) -> list[str]:
    """What is absent, has the wrong type or is empty in either file; one that could not be read is left out."""
    result = dict.fromkeys(_REQUIRED) | run.result if run.result else {}
    read = ((RESULT, _REQUIRED | _OPTIONAL, result), (CONFIG, _CONFIG, run.config))
    return [f"{run.folder / name}: {text}" for name, hints, values in read for text in _mismatches(hints, values)]


def _contradictions(run: Run) -> list[str]:
    """What is not in the configuration as in the result."""
    problems = []
    for key in ("model", "dataset", "seed"):
        if run.result.get(key) != run.config.get(key):
            got, expected = run.config.get(key), run.result.get(key)
            problems.append(f"{run.folder / CONFIG}: {key}: got {got!r}, expected {expected!r} as in {RESULT}")
    stored = run.result.get("config_sha256")  # none of a run from before it was stored
    if not problems and stored and stored != values_sha256(run.config):
        problems.append(f"{run.folder / CONFIG}: was edited after the run, so {RESULT} is of other values; put it back")
    return problems


def _impossible(folder: Path, test: Mapping[str, float]) -> list[str]:
    """Metrics that no run can have, or that its users contradict."""
    known = {metric: figure for metric, figure in test.items() if not name_problem(metric)}
    found = {metric: range_problem(metric, figure, hint="") for metric, figure in known.items()}
    beyond = [f"{folder / RESULT}: test.{metric}: {problem}" for metric, problem in found.items() if problem]
    return beyond or disagreements(folder, test)


def _mismatches(hints: Mapping[str, Any], values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The problems of those values that have a type, the inner ones under dotted names."""
    given = [(f"{prefix}{key}", hint, values[key]) for key, hint in hints.items() if key in values]
    return [text for key, hint, value in given for text in _mismatch(key, hint, value)]


def _mismatch(key: str, hint: Any, value: Any) -> list[str]:
    kind = dict if isinstance(hint, dict) else hint
    try:
        convert(kind, value)
    except TypeMismatchError:
        return [f"{key}: expected {describe(kind)}, got {value!r}"]
    is_empty = value == {} or any(isinstance(leaf, str) and not leaf.strip() for leaf in leaves(value))
    if is_empty and key not in _MAY_BE_EMPTY:
        return [f"{key}: expected {describe(kind)}, not empty, got {value!r}"]
    if get_origin(hint) is dict:
        hint = dict.fromkeys(value, get_args(hint)[1])
    return _mismatches(hint, value, f"{key}.") if isinstance(hint, dict) else []


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Leaves under dotted names, as JSON text."""
    found: dict[str, str] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: _text(value)}
    return found


def _text(value: Any) -> str:  # noqa: ANN401
    """JSON; of a long one, such as the widths of all nodes, its beginning and a fingerprint."""
    text = json.dumps(value)
    if len(text) <= _LONGEST_VALUE:
        return text
    return f"{text[: _LONGEST_VALUE // 2]}... ({hashlib.sha256(text.encode()).hexdigest()[:8]})"
