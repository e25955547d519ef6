"""Options of the command lines."""

import argparse
import os
from collections.abc import Sequence
from typing import Any

import yaml

from benchmarks.side import Settings
from recmodels.models import MODELS

OUT = "benchmarks/out"


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse.

    Raises:
        ArgumentTypeError: it is something else.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number of at least 1")
    return int(text)


def key_and_value(text: str) -> tuple[str, Any]:
    """An override `key=value`, the value read as YAML, for argparse.

    Raises:
        ArgumentTypeError: there is no `=`, or the value is no YAML.
    """
    key, separator, value = text.partition("=")
    try:
        if key and separator:
            return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise argparse.ArgumentTypeError(f"got {text!r}, whose value is no YAML: {error}") from error
    raise argparse.ArgumentTypeError(f"got {text!r}, expected key=value")


def parser_of(module: str, description: str) -> argparse.ArgumentParser:
    """A parser whose help shows the defaults."""
    show_defaults = argparse.ArgumentDefaultsHelpFormatter
    return argparse.ArgumentParser(f"python -m {module}", description=description, formatter_class=show_defaults)


def add_shared(parser: argparse.ArgumentParser, models: Sequence[str]) -> None:
    """The options of every command."""
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(models), help="models to measure")
    parser.add_argument("--threads", type=positive, help="threads of every process; None: what OMP_NUM_THREADS says")
    parser.add_argument("--out", default=OUT, metavar="DIR", help="folder of the files")


def common_options(module: str, description: str) -> argparse.ArgumentParser:
    """The options of a command that trains on a data set."""
    parser = parser_of(module, description)
    parser.add_argument("--dataset", default="ml-100k", help="name of the data set")
    parser.add_argument("--data_path", default="dataset", metavar="DIR", help="folder of the data sets")
    parser.add_argument("--batch-size", type=positive, help="triples a batch; None: what the properties say")
    parser.add_argument("--warmup-steps", type=positive, default=10, help="steps before anything is timed")
    parser.add_argument("--steps", type=positive, help="timed steps, per epoch where epochs are timed; None: all")
    what = "values of `recmodels train` for all models, say embedding_size=128; the models must know the key"
    parser.add_argument("--set", nargs="+", type=key_and_value, default=[], metavar="KEY=VALUE", help=what)
    parser.add_argument("--gpu", action="store_true", help="use a GPU; only our models are then measured")
    add_shared(parser, list(MODELS))
    return parser


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """The options; threads are set for every process that is started from here on."""
    options = parser.parse_args(list(argv))
    options.models = list(dict.fromkeys(options.models))
    if options.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # torch and faiss read it when they are imported
    return options


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
        overrides=dict(options.set),
    )
