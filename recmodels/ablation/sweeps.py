"""Points that differ from the base in one number: the metric against that key."""

import statistics
from collections.abc import Mapping
from typing import Any

from recmodels.ablation.evidence import Evidence, Line
from recmodels.experiments.session import deciding_values
from recmodels.reporting.pictures import Curve

_FEWEST_VALUES = 3


def sweeps(evidence: Evidence) -> dict[str, Curve]:
    """A curve for each key with at least three values, the base's among them, and finished runs of each.

    Args:
        evidence: of the points.

    Returns:
        Flat name of the key to the mean test metric over its values, with the deviation over seeds.
    """
    base = next(line for line in evidence.lines if line.name == evidence.base)
    ours = _values(base)
    found: dict[str, list[tuple[float, Line]]] = {}
    for line in evidence.lines:
        is_own = line.point.control_of is None and line.point.compact is None
        key = _swept_key(ours, _values(line)) if is_own else None
        if key is not None and line.runs:
            found.setdefault(key, []).append((float(_values(line)[key]), line))
    return {
        key: _curve([(float(ours[key]), base), *lines] if base.runs else lines, evidence.metric)
        for key, lines in found.items()
        if len(lines) + bool(base.runs) >= _FEWEST_VALUES
    }


def _values(line: Line) -> dict[str, Any]:
    resolved = line.point.resolved
    values = deciding_values(resolved) | {"model": resolved.model}
    return {key: value for key, value in values.items() if key != "seed"}


def _swept_key(base: Mapping[str, Any], values: Mapping[str, Any]) -> str | None:
    """The one key that differs, if it is a number in both."""
    differing = [key for key in base.keys() | values.keys() if base.get(key) != values.get(key)]
    if len(differing) != 1 or not all(_is_number(found.get(differing[0])) for found in (base, values)):
        return None
    return differing[0]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _curve(lines: list[tuple[float, Line]], metric: str) -> Curve:
    ordered = sorted(lines, key=lambda entry: entry[0])
    values = [[run.result["test"][metric] for run in line.runs] for _, line in ordered]
    deviations = tuple(statistics.stdev(found) if len(found) > 1 else 0.0 for found in values)
    means = tuple(map(statistics.fmean, values))
    return Curve(metric, tuple(value for value, _ in ordered), means, errors=deviations)
