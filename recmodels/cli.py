"""The command line, `recmodels COMMAND`; `run_recbole.py` is `recmodels train`."""

import errno
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from recmodels import __version__
from recmodels.errors import ParamError, TrainingError, UserError
from recmodels.typed_values import nearest

_USAGE = """\
usage: recmodels COMMAND ...

  train     train a model                     recmodels train --model=NCL_OT --dataset=ml-100k
  demo      see it work in a few minutes      recmodels demo
  evaluate  test a finished run again         recmodels evaluate runs/NCL_OT-ml-100k-...
  data      import your data                  recmodels data import ratings ml-1m/ratings.dat --dataset=ml-1m
  report    tables and comparisons of runs    recmodels report runs --out=tables
  tune      search the best values            recmodels tune LightGCN --space=space.yaml --trials=30
  ablate    run the points of a file          recmodels ablate losses --seeds=3
  compact   train with the widths of a search recmodels compact runs/LightGCN-ml-100k-...

recmodels COMMAND --help tells more, recmodels --version which one this is.
"""

_TRAIN_USAGE = """\
usage: python run_recbole.py [--model=NAME] [--dataset=NAME] [--config_files='A.yaml B.yaml'] [--KEY=VALUE ...]
       python run_recbole.py --resume=RUN_DIR

  --model=NAME          {models} (default NCL_OT)
  --dataset=NAME        a folder under --data_path with NAME.inter (default ml-100k, bundled with recbole)
  --data_path=DIR       folder of the data sets (default dataset/)
  --config_files=FILES  YAML files or names of shipped presets, separated by spaces or commas; later ones win
  --run_dir=DIR         folder of this run (default runs/<model>-<dataset>-<time>-<hash>)
  --resume=RUN_DIR      continue an interrupted run after its last finished epoch
  --KEY=VALUE           any key of properties/overall.yaml, model/NAME.yaml, component/*.yaml, or a data set's, e.g.
                        --learning_rate=0.002 --n_layers=2 --ot_weight=0 --epochs=50 --show_progress=False

Layers, later ones win: overall.yaml, component/*.yaml, model/*.yaml, dataset/*.yaml, --config_files, command line.
Exit codes: 0 done, 1 training failed (see the diagnosis it names), 2 something you can mend, 130 interrupted.
"""

_DEMO_USAGE = """\
usage: recmodels demo [--run_dir=DIR] [--KEY=VALUE ...]

Trains NCL_OT on the bundled ml-100k for a few minutes and prints test recall@10 of the popularity baseline, of the same
model untrained, and of the trained model. Exit code 1 if the trained one is not above both.
"""

_EVALUATE_USAGE = """\
usage: recmodels evaluate RUN_DIR

Loads RUN_DIR/checkpoint.pt, ranks all items for all test users again and prints the metrics as JSON, unrounded.
"""


_FOLDER_ERRORS, _DISK_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS), (errno.ENOSPC, errno.EDQUOT)
# Of torch and what it calls; other allocators raise MemoryError.
_MEMORY_PHRASES = ("can't allocate memory", "not enough memory", "out of memory", "size calculation overflowed")


class Remedies(NamedTuple):
    """What the user of a command can do where the machine refuses, or after an interruption.

    Attributes:
        folder: about a folder or file without permission.
        disk: about a full disk.
        memory: what to lower, as words after `lower`.
        interrupted: what is said after ctrl-c.
    """

    folder: str = "choose a folder you may write, with --run_dir or --runs_dir"
    disk: str = "free disk space, then --resume=RUN_DIR continues"
    memory: str = (
        "train_batch_size, eval_batch_bytes, embedding_size or ot_centers; a teacher (distill_weight), EASE, ADMMSLIM "
        "and SLIMElastic need matrices of items x items, which only fewer items make smaller (item_inter_num_interval)"
    )
    interrupted: str = "interrupted; --resume=RUN_DIR continues after the last finished epoch"


