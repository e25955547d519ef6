"""A page of tables as Markdown, CSV and LaTeX. The same runs give the same bytes."""

import math
import os
import statistics
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pandas as pd

from recmodels.data.evaluation import is_smaller_better
from recmodels.experiments.folder import CONFIG
from recmodels.reporting.comparison import Comparison
from recmodels.reporting.conditions import distinct, hardware_text, picked, protocol, versions_text
from recmodels.reporting.finished import Run
from recmodels.reporting.notation import (
    DECIMALS,
    NOTHING,
    engine_note,
    figure,
    latex_text,
    markdown_table,
    markdown_text,
    signed,
)
from recmodels.reporting.paired import Difference
from recmodels.reporting.published import Published
from recmodels.reporting.table import Row, Table

_SHORT = {"recall": "R", "ndcg": "N"}
_LEGEND = """\
R is recall, N NDCG, ± the standard deviation over seeds (n - 1); a row of one seed has no deviation. Of the runs here
the best mean is bold and the second underlined; figures reported by others are not ranked, they come from other splits
and machines. Epochs include those after the best; seconds an epoch is a median on a machine that may have been shared,
so `make bench` compares speed; memory is the peak of the process."""
_DIFFERENCES = """\
Mean over users and shared seeds of row minus `{against}`: difference [95 % interval], relative difference, two-sided
p-value, by bootstrap over seeds and users, paired by both. One seed gives an interval for other users of that seed and
no p-value; the interval of two seeds covers 97 to 100 % in simulations. A control compares two halves of one row's
seeds, where only chance differs: its interval should hold 0."""


class Page(NamedTuple):
    """What is written about one data set.

    Attributes:
        title: heading.
        command: regenerates the page.
        tables: one for each split.
        metrics: shown, in this order.
        published: rows of others, shown below ours.
        against: the row that others are compared with, or None.
        differences: fingerprint of a split to its comparisons.
        notes: what was left out, a line each.
    """

    title: str
    command: str
    tables: Sequence[Table]
    metrics: Sequence[str]
    published: Sequence[Published]
    against: str | None
    differences: Mapping[str, Sequence[Comparison]]
    notes: Sequence[str]

    @property
    def runs(self) -> list[Run]:
        """Of all tables."""
        return [run for table in self.tables for row in table.rows for run in row.runs]

    @property
    def machines(self) -> list[str]:
        """Each hardware once; the first is A in the tables."""
        return sorted({hardware_text(run) for run in self.runs})


class _Style(NamedTuple):
    """How a language marks and writes text."""

    best: str
    second: str
    text: Callable[[str], str]


_MARKDOWN = _Style("**{}**", "<u>{}</u>", markdown_text)
_LATEX_COLUMNS = {"model": "l", "settings": r"p{0.4\linewidth}", "seeds": "l"}
_LATEX = _Style(r"\textbf{{{}}}", r"\underline{{{}}}", latex_text)


