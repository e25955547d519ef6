"""What the finished runs of an ablation say about each point: figures, paired differences, verdicts."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tqdm import tqdm

from recmodels.ablation.points import Plan, Point, finished_runs
from recmodels.ablation.table import shown_metrics
from recmodels.data.evaluation import is_smaller_better
from recmodels.errors import CheckpointError, ParamError
from recmodels.reporting.comparison import (
    Comparison,
    common_metrics,
    compare_pairs,
)
from recmodels.reporting.corrections import holm
from recmodels.reporting.epochs import mean_to_best
from recmodels.reporting.finished import Run
from recmodels.reporting.paired import Difference
from recmodels.typed_values import nearest

SIGNIFICANT = 0.05
BASE, BETTER, WORSE, ALIKE = "base", "better", "worse", "not told apart"
EQUAL, UNEQUAL = "control: equal", "control: NOT equal"
ONE_SEED, CONTROL_OF_ONE_SEED = "one seed, not judged", "control: one seed"
_NOT_JUDGED = frozenset(("reg",))  # its gradient is small on purpose


class Line(NamedTuple):
    """A point, or the control of two halves of one.

    Attributes:
        name: of the point.
        point: itself.
        runs: the finished ones, by seed.
        against: name of what it is compared with; empty for the base.
        n_paired: seeds of which the differences are.
        differences: test metric to ours minus theirs; empty where nothing can be compared.
        adjusted: test metric to the p-value after Holm's correction over the points; None for one seed.
        shares: term to its share of the gradient norm, the mean over the epochs up to the best one and over seeds: of
            a single epoch it is that of a single batch.
        dead: terms whose share is below the point's `guard_dead_share`.
        marginal_error: of transport, the same mean, or None.
        verdict: in words; why there is none.
    """

    name: str
    point: Point
    runs: Sequence[Run]
    against: str
    n_paired: int
    differences: Mapping[str, Difference]
    adjusted: Mapping[str, float | None]
    shares: Mapping[str, float]
    dead: Sequence[str]
    marginal_error: float | None
    verdict: str

    @property
    def is_control(self) -> bool:
        """Whether only chance differs from what it is compared with."""
        return self.point.control_of is not None or self.name != self.point.name


class Evidence(NamedTuple):
    """All points of an ablation.

    Attributes:
        plan: of the runs.
        base: name of the point that the others are compared with.
        metric: the test metric that verdicts are about: the one that picks the epochs, or the first shown.
        metrics: test metrics shown, `metric` first.
        lines: controls, then the base, then the others in the order of the file.
    """

    plan: Plan
    base: str
    metric: str
    metrics: Sequence[str]
    lines: Sequence[Line]


def base_point(points: Sequence[Point], name: str | None) -> Point:
    """The point that others are compared with.

    Args:
        points: of the file.
        name: of a point; None is the first one that is no control.

    Raises:
        ParamError: there is no such point, or it is a control.
    """
    names = [point.name for point in points if point.control_of is None]
    if name is not None and name not in names:
        raise ParamError(
            f"--base: got {name!r}, expected a point that is no control{nearest(name, names)}: {', '.join(names)}"
        )
    return next(point for point in points if point.name == (name or names[0]))


def weigh(plan: Plan, base: str | None = None) -> Evidence:
    """Compares every point with the base, and every control with its point.

    Points are paired with the base by user and seed. A control has other seeds than its point, so its seeds are paired
    in their order, which is as good as any where only chance differs. Without a finished control, the seeds of the base
    are compared half against half, of which fewer than four make a single pair.

    Args:
        plan: whose runs are finished or not.
        base: name of a point; None is the first one of the file that is no control.

    Raises:
        ParamError: there is no such point.
        CheckpointError: files of a finished run are damaged; absent per-user metrics are said in the verdict.
    """
    of_base, runs = base_point(plan.points, base), finished_runs(plan)
    shown = shown_metrics(plan)
    measured = {metric for found in runs.values() for run in found for metric in run.result["test"]}
    metrics = list(dict.fromkeys([*([plan.metric] if plan.metric in measured else []), *shown]))
    is_shown = plan.points[0].resolved.run.show_progress
    points = tqdm(plan.points, desc="comparing points", disable=None if is_shown else True, leave=False)
    lines = [_line(point, of_base, runs, metrics) for point in points]
    halves = _halves(of_base, runs[of_base.name], metrics)
    if halves and not any(point.control_of and runs[point.name] for point in plan.points):
        lines.append(halves)
    ordered = sorted(lines, key=lambda line: (not line.is_control, line.name != of_base.name))
    return Evidence(plan, of_base.name, metrics[0], metrics, _judged(_corrected(ordered, metrics), metrics[0]))


def _line(point: Point, base: Point, runs: Mapping[str, Sequence[Run]], metrics: Sequence[str]) -> Line:
    """A point that is compared and not yet judged."""
    ours, against = runs[point.name], point.control_of or base.name
    pairs = _pairs(point, ours, runs[against]) if point is not base else []
    differences, reason = _differences(point.name, pairs, metrics) if point is not base else ({}, BASE)
    shares, limit = mean_to_best(ours, "share/"), point.resolved.run.guard_dead_share
    dead = [term for term, share in shares.items() if share < limit and term not in _NOT_JUDGED]
    error = mean_to_best(ours, "ot/marginal_error").get("")
    against = "" if point is base else against
    verdict = reason if ours else "no result"
    return Line(point.name, point, ours, against, len(pairs), differences, {}, shares, dead, error, verdict)


def _pairs(point: Point, ours: Sequence[Run], theirs: Sequence[Run]) -> list[tuple[Run, Run]]:
    if point.control_of is not None:
        return list(zip(ours, theirs, strict=False))
    by_seed = {run.result["seed"]: run for run in theirs}
    return [(run, by_seed[run.result["seed"]]) for run in ours if run.result["seed"] in by_seed]


def _differences(
    label: str, pairs: Sequence[tuple[Run, Run]], metrics: Sequence[str]
) -> tuple[Mapping[str, Difference], str]:
    """The comparison by metric, and why there is none."""
    if not pairs:
        return {}, "not compared: no finished seed in common"
    try:
        common = common_metrics([run for pair in pairs for run in pair])
        found: Comparison = compare_pairs(label, pairs, [metric for metric in metrics if metric in common])
    except CheckpointError as error:
        return {}, f"not compared: {error}"
    return found.by_metric, ""


def _halves(base: Point, runs: Sequence[Run], metrics: Sequence[str]) -> Line | None:
    """The control of a base without one: every other seed against the rest."""
    pairs = list(zip(runs[::2], runs[1::2], strict=False))
    if not pairs:
        return None
    name = f"{base.name}: half of its seeds"
    differences, reason = _differences(name, pairs, metrics)
    return Line(
        name, base, [run for run, _ in pairs], "the other half", len(pairs), differences, {}, {}, [], None, reason
    )


def _corrected(lines: Sequence[Line], metrics: Sequence[str]) -> list[Line]:
    """With adjusted p-values: over all points for each metric; controls are left as they are."""
    adjusted: dict[str, dict[str, float | None]] = {line.name: {} for line in lines}
    for metric in metrics:
        raw = {line.name: line.differences[metric].p_value for line in lines if metric in line.differences}
        tested = {line.name: p for line in lines if not line.is_control and (p := raw.get(line.name)) is not None}
        found = raw | dict(zip(tested, holm(list(tested.values())), strict=True))
        for name, value in found.items():
            adjusted[name][metric] = value
    return [line._replace(adjusted=adjusted[line.name]) for line in lines]


def _judged(lines: Sequence[Line], metric: str) -> list[Line]:
    return [line if line.verdict else line._replace(verdict=_verdict(line, metric)) for line in lines]


def _verdict(line: Line, metric: str) -> str:
    """What may be said about a point: of one seed nothing, since another seed moves the metric too."""
    difference = line.differences.get(metric)
    if difference is None:
        return f"not compared: {metric} is not kept for each user"
    p_value = line.adjusted[metric]
    if p_value is None:
        return CONTROL_OF_ONE_SEED if line.is_control else ONE_SEED
    is_better = (difference.mean < 0) == is_smaller_better(metric)
    found = (UNEQUAL, EQUAL) if line.is_control else (BETTER if is_better else WORSE, ALIKE)
    return found[p_value >= SIGNIFICANT]
