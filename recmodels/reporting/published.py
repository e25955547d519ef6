"""Figures that others reported, to be shown beside ours with their source."""

from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from recmodels.errors import ParamError
from recmodels.layers import properties_root
from recmodels.params import raise_all
from recmodels.reporting.metric_names import name_problems, range_problem
from recmodels.typed_values import nearest

_COLUMNS = ["model", "source"]


class Published(NamedTuple):
    """One row of somebody else's table.

    Attributes:
        model: name.
        source: paper or leaderboard.
        metrics: metric to value; what was not reported is absent.
    """

    model: str
    source: str
    metrics: dict[str, float]


def read_published(name: str) -> list[Published]:
    """The rows of a CSV file with the columns `model`, `source` and metrics like `recall@10`, in any letters.

    Args:
        name: a path that ends in `.csv`, or the name of a shipped file (`properties/published/NAME.csv`).

    Raises:
        ParamError: there is no such file, it is no such table, a column is no metric, or a figure is no number that the
            metric could have. All at once.
    """
    frame = _table(_text(name), name)
    rows = [line for line in frame.to_dict("records") if any(line.values())]
    metrics = [str(column) for column in frame.columns if column not in _COLUMNS]
    problems = [f"column {metric}: {problem}" for metric, problem in name_problems(metrics)]
    problems += [
        f"row {place}, {column}: {problem}"
        for place, row in enumerate(rows, start=1)
        for column, value in row.items()
        if (problem := _problem(str(column), str(value)))
    ]
    raise_all(name, problems)
    return [
        Published(
            row["model"], row["source"], {str(k).lower(): float(v) for k, v in row.items() if k not in _COLUMNS and v}
        )
        for row in rows
    ]


def _text(name: str) -> str:
    """The content of a file, of the user or shipped."""
    shipped = properties_root() / "published"
    names = sorted(entry.name.removesuffix(".csv") for entry in shipped.iterdir() if entry.name.endswith(".csv"))
    if not name.endswith(".csv") and name not in names:
        raise ParamError(
            f"published: got {name!r}; expected a file that ends in .csv, or one of {', '.join(names)}"
            f"{nearest(name, names)}"
        )
    path = Path(name) if name.endswith(".csv") else shipped / f"{name}.csv"
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParamError(f"published: {name}: cannot be read: {error}") from None


def _table(text: str, name: str) -> pd.DataFrame:
    """All cells as text, empty where there is nothing."""
    try:
        frame = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False, skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ParamError(f"{name}: no CSV: {error}") from None
    if list(frame.columns[:2]) != _COLUMNS or len(frame.columns) < 3:
        raise ParamError(
            f"{name}: got the columns {', '.join(frame.columns)}; expected model, source and metrics like recall@10"
        )
    return frame


def _problem(column: str, value: str) -> str:
    """What was expected of a cell; nothing if it is right."""
    if column in _COLUMNS:
        return "" if value else "expected a text, got ''"
    try:
        return (range_problem(column, float(value)) or "") if value else ""
    except ValueError:
        return f"expected nothing or a number, got {value!r}"