def to_markdown(page: Page, folder: Path) -> str:
    """The page, with links from `folder` to the configurations."""
    parts = [f"# {page.title}", "\n".join(_facts(page)), f"```bash\n{page.command}\n```"]
    for table in page.tables:
        label = ", ".join([table.split_sha256[:12], *distinct(text for run in _runs(table) for text in picked(run))])
        parts += [f"## Split {label}"] if len(page.tables) > 1 else []
        parts.append(markdown_table(_frame(page, table, _MARKDOWN, lambda row: _links(row, folder))))
        differences = page.differences.get(table.split_sha256)
        if differences:
            intro = _DIFFERENCES.format(against=page.against)
            parts += ["Differences:", markdown_table(_difference_frame(differences)), intro]
    parts += [_LEGEND, "\n".join(f"- not shown: {note}" for note in page.notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_csv(page: Page, folder: Path) -> str:
    """Unrounded figures, one line a row, with names that a program can rely on and paths from `folder`."""
    lines = [_record(row, table, page.metrics, folder) for table in page.tables for row in table.rows]
    lines += [
        {"model": row.model, "source": row.source} | {metric: row.metrics.get(metric) for metric in page.metrics}
        for row in page.published
    ]
    return pd.DataFrame(lines).to_csv(index=False, lineterminator="\n")


def to_latex(page: Page, folder: Path) -> str:
    """Tables for the package booktabs on landscape pages; settings wrap.

    Comments name the configurations, from `folder`, and say where pdflatex is not enough.
    """
    parts = []
    for table in page.tables:
        frame = _frame(page, table, _LATEX, lambda row: _counted([str(seed) for seed in row.seeds]))
        columns = "".join(_LATEX_COLUMNS.get(str(column), "r") for column in frame)
        parts += [f"% split {table.split_sha256}\n"]
        parts += [f"% {latex_text(row.name)}: {' '.join(_configs(row, folder))}\n" for row in table.rows]
        parts += [frame.to_latex(index=False, escape=False, column_format=columns)]
    body = "".join(parts)
    return f"% {page.command}\n{engine_note(body)}{body}"


def _facts(page: Page) -> list[str]:
    """What all figures depend on."""
    splits = [f"- split: `{t.split_sha256}`, {'; or '.join(distinct(map(protocol, _runs(t))))}" for t in page.tables]
    return [
        f"- data: {page.tables[0].dataset}",
        *splits,
        *(f"- hardware {_letter(place)}: {text}" for place, text in enumerate(page.machines)),
        f"- versions: {versions_text(page.runs)}",
        "- made by:",
    ]


def _frame(page: Page, table: Table, style: _Style, seeds: Callable[[Row], str]) -> pd.DataFrame:
    """Cells as text; a column in which nothing stands is left out."""
    columns: dict[str, list[str]] = {
        "model": [row.name for row in table.rows] + [row.model for row in page.published],
        "settings": [row.settings for row in table.rows] + [""] * len(page.published),
    }
    columns = {name: [style.text(cell) for cell in cells] for name, cells in columns.items()}
    for metric in page.metrics:
        theirs = [figure(row.metrics.get(metric)) for row in page.published]
        columns[_heading(metric)] = _metric_cells(table.rows, metric, style) + [style.text(cell) for cell in theirs]
    measured = [_measured(row, page.machines) for row in table.rows]
    for name in measured[0]:
        columns[name] = [style.text(cells[name]) for cells in measured] + [style.text(NOTHING)] * len(page.published)
    columns["seeds"] = [seeds(row) for row in table.rows]
    columns["seeds"] += [style.text(f"reported: {row.source}") for row in page.published]
    return pd.DataFrame({name: cells for name, cells in columns.items() if any(cells)})


def _metric_cells(rows: Sequence[Row], metric: str, style: _Style) -> list[str]:
    """Mean and deviation; equal figures are marked alike, and a single row is not marked."""
    means = [row.mean(metric) for row in rows]
    shown = {round(mean, DECIMALS) for mean in means if mean is not None}
    ranked = sorted(shown, reverse=not is_smaller_better(metric)) if len(rows) > 1 else []
    cells = []
    for row, mean in zip(rows, means, strict=True):
        place = ranked.index(round(mean, DECIMALS)) if mean is not None and ranked else None
        deviation = row.deviation(metric)
        text = figure(mean) + (f" ± {figure(deviation)}" if deviation is not None else "")
        cells.append(
            {0: style.best, 1: style.second}.get(-1 if place is None else place, "{}").format(style.text(text))
        )
    return cells


def _measured(row: Row, machines: Sequence[str]) -> dict[str, str]:
    """Costs and place of a row."""
    parameters, epochs = row.values("n_parameters"), row.values("epochs_run")
    seconds, memory = row.values("seconds_per_epoch"), row.values("peak_rss_mb")
    used = sorted({machines.index(hardware_text(run)) for run in row.runs})
    return {
        "parameters": " to ".join(f"{number:,}" for number in dict.fromkeys(parameters)) or NOTHING,
        "epochs": " to ".join(str(number) for number in sorted({*epochs[:1], *epochs[-1:]})) or NOTHING,
        "s/epoch": f"{statistics.median(seconds):.3g}" if seconds else NOTHING,
        "memory MB": f"{max(memory):,.0f}" if memory else NOTHING,
        "hardware": ", ".join(map(_letter, used)),
    }


def _record(row: Row, table: Table, metrics: Sequence[str], folder: Path) -> dict[str, Any]:
    """One line of the CSV."""
    figures = {
        name: value
        for metric in metrics
        for name, value in ((metric, row.mean(metric)), (f"{metric} deviation", row.deviation(metric)))
    }
    costs = {
        key: statistics.median(row.values(key)) if row.values(key) else None
        for key in ("n_parameters", "epochs_run", "seconds_per_epoch", "peak_rss_mb")
    }
    names = {"model": row.name, "settings": row.settings, "source": "here", "seeds": " ".join(map(str, row.seeds))}
    hardware = "; ".join(distinct(hardware_text(run) for run in row.runs))
    configs = " ".join(_configs(row, folder))
    return names | figures | costs | {"hardware": hardware, "split_sha256": table.split_sha256, "configs": configs}


def _difference_frame(differences: Sequence[Comparison]) -> pd.DataFrame:
    lines = []
    for found in differences:
        cells = {_heading(metric): _difference(difference) for metric, difference in found.by_metric.items()}
        lines.append({"model": markdown_text(found.label), "seeds": found.seeds} | cells)
    return pd.DataFrame(lines)


def _difference(found: Difference) -> str:
    mean, low, high = map(signed, (found.mean, found.low, found.high))
    relative = NOTHING if math.isnan(found.relative) else f"{found.relative:+.1%}"
    return f"{mean} [{low}, {high}], {relative}, {_p_value(found.p_value)}"


def _p_value(value: float | None) -> str:
    if value is None:
        return "no p"
    return "p < .001" if value < 0.001 else f"p {f'{value:.3f}'.removeprefix('0')}"


def _links(row: Row, folder: Path) -> str:
    """The seeds, each a link to its configuration."""
    return _counted([f"[{seed}]({path})" for seed, path in zip(row.seeds, _configs(row, folder), strict=True)])


def _configs(row: Row, folder: Path) -> list[str]:
    """Paths of the configurations of its runs, quoted as in a link."""
    return [quote(Path(os.path.relpath(run.folder / CONFIG, folder)).as_posix()) for run in row.runs]


def _counted(seeds: Sequence[str]) -> str:
    return f"{len(seeds)}: {', '.join(seeds)}"


def _heading(metric: str) -> str:
    name, _, k = metric.partition("@")
    return f"{_SHORT.get(name, name)}@{k}" if k else name


def _letter(place: int) -> str:
    return string.ascii_uppercase[place] if place < 26 else f"Z{place}"


def _runs(table: Table) -> list[Run]:
    return [run for row in table.rows for run in row.runs]
