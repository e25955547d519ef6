"""A parser of options whose mistakes are errors like all others, and what several commands do with theirs."""

import argparse
import os
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any, NoReturn

from recmodels.errors import ParamError, UserError
from recmodels.typed_values import nearest, suggest


class OptionParser(argparse.ArgumentParser):
    """Raises what argparse would print.

    Args:
        command: the words after `recmodels`.
        **more: of argparse's parser.
    """

    def __init__(self, command: str, **more: Any) -> None:  # noqa: ANN401
        super().__init__(prog=f"recmodels {command}", add_help=False, allow_abbrev=False, **more)

    def error(self, message: str) -> NoReturn:
        """Raises a ParamError that names the command."""
        raise ParamError(f"{self.prog}: {message}; try {self.prog} --help")

    def unknown(self, words: Sequence[str]) -> list[str]:
        """What is wrong with words that no option takes."""
        names = [word.partition("=")[0] for word in words]
        return [f"unknown argument {name!r}{nearest(name, self._option_string_actions)}" for name in names]

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The options.

        Raises:
            ParamError: an option is unknown, absent or malformed.
        """
        options, words = self.parse_known_args(arguments)
        if words:
            self.error("; ".join(self.unknown(words)))
        return options


def first_word(arguments: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """What a command is about, None where an option comes first, and the rest."""
    return (None, arguments) if arguments[0].startswith("-") else (arguments[0], arguments[1:])


def positive(text: str) -> int:
    """An option's whole number >= 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a whole number >= 1")
    return number


positive.__name__ = "whole number"  # argparse names the type by it


def misspelled(keys: Iterable[str], options: Sequence[str]) -> list[str]:
    """Keys that are near an option and keys of no model: of a foreign key the configuration says whose it is."""
    found = {key: near for key in keys if (near := suggest(key, options))}
    if not found:
        return []
    from recmodels.data_params import DataParams
    from recmodels.experiments.session import PARAMS  # here, so that most mistakes answer at once
    from recmodels.run_params import RunParams

    known = {*RunParams.keys(), *DataParams.keys()}.union(*(params.keys() for params in PARAMS.values()))
    return [f"{key}: did you mean '--{near}'?" for key, near in found.items() if key not in known]


def require_optuna(command: str) -> None:
    """Checks that studies can be kept.

    Raises:
        UserError: Optuna is not installed.
    """
    if find_spec("optuna") is None:
        raise UserError(
            f"recmodels {command} needs Optuna; install it with: pip install 'optuna>=5' (or '.[tune]' in a checkout)"
        )


def limit_threads(n_threads: int) -> None:
    """Limits the threads of this process and of those it starts."""
    os.environ["OMP_NUM_THREADS"] = str(n_threads)  # of libraries that are not loaded yet
    import torch

    torch.set_num_threads(n_threads)
