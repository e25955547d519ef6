"""The command line of `recmodels data`: options, and which function does the work."""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from recmodels.commands.options import OptionParser
from recmodels.errors import DataError, ParamError
from recmodels.run_params import LARGEST_SEED
from recmodels.typed_values import nearest

_USAGE = """\
usage: recmodels data COMMAND ...

  import ratings    a file of ratings      recmodels data import ratings ml-1m/ratings.dat --dataset=ml-1m
  import lightgcn   LightGCN's two files   recmodels data import lightgcn LightGCN/Data/gowalla --dataset=gowalla
  carve             a valid part           recmodels data carve gowalla --data_path=path/to/data --out=dataset

They write RecBole's atomic files into dataset/NAME/, all or none, and end with the command to type next.
recmodels data COMMAND --help tells more.
"""

_IMPORT_USAGE = """\
usage: recmodels data import FORMAT PATH --dataset=NAME ...

  ratings    a line for each rating: MovieLens, or any csv or tsv
      recmodels data import ratings ml-1m/ratings.dat --dataset=ml-1m --min_rating=3
      recmodels data import ratings ml-latest-small/ratings.csv --dataset=ml-small --min_rating=3.5
      recmodels data import ratings ml-100k/u.data --dataset=ml-100k
      recmodels data import ratings sales.csv --dataset=sales --columns=timestamp,user,-,item --duplicates=last
  lightgcn   a folder with train.txt and test.txt, in each line a user and then its items
      recmodels data import lightgcn LightGCN/Data/gowalla --dataset=gowalla

recmodels data import FORMAT --help tells more.
"""


def run(arguments: Sequence[str]) -> str:
    """Runs `recmodels data ...`.

    Args:
        arguments: what follows `data`.

    Returns:
        What to print: a summary, or help.

    Raises:
        ParamError: a command or an option is unknown, absent or malformed.
        DataError: a file is absent or malformed, or the machine refuses to read or to write.
    """
    words = [word for word in arguments if word not in ("-h", "--help")]
    is_help, command, rest = len(words) < len(arguments), words[:1], words[1:]
    if command == ["import"]:
        if not rest:
            return _IMPORT_USAGE
        command, rest = words[:2], words[2:]
    elif not words:
        return _USAGE
    name = " ".join(command)
    if name not in _COMMANDS:
        raise ParamError(f"unknown command {f'data {name}'!r}{nearest(name, [*_COMMANDS, 'import'])}\n\n{_USAGE}")
    make_parser, work = _COMMANDS[name]
    if is_help:
        return make_parser().format_help()
    return _refusals_named(work, make_parser().read(rest))


def _refusals_named(work: Callable[[argparse.Namespace], str], options: argparse.Namespace) -> str:
    """Turns what the machine refuses into a DataError with a remedy that fits data."""
    try:
        return work(options)
    except OSError as error:
        raise DataError(
            f"{error.filename or 'reading'}: {error.strerror or error}; check the path and its rights"
        ) from error
    except MemoryError as error:
        raise DataError("out of memory; drop columns with --columns, or import on a larger machine") from error


def _ratings_parser() -> OptionParser:
    parser = OptionParser(
        "data import ratings", description="Turns a file of ratings into NAME/NAME.inter, rows and ids as they are."
    )
    add = parser.add_argument
    add("path", metavar="PATH", help="ratings.dat or ratings.csv of MovieLens, u.data, or any csv or tsv")
    _add_target(parser)
    add("--separator", help="between columns: a text, or tab, comma, semicolon, pipe, space (default: guessed)")
    add("--columns", help="fields of the columns in their order, of user, item, rating, timestamp and - (default: "
        "by the header, else that order)")  # fmt: skip
    add("--min_rating", type=_finite, help="drop lower ratings, after --duplicates (default: keep all)")
    add("--header", dest="has_header", action="store_true", default=None, help="the first line names the columns")
    add("--no_header", dest="has_header", action="store_false", help="the first line is a rating (default: guessed)")
    add("--duplicates", choices=("first", "last", "keep"), help="what stays of a pair that repeats, in the order of "
        "the file (default: repeated pairs are refused)")  # fmt: skip
    return parser


def _lightgcn_parser() -> OptionParser:
    parser = OptionParser(
        "data import lightgcn",
        description="Turns LightGCN's train.txt and test.txt into NAME.train.inter, NAME.test.inter and, from train, "
        "NAME.train90.inter and NAME.valid10.inter.",
    )
    parser.add_argument("path", metavar="DIR", help="the folder with train.txt and test.txt")
    _add_target(parser)
    _add_carving(parser, "; 0: no valid part")
    parser.add_argument(
        "--duplicates", choices=("first",), help="keep one of a user's repeated items (default: refuse)"
    )
    return parser


def _carve_parser() -> OptionParser:
    parser = OptionParser(
        "data carve", description="Carves NAME.train90.inter and NAME.valid10.inter out of NAME.train.inter."
    )
    parser.add_argument("dataset", metavar="NAME", help="a data set with NAME.train.inter and NAME.test.inter")
    parser.add_argument("--data_path", default="dataset", help="parent of its folder (default dataset)")
    parser.add_argument("--out", help="another parent folder: gets NAME/ with all four files (default: data_path)")
    _add_carving(parser)
    _add_overwrite(parser)
    return parser


def _add_target(parser: OptionParser) -> None:
    parser.add_argument("--dataset", metavar="NAME", required=True, help="name of the data set and of its folder")
    parser.add_argument("--data_path", default="dataset", help="parent of that folder (default dataset)")
    _add_overwrite(parser)


def _add_overwrite(parser: OptionParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def _add_carving(parser: OptionParser, none: str = "") -> None:
    add, what = parser.add_argument, f"share of each user's train pairs for the valid part (default 0.1{none})"
    add("--valid", type=_finite, default=0.1, help=what)
    add("--split_seed", type=_seed, default=2020, help="of the carving (default 2020)")


def _import_ratings(options: argparse.Namespace) -> str:
    from recmodels.data import importing, ratings_layout  # here, so that --help and mistakes answer at once
    from recmodels.data.atomic_writing import Target

    path, target = Path(options.path), Target(Path(options.data_path), options.dataset, options.overwrite)
    layout = ratings_layout.find_layout(path, options.separator, options.has_header, options.columns)
    return importing.import_ratings(path, layout, target, options.min_rating, options.duplicates)


def _import_lightgcn(options: argparse.Namespace) -> str:
    from recmodels.data import importing
    from recmodels.data.atomic_writing import Target

    target = Target(Path(options.data_path), options.dataset, options.overwrite)
    return importing.import_lightgcn(Path(options.path), target, options.valid, options.split_seed, options.duplicates)


def _carve(options: argparse.Namespace) -> str:
    from recmodels.data.atomic_writing import Target
    from recmodels.data.carving import carve_dataset

    target = Target(Path(options.out or options.data_path), options.dataset, options.overwrite)
    source = Path(options.data_path) / options.dataset
    return carve_dataset(source, target, options.valid, options.split_seed)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"got {text}, expected a finite number")
    return value


def _seed(text: str) -> int:
    number = int(text)
    if not 0 <= number <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"got {text}, expected a whole number from 0 to {LARGEST_SEED}")
    return number


_finite.__name__, _seed.__name__ = "number", "whole number"  # argparse names the type by it
_COMMANDS: dict[str, tuple[Callable[[], OptionParser], Callable[[argparse.Namespace], str]]] = {
    "import ratings": (_ratings_parser, _import_ratings),
    "import lightgcn": (_lightgcn_parser, _import_lightgcn),
    "carve": (_carve_parser, _carve),
}
