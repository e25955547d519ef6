"""What a run logged in its epochs, read from `curves.csv`."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from recmodels.errors import CheckpointError
from recmodels.reporting.finished import Run

CURVES = "curves.csv"


def read_epochs(folder: Path) -> pd.DataFrame:
    """A row for each epoch; empty for a run without any, say of a closed form.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / CURVES
    try:
        epochs = pd.read_csv(path)
    except FileNotFoundError:
        return pd.DataFrame({"epoch": []})
    except (OSError, ValueError) as error:  # parser errors are ValueErrors
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    if "epoch" not in epochs:
        raise CheckpointError(
            f"{path}: got the columns {', '.join(map(str, epochs.columns))}, expected epoch among them"
        )
    return epochs


def at_best_epoch(epochs: pd.DataFrame, best_epoch: int | None, prefix: str) -> dict[str, float]:
    """The values of some columns at the best epoch, or where one has none there, at the last epoch before it that has.

    Args:
        epochs: as of `read_epochs`.
        best_epoch: None is the last one.
        prefix: of the columns; it is left out of the names.

    Returns:
        Without columns that have no value so early.
    """
    early = epochs if best_epoch is None else epochs[epochs["epoch"] <= best_epoch]
    found = {name: early[name].dropna() for name in early.columns if name.startswith(prefix)}
    return {name.removeprefix(prefix): float(values.iloc[-1]) for name, values in found.items() if len(values)}


def mean_at_best(runs: Sequence[Run], prefix: str) -> dict[str, float]:
    """`at_best_epoch`, the mean over those runs that have the column.

    Raises:
        CheckpointError: a file is damaged.
    """
    found = [at_best_epoch(read_epochs(run.folder), run.result.get("best_epoch"), prefix) for run in runs]
    names = dict.fromkeys(name for values in found for name in values)
    return {name: float(pd.Series([values[name] for values in found if name in values]).mean()) for name in names}
