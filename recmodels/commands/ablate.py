"""The command line of `recmodels ablate`."""

import argparse
import os
import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recmodels.commands.options import OptionParser, first_word, limit_threads, misspelled, positive, require_optuna
from recmodels.errors import TrainingError
from recmodels.layers import parse_argv
from recmodels.params import raise_all

if TYPE_CHECKING:
    from recmodels.ablation.points import Plan

_USAGE = """\
usage: recmodels ablate NAME_OR_FILE [--seeds=N] [--points=NAME ...] [--jobs=J] [--report] [--KEY=VALUE ...]

Runs every point of a file with every seed, each an ordinary run folder with its test result, and ends with a table and
a report: paired differences to a base point, shares of the terms, pictures, and a page for a browser.
  recmodels ablate losses --dataset=ml-100k --epochs=50
  recmodels ablate my_points.yaml --seeds=3 --jobs=2
  recmodels ablate my_points.yaml --seeds=3 --report --base=softmax

  NAME_OR_FILE       a YAML file, see below, or the name of a shipped one (properties/ablation/)
  --seeds=N          N seeds from the first one of the file on (default: those of the file, or 2020 alone)
  --points=NAME      only this point, or those like 'power_*', and what they need; may be given again for others
  --jobs=J           processes at a time (default 1); each gets its share of the cores
  --threads=N        threads of each process instead
  --retry-failed     also run what failed before, after its last finished epoch
  --report           only write the report of what is finished; nothing is run
  --out=DIR          the report goes to DIR (default: report/ beside the runs)
  --base=POINT       what the report compares points with (default: the first one that is no control)
  --runs_dir=DIR     the runs go to DIR/NAME-DATASET/POINT-SEED-HASH (default runs)
  --KEY=VALUE        any key of `recmodels train`, the same for all points; wins over base

  base: {model: LightGCN, config_files: [LightGCN-ml-1m]}    # overrides of all points; presets come first
  points:
    bpr: {}                                                  # base as it is
    softmax: {rec_loss: softmax, reported: {recall@10: 0.2057}, note: figures of a diary}
    again: {control_of: bpr}                                 # the values of bpr, the seeds of bpr + 1000
    deep: {n_layers: 6, seeds: 5}                            # seeds of its own
    pruned: {compact_of: bpr, prune: 0.4}                    # of each run of bpr the largest 40 % of its table, again
  grid: {n_layers: [2, 4], reg_weight: [0, 1e-4]}            # four more points: n_layers=2,reg_weight=0 ...
  seeds: 3                                                   # 2020, 2021, 2022; or a list

The hash is of the values that decide a number, the split and the version. The same command continues: what is finished
is skipped, what was interrupted goes on after its last finished epoch, also beside other processes of the same command
on this machine. A run that fails is recorded with its error, and the next one begins.
"""
_OWN = ("seeds", "points", "jobs", "threads", "retry-failed", "report", "out", "base")


def run(arguments: Sequence[str]) -> str:
    """Runs `recmodels ablate ...`.

    Args:
        arguments: what follows `ablate`.

    Returns:
        What to print: the table, what was written, or help.

    Raises:
        UserError: an option, a key or the file is wrong, the folder is of something else, or Optuna is missing.
        TrainingError: the processes ended before their time, or no run has a result.
    """
    if not arguments or "-h" in arguments or "--help" in arguments:
        return _USAGE
    path, rest = first_word(arguments)
    require_optuna("ablate")
    options, others = _parser().parse_known_args(rest)
    overrides = parse_argv(others)
    problems = [] if path else ["NAME_OR_FILE: no file; write recmodels ablate NAME_OR_FILE, such as losses"]
    raise_all("recmodels ablate", [*problems, *misspelled(overrides, _OWN)])
    assert path is not None  # it is a problem otherwise
    _share_cores(options)
    return _ablate(path, options, overrides)


def _parser() -> OptionParser:
    parser = OptionParser("ablate")
    parser.add_argument("--seeds", type=positive)
    parser.add_argument("--points", action="append", default=[])
    parser.add_argument("--jobs", type=positive, default=1)
    parser.add_argument("--threads", type=positive)
    parser.add_argument("--retry-failed", "--retry_failed", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--out")
    parser.add_argument("--base")
    return parser


def _share_cores(options: argparse.Namespace) -> None:
    """Processes with more threads than there are cores wait for each other."""
    if options.threads:
        limit_threads(options.threads)
    elif options.jobs > 1 and "OMP_NUM_THREADS" not in os.environ:
        limit_threads(max((os.cpu_count() or 1) // options.jobs, 1))


def _ablate(path: str, options: argparse.Namespace, overrides: dict[str, Any]) -> str:
    from recmodels.ablation.ablation_file import load_ablation  # here, so that --help answers at once
    from recmodels.ablation.evidence import base_point
    from recmodels.ablation.points import chosen_points, make_plan
    from recmodels.ablation.report import write_report

    name, points = load_ablation(path, overrides, options.seeds)
    points = chosen_points(points, options.points)
    base_point(points, options.base)
    plan = make_plan(name, points)
    if not options.report:
        return _run(plan, options)
    raise_all("--report", [] if plan.folder.is_dir() else [f"no runs in {plan.folder}; leave it out to run them"])
    return f"wrote {write_report(plan, _out(options), options.base)}, and beside it Markdown, CSV, LaTeX and pictures"


def _run(plan: "Plan", options: argparse.Namespace) -> str:
    from recmodels.ablation.ablate import Work, ablate, failed_trials
    from recmodels.ablation.points import finished_runs
    from recmodels.ablation.report import write_report
    from recmodels.ablation.table import TABLE, write_table

    print("".join(_remarks(plan)), end="", flush=True)  # noqa: T201
    retried = failed_trials(plan) if options.retry_failed else frozenset()
    try:
        ablate(Work(plan, retried), options.jobs, partial(print, flush=True))  # noqa: T203
    finally:
        text = write_table(plan)
    page = write_report(plan, _out(options), options.base)
    after = [f"this table:   {plan.folder / TABLE}", f"report:       {page}"]
    if not any(finished_runs(plan).values()):
        raise TrainingError("\n".join(["no run has a result", text, *after, "--retry-failed runs them once more"]))
    return "\n".join(["", text, *after, f"full tables:  recmodels report {shlex.quote(str(plan.folder))}"])


def _remarks(plan: "Plan") -> Iterator[str]:
    """What can hardly be meant of the points whose values the file gives, a line each."""
    from recmodels.experiments.session import remarks

    for point in plan.points:
        if point.control_of is None and point.compact is None:
            yield from (f"point {point.name}: {remark}\n" for remark in remarks(point.resolved))


def _out(options: argparse.Namespace) -> Path | None:
    return Path(options.out) if options.out else None
