"""Test results of frequent and of rare users and items."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from recmodels.errors import CheckpointError
from recmodels.experiments.folder import DAMAGED_ARRAYS, FREQUENCY
from recmodels.reporting.user_metrics import per_user
from recmodels.tables.frequency import frequency_ranks

HEAD = 0.2


def by_frequency(folder: Path, metric: str) -> dict[str, float]:
    """A metric of users and the recall of items, head and tail apart; empty for a run without the counts.

    The head is the most frequent fifth by training interactions, ties left to the tail, of the tested users and of all
    items. The recall of items is over test interactions: how many of them are among the best k of their user.

    Args:
        folder: of a finished run.
        metric: `name@k` of users.

    Returns:
        `head users`, `tail users`, `head items`, `tail items`; a group without tests is left out.

    Raises:
        CheckpointError: the files are damaged, or not of one run.
    """
    path = folder / FREQUENCY
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            counts = {name: stored[name] for name in stored.files}
        return _users(counts, per_user(folder), metric) | _items(counts, metric.partition("@")[2])
    except DAMAGED_ARRAYS as error:
        raise CheckpointError(f"{path}: damaged, or not of the run beside it: {error}") from error


def is_head(counts: np.ndarray) -> np.ndarray:
    """Which of (n,) counts are in the most frequent fifth."""
    return frequency_ranks(torch.from_numpy(counts.astype(np.int64)), [HEAD]).numpy() > 0


def _users(counts: Mapping[str, np.ndarray], users: Mapping[str, np.ndarray], metric: str) -> dict[str, float]:
    order = np.argsort(counts["user"])  # as `per_user` has them
    if not np.array_equal(counts["user"][order], users["user"]):
        raise ValueError("its users are others")
    if metric not in users:  # coverage and the like are of all users together
        return {}
    head = is_head(counts["user_n_train"])[order]
    parts = {"head users": users[metric][head], "tail users": users[metric][~head]}
    return {name: float(part.mean()) for name, part in parts.items() if len(part)}


def _items(counts: Mapping[str, np.ndarray], k: str) -> dict[str, float]:
    if f"hits@{k}" not in counts:
        return {}
    head, tested, hits = is_head(counts["n_train"]), counts["n_test"], counts[f"hits@{k}"]
    groups = {"head items": head, "tail items": ~head}
    return {name: float(hits[of].sum() / tested[of].sum()) for name, of in groups.items() if tested[of].sum()}
