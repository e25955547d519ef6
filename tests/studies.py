"""Short searches on the planted data."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest

from recmodels.tuning.space import Choices, Range, Space
from recmodels.tuning.study import load
from recmodels.tuning.tune import Search, tune
from tests.runs import arguments, options

SPACE = Space({"learning_rate": Range(1e-3, 1e-1, log=True), "n_layers": Choices((1, 2))}, {"reg_weight": 1e-4})


def search(root: Path, space: Space = SPACE, prune_after: int | None = None, **overrides: Any) -> Search:  # noqa: ANN401
    return Search(options(root, **{"model": "LightGCN", **overrides}), space, prune_after)


def fixed_arguments(root: Path, model: str = "LightGCN", **overrides: Any) -> list[str]:  # noqa: ANN401
    """What all trials of a command share: the model is its first word, the learning rate is searched."""
    words = arguments(root, model=model, **overrides)
    return [word for word in words if not word.startswith(("--model=", "--learning_rate="))]


def work(root: Path, n_trials: int, space: Space = SPACE, **given: Any) -> list[optuna.trial.FrozenTrial]:  # noqa: ANN401
    """Runs a search in `root/study` to its end; its trials."""
    tune(search(root, space, **given), root / "study", n_trials, lambda text: None, poll_seconds=0.05)
    return load(root / "study").get_trials()


@contextmanager
def full_databases() -> Iterator[None]:
    """Databases that are opened in the block cannot grow, as on a full disk."""
    connect = sqlite3.connect

    def connect_full(*given: Any, **named: Any) -> sqlite3.Connection:  # noqa: ANN401
        connection = connect(*given, **named)
        connection.execute("PRAGMA max_page_count = 1")  # at least what there is
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect_full)
        yield
