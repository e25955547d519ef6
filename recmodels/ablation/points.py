"""The points of an ablation and the runs they are made of."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import recmodels
from recmodels.config import Resolved
from recmodels.experiments.run import stored_result
from recmodels.experiments.session import identity_of, load_splits, size_of
from recmodels.params import nearest, raise_all
from recmodels.reporting.finished import Run, read_runs

_KEY_LENGTH, _LONGEST_NAME = 12, 100


class Compact(NamedTuple):
    """How the runs of a point follow from those of another one, see `recmodels compact`.

    Attributes:
        of: name of the other point: a search for widths or, to be pruned, a plain table.
        prune: share of the entries that are kept; None takes the widths that were found.
        overrides: flat names to what the smaller model is trained with beside the other's values.
    """

    of: str
    prune: float | None
    overrides: dict[str, Any]


@dataclass(frozen=True)
class Point:
    """A setting that is run with several seeds.

    Attributes:
        name: unique in its file.
        resolved: its configuration; the seed in it means nothing.
        seeds: all different.
        reported: metric, such as recall@10, to the figure of a published table or a diary.
        note: about it, for the table.
        control_of: the point that has the same values and other seeds, or None.
        compact: what its runs are made from; its configuration is then the other point's with these overrides.
    """

    name: str
    resolved: Resolved
    seeds: tuple[int, ...]
    reported: dict[str, float]
    note: str
    control_of: str | None
    compact: Compact | None = None


class Source(NamedTuple):
    """The run that another run is made from.

    Attributes:
        key: of the run.
        label: of the run, for messages.
        compact: how the other run follows.
    """

    key: str
    label: str
    compact: Compact


class PointRun(NamedTuple):
    """One run of a point, as plain data.

    Attributes:
        point: name.
        values: flat names to the values of its whole configuration, model, data set and seed among them.
        key: `run_key` of it: runs of one key have one result.
        source: the run that it is made from, if there is one; of `values` only the seed counts then.
    """

    point: str
    values: dict[str, Any]
    key: str
    source: Source | None = None

    @property
    def seed(self) -> int:
        """Of everything but the split."""
        return int(self.values["seed"])

    @property
    def label(self) -> str:
        """For messages."""
        return f"{self.point}, seed {self.seed}"

    @property
    def folder_name(self) -> str:
        """`<point>-<seed>-<key>`, the point without what is awkward in a path."""
        plain = re.sub(r"[^\w.+=-]+", "-", self.point, flags=re.ASCII).strip("-.")[:_LONGEST_NAME]
        return f"{plain or 'point'}-{self.seed}-{self.key}"


@dataclass(frozen=True)
class Plan:
    """All runs of an ablation on one split, and where they lie.

    Attributes:
        folder: of the study, above the run folders.
        points: in the order of the file.
        runs: all points with their first seed, then all with their second one, and so on.
        split_sha256: fingerprint of the split, the same for all.
        metric: the valid metric that picks the epochs, the same for all, as in the logs.
    """

    folder: Path
    points: tuple[Point, ...]
    runs: tuple[PointRun, ...]
    split_sha256: str
    metric: str

    @property
    def identity(self) -> dict[str, Any]:
        """What all runs of a study have in common."""
        return {"ablation": True, "split_sha256": self.split_sha256, "metric": self.metric}

    def folders(self) -> dict[str, Path]:
        """The folder of every run by its key; an earlier one keeps the name its point had then."""
        there = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        found = {path.name[-_KEY_LENGTH:]: path for path in there if path.is_dir()}
        return {run.key: found.get(run.key, self.folder / run.folder_name) for run in self.runs}


def chosen_points(points: Sequence[Point], patterns: Sequence[str]) -> list[Point]:
    """The points with a name, or a name like `power_*`, and those that they are made from or control.

    Args:
        points: of a file.
        patterns: any number; none takes all points.

    Raises:
        ParamError: a pattern is that of no point.
    """
    names = [point.name for point in points]
    found = {pattern: {n for n in names if n == pattern or fnmatchcase(n, pattern)} for pattern in patterns}
    missed = [f"{pattern!r} is no point{nearest(pattern, names)}" for pattern, of in found.items() if not of]
    raise_all("--points", missed)
    kept = set().union(*found.values()) if patterns else set(names)
    for point in points:
        if point.name in kept:
            kept |= {of for of in (point.control_of, point.compact.of if point.compact else None) if of}
    return [point for point in points if point.name in kept]


def make_plan(name: str, points: Sequence[Point]) -> Plan:
    """Loads and splits the data and names the runs; writes nothing.

    Args:
        name: of the ablation; its study lies in `<runs_dir>/<name>-<dataset>`.
        points: at least one, all on the same data and split.

    Raises:
        UserError: the data set is absent or malformed, or too small for topk or a value of a point.
    """
    first = points[0].resolved
    splits = load_splits(first)
    raise_all(name, _limit_problems(points, *size_of(splits)))
    split_sha256 = splits.sha256
    ordered = sorted(
        ((place, point, seed) for point in points for place, seed in enumerate(point.seeds)), key=lambda entry: entry[0]
    )
    runs = [_run(point, seed, split_sha256) for _, point, seed in ordered]
    by_place = {(run.point, run.seed): run for run in runs}
    compacts = {point.name: point.compact for point in points if point.compact}
    runs = [_compact_run(run, compacts[run.point], by_place) if run.point in compacts else run for run in runs]
    folder = Path(first.run.runs_dir) / f"{name}-{first.dataset}"
    return Plan(folder, tuple(points), tuple(runs), split_sha256, first.run.valid_metric.lower())


def _limit_problems(points: Sequence[Point], n_users: int, n_items: int) -> list[str]:
    """What data of this size do not allow."""
    return [
        f"point {point.name}: {text}"
        for point in points
        for text in point.resolved.params.limit_problems(n_users, n_items)
    ]


def _run(point: Point, seed: int, split_sha256: str) -> PointRun:
    resolved = point.resolved.with_seed(seed)
    names = {"model": resolved.model, "dataset": resolved.dataset}
    return PointRun(point.name, names | resolved.values, run_key(resolved, split_sha256))


def _compact_run(run: PointRun, compact: Compact, others: Mapping[tuple[str, int], PointRun]) -> PointRun:
    """The run with its source, and with a key that follows from that of the source."""
    other = others[compact.of, run.seed]
    made = {"of": other.key, "prune": compact.prune, "as": run.key}
    return run._replace(key=_short_hash(made), source=Source(other.key, other.label, compact))


def run_key(resolved: Resolved, split_sha256: str) -> str:
    """The beginning of the SHA-256 of what decides a run's numbers: values, split, and the version of this package.

    Neither a time nor a path nor the name of a point is in it, so a run is found again under any of them.
    """
    identity = identity_of(resolved, split_sha256) | {"version": recmodels.__version__}
    return _short_hash(identity)


def _short_hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_KEY_LENGTH]


def finished_runs(plan: Plan) -> dict[str, list[Run]]:
    """The finished runs of every point, by its name, in the order of its seeds.

    Raises:
        CheckpointError: files of a finished run are damaged.
    """
    folders = plan.folders()
    done = [run for run in plan.runs if stored_result(folders[run.key]) is not None]
    read = {run.folder: run for run in read_runs([folders[run.key] for run in done])[0]} if done else {}
    found: dict[str, list[Run]] = {point.name: [] for point in plan.points}
    for run in done:
        found[run.point].append(read[folders[run.key]])
    return found
