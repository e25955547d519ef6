"""The command line of `recmodels report`: options, and which function does the work."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recmodels.commands.options import OptionParser
from recmodels.files import in_the_way, write_text
from recmodels.params import raise_all

if TYPE_CHECKING:
    from recmodels.reporting.finished import Run
    from recmodels.reporting.formats import Page

_SPLIT = "split"
_EPILOG = """\
RUNS are run folders, or folders above them. Runs that differ only in their seed are one row, with mean and standard
deviation. Without --out the Markdown is printed.

  recmodels report runs --out=tables
  recmodels report runs/A runs/B --against=NCL --metrics=recall@10,ndcg@10
  recmodels report --keep runs/A runs/B --under=results/ml-1m-r3 --name="NCL_OT, softmax"
"""


def _parser() -> OptionParser:
    parser = OptionParser(
        "report",
        usage="recmodels report RUNS... [--out=DIR] [--against=ROW] [...]",
        description="Writes a table of finished runs as Markdown, CSV and LaTeX, and compares its rows.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("runs", metavar="RUNS", nargs="*", help="run folders, or folders above them")
    add("--out", metavar="DIR", help="writes DIR/NAME.md, .csv and .tex")
    add("--name", help="of the files (default: the data set), or with --keep of the row")
    add("--metrics", type=_names, help="shown, separated by commas (default: recall and ndcg at 10, 20, 50)")
    add("--sort", metavar="METRIC", help="the best row first (default: by name)")
    add("--by", choices=(_SPLIT,), help="a table for each split (default: several splits are refused)")
    add("--published", metavar="FILE", help="figures of others: a CSV file, or ml-1m or gowalla, which are shipped")
    add("--against", metavar="ROW", help="the row that others are compared with, by paired bootstrap")
    add("--keep", action="store_true", help="copies the small files of one row's runs, to commit them")
    add("--under", metavar="DIR", help="where --keep puts them: DIR/<row>/<seed>/")
    return parser


def _read(arguments: Sequence[str]) -> argparse.Namespace:
    """The options.

    Raises:
        ParamError: an option is unknown or malformed, no run is given, or options contradict each other.
    """
    parser = _parser()
    options, words = parser.parse_known_intermixed_args(arguments)
    problems = parser.unknown(words)
    problems += [] if options.runs else ["no runs; expected run folders, or folders above them"]
    raise_all(f"{parser.prog} (--help tells more)", problems + _contradictions(options))
    return options


def run(arguments: Sequence[str]) -> str:
    """Runs `recmodels report ...`.

    Args:
        arguments: what follows `report`.

    Returns:
        What to print: the page, the files written, or help.

    Raises:
        UserError: options, runs or files of published figures do not allow it; nothing was written.
    """
    if {"-h", "--help"} & set(arguments):
        return _parser().format_help()
    options = _read(arguments)
    raise_all(f"--{'under' if options.keep else 'out'}", _in_the_way(options.under or options.out))
    if options.keep:
        return _keep(options)
    if not options.out:
        return _markdown(arguments, options)
    texts = files(arguments)
    Path(options.out).mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        write_text(path, text)
    return "\n".join(f"wrote {path}" for path in texts)


def files(arguments: Sequence[str]) -> dict[Path, str]:
    """The files that `recmodels report ... --out=DIR` writes, with their content; writes nothing.

    Args:
        arguments: what follows `report`, `--out` among them.

    Raises:
        UserError: as `run`.
    """
    from recmodels.reporting import formats

    options = _read(arguments)
    page, folder = _page(arguments, options), Path(options.out)
    texts = {
        ".md": formats.to_markdown(page, folder),
        ".csv": formats.to_csv(page, folder),
        ".tex": formats.to_latex(page, folder),
    }
    return {folder / f"{page.title}{suffix}": text for suffix, text in texts.items()}


def _markdown(arguments: Sequence[str], options: argparse.Namespace) -> str:
    from recmodels.reporting.formats import to_markdown

    return to_markdown(_page(arguments, options), Path()).rstrip("\n")


def _page(arguments: Sequence[str], options: argparse.Namespace) -> "Page":
    """Reads and checks everything."""
    from recmodels.reporting import comparison, formats, published, table  # here, so that --help is at once

    others = published.read_published(options.published) if options.published else []
    runs, skipped = _runs(options)
    tables, repeated = table.make_tables(runs, by_split=options.by == _SPLIT)
    metrics = table.choose_metrics(tables, options.metrics)
    if options.sort:
        (by,) = table.choose_metrics(tables, [options.sort])
        tables = [table.sort_rows(part, by) for part in tables]
    differences = {
        part.split_sha256: comparison.compare_rows(part, options.against, metrics) for part in tables if options.against
    }
    return formats.Page(
        title=options.name or tables[0].dataset,
        command=shlex.join(["recmodels", "report", *arguments]),
        tables=tables,
        metrics=metrics,
        published=[row for row in others if row.metrics.keys() & set(metrics)],
        against=options.against,
        differences=differences,
        notes=[*skipped, *repeated],
    )


def _keep(options: argparse.Namespace) -> str:
    from recmodels.reporting.kept import keep

    runs, skipped = _runs(options)
    raise_all("--keep", skipped)
    return "\n".join(f"kept {folder}" for folder in keep(runs, Path(options.under), options.name))


def _runs(options: argparse.Namespace) -> "tuple[list[Run], list[str]]":
    from recmodels.reporting.finished import read_runs

    runs, skipped = read_runs([Path(path) for path in options.runs])
    if not runs:
        raise_all("report: no finished run; expected a folder with result.json", skipped)
    return runs, skipped


def _contradictions(options: argparse.Namespace) -> list[str]:
    """Options that mean nothing together."""
    names = ("out", "metrics", "sort", "by", "published", "against")
    of_tables = [name for name in names if getattr(options, name) is not None]
    found = []
    if options.keep and not options.under:
        found.append("--keep needs --under=DIR, say results/ml-1m-r3")
    if options.under and not options.keep:
        found.append("--under belongs to --keep; write --out=DIR for tables")
    if options.keep and of_tables:
        found.append(f"--keep makes no table; leave out {', '.join(f'--{name}' for name in of_tables)}")
    if options.name and not options.keep and Path(options.name).name != options.name:
        found.append(f"--name: got {options.name!r}, expected a file name without a folder; --out names the folder")
    return found


def _in_the_way(folder: str | None) -> list[str]:
    """The file where a folder is to be made."""
    other = in_the_way(Path(folder)) if folder else None
    return [f"{other}: got a file, expected a folder; name another one, or move the file away"] * (other is not None)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
