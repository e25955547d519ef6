"""The command line of `recmodels tune`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recmodels.commands.options import OptionParser, first_word, limit_threads, misspelled, positive, require_optuna
from recmodels.errors import ParamError, TrainingError
from recmodels.layers import parse_argv
from recmodels.params import raise_all

_USAGE = """\
usage: recmodels tune MODEL --space=FILE --trials=N [--study=DIR] [--KEY=VALUE ...]
       recmodels tune --report=DIR

Searches the best values of a model's keys by its valid metric (Optuna, TPE); the test part is never looked at.
  recmodels tune LightGCN --space=space.yaml --trials=30 --dataset=ml-100k --epochs=50

  --space=FILE       what to try, see below; or the name of a shipped space, as in --space=LightGCN
  --trials=N         how many trials the study shall have; with those it has, so the same command continues it
  --study=DIR        folder of the study (default <runs_dir>/tune-<model>-<dataset>)
  --prune_after=N    end a trial that is behind the median of the others, from the 0-based epoch N on (default 10);
                     null prunes nothing
  --threads=N        threads of this process (default: OMP_NUM_THREADS, or all cores)
  --report=DIR       print the table of a study, finished or not, and write its files anew
  --KEY=VALUE        any key of `recmodels train`, the same in every trial; --seed is also that of the suggestions

A space file has a line for each key:
  learning_rate: {low: 1e-4, high: 1e-2, log: true}   # a range, of whole numbers where the key has them; or step: 0.1
  n_layers: [2, 3]                                     # choices
  reg_weight: 1e-4                                     # the same in every trial
  enqueue: [{learning_rate: 0.001, n_layers: 3}]       # settings to try first

Two workers on one machine: start the same command twice, each with half of the cores (--threads=4). They share the
study; a trial whose process was killed is continued by the next one that is free, after its last finished epoch.
A trial that fails, also by the death of three processes after the same epoch, is recorded with its reason.
The folder gets trials/ (a run folder each), trials.csv, best.yaml for --config_files, importance.png.
"""
_OWN = ("space", "trials", "study", "report", "threads", "prune_after")


def run(arguments: Sequence[str]) -> str:
    """Runs `recmodels tune ...`.

    Args:
        arguments: what follows `tune`.

    Returns:
        What to print: the report of the study, or help.

    Raises:
        UserError: an option, a key or the space is wrong, the folder belongs to another study, or Optuna is missing.
        TrainingError: no trial is complete.
    """
    if not arguments or "-h" in arguments or "--help" in arguments:
        return _USAGE
    model, rest = first_word(arguments)
    require_optuna("tune")
    options, others = _parser().parse_known_args(rest)
    overrides = parse_argv(others)
    if options.threads:
        limit_threads(options.threads)
    if options.report is not None:
        return _report(options, model, overrides)
    _check(options, model, overrides)
    return _tune(options, {"model": model, **overrides})


def _parser() -> OptionParser:
    parser = OptionParser("tune")
    parser.add_argument("--space")
    parser.add_argument("--trials", type=positive)
    parser.add_argument("--study", type=Path)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--threads", type=positive)
    parser.add_argument("--prune_after", type=_epoch, default=10)
    return parser


def _check(options: argparse.Namespace, model: str | None, overrides: dict[str, Any]) -> None:
    """What is missing or misspelled, all at once."""
    problems = [] if model else ["MODEL: no model; write recmodels tune MODEL --space=FILE --trials=N"]
    for name in ("space", "trials"):
        if getattr(options, name) is None:
            problems.append(f"{name}: no value; write --{name}={'FILE' if name == 'space' else 'N'}")
    if "model" in overrides:
        problems.append(f"model: is the first word of the command, got --model={overrides['model']}")
    raise_all("recmodels tune", [*problems, *misspelled(overrides, _OWN)])


def _report(options: argparse.Namespace, model: str | None, overrides: dict[str, Any]) -> str:
    from recmodels.tuning.report import write_report

    others = [name for name in _OWN if name not in ("report", "threads", "prune_after") and getattr(options, name)]
    if model or overrides or others:
        got = [word for word in (model, *(f"--{name}" for name in (*others, *overrides))) if word]
        raise ParamError(f"--report={options.report} reads a finished or running study, got also {' '.join(got)}")
    return write_report(options.report)


def _tune(options: argparse.Namespace, overrides: dict[str, Any]) -> str:
    from recmodels.experiments.session import resolve_train  # here, so that --help and mistakes answer at once
    from recmodels.tuning.report import TABLE, write_report
    from recmodels.tuning.space_file import load_space
    from recmodels.tuning.study import has_complete
    from recmodels.tuning.tune import Search, tune

    base = resolve_train(overrides)
    overrides = {**overrides, "dataset": base.dataset}
    search = Search(overrides, load_space(options.space, base, overrides), options.prune_after)
    folder = tune(search, options.study, options.trials, print)  # noqa: T203
    text = write_report(folder)
    if not has_complete(folder):
        print(text, flush=True)  # noqa: T201
        raise TrainingError(f"no trial is complete; {folder / TABLE} has the reasons")
    return text


def _epoch(text: str) -> int | None:
    if text in ("null", "none"):
        return None
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"got {text}, expected a whole number >= 0, or null")
    return number


_epoch.__name__ = "whole number"  # argparse names the type by it
