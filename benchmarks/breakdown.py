"""Where a step of our trainer spends its time: `python -m benchmarks.breakdown`."""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.command import TRAINING_REMEDIES, common_options, main, parse, settings_of
from benchmarks.conditions import agreed, conditions
from benchmarks.ours import OurSide
from benchmarks.rows import Results, Row, table
from benchmarks.side import synchronize
from benchmarks.worker import Worker
from recmodels.errors import ParamError
from recmodels.training.callbacks import Step

CAPTION = (
    "Medians over steps; `step`: whole trainer steps, taken in turns with those in parts; `epoch start`: the E-step "
    "and its like, once an epoch.\nThe contrasts compute their gradient in the forward sweep, so it counts in their "
    "term and not in backward.\n`rest`: callbacks, gradient norm, clipping."
)
WARM_UP_STEPS = 3
_TOTALS = (("sum_ms", "sum"), ("step_ms", "step"), ("epoch_start_ms", "epoch start"))


class Laps:
    """A stopwatch that adds milliseconds to named parts.

    Args:
        side: whose device is waited for.

    Attributes:
        ms: milliseconds by part, in the order of their first lap.
    """

    def __init__(self, side: OurSide) -> None:
        self.ms: dict[str, float] = defaultdict(float)
        self._device, self._last = side.device, time.perf_counter()

    def lap(self, part: str) -> None:
        """Adds the time since the last lap to a part."""
        synchronize(self._device)
        now = time.perf_counter()
        self.ms[part] += 1000 * (now - self._last)
        self._last = now


def measure(side: OurSide, n_steps: int) -> Row:
    """Takes real steps and steps in parts by turns, in a new epoch.

    Args:
        side: trained or not.
        n_steps: timed steps of each kind, >= 1.

    Returns:
        `parts_ms` by part, their sum `sum_ms`, and `step_ms`: medians over the steps; `epoch_start_ms` with the E-step.
    """
    start = Laps(side)
    side.begin_epoch()
    start.lap("start")
    for _ in range(WARM_UP_STEPS):
        side.step()
    wholes, parts = [], []
    for _ in range(n_steps):
        wholes.append(1000 * side.step())
        parts.append(_step_in_parts(side))
    parts_ms = {part: median(laps[part] for laps in parts) for part in parts[0]}
    totals = {"sum_ms": sum(parts_ms.values()), "step_ms": median(wholes), "epoch_start_ms": start.ms["start"]}
    return {"steps": n_steps, "parts_ms": parts_ms, **totals}


def _step_in_parts(side: OurSide) -> dict[str, float]:
    """What `Trainer._step` does in full precision, with a lap after every part."""
    trainer, model, laps, terms = side.trainer, side.session.model, Laps(side), {}
    index, found = side.next_batch()
    batch = model.batch(found)
    laps.lap("sampling")
    trainer.optimizer.zero_grad(set_to_none=True)
    laps.lap("optimizer")
    encoding = model.encode()
    laps.lap("propagation")
    for objective in model.active_objectives():
        terms[objective.name] = objective(encoding, batch)
        laps.lap(f"term {objective.name}")
    step = Step(trainer, trainer.next_epoch, index, batch, terms, model.weighted_sum(terms))
    trainer._notify("on_terms", step)
    laps.lap("rest")
    step.loss.backward()
    laps.lap("backward")
    step.norm = trainer._gradient_norm()
    trainer._notify("on_gradients", step)
    trainer._clip(step.norm)
    laps.lap("rest")
    trainer.optimizer.step()
    laps.lap("optimizer")
    trainer._notify("on_step_end", step)
    laps.lap("rest")
    return laps.ms


def breakdown_table(found: Sequence[Row]) -> str:
    """Parts below each other, models beside each other, with the caption."""
    parts = dict.fromkeys(part for record in found for part in record["parts_ms"] if part != "rest")
    lines: list[Row] = [
        {"part": part, **{record["model"]: record["parts_ms"].get(part) for record in found}}
        for part in (*parts, "rest")
    ]
    for key, title in _TOTALS:
        lines.append({"part": title, **{record["model"]: record[key] for record in found}})
    columns = {"part": ("part, ms", "")} | {record["model"]: (record["model"], ".2f") for record in found}
    return f"{table(columns, lines)}\n\n{CAPTION}"


def why_no_parts(options: argparse.Namespace) -> str | None:
    """Why steps in parts would not be whole steps, None where they are.

    Raises:
        ParamError: a value is out of range.
    """
    for model in options.models:
        run = settings_of(options, model, "").resolved().run
        keys = [key for key in ("enable_amp", "enable_scaler") if getattr(run, key)]
        if keys:
            return f"{' and '.join(keys)}: got True, expected False: steps in parts have full precision only"
    return None


def write_breakdown(results: Results, options: argparse.Namespace, facts: Row, found: Sequence[Row]) -> None:
    """The file of the breakdown, the same from both commands that measure one."""
    results.write(Path(options.out) / f"breakdown-{options.dataset}.jsonl", [conditions(options, facts), *found])


def run(argv: Sequence[str], results: Results) -> None:
    """Measures each model in a process of its own."""
    parser = common_options("benchmarks.breakdown", "Where a step of our trainer spends its time.")
    parser.set_defaults(steps=20)
    options = parse(parser, argv)
    if reason := why_no_parts(options):
        raise ParamError(f"{reason}; benchmarks.bench measures epochs with it")
    found: list[Row] = []
    known: list[tuple[str, Row]] = []
    with TemporaryDirectory() as folder:
        for model in options.models:
            settings = settings_of(options, model, folder)
            with Worker(OurSide, settings, name=f"{model}, ours", remedies=TRAINING_REMEDIES) as worker:
                known.append((model, worker.run(OurSide.facts)))
                facts = agreed(known)
                worker.run(OurSide.warm_up)
                found.append({"model": model, **worker.run(measure, options.steps)})
            write_breakdown(results, options, facts, found)
    print(breakdown_table(found))


if __name__ == "__main__":
    sys.exit(main(run, sys.argv[1:], TRAINING_REMEDIES))
