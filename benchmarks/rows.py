"""From measurements to rows, tables and files: no clock in here."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from recmodels.files import write_text

Row = dict[str, Any]


class Measured(NamedTuple):
    """What one worker took.

    Attributes:
        epochs_s: seconds of each timed epoch.
        peak_mb: peak memory of the process or of the GPU, see `benchmarks.bench`; None where the system does not tell.
        evals_s: seconds of each full ranking; empty where none was timed.
    """

    epochs_s: list[float]
    peak_mb: float | None
    evals_s: list[float]


def row(model: str, ours: Measured, recbole: Measured | None, to_ncl: float | None) -> Row:
    """The row of a model.

    Args:
        model: its name.
        ours: our side.
        recbole: RecBole's side, None where RecBole has no such model or was not asked.
        to_ncl: `paired_ratio` of its steps to those of our NCL; None for no comparison.

    Returns:
        Medians, `ratio` (RecBole's seconds to ours), `ours_to_ncl` and the single epochs; None where not applicable.
    """
    seconds, theirs = median(ours.epochs_s), recbole and median(recbole.epochs_s)
    return {
        "model": model,
        "ours_s": seconds,
        "recbole_s": theirs,
        "ratio": theirs and theirs / seconds,
        "ours_peak_mb": ours.peak_mb,
        "recbole_peak_mb": recbole and recbole.peak_mb,
        "ours_eval_s": median(ours.evals_s) if ours.evals_s else None,
        "ours_to_ncl": to_ncl,
        "ours_epochs_s": ours.epochs_s,
        "recbole_epochs_s": recbole and recbole.epochs_s,
    }


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Median ratio of steps that were taken in turns, so that a slow stretch of the machine meets both.

    Args:
        ours: seconds of each step.
        theirs: seconds of the step before or after it, as many; with none there is no ratio.
    """
    return median(one / other for one, other in zip(ours, theirs, strict=True)) if ours else None


def table(columns: Mapping[str, tuple[str, str]], rows: Sequence[Row]) -> str:
    """An aligned text table.

    Args:
        columns: key of the rows to title and format of the column.
        rows: a missing or None value is shown as `-`.
    """
    titles = [title for title, _ in columns.values()]
    cells = [[_cell(found.get(key), form) for key, (_, form) in columns.items()] for found in rows]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    lines = [[text.ljust(widths[0]), *map(str.rjust, rest, widths[1:])] for text, *rest in [titles, *cells]]
    return "\n".join("  ".join(line).rstrip() for line in lines)


class Results:
    """The files of a command, and whether there are any yet.

    Attributes:
        paths: of the files written so far.
    """

    def __init__(self) -> None:
        self.paths: list[Path] = []

    def write(self, path: Path, records: Sequence[Row]) -> None:
        """One JSON object a line, in a folder that exists; a file that is there is replaced as a whole."""
        write_text(path, "".join(json.dumps(record) + "\n" for record in records))
        if path not in self.paths:
            self.paths.append(path)

    def kept(self) -> str:
        """What remains of a command that is stopped now."""
        return f"what was finished is in {' and '.join(map(str, self.paths))}" if self.paths else "nothing was finished"


def _cell(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)
