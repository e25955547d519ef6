"""The report of an ablation: Markdown, CSV, LaTeX, pictures, and one page for a browser."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from recmodels.ablation.cells import evidence_frame, records, training_frame
from recmodels.ablation.evidence import BETTER, UNEQUAL, WORSE, Evidence, Line, weigh
from recmodels.ablation.findings import paragraph, reading
from recmodels.ablation.grid_study import GridStudy
from recmodels.ablation.points import Plan
from recmodels.ablation.sizes import size_frame, size_records, sized
from recmodels.ablation.sweeps import sweeps
from recmodels.ablation.table import failed_runs
from recmodels.data.evaluation import is_smaller_better
from recmodels.errors import UserError
from recmodels.experiments.example_plan import ExamplePlan, example_plans
from recmodels.files import write_text
from recmodels.reporting.epochs import read_epochs
from recmodels.reporting.html_page import Drawing, html_page, legend
from recmodels.reporting.notation import engine_note, latex_text, markdown_table, markdown_text
from recmodels.reporting.pictures import Curve, Interval, draw_curves, draw_intervals, draw_plan, draw_sweep
from recmodels.reporting.plan_svg import plan_svg
from recmodels.reporting.size_picture import Sized, draw_sizes, sizes_svg
from recmodels.reporting.svg import curves_svg, intervals_svg, sweep_svg

REPORT = "report"
_MOST_CURVES = 8  # points in the picture that is printed; the page has all of them
_FOUND = frozenset((BETTER, WORSE, UNEQUAL))


class _Shown(NamedTuple):
    """What is drawn.

    Attributes:
        curves: valid metric of every run with epochs.
        intervals: differences, as in the table.
        sweeps: key to curve.
        plans: of one user's subgraph, where a run has a transport term.
        planned: the run of those plans.
        sizes: metric and stored numbers of each point, where they differ in size.
    """

    curves: list[Curve]
    intervals: list[Interval]
    sweeps: dict[str, Curve]
    plans: list[ExamplePlan]
    planned: str
    sizes: list[Sized]


def write_report(plan: Plan, folder: Path | None = None, base: str | None = None) -> Path:
    """Writes the report of what is finished.

    Args:
        plan: of the runs.
        folder: for the files; None is `report` in the folder of the study.
        base: the point that others are compared with; None is the first one of the file that is no control.

    Returns:
        The page for a browser.

    Raises:
        ParamError: there is no such point.
        CheckpointError: files of a finished run are damaged.
        OSError: the files cannot be written.
    """
    folder = folder or plan.folder / REPORT
    evidence = weigh(plan, base)
    tables = {
        "Differences": evidence_frame(evidence),
        "Size and frequency": size_frame(evidence),
        "Training": training_frame(evidence),
    }
    tables = {name: frame for name, frame in tables.items() if len(frame)}
    shown = _Shown(_curves(evidence), _intervals(evidence), sweeps(evidence), *_plans(evidence), sized(evidence))
    folder.mkdir(parents=True, exist_ok=True)
    pictures = _draw(evidence, shown, folder)
    notes = failed_runs(plan, GridStudy(plan).latest())
    write_text(folder / "report.md", _markdown(evidence, tables, pictures, notes))
    write_text(folder / "report.csv", records(evidence).to_csv(index=False, lineterminator="\n"))
    sizes = size_records(evidence)
    if len(sizes):
        write_text(folder / "sizes.csv", sizes.to_csv(index=False, lineterminator="\n"))
    write_text(folder / "report.tex", _latex(evidence, tables))
    page = folder / "report.html"
    texts = [paragraph(evidence), _facts(plan), reading(evidence)]
    write_text(page, html_page(plan.folder.name, texts, tables, _drawings(evidence, shown), notes))
    return page


def _facts(plan: Plan) -> str:
    return f"Split {plan.split_sha256[:12]}; the best epoch is picked by valid {plan.metric}."


def _curves(evidence: Evidence) -> list[Curve]:
    """The valid metric over epochs of every run that has logged it."""
    column = f"valid/{evidence.plan.metric}"
    found = []
    for line in evidence.lines:
        for run in line.runs if line.name == line.point.name else ():
            epochs = read_epochs(run.folder)
            kept = epochs[["epoch", column]].dropna() if column in epochs else epochs.iloc[:0]
            if len(kept):
                x, y = tuple(kept["epoch"].astype(float)), tuple(kept[column].astype(float))
                found.append(Curve(line.name, x, y, is_base=line.name == evidence.base))
    return found


def _intervals(evidence: Evidence) -> list[Interval]:
    lines = [line for line in evidence.lines if evidence.metric in line.differences]
    return [_interval(line, evidence) for line in lines]


def _interval(line: Line, evidence: Evidence) -> Interval:
    found = line.differences[evidence.metric]
    return Interval(line.name, found.mean, found.low, found.high, line.verdict, line.verdict in _FOUND)


def _plans(evidence: Evidence) -> tuple[list[ExamplePlan], str]:
    """Those of the first point, the base before others, that has a transport term and still has its weights."""
    for line in sorted(evidence.lines, key=lambda line: line.name != evidence.base):
        for run in line.runs if line.point.resolved.values.get("ot_weight") else ():
            with suppress(UserError):  # its checkpoint was removed, or is of other data by now
                if found := example_plans(str(run.folder)):
                    return found, f"{line.name}, seed {run.result['seed']}"
    return [], ""


def _chosen(evidence: Evidence, curves: Sequence[Curve]) -> list[Curve]:
    """Those of the base, the controls and the points that are best by the valid metric."""
    sign = 1 if is_smaller_better(evidence.plan.metric) else -1
    best = {curve.name: min(sign * value for value in curve.y) for curve in curves}
    first = {line.name for line in evidence.lines if line.is_control or line.name == evidence.base}
    names = sorted(best, key=lambda name: (name not in first, best[name]))[:_MOST_CURVES]
    return [curve for curve in curves if curve.name in names]


def _draw(evidence: Evidence, shown: _Shown, folder: Path) -> dict[str, str]:
    """Draws what there is; file names to captions."""
    found = {}
    if shown.intervals:
        found["differences.png"] = _forest_label(evidence)
        draw_intervals(shown.intervals, _forest_label(evidence), folder / "differences.png")
    if shown.curves:
        chosen, label = _chosen(evidence, shown.curves), f"valid {evidence.plan.metric}"
        n_left = len({curve.name for curve in shown.curves}) - len({curve.name for curve in chosen})
        found["curves.png"] = f"{label} over epochs, a line a run" + (f"; {n_left} points left out" if n_left else "")
        draw_curves(chosen, label, folder / "curves.png")
    for key, curve in shown.sweeps.items():
        name = f"sweep-{key}.png"
        found[name] = f"test {curve.name} over {key}, bars of one deviation over seeds"
        draw_sweep(curve, key, folder / name)
    if shown.sizes:
        found["sizes.png"] = (
            f"test {evidence.metric} against stored numbers, masks of pruned tables too; black: one width for all nodes"
        )
        draw_sizes(shown.sizes, f"test {evidence.metric}", folder / "sizes.png")
    for n, example in enumerate(shown.plans, 1):
        found[f"plan-{n}.png"] = _plan_caption(example, shown.planned)
        draw_plan(example.plan, example.rows, example.columns, folder / f"plan-{n}.png")
    return found


def _drawings(evidence: Evidence, shown: _Shown) -> list[Drawing]:
    found = []
    if shown.intervals:
        svg = intervals_svg(shown.intervals, _forest_label(evidence))
        found.append(Drawing("Forest plot", svg, "", "Colored is what counts as a difference."))
    if shown.curves:
        label = f"valid {evidence.plan.metric}"
        svg = curves_svg(shown.curves, "epoch", label)
        found.append(Drawing("Learning curves", svg, legend(shown.curves), "A line a run; a name hides its lines."))
    for key, curve in shown.sweeps.items():
        svg = sweep_svg(curve, key, f"test {curve.name}")
        found.append(Drawing(f"Over {key}", svg, "", "Points that differ from the base in nothing else; bars: ± 1 SD."))
    if shown.sizes:
        svg = sizes_svg(shown.sizes, f"test {evidence.metric}")
        found.append(Drawing("Quality against size", svg, "", "Black: one width for all nodes; bars: ± 1 SD."))
    for example in shown.plans:
        found.append(
            Drawing("Transport plan", plan_svg(example), "", f"{_plan_caption(example, shown.planned)}; area is mass.")
        )
    return found


def _plan_caption(example: ExamplePlan, run: str) -> str:
    return f"Plan of {run}: {example.title}; distance {example.distance:.3f}"


def _forest_label(evidence: Evidence) -> str:
    return f"difference of test {evidence.metric} to {evidence.base}, 95 % interval"


def _markdown(
    evidence: Evidence, tables: Mapping[str, pd.DataFrame], pictures: Mapping[str, str], notes: Sequence[str]
) -> str:
    parts = [f"# {evidence.plan.folder.name}", markdown_text(paragraph(evidence)), _facts(evidence.plan)]
    for name, frame in tables.items():
        cells = pd.DataFrame({column: list(map(markdown_text, frame[column])) for column in frame})
        parts += [f"## {name}", markdown_table(cells)]
    parts.append(markdown_text(reading(evidence)))
    parts += [f"![{markdown_text(caption)}]({name})" for name, caption in pictures.items()]
    parts.append("\n".join(f"- {markdown_text(note)}" for note in notes))
    return "\n\n".join(part for part in parts if part) + "\n"


def _latex(evidence: Evidence, tables: Mapping[str, pd.DataFrame]) -> str:
    """Tables for the package booktabs; a comment says so where pdflatex is not enough."""
    parts = []
    for frame in tables.values():
        kept = frame.drop(columns=["state", "note"], errors="ignore")
        cells = pd.DataFrame({latex_text(str(name)): list(map(latex_text, kept[name])) for name in kept})
        parts.append(cells.to_latex(index=False, escape=False, column_format="ll" + "r" * (len(kept.columns) - 2)))
    body = "".join(parts)
    return f"% {evidence.plan.folder.name}, split {evidence.plan.split_sha256}\n{engine_note(body)}{body}"
