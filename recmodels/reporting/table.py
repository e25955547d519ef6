"""Finished runs as rows of a table: runs that differ in nothing but their seed are one row."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, groupby
from typing import Any, NamedTuple

from recmodels.data.evaluation import is_smaller_better
from recmodels.errors import ParamError
from recmodels.params import raise_all
from recmodels.reporting.finished import ROW_NAME, Run
from recmodels.typed_values import nearest

METRICS = ("recall@10", "ndcg@10", "recall@20", "ndcg@20", "recall@50", "ndcg@50")


class Row(NamedTuple):
    """Runs that differ in nothing but their seed.

    Attributes:
        name: the name they were kept under, or their model.
        settings: the values in which the rows of the table differ, as text.
        runs: by ascending seed.
        label: unique in a table: the name, with the settings where another row has the same name.
    """

    name: str
    settings: str
    runs: tuple[Run, ...]
    label: str

    @property
    def seeds(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(run.result["seed"] for run in self.runs)

    def mean(self, metric: str) -> float | None:
        """Mean over the seeds, None if a run lacks the metric."""
        values = [run.result["test"].get(metric) for run in self.runs]
        return None if None in values else statistics.fmean(values)

    def deviation(self, metric: str) -> float | None:
        """Standard deviation over the seeds (n - 1), None for one seed or if a run lacks the metric."""
        if len(self.runs) < 2 or self.mean(metric) is None:
            return None
        return statistics.stdev(run.result["test"][metric] for run in self.runs)

    def values(self, key: str) -> list[Any]:
        """The numbers under a key of `result.json`, one for each run that has it, ascending."""
        return sorted(run.result[key] for run in self.runs if run.result.get(key) is not None)


class Table(NamedTuple):
    """Rows of one data set and one split.

    Attributes:
        dataset: name.
        split_sha256: fingerprint of the split.
        rows: by name, then settings.
    """

    dataset: str
    split_sha256: str
    rows: tuple[Row, ...]


def make_tables(runs: Sequence[Run], by_split: bool = False) -> tuple[list[Table], list[str]]:
    """Groups runs into rows, and rows into a table for each split.

    Args:
        runs: of one data set.
        by_split: whether several splits are allowed.

    Returns:
        Tables by fingerprint, and a line for each run that repeats another one, result and all.

    Raises:
        ParamError: no run, several data sets, several splits unless `by_split`, two different results of one
            configuration and seed, or one configuration under two names.
    """
    if not runs:
        raise ParamError("report: no finished run; expected at least one folder with result.json")
    _check_one(runs, "dataset", "")
    if not by_split:
        _check_one(runs, "split_sha256", ", or --by=split for a table each")
    kept, repeated = _without_repeats(runs)
    ordered = sorted(kept, key=lambda run: str(run.result["split_sha256"]))
    tables = [
        Table(kept[0].result["dataset"], split, _rows(list(part)))
        for split, part in groupby(ordered, key=lambda run: str(run.result["split_sha256"]))
    ]
    return tables, repeated


def sort_rows(table: Table, by: str) -> Table:
    """The table with its best row first, by a metric; rows without it last."""
    sign = 1 if is_smaller_better(by) else -1
    means = {row.label: row.mean(by) for row in table.rows}
    order = {label: math.inf if mean is None else sign * mean for label, mean in means.items()}
    return table._replace(rows=tuple(sorted(table.rows, key=lambda row: order[row.label])))


def choose_metrics(tables: Sequence[Table], asked: Sequence[str] | None) -> list[str]:
    """Metrics to show.

    Args:
        tables: of the runs.
        asked: names, upper and lower case alike; None shows those of `METRICS` that a run has, else all of its metrics.

    Raises:
        ParamError: no metric was asked for, or no run has one that was. All at once.
    """
    runs = [run for table in tables for row in table.rows for run in row.runs]
    known = list(dict.fromkeys(metric for run in runs for metric in run.result["test"]))
    if asked is None:
        return [metric for metric in METRICS if metric in known] or known
    names = [name.lower() for name in asked]
    if not names:
        raise ParamError(f"metrics: got '', expected names such as {METRICS[0]}")
    unknown = [name for name in names if name not in known]
    raise_all("metrics", [f"{name}: no run has it{nearest(name, known)}; got {', '.join(known)}" for name in unknown])
    return names


def _check_one(runs: Sequence[Run], key: str, remedy: str) -> None:
    """Refuses runs that differ in a key, by the folders of each value."""
    folders: dict[str, list[str]] = {}
    for run in runs:
        folders.setdefault(run.result[key], []).append(run.folder.as_posix())
    if len(folders) > 1:
        found = [f"{value[:12]}: {', '.join(paths)}" for value, paths in sorted(folders.items())]
        raise_all(f"report: {key} differs, so the figures cannot be compared; give runs of one{remedy}", found)


def _identity(run: Run) -> tuple[str, str, str]:
    """What runs of one row have in common."""
    return run.result["split_sha256"], run.result["model"], json.dumps(run.settings)


def _without_repeats(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """One run for each configuration and seed, that with a name before its original."""
    kept: dict[tuple[Any, ...], Run] = {}
    repeated, problems = [], []
    for run in sorted(runs, key=lambda run: ROW_NAME not in run.result):
        first = kept.setdefault((*_identity(run), run.result["seed"]), run)
        if first.result["test"] != run.result["test"]:
            problems.append(f"{run.folder}: another result than {first.folder}, with the same configuration and seed")
        elif first is not run:
            repeated.append(f"{run.folder.as_posix()}: repeats {first.folder.as_posix()}, with the same result")
    raise_all("report: one result is expected for a configuration and a seed; leave the other out", problems)
    return list(kept.values()), repeated


def _rows(runs: Sequence[Run]) -> tuple[Row, ...]:
    """The rows of one split."""
    groups = [list(group) for _, group in groupby(sorted(runs, key=_identity), key=_identity)]
    shown = _differing([group[0] for group in groups])
    rows = []
    for group in groups:
        names = sorted({run.result[ROW_NAME] for run in group if ROW_NAME in run.result})
        if len(names) > 1:
            folders = ", ".join(run.folder.as_posix() for run in group)
            raise ParamError(f"report: one configuration has the names {names}; keep it under one: {folders}")
        model, given = group[0].result["model"], group[0].settings
        text = ", ".join(f"{key} {given[key].strip(chr(34))}" for key in sorted(shown & given.keys()))
        by_seed = sorted(group, key=lambda run: int(run.result["seed"]))
        rows.append((names[0] if names else model, text, tuple(by_seed)))
    n_rows = Counter(name for name, _, _ in rows)
    labeled = [(*row, row[0] if n_rows[row[0]] == 1 else ", ".join(filter(None, row[:2]))) for row in rows]
    return tuple(Row(*row) for row in sorted(labeled, key=lambda row: row[:2]))


def _differing(runs: Sequence[Run]) -> set[str]:
    """Keys with two values, or which one run has and another run of the same model has not.

    A key that is only unread in one of them differs where the choice that reads it does, and that is shown.
    """
    found = set()
    for one, two in combinations(runs, 2):
        ours, theirs = one.settings, two.settings
        found |= {key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]}
        alone = (ours.keys() - two.keys) | (theirs.keys() - one.keys)
        found |= alone if one.result["model"] == two.result["model"] else set()
    return found
