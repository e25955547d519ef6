"""Our models beside RecBole's, epoch by epoch in turns: `python -m benchmarks.bench`."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks.breakdown import WARM_UP_STEPS, breakdown_table, measure, why_no_parts, write_breakdown
from benchmarks.command import TRAINING_REMEDIES, common_options, main, parse, positive, settings_of
from benchmarks.conditions import agreed, conditions
from benchmarks.ours import FitSide, OurSide
from benchmarks.recbole_side import CLASSES, RecboleSide
from benchmarks.rows import Measured, Results, Row, paired_ratio, row, table
from benchmarks.side import Settings, Side
from benchmarks.worker import Worker
from recmodels.models import FILTERS

# Models that are measured in turns with each other, because their rows are compared.
GROUPS = (("LightGCN",), ("NCL", "NCL_OT"), ("SGL", "SimGCL", "XSimGCL", "LightGCL"), tuple(FILTERS))
SIDES: dict[str, type[Side]] = {"ours": OurSide, "RecBole": RecboleSide}
COLUMNS = {
    "model": ("model", ""),
    "ours_s": ("ours s", ".2f"),
    "recbole_s": ("RecBole s", ".2f"),
    "ratio": ("ratio", ".2f"),
    "ours_to_ncl": ("step to our NCL's", ".2f"),
    "ours_peak_mb": ("ours peak MB", ".0f"),
    "recbole_peak_mb": ("RecBole peak MB", ".0f"),
    "ours_eval_s": ("eval s", ".2f"),
}
HOST_PEAK = "memory of the process less that after its imports"
DEVICE_PEAK = "what torch held on the GPU, model and graph included"
_BREAKDOWN_STEPS = 20
# Steps of NCL and NCL_OT in turns; epochs in turns leave their ratio to the machine's slow stretches.
_TURNS = 120


@dataclass
class Runner:
    """One worker and what it took so far."""

    model: str
    library: str
    worker: Worker
    epochs_s: list[float] = field(default_factory=list)
    steps_s: list[float] = field(default_factory=list)
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

    def read_peak(self) -> None:
        """The peak of the memory that the model lives in: the GPU's, or that of the process."""
        on_device = self.worker.run(Side.device_peak_mb)
        self.peak_mb = self.worker.peak_mb() if on_device is None else on_device


class Group(NamedTuple):
    """What was measured in turns.

    Attributes:
        rows: one a model.
        breakdowns: one a model, none where steps cannot be taken in parts.
        facts: what all sides agree in.
    """

    rows: list[Row]
    breakdowns: list[Row]
    facts: Row


