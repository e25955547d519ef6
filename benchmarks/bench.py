"""Our models beside RecBole's, epoch by epoch in turns: `python -m benchmarks.bench`."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import recmodels
from benchmarks import machine
from benchmarks.breakdown import breakdown_table, measure
from benchmarks.command import common_options, parse, positive, settings_of
from benchmarks.ours import OurSide
from benchmarks.recbole_side import CLASSES, RecboleSide
from benchmarks.rows import Measured, Row, row, table, write_lines
from benchmarks.side import Side
from benchmarks.worker import Worker
from recmodels.cli import guarded
from recmodels.errors import DataError

# Models that are measured in turns with each other, because their rows are compared.
GROUPS = (("LightGCN",), ("NCL", "NCL_OT"))
SIDES: dict[str, type[Side]] = {"ours": OurSide, "RecBole": RecboleSide}
COLUMNS = {
    "model": ("model", ""),
    "ours_s": ("ours s", ".2f"),
    "recbole_s": ("RecBole s", ".2f"),
    "ratio": ("ratio", ".2f"),
    "ours_to_ncl": ("to our NCL", ".2f"),
    "ours_peak_mb": ("ours peak MB", ".0f"),
    "recbole_peak_mb": ("RecBole peak MB", ".0f"),
    "ours_eval_s": ("eval s", ".2f"),
}
_BREAKDOWN_STEPS = 20


@dataclass
class Runner:
    """One worker and what it took so far."""

    model: str
    library: str
    worker: Worker
    epochs_s: list[float] = field(default_factory=list)
    peak_mb: float | None = None
    evals_s: list[float] = field(default_factory=list)

    def measured(self) -> Measured:
        """The measurements alone."""
        return Measured(self.epochs_s, self.peak_mb, self.evals_s)

    def timed(self, what: str, action: Callable[[Any], float]) -> float:
        """Seconds of an action, told on stderr."""
        seconds = self.worker.run(action)
        print(f"{self.model}, {self.library}, {what}: {seconds:.1f} s", file=sys.stderr, flush=True)
        return seconds


def measure_group(names: Sequence[str], options: argparse.Namespace) -> tuple[list[Row], list[Row], Row]:
    """Measures models in turns: one process works at a time, all are kept until the group is done.

    Returns:
        rows: one a model.
        breakdowns: one a model.
        facts: what all sides agree in.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        runners = [
            Runner(name, library, stack.enter_context(Worker(SIDES[library], settings_of(options, name, folder))))
            for name in names
            for library in _libraries(name, options)
        ]
        facts = _common_facts(runners)
        _take_turns(runners, options.epochs)
        ours = [runner for runner in runners if runner.library == "ours"]
        _evaluate(ours, options.epochs)
        n_steps = min(options.steps or _BREAKDOWN_STEPS, _BREAKDOWN_STEPS)
        breakdowns = [{"model": runner.model, **runner.worker.run(measure, n_steps)} for runner in ours]
    return _rows(names, runners), breakdowns, facts


def _libraries(name: str, options: argparse.Namespace) -> list[str]:
    return ["ours", "RecBole"] if name in CLASSES and not options.gpu else ["ours"]


def _common_facts(runners: Sequence[Runner]) -> Row:
    """The facts of the first, once all agree: another split or batch would make every ratio meaningless."""
    facts: list[Row] = [runner.worker.run(Side.facts) for runner in runners]
    for runner, found in zip(runners, facts, strict=True):
        if found != facts[0]:
            first = f"{runners[0].model}, {runners[0].library}"
            raise DataError(f"{runner.model}, {runner.library}: got {found}, expected {facts[0]} as {first}")
    return facts[0]


def _take_turns(runners: Sequence[Runner], n_epochs: int) -> None:
    """Warm-up, epochs in turns, and then the peaks, before anything but training has used memory."""
    for runner in runners:
        runner.worker.run(Side.warm_up)
    for epoch in range(1, n_epochs + 1):
        for runner in runners:
            runner.epochs_s.append(runner.timed(f"epoch {epoch} of {n_epochs}", Side.epoch))
    for runner in runners:
        runner.peak_mb = runner.worker.peak_mb()


def _evaluate(runners: Sequence[Runner], n_times: int) -> None:
    for time in range(1, n_times + 1):
        for runner in runners:
            runner.evals_s.append(runner.timed(f"evaluation {time} of {n_times}", OurSide.evaluate))


def _rows(names: Sequence[str], runners: Sequence[Runner]) -> list[Row]:
    found = {(runner.model, runner.library): runner.measured() for runner in runners}
    ncl = found.get(("NCL", "ours"))
    return [
        row(name, found[name, "ours"], found.get((name, "RecBole")), ncl if name == "NCL_OT" else None)
        for name in names
    ]


def header(options: argparse.Namespace, facts: Row) -> Row:
    """The conditions of the rows that follow."""
    run = settings_of(options, options.models[0], "").resolved().run
    return {
        "dataset": options.dataset,
        "batch_size": facts["batch_size"],
        "threads": facts["threads"],
        "seed": run.seed,
        "split_seed": run.split_seed,
        "split_sha256": facts["split_sha256"],
        "steps_per_epoch": facts["steps_per_epoch"],
        "steps_taken": min(options.steps or facts["steps_per_epoch"], facts["steps_per_epoch"]),
        "warmup_steps": options.warmup_steps,
        "epochs": options.epochs,
        "overrides": dict(options.set),
        "device": facts["device"],
        "cpu": machine.cpu_name(),
        "torch": version("torch"),
        "recbole": version("recbole"),
        "recmodels": recmodels.__version__,
    }


def describe(conditions: Row, rows: Sequence[Row]) -> str:
    """Conditions, table, and the share of evaluation."""
    shown = {key: conditions[key] for key in ("dataset", "batch_size", "threads", "epochs")}
    lines = [", ".join(f"{key} {value}" for key, value in shown.items()) + "; seconds of an epoch are medians"]
    if conditions["overrides"]:
        lines.append(f"with {conditions['overrides']}")
    if conditions["steps_taken"] < conditions["steps_per_epoch"]:
        lines.append(f"EPOCHS CUT after {conditions['steps_taken']} of {conditions['steps_per_epoch']} steps")
    lines += ["", table(COLUMNS, rows), ""]
    for found in rows:
        if found["model"] == "NCL":
            share = found["ours_eval_s"] / found["ours_s"]
            lines.append(f"one evaluation on valid takes {share:.0%} of an epoch of our NCL")
    return "\n".join(lines)


def run(argv: Sequence[str]) -> None:
    """Measures, prints and writes."""
    parser = common_options("benchmarks.bench", "Seconds and memory of our models beside RecBole's own classes.")
    parser.add_argument("--epochs", type=positive, default=3, help="timed epochs; the median counts")
    options = parse(parser, argv)
    rows: list[Row] = []
    breakdowns: list[Row] = []
    facts: Row = {}
    for group in GROUPS:
        names = [name for name in group if name in options.models]
        if names:
            more, parts, facts = measure_group(names, options)
            rows += more
            breakdowns += parts
    conditions, out = header(options, facts), Path(options.out)
    write_lines(out / f"bench-{options.dataset}.jsonl", [conditions, *rows])
    write_lines(out / f"breakdown-{options.dataset}.jsonl", [conditions, *breakdowns])
    print(f"{describe(conditions, rows)}\n\n{breakdown_table(breakdowns)}\n")
    for found in rows:
        print(json.dumps(found))


if __name__ == "__main__":
    sys.exit(guarded(run, sys.argv[1:], interrupted="interrupted; nothing was written"))
