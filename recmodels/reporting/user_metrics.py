"""The test metrics of each user that a run leaves, and whether its result agrees with them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from recmodels.errors import CheckpointError
from recmodels.experiments.folder import DAMAGED_ARRAYS, RESULT, USERS

_ROUNDING = 1e-6  # relative; kept copies are float32, whose rounding is 6e-8


def per_user(folder: Path) -> dict[str, np.ndarray]:
    """The test metrics of each user: `user` (U,) raw names, ascending, and (U,) for each metric.

    Raises:
        CheckpointError: the file is absent or damaged.
    """
    path = folder / USERS
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        order = np.argsort(arrays["user"])
        return {name: array[order] for name, array in arrays.items()}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: absent; a comparison of runs pairs their users and needs it") from None
    except DAMAGED_ARRAYS as error:
        raise CheckpointError(f"{path}: damaged or no file of per-user metrics: {error}") from error


def disagreements(folder: Path, test: Mapping[str, float]) -> list[str]:
    """Where the metrics of a result are not the means over its users; metrics that are no such means are not looked at.

    Args:
        folder: of the run; without a file of its users nothing is said.
        test: metric to value, of `result.json`.

    Returns:
        A line for each metric, or one for a damaged file.
    """
    if not (folder / USERS).is_file():
        return []
    try:
        users = per_user(folder)
        means = {metric: _mean(users[metric]) for metric in test if metric in users}
    except (CheckpointError, ValueError) as error:
        return [str(error) if isinstance(error, CheckpointError) else f"{folder / USERS}: damaged: {error}"]
    return [
        f"{folder / RESULT}: test.{metric}: got {test[metric]!r}, expected {mean!r}, the mean over the "
        f"{len(users['user']):,} users of {USERS} beside it; one of the two files is of another run"
        for metric, mean in means.items()
        if not np.isclose(mean, test[metric], rtol=_ROUNDING, atol=_ROUNDING**2)
    ]


def _mean(values: np.ndarray) -> float:
    return float(values.astype(np.float64).sum()) / max(len(values), 1)
