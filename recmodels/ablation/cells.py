"""The tables of a report: cells of text for people, unrounded figures for programs."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

import pandas as pd

from recmodels.ablation.evidence import Evidence, Line
from recmodels.ablation.grid_study import GridStudy
from recmodels.ablation.table import note, spread, state
from recmodels.reporting.notation import NOTHING, figure, signed
from recmodels.reporting.paired import Difference


def evidence_frame(evidence: Evidence) -> pd.DataFrame:
    """Figures, differences and verdicts, a row a point; a column in which nothing stands is left out."""
    latest = GridStudy(evidence.plan).latest()
    rows = []
    for line in evidence.lines:
        row = {"point": line.name, "verdict": line.verdict, "seeds": _seeds(line)}
        for metric in evidence.metrics:
            row |= _metric_cells(line, metric)
        row["state"] = state(evidence.plan, line.point, line.runs, latest) if line.name == line.point.name else "done"
        rows.append(row | {"note": note(line.point)})
    return _filled(rows)


def training_frame(evidence: Evidence) -> pd.DataFrame:
    """Valid metric, best epochs, shares of the terms and marginal error, a row a point with results."""
    metric = evidence.plan.metric
    rows = []
    for line in evidence.lines:
        if not line.runs or line.name != line.point.name:
            continue
        epochs = sorted({run.result["best_epoch"] for run in line.runs if run.result.get("best_epoch") is not None})
        row = {"point": line.name, f"valid {metric}": spread([run.result["best_valid"][metric] for run in line.runs])}
        row["best epoch"] = " to ".join(str(epoch) for epoch in sorted({*epochs[:1], *epochs[-1:]}))
        row |= {f"share {term}": f"{share:.2g}" for term, share in line.shares.items()}
        row["marginal error"] = "" if line.marginal_error is None else f"{line.marginal_error:.2g}"
        rows.append(row | {"dead": ", ".join(line.dead)})
    return _filled(rows)


def records(evidence: Evidence) -> pd.DataFrame:
    """Unrounded, one row a point, with names that a program can rely on."""
    return pd.DataFrame([_record(line, evidence) for line in evidence.lines])


def _filled(rows: list[dict[str, str]]) -> pd.DataFrame:
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name, "") for row in rows] for name in names}
    return pd.DataFrame({name: cells for name, cells in columns.items() if any(set(cells) - {"", NOTHING})})


def _metric_cells(line: Line, metric: str) -> dict[str, str]:
    reported, difference = line.point.reported.get(metric), line.differences.get(metric)
    return {
        f"test {metric}": spread([run.result["test"][metric] for run in line.runs]),
        f"reported {metric}": "" if reported is None or line.name != line.point.name else figure(reported),
        f"Δ {metric}": _difference(difference),
        f"Δ % {metric}": "" if difference is None or math.isnan(difference.relative) else f"{difference.relative:+.1%}",
        f"p {metric}": _p_value(line.adjusted.get(metric)),
    }


def _difference(found: Difference | None) -> str:
    if found is None:
        return ""
    return f"{signed(found.mean)} [{signed(found.low)}, {signed(found.high)}]"


def _p_value(value: float | None) -> str:
    if value is None:
        return ""
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def _seeds(line: Line) -> str:
    if line.name != line.point.name:
        return f"2 × {len(line.runs)}"
    some = f", {line.n_paired} paired" if line.differences and line.n_paired < len(line.runs) else ""
    return f"{len(line.runs)} of {len(line.point.seeds)}{some}"


def _record(line: Line, evidence: Evidence) -> dict[str, Any]:
    found: dict[str, Any] = {"point": line.name, "control_of": line.point.control_of, "against": line.against}
    found |= {
        "verdict": line.verdict,
        "seeds": " ".join(str(run.result["seed"]) for run in line.runs),
        "paired": line.n_paired,
    }
    metric = evidence.plan.metric
    found |= _moments(f"valid {metric}", [run.result["best_valid"][metric] for run in line.runs])
    for metric in evidence.metrics:
        found |= _moments(f"test {metric}", [run.result["test"][metric] for run in line.runs])
        found |= _fields(metric, line.differences.get(metric), line.adjusted.get(metric))
    measured = {name: [run.result["test"].get(name) for run in line.runs] for name in line.point.reported}
    for name, values in measured.items() if line.name == line.point.name else ():
        found |= {f"reported {name}": line.point.reported[name]}
        found |= _moments(f"test {name}", [value for value in values if value is not None])
    found |= {f"share {term}": share for term, share in line.shares.items()}
    return found | {"dead": " ".join(line.dead), "marginal_error": line.marginal_error, "note": line.point.note}


def _moments(name: str, values: list[float]) -> dict[str, float | None]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {name: statistics.fmean(values) if values else None, f"{name} deviation": deviation}


def _fields(metric: str, found: Difference | None, adjusted: float | None) -> Mapping[str, float | None]:
    values = found._asdict() if found else dict.fromkeys(Difference._fields)
    return {f"{metric} {name}": value for name, value in (values | {"p_value_holm": adjusted}).items()}
