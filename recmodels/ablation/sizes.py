"""Quality against parameters, for frequent and rare nodes apart, where points differ in size."""

import math
import statistics
from collections.abc import Sequence

import pandas as pd

from recmodels.ablation.evidence import Evidence, Line
from recmodels.ablation.table import spread
from recmodels.reporting.by_frequency import by_frequency
from recmodels.reporting.finished import Run
from recmodels.reporting.size_picture import Sized

_APART = 1.25  # the factor from which sizes are something to compare
_COSTS = ("seconds_per_epoch", "peak_rss_mb")  # of the whole process, evaluation included
_GROUPS = ("head users", "tail users", "head items", "tail items")


def sized_lines(evidence: Evidence) -> list[Line]:
    """The points whose sizes are known, controls of two halves left out; none where all have about one size."""
    lines = [line for line in evidence.lines if line.runs and line.name == line.point.name]
    lines = [line for line in lines if None not in map(_size, line.runs)]
    sizes = [_stored(line) for line in lines]
    return lines if sizes and max(sizes) > 0 and max(sizes) >= _APART * min(sizes) else []


def size_frame(evidence: Evidence) -> pd.DataFrame:
    """Stored numbers, share of the base's, and the metric of users and recall of items by frequency; a row a point."""
    lines = sized_lines(evidence)
    base = next((_stored(line) for line in lines if line.name == evidence.base), None)
    rows = []
    for line in lines:
        n = _stored(line)
        row = {"point": line.name, "stored numbers": f"{n:,}", "of the base": f"{n / base:.2f}" if base else ""}
        row[f"test {evidence.metric}"] = spread([run.result["test"][evidence.metric] for run in line.runs])
        rows.append(row | _by_frequency(line, evidence.metric))
    columns = dict.fromkeys(name for row in rows for name in row)
    return pd.DataFrame({name: [row.get(name, "") for row in rows] for name in columns})


def size_records(evidence: Evidence) -> pd.DataFrame:
    """The same unrounded, with other list lengths, time and memory: means and deviations (n - 1) over seeds."""
    rows = []
    for line in sized_lines(evidence):
        found: dict[str, list[float]] = {"stored": [float(_size(run) or 0) for run in line.runs]}
        for metric in dict.fromkeys((evidence.metric, *filter(_is_shown, line.runs[0].result["test"]))):
            found[f"test {metric}"] = [run.result["test"][metric] for run in line.runs]
        found |= _groups(line, evidence.metric)
        found |= {key: values for key in _COSTS if (values := [r.result[key] for r in line.runs if key in r.result])}
        row: dict[str, str | int | float] = {"point": line.name, "seeds": len(line.runs)}
        for name, values in found.items():
            row[name] = statistics.fmean(values)
            row[f"{name} deviation"] = statistics.stdev(values) if len(values) > 1 else math.nan
        rows.append(row)
    return pd.DataFrame(rows)


def _is_shown(metric: str) -> bool:
    return metric.partition("@")[0] in ("recall", "ndcg")


def sized(evidence: Evidence) -> list[Sized]:
    """What the picture of sizes shows."""
    base = next(line.point.resolved.model for line in evidence.lines if line.name == evidence.base)
    found = []
    for line in sized_lines(evidence):
        if not _stored(line):  # no place on a logarithmic axis
            continue
        values = [run.result["test"][evidence.metric] for run in line.runs]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        is_plain = all(run.config.get("table") == "plain" and run.result["model"] == base for run in line.runs)
        found.append(Sized(line.name, _stored(line), statistics.fmean(values), deviation, is_plain))
    return found


def _stored(line: Line) -> int:
    """Numbers that the models store, the mean over seeds: parameters, and the masks of pruned tables."""
    return round(statistics.fmean(size for run in line.runs if (size := _size(run)) is not None))


def _size(run: Run) -> int | None:
    """Of one model; None for an old run of a table that stores something else than its parameters."""
    has_other = run.config.get("table") == "adaptive" and run.config.get("adae_mode") in ("auto", "pruned")
    stored = run.result.get("n_stored")
    return stored if stored is not None or has_other else run.result.get("n_parameters")


def _by_frequency(line: Line, metric: str) -> dict[str, str]:
    return {name: spread(values) for name, values in _groups(line, metric).items()}


def _groups(line: Line, metric: str) -> dict[str, list[float]]:
    """By what is measured, its value for each seed that has one."""
    found = [by_frequency(run.folder, metric) for run in line.runs]
    k = metric.partition("@")[2]
    names = {group: f"{group} {metric if 'users' in group else f'recall@{k}'}" for group in _GROUPS}
    return {names[group]: values for group in _GROUPS if (values := _values(found, group))}


def _values(found: Sequence[dict[str, float]], group: str) -> list[float]:
    return [values[group] for values in found if group in values]
