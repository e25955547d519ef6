"""What a run logged in its epochs, read from `curves.csv`."""

import statistics
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


def mean_to_best(runs: Sequence[Run], prefix: str) -> dict[str, float]:
    """Some columns up to the best epoch: the mean over the epochs that have a value, then over the runs that have one.

    Args:
        runs: any; of one without a best epoch all epochs count.
        prefix: of the columns; it is left out of the names.

    Raises:
        CheckpointError: a file is damaged.
    """
    found: dict[str, list[float]] = {}
    for run in runs:
        epochs, best = read_epochs(run.folder), run.result.get("best_epoch")
        early = epochs if best is None else epochs[epochs["epoch"] <= best]
        for name in (name for name in early.columns if name.startswith(prefix)):
            values = early[name].dropna()
            if len(values):
                found.setdefault(name.removeprefix(prefix), []).append(float(values.mean()))
    return {name: statistics.fmean(values) for name, values in found.items()}
