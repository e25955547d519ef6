"""The command line of `recmodels compact`."""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from recmodels.commands.options import OptionParser, first_word, misspelled
from recmodels.config import COMMAND_LINE
from recmodels.layers import parse_argv
from recmodels.params import raise_all

_USAGE = """\
usage: recmodels compact RUN_DIR [--prune=SHARE] [--run_dir=DIR] [--widths-only] [--KEY=VALUE ...]

Takes the widths that a search (--table=adaptive --adae_mode=auto) has found, gives every user and item a row of its
width and no more, and trains this smaller model from scratch on all of training. What comes out is a run like any
other: evaluated, resumed and reported the same way.
  python run_recbole.py --model=LightGCN --table=adaptive --adae_mode=auto --adae_dims=[8,16,32,64] --run_dir=search
  recmodels compact search --run_dir=small

  RUN_DIR          folder of the search; the widths are those after its last finished epoch
  --prune=SHARE    the rival of widths: RUN_DIR has a plain table, of which the largest entries are kept and trained
                   again from where they started; 0.4 keeps two fifths
  --run_dir=DIR    folder of the new run (default runs/<model>-<dataset>-<time>-<hash>)
  --widths-only    only print how many parameters there are, who got which width, and the key that says so
  --KEY=VALUE      any key of `recmodels train`, for the new run
"""
_OWN = ("run_dir", "widths-only", "prune")


def run(arguments: Sequence[str]) -> str:
    """Runs `recmodels compact ...`.

    Args:
        arguments: what follows `compact`.

    Returns:
        What to print.

    Raises:
        UserError: the folder is not of a search, or an option or key is wrong.
    """
    if not arguments or "-h" in arguments or "--help" in arguments:
        return _USAGE
    source, rest = first_word(arguments)
    parser = OptionParser("compact")
    parser.add_argument("--run_dir", "--run-dir")
    parser.add_argument("--widths-only", "--widths_only", action="store_true")
    parser.add_argument("--prune", type=_share)
    options, others = parser.parse_known_args(rest)
    overrides = parse_argv(others)
    problems = [] if source else ["RUN_DIR: no folder; write recmodels compact RUN_DIR, the folder of a search"]
    raise_all("recmodels compact", [*problems, *misspelled(overrides, _OWN)])
    assert source is not None  # it is a problem otherwise
    from recmodels.experiments.compact import compacted, pruned  # here, so that --help answers at once
    from recmodels.experiments.run import train

    resolved, words = pruned(source, options.prune, overrides) if options.prune else compacted(source, overrides)
    resolved = replace(resolved, origin=resolved.origin | dict.fromkeys(overrides, COMMAND_LINE))
    if options.widths_only:
        return words if options.prune else f"{words}\nadae_widths: {resolved.values['adae_widths']}"
    print(words, flush=True)  # noqa: T201  (before the training)
    folder = train(resolved, options.run_dir)
    return f"found in {source}, trained in {folder}\n{words}"


def _share(text: str) -> float:
    """An option's number between 0 and 1, both excluded."""
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a number between 0 and 1")
    return number


_share.__name__ = "number"  # argparse names the type by it
