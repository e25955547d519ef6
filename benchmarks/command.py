"""The command lines: options, what is refused before anything starts, and how a command ends."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.rows import Results
from benchmarks.side import Settings
from recmodels.cli import Remedies, guarded
from recmodels.errors import ParamError, UserError
from recmodels.layers import parse_argv
from recmodels.models import FILTERS, MODELS

OUT = "benchmarks/out"
TRAINING_REMEDIES = Remedies(
    folder="choose folders you may use, with --data_path and --out",
    disk="free disk space",
    memory="--batch-size, or values of the models with --set, say embedding_size=32",
)
_CHANGES_NOTHING = "nothing, a benchmark writes no runs"
# Keys of a run that `--set` refuses, and what decides them.
_OWNED = {
    "model": "--models",
    "dataset": "--dataset",
    "data_path": "--data_path",
    "train_batch_size": "--batch-size",
    "use_gpu": "--gpu",
    "gpu_id": "--gpu, which takes the first of CUDA_VISIBLE_DEVICES",
    "epochs": "the benchmark, with --epochs where it times epochs",
    "show_progress": "the benchmark, which shows none",
    "config_files": "--set itself, key by key",
    "runs_dir": _CHANGES_NOTHING,
    "run_dir": _CHANGES_NOTHING,
    "resume": _CHANGES_NOTHING,
}


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse.

    Raises:
        ArgumentTypeError: it is something else.
    """
    if not text.isdecimal() or not 1 <= int(text) <= sys.maxsize:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number of at least 1 and at most 2^63 - 1")
    return int(text)


def key_and_value(text: str) -> tuple[str, Any]:
    """An override `key=value`, the value read as `recmodels train` reads it, for argparse.

    Raises:
        ArgumentTypeError: there is no `=`, the value is no YAML, or an option decides the key.
    """
    key, separator, _ = text.partition("=")
    if not key or not separator:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected key=value")
    if key in _OWNED:
        raise argparse.ArgumentTypeError(f"got {text!r}, but {key} is decided by {_OWNED[key]}")
    try:
        return key, parse_argv([f"--{text}"])[key]
    except ParamError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class Overrides(argparse.Action):
    """Collects keys and values, over repeated options too; a key given twice is an error."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Adds the values of one option."""
        found = dict(getattr(namespace, self.dest))
        for key, value in values:
            if key in found:
                raise argparse.ArgumentError(self, f"got {key} twice, expected it once")
            found[key] = value
        setattr(namespace, self.dest, found)


def parser_of(module: str, description: str) -> argparse.ArgumentParser:
    """A parser whose help shows the defaults."""
    show_defaults = argparse.ArgumentDefaultsHelpFormatter
    return argparse.ArgumentParser(f"python -m {module}", description=description, formatter_class=show_defaults)


def add_shared(parser: argparse.ArgumentParser, models: Sequence[str]) -> None:
    """The options of every command; `models` are measured unless others are chosen, any of MODELS or of these."""
    choices = list(dict.fromkeys([*MODELS, *models]))
    parser.add_argument("--models", nargs="+", choices=choices, default=list(models), help="models to measure")
    parser.add_argument("--threads", type=positive, help="threads of every process; None: what OMP_NUM_THREADS says")
    parser.add_argument("--out", default=OUT, metavar="DIR", help="folder of the files")


def common_options(module: str, description: str, filters: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The options of a command that trains on a data set; `filters` are measured beside the models."""
    parser = parser_of(module, description)
    parser.add_argument("--dataset", default="ml-100k", help="name of the data set")
    parser.add_argument("--data_path", default="dataset", metavar="DIR", help="folder of the data sets")
    parser.add_argument("--batch-size", type=positive, help="triples a batch; None: what the properties say")
    parser.add_argument("--warmup-steps", type=positive, default=10, help="steps before anything is timed")
    parser.add_argument("--steps", type=positive, help="timed steps, per epoch where epochs are timed; None: all")
    what = "values of `recmodels train` for all models, say embedding_size=128; the models must know the key"
    form: dict[str, Any] = {"type": key_and_value, "action": Overrides, "metavar": "KEY=VALUE"}
    parser.add_argument("--set", nargs="+", default={}, help=what, **form)
    parser.add_argument("--gpu", action="store_true", help="use a GPU; only our models are then measured")
    add_shared(parser, [*MODELS, *filters])
    return parser


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """The options; their folder is made, and threads are set for every process that is started from here on.

    Raises:
        UserError: there is no GPU where one is asked for.
    """
    options = parser.parse_args(list(argv))
    if options.models is parser.get_default("models"):
        options.models = [name for name in options.models if name not in FILTERS or _knows(name, options.set)]
    options.models = list(dict.fromkeys(options.models))
    if getattr(options, "gpu", False) and not torch.cuda.is_available():
        raise UserError("--gpu: got no CUDA device, expected one; leave --gpu out to measure the CPU")
    try:
        _make_writable(Path(options.out))
    except OSError as error:
        parser.error(f"argument --out: cannot write into {options.out}: {error.strerror}; choose another folder")
    if options.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # torch and faiss read it when they are imported
    return options


def _knows(name: str, overrides: Mapping[str, Any]) -> bool:
    """Whether a filter has those of the keys that models with gradients have as their own."""
    of_models = set().union(*(model.Params.keys() for model in MODELS.values()))
    return not (overrides.keys() & of_models) - set(FILTERS[name].Params.keys())


def _make_writable(folder: Path) -> None:
    """Makes the folder and writes a file that vanishes, because permissions do not tell of read-only mounts."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"0")


def settings_of(options: argparse.Namespace, model: str, folder: str) -> Settings:
    """What a worker for one model is told."""
    return Settings(
        model=model,
        dataset=options.dataset,
        data_path=options.data_path,
        batch_size=options.batch_size,
        steps=options.steps,
        warmup_steps=options.warmup_steps,
        use_gpu=options.gpu,
        folder=folder,
        overrides=options.set,
    )


def main(run: Callable[[Sequence[str], Results], None], argv: Sequence[str], remedies: Remedies) -> int:
    """Runs a command; returns its exit code, after a last line on what is kept where it stopped early.

    Args:
        run: takes arguments, and writes its files with the results it is given.
        argv: arguments without the program.
        remedies: what to do where the machine refuses.

    Raises:
        SystemExit: an argument is refused, or the command was interrupted by hand.
    """
    results = Results()

    def command(arguments: list[str]) -> None:
        try:
            run(arguments, results)
        except KeyboardInterrupt:
            print(f"interrupted; {results.kept()}", file=sys.stderr)
            raise SystemExit(130) from None

    code = guarded(command, list(argv), remedies)
    if code and results.paths:
        print(results.kept(), file=sys.stderr)
    return code
