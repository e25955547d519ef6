"""A parser of options whose mistakes are errors like all others."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from recmodels.errors import ParamError
from recmodels.typed_values import nearest


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