def measure_group(names: Sequence[str], options: argparse.Namespace, known: Sequence[tuple[str, Row]]) -> Group:
    """Measures models in turns: one process works at a time, all are kept until the group is done.

    Args:
        names: of the models.
        options: of the command.
        known: facts of earlier groups by their names, with which this one must agree.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        runners = [
            Runner(name, library, stack.enter_context(_worker(settings_of(options, name, folder), library)))
            for name in names
            for library in _libraries(name, options)
        ]
        facts = _common_facts(runners, known)
        _take_turns(runners, options.epochs)
        ours = [runner for runner in runners if runner.library == "ours"]
        if {"NCL", "NCL_OT"} <= set(names):
            _take_steps(ours, min(options.steps or _TURNS, _TURNS))
        _evaluate(ours, options.epochs)
        n_steps = min(options.steps or _BREAKDOWN_STEPS, _BREAKDOWN_STEPS)
        with_steps = [runner for runner in ours if runner.model not in FILTERS]
        taken_apart = with_steps if why_no_parts(options) is None else []
        breakdowns = [{"model": runner.model, **runner.worker.run(measure, n_steps)} for runner in taken_apart]
    return Group(_rows(names, runners), breakdowns, facts)


def _worker(settings: Settings, library: str) -> Worker:
    side = FitSide if settings.model in FILTERS else SIDES[library]
    return Worker(side, settings, name=f"{settings.model}, {library}", remedies=TRAINING_REMEDIES)


def _libraries(name: str, options: argparse.Namespace) -> list[str]:
    return ["ours", "RecBole"] if name in CLASSES and not options.gpu else ["ours"]


def _common_facts(runners: Sequence[Runner], known: Sequence[tuple[str, Row]]) -> Row:
    return agreed([*known, *((f"{r.model}, {r.library}", r.worker.run(Side.facts)) for r in runners)])


def _take_turns(runners: Sequence[Runner], n_epochs: int) -> None:
    """Warm-up, epochs in turns, and then the peaks, before anything but training has used memory."""
    for runner in runners:
        runner.worker.run(Side.warm_up)
    for epoch in range(1, n_epochs + 1):
        for runner in runners:
            runner.epochs_s.append(runner.timed(f"epoch {epoch} of {n_epochs}", Side.epoch))
    for runner in runners:
        runner.read_peak()


def _take_steps(runners: Sequence[Runner], n_turns: int) -> None:
    """Steps in turns, after a few that are not timed."""
    for runner in runners:
        runner.worker.run(OurSide.begin_epoch)
    for turn in range(WARM_UP_STEPS + n_turns):
        for runner in runners:
            seconds = runner.worker.run(OurSide.step)
            runner.steps_s += [] if turn < WARM_UP_STEPS else [seconds]


def _evaluate(runners: Sequence[Runner], n_times: int) -> None:
    for time in range(1, n_times + 1):
        for runner in runners:
            runner.evals_s.append(runner.timed(f"evaluation {time} of {n_times}", OurSide.evaluate))


def _rows(names: Sequence[str], runners: Sequence[Runner]) -> list[Row]:
    found = {(runner.model, runner.library): runner.measured() for runner in runners}
    steps = {runner.model: runner.steps_s for runner in runners if runner.library == "ours"}
    to_ncl = paired_ratio(steps.get("NCL_OT", []), steps.get("NCL", []))
    return [
        row(name, found[name, "ours"], found.get((name, "RecBole")), to_ncl if name == "NCL_OT" else None)
        for name in names
    ]


def header(options: argparse.Namespace, facts: Row) -> Row:
    """The conditions of epochs."""
    return conditions(options, facts) | {
        "epochs": options.epochs,
        "steps_taken": min(options.steps or facts["steps_per_epoch"], facts["steps_per_epoch"]),
        "peak": DEVICE_PEAK if options.gpu else HOST_PEAK,
    }


def describe(header: Row, rows: Sequence[Row]) -> str:
    """Conditions, table, and the share of evaluation."""
    shown = {key: header[key] for key in ("dataset", "device", "batch_size", "threads", "epochs")}
    lines = [", ".join(f"{key} {value}" for key, value in shown.items()) + "; seconds of an epoch are medians"]
    lines.append(f"peak: {header['peak']}")
    if header["overrides"]:
        lines.append(f"with {header['overrides']}")
    if header["steps_taken"] < header["steps_per_epoch"]:
        lines.append(f"EPOCHS CUT after {header['steps_taken']} of {header['steps_per_epoch']} steps")
    fitted = [found["model"] for found in rows if found["model"] in FILTERS]
    if fitted:
        lines.append(f"{', '.join(fitted)}: seconds of the whole fit, which is all there is; RecBole has no such class")
    lines += ["", table(COLUMNS, rows), ""]
    for found in rows:
        if found["model"] == "NCL":
            share = found["ours_eval_s"] / found["ours_s"]
            lines.append(f"one evaluation on valid takes {share:.0%} of an epoch of our NCL")
    return "\n".join(lines)


def run(argv: Sequence[str], results: Results) -> None:
    """Measures, writes after every group, and prints."""
    parser = common_options(
        "benchmarks.bench", "Seconds and memory of our models beside RecBole's own classes.", list(FILTERS)
    )
    parser.add_argument("--epochs", type=positive, default=3, help="timed epochs, or fits; the median counts")
    options = parse(parser, argv)
    no_parts = why_no_parts(options)
    rows: list[Row] = []
    breakdowns: list[Row] = []
    known: list[tuple[str, Row]] = []
    for names in filter(None, [[name for name in group if name in options.models] for group in GROUPS]):
        found = measure_group(names, options, known)
        known.append((f"the group of {names[0]}", found.facts))
        rows += found.rows
        breakdowns += found.breakdowns
        top = header(options, found.facts)
        results.write(Path(options.out) / f"bench-{options.dataset}.jsonl", [top, *rows])
        if breakdowns:
            write_breakdown(results, options, found.facts, breakdowns)
    why = no_parts or "filters have no steps"
    parts = breakdown_table(breakdowns) if breakdowns else f"no steps in parts: {why}"
    print("\n".join([describe(top, rows), "", parts, "", *map(json.dumps, rows)]))


if __name__ == "__main__":
    sys.exit(main(run, sys.argv[1:], TRAINING_REMEDIES))