_REMEDIES = Remedies()
_REMEDIES_OF = {
    "data": Remedies(interrupted="interrupted; no file is half-written, the same command starts again"),
    "report": Remedies(
        folder="choose a folder you may write, with --out or --under", disk="free disk space", interrupted="interrupted"
    ),
    "ablate": Remedies(
        folder="choose a folder you may write, with --runs_dir",
        disk="free disk space, then the same command continues",
        interrupted="interrupted; the same command continues, each run after its last finished epoch",
    ),
    "tune": Remedies(
        folder="choose a folder you may write, with --study",
        disk="free disk space, then the same command continues",
        interrupted="interrupted; the same command continues, this trial after its last finished epoch",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return 0
    if arguments[0] == "--version":
        print(f"recmodels {__version__}")
        return 0
    name, *rest = arguments
    if name not in _COMMANDS:
        print(f"error: unknown command {name!r}{nearest(name, _COMMANDS)}\n\n{_USAGE}", file=sys.stderr)
        return 2
    return guarded(_COMMANDS[name], rest, _REMEDIES_OF.get(name, _REMEDIES))


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Lets the signal of `kill` and of schedulers act like ctrl-c, lest the workers of an ablation outlive it."""
    if threading.current_thread() is not threading.main_thread():  # others cannot have handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def guarded(command: Callable[[list[str]], None], arguments: list[str], remedies: Remedies = _REMEDIES) -> int:
    """Runs a command and turns errors, and an interruption, into one message and an exit code."""
    logging.captureWarnings(True)
    try:
        with _interrupted_by_sigterm():
            command(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingError as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(remedies.interrupted, file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough, as in `recmodels evaluate RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, MemoryError, RuntimeError) as error:
        refused = shortage(error, remedies)
        if refused is None:
            raise
        print(f"error: {refused}", file=sys.stderr)
        return 2
    return 0


def shortage(error: Exception, remedies: Remedies) -> str | None:
    """What the machine refused, with a remedy; None for an error of the program."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        known = dict.fromkeys(_FOLDER_ERRORS, remedies.folder) | dict.fromkeys(_DISK_ERRORS, remedies.disk)
        remedy = known.get(error.errno or 0)
        return f"{where}{error.strerror or error}{f'; {remedy}' if remedy else ''}"
    text = next(iter(str(error).strip().splitlines()), "")
    # torch's error by its name, because importing torch here would delay --help
    is_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if is_memory or (isinstance(error, RuntimeError) and any(phrase in text for phrase in _MEMORY_PHRASES)):
        return f"out of memory{f' ({text})' if text else ''}; lower {remedies.memory}"
    return None


def train(arguments: list[str]) -> None:
    """`recmodels train`: a new run, or `--resume`."""
    from recmodels.experiments import run, session  # here, so that --help and mistakes answer at once
    from recmodels.layers import take_option

    if "-h" in arguments or "--help" in arguments:
        print(_TRAIN_USAGE.format(models=", ".join(session.PARAMS)))
        return
    resumed, others = take_option(arguments, "resume")
    if resumed is None:
        run_dir, others = take_option(others, "run_dir")
        run.train(session.resolve_train(others), run_dir)
        return
    if others:
        raise ParamError(
            f"--resume keeps the run's own configuration, got also {' '.join(others)}; leave them out, or start a new "
            f"run with --config_files={Path(resumed) / 'config.yaml'}"
        )
    run.resume(resumed)


def evaluate(arguments: list[str]) -> None:
    """`recmodels evaluate RUN_DIR`."""
    if "-h" in arguments or "--help" in arguments:
        print(_EVALUATE_USAGE)
        return
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise ParamError(f"evaluate takes one run folder, got {arguments}; try recmodels evaluate --help")
    from recmodels.experiments import run

    print(json.dumps(run.evaluate(arguments[0]), indent=2))


def demo(arguments: list[str]) -> None:
    """`recmodels demo`: exit code 1 if training did not beat both controls."""
    if "-h" in arguments or "--help" in arguments:
        print(_DEMO_USAGE)
        return
    from recmodels.experiments import demo as demonstration
    from recmodels.layers import parse_argv, take_option

    run_dir, others = take_option(arguments, "run_dir")
    scores = demonstration.demo(parse_argv(others), run_dir)
    print(demonstration.describe(scores))
    if not demonstration.is_success(scores):
        raise SystemExit(1)


def _of_package(name: str) -> Callable[[list[str]], None]:
    """A command of `recmodels.commands`, imported when it runs, so that the others answer at once."""
    return lambda arguments: print(import_module(f"recmodels.commands.{name}").run(arguments))


_COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": train,
    "evaluate": evaluate,
    "demo": demo,
    "data": _of_package("data"),
    "report": _of_package("report"),
    "tune": _of_package("tune"),
    "ablate": _of_package("ablate"),
    "compact": _of_package("compact"),
}
