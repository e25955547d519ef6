"""The command line of `recmodels ablate`."""

import argparse
import os
import shlex
from collections.abc import Sequence
from functools import partial
from typing import Any

from recmodels.commands.options import OptionParser, limit_threads, misspelled, positive, require_optuna
from recmodels.layers import parse_argv
from recmodels.params import raise_all

_USAGE = """\
usage: recmodels ablate NAME_OR_FILE [--seeds=N] [--jobs=J] [--retry-failed] [--KEY=VALUE ...]

Runs every point of a file with every seed, each an ordinary run folder with its test result, and ends with a table.
  recmodels ablate losses --dataset=ml-100k --epochs=50
  recmodels ablate my_points.yaml --seeds=3 --jobs=2

  NAME_OR_FILE       a YAML file, see below, or the name of a shipped one (properties/ablation/)
  --seeds=N          N seeds from the first one of the file on (default: those of the file, or 2020 alone)
  --jobs=J           processes at a time (default 1); each gets its share of the cores
  --threads=N        threads of each process instead
  --retry-failed     also run what failed before, after its last finished epoch
  --runs_dir=DIR     the runs go to DIR/NAME-DATASET/POINT-SEED-HASH (default runs)
  --KEY=VALUE        any key of `recmodels train`, the same for all points; wins over base

  base: {model: LightGCN, config_files: [LightGCN-ml-1m]}    # overrides of all points; presets come first
  points:
    bpr: {}                                                  # base as it is
    softmax: {rec_loss: softmax, reported: {recall@10: 0.2057}, note: figures of a diary}
    again: {control_of: bpr}                                 # the values of bpr, the seeds of bpr + 1000
    deep: {n_layers: 6, seeds: 5}                            # seeds of its own
  grid: {n_layers: [2, 4], reg_weight: [0, 1e-4]}            # four more points: n_layers=2,reg_weight=0 ...
  seeds: 3                                                   # 2020, 2021, 2022; or a list

The hash is of the values that decide a number, the split and the version. The same command continues: what is finished
is skipped, what was interrupted goes on after its last finished epoch, also beside other processes of the same command
on this machine. A run that fails is recorded with its error, and the next one begins.
"""
_OWN = ("seeds", "jobs", "threads", "retry-failed")


def run(arguments: Sequence[str]) -> str:
    """Runs `recmodels ablate ...`.

    Args:
        arguments: what follows `ablate`.

    Returns:
        What to print: the table, or help.

    Raises:
        UserError: an option, a key or the file is wrong, the folder is of something else, or Optuna is missing.
        TrainingError: the processes ended before their time.
    """
    if not arguments or "-h" in arguments or "--help" in arguments:
        return _USAGE
    path, rest = (None, arguments) if arguments[0].startswith("-") else (arguments[0], arguments[1:])
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
    parser.add_argument("--jobs", type=positive, default=1)
    parser.add_argument("--threads", type=positive)
    parser.add_argument("--retry-failed", "--retry_failed", action="store_true")
    return parser


def _share_cores(options: argparse.Namespace) -> None:
    """Processes with more threads than there are cores wait for each other."""
    if options.threads:
        limit_threads(options.threads)
    elif options.jobs > 1 and "OMP_NUM_THREADS" not in os.environ:
        limit_threads(max((os.cpu_count() or 1) // options.jobs, 1))


def _ablate(path: str, options: argparse.Namespace, overrides: dict[str, Any]) -> str:
    from recmodels.ablation.ablate import Work, ablate, failed_trials  # here, so that --help answers at once
    from recmodels.ablation.ablation_file import load_ablation
    from recmodels.ablation.points import make_plan
    from recmodels.ablation.table import TABLE, write_table

    plan = make_plan(*load_ablation(path, overrides, options.seeds))
    retried = failed_trials(plan) if options.retry_failed else frozenset()
    try:
        ablate(Work(plan, retried), options.jobs, partial(print, flush=True))  # noqa: T203
    finally:
        text = write_table(plan)
    after = [f"this table:   {plan.folder / TABLE}", f"full tables:  recmodels report {shlex.quote(str(plan.folder))}"]
    return "\n".join(["", text, *after])
