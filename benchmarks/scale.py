"""Seconds and memory of a step over the edges of a graph: `python -m benchmarks.scale`."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import recmodels
from benchmarks.command import add_shared, main, parse, parser_of, positive
from benchmarks.rows import Results, Row, table
from benchmarks.scale_plot import draw
from benchmarks.synthetic import BATCH_SIZE, GROWTHS, SyntheticModel
from benchmarks.worker import Worker
from recmodels.cli import Remedies
from recmodels.experiments.hardware import cpu_name

COLUMNS = {
    "model": ("model", ""),
    "edges": ("edges", ",d"),
    "users": ("users", ",d"),
    "items": ("items", ",d"),
    "step_s": ("s a step", ".3f"),
    "peak_mb": ("peak MB", ".0f"),
    "s_per_million_edges": ("s per M edges", ".3f"),
    "mb_per_million_edges": ("MB per M edges", ".0f"),
}
FIT_COLUMNS = {
    "model": ("model", ""),
    "quantity": ("quantity", ""),
    "slope": ("log-log slope", ".2f"),
    "deviation_percent": ("off the straight line, %", ".1f"),
}
QUANTITIES = {"step_s": "seconds of a step", "peak_mb": "peak MB"}
CAPTION = (
    f"Batches of {BATCH_SIZE} real edges with random negatives; centroids are random unit vectors, no E-step. Peak: "
    "during the steps, graph and model\nincluded, less the imports. Off the line: largest distance from the affine "
    "least-squares fit, relative to the measured value."
)
REMEDIES = Remedies(folder="choose a folder you may write, with --out", disk="free disk space", memory="--edges")
_WARM_UP = 5  # until the memory of freed tensors hardly grows


class ProcessRun(NamedTuple):
    """What one process of one size has measured.

    Attributes:
        facts: of the graph and the process.
        steps_s: seconds of each timed step.
        peak_mb: its memory; None where the system cannot tell.
    """

    facts: dict[str, int]
    steps_s: list[float]
    peak_mb: float | None


def log_log_slope(x: Sequence[float], y: Sequence[float]) -> float | None:
    """The exponent of the power law that fits best.

    Args:
        x: > 0.
        y: > 0, as many.

    Returns:
        Least-squares slope of log y over log x; None for fewer than two distinct x.
    """
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(set(x)) > 1 else None


def line_deviation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """How far the worst point is from a straight line.

    Args:
        x: any unit.
        y: > 0, as many.

    Returns:
        Largest |y - line| / y in percent, line being the affine least-squares fit; None for fewer than three distinct
        x, through which a line always passes.
    """
    if len(set(x)) < 3:
        return None
    line = np.polyval(np.polyfit(x, y, 1), x)
    return float(100 * np.max(np.abs(np.asarray(y) - line) / np.asarray(y)))


def fits(rows: Sequence[Row]) -> list[Row]:
    """Slope and deviation of each model and quantity that was measured at every size."""
    found = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        edges = [row["edges"] for row in own]
        for key, title in QUANTITIES.items():
            values = [row[key] for row in own]
            if None not in values:
                fit = {"slope": log_log_slope(edges, values), "deviation_percent": line_deviation(edges, values)}
                found.append({"model": model, "quantity": title, **fit})
    return found


def scale_row(model: str, runs: Sequence[ProcessRun]) -> Row:
    """The row of one model at one size, whose processes have the same facts."""
    facts, seconds, peaks_mb = runs[0].facts, list(chain(*(run.steps_s for run in runs))), [run.peak_mb for run in runs]
    known = [peak for peak in peaks_mb if peak is not None]
    millions, step_s, peak_mb = facts["edges"] / 1e6, median(seconds), median(known) if known else None
    per_million = {"s_per_million_edges": step_s / millions, "mb_per_million_edges": peak_mb and peak_mb / millions}
    totals = {"step_s": step_s, "peak_mb": peak_mb, **per_million}
    return {"model": model, **facts, **totals, "steps_s": seconds, "peaks_mb": peaks_mb}


def measure(model: str, options: argparse.Namespace) -> Iterator[list[Row]]:
    """Takes steps of one model at every size, several times in processes of their own; the rows after each round."""
    sizes, rounds = sorted(set(options.edges)), list[list[ProcessRun]]()
    total = options.processes * (len(sizes) + options.steps)
    with tqdm(total=total, desc=f"{model}, warm-ups and turns", disable=None) as bar:  # only on a terminal
        for _ in range(options.processes):
            rounds.append(_round(model, sizes, options, bar.update))
            yield [scale_row(model, of_size) for of_size in zip(*rounds, strict=True)]


def _round(
    model: str, sizes: Sequence[int], options: argparse.Namespace, told: Callable[[], object]
) -> list[ProcessRun]:
    """One process of each size; they take turns step by step, so that a slow stretch of the machine meets all."""
    with ExitStack() as stack:
        workers, are_reset = [], []
        for n_edges in sizes:
            given, named = (model, n_edges, options.growth, options.seed), f"{model}, {n_edges:,} edges"
            workers.append(stack.enter_context(Worker(SyntheticModel, *given, name=named, remedies=REMEDIES)))
            are_reset.append(workers[-1].reset_peak())
            workers[-1].run(SyntheticModel.steps, _WARM_UP)
            told()
        seconds = [list[float]() for _ in sizes]
        for _ in range(options.steps):
            for worker, own in zip(workers, seconds, strict=True):
                own += worker.run(SyntheticModel.steps, 1)
            told()
        return [
            ProcessRun(worker.run(SyntheticModel.facts), own, worker.peak_mb() if is_reset else None)
            for worker, own, is_reset in zip(workers, seconds, are_reset, strict=True)
        ]


def options_of(argv: Sequence[str]) -> argparse.Namespace:
    """The options of the command."""
    parser = parser_of("benchmarks.scale", "Seconds and memory of a training step on synthetic graphs of growing size.")
    sizes = [1_000_000, 2_000_000, 4_000_000, 8_000_000]
    parser.add_argument("--edges", nargs="+", type=positive, default=sizes, help="edges of each graph")
    growth = "what grows: nodes (25 edges a user) or density (100,000 users)"
    parser.add_argument("--growth", choices=GROWTHS, default="nodes", help=growth)
    parser.add_argument("--steps", type=positive, default=8, help="timed steps of each process; the median counts")
    parser.add_argument("--processes", type=positive, default=3, help="of each size; the median of their peaks counts")
    parser.add_argument("--seed", type=int, default=2020, help="seed of graphs, models and batches")
    add_shared(parser, ["LightGCN", "NCL_OT"])
    return parse(parser, argv)


def run(argv: Sequence[str], results: Results) -> None:
    """Measures, writes after every round, prints and draws."""
    options, rows = options_of(argv), list[Row]()
    path = Path(options.out) / f"scale-{options.growth}.jsonl"
    header = {name: getattr(options, name) for name in ("growth", "steps", "processes", "seed")}
    header["batch_size"] = BATCH_SIZE
    for model in options.models:
        finished = list(rows)
        for number, found in enumerate(measure(model, options), start=1):
            print(f"{model}, round {number} of {options.processes}", file=sys.stderr, flush=True)
            rows = finished + found
            machine_row = {"threads": rows[0]["threads"], "cpu": cpu_name(), "recmodels": recmodels.__version__}
            results.write(path, [header | machine_row, *rows])
    found = fits(rows)
    results.write(path, [header | machine_row, *rows, *found])
    draw(rows, path.with_suffix(".png"))
    print(f"{table(COLUMNS, rows)}\n\n{table(FIT_COLUMNS, found)}\n\n{CAPTION}")


if __name__ == "__main__":
    sys.exit(main(run, sys.argv[1:], REMEDIES))
