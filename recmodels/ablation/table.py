"""The table of an ablation: its points, how far they are, and their figures beside those of others."""

import statistics
from collections.abc import Mapping, Sequence

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from recmodels.ablation.grid_study import GridStudy
from recmodels.ablation.points import Plan, Point, finished_runs
from recmodels.files import write_text
from recmodels.reporting.finished import Run
from recmodels.reporting.notation import figure, markdown_table, markdown_text
from recmodels.tuning.study import FOUND

TABLE = "table.md"
_SHOWN = ("recall", "ndcg")
_LENGTH = 10
_STATES = {TrialState.FAIL: "failed", TrialState.RUNNING: "running"}


def write_table(plan: Plan) -> str:
    """Writes `table.md` into the folder of a study, finished or not.

    Returns:
        Its text.

    Raises:
        UserError: files of a run are damaged, or the folder is of something else.
    """
    runs, latest = finished_runs(plan), GridStudy(plan).latest()
    first = plan.points[0].resolved
    n_done = sum(map(len, runs.values()))
    facts = f"{first.dataset}, split `{plan.split_sha256[:12]}`: {n_done} of {len(plan.runs)} runs are finished."
    legend = "Figures are means over the finished seeds, ± the standard deviation (n - 1); valid is at the best epoch."
    failures = [f"- {markdown_text(failure)}" for failure in failed_runs(plan, latest)]
    parts = [f"# {plan.folder.name}", facts, markdown_table(_frame(plan, runs, latest)), legend, "\n".join(failures)]
    text = "\n\n".join(part for part in parts if part) + "\n"
    write_text(plan.folder / TABLE, text)
    return text


def _frame(plan: Plan, runs: Mapping[str, Sequence[Run]], latest: Mapping[str, FrozenTrial]) -> pd.DataFrame:
    """Cells of text; a column in which nothing stands is left out."""
    columns = {
        "point": [point.name for point in plan.points],
        "seeds": [f"{len(runs[point.name])} of {len(point.seeds)}" for point in plan.points],
        f"valid {plan.metric}": [
            spread([run.result["best_valid"][plan.metric] for run in runs[p.name]]) for p in plan.points
        ],
    }
    for metric in shown_metrics(plan):
        columns[f"test {metric}"] = [spread([run.result["test"][metric] for run in runs[p.name]]) for p in plan.points]
        reported = [point.reported.get(metric) for point in plan.points]
        columns[f"reported {metric}"] = ["" if value is None else figure(value) for value in reported]
    columns["state"] = [state(plan, point, runs[point.name], latest) for point in plan.points]
    columns["note"] = [note(point) for point in plan.points]
    return pd.DataFrame({name: list(map(markdown_text, cells)) for name, cells in columns.items() if any(cells)})


def shown_metrics(plan: Plan) -> list[str]:
    """Recall and NDCG at 10 as far as they are measured, or the first metric at its first length."""
    run = plan.points[0].resolved.run
    k = _LENGTH if _LENGTH in run.topk else run.topk[0]
    names = [metric.lower() for metric in run.metrics]
    return [f"{name}@{k}" for name in names if name in _SHOWN] or [f"{names[0]}@{k}"]


def spread(values: Sequence[float]) -> str:
    """Mean and deviation."""
    if not values:
        return figure(None)
    deviation = f" ± {figure(statistics.stdev(values))}" if len(values) > 1 else ""
    return figure(statistics.fmean(values)) + deviation


def state(plan: Plan, point: Point, done: Sequence[Run], latest: Mapping[str, FrozenTrial]) -> str:
    """What has become of the seeds, in words."""
    trials = [latest[run.key] for run in plan.runs if run.point == point.name and run.key in latest]
    counts = {word: sum(trial.state == state for trial in trials) for state, word in _STATES.items()}
    counts["waiting"] = len(point.seeds) - len(done) - sum(counts.values())
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count > 0) or "done"


def note(point: Point) -> str:
    """That a point is a control or made from another one, and what the file says about it."""
    control = f"control of {point.control_of}: its values, other seeds" if point.control_of else ""
    made = ""
    if point.compact:
        how = "the widths found by" if point.compact.prune is None else f"{point.compact.prune:.0%} of the entries of"
        made = f"{how} {point.compact.of}, trained from scratch"
    return "; ".join(text for text in (control, made, point.note) if text)


def failed_runs(plan: Plan, latest: Mapping[str, FrozenTrial]) -> list[str]:
    """A line for each run that failed, with its error."""
    failed = [run for run in plan.runs if run.key in latest and latest[run.key].state == TrialState.FAIL]
    return [f"{run.label} failed: {latest[run.key].user_attrs[FOUND]['reason']}" for run in failed]
