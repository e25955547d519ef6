"""Folders of finished runs, written by hand, for the tests of tables and comparisons."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from recmodels.experiments.folder import CONFIG, RESULT, USERS, write_arrays
from recmodels.plain_yaml import dump_yaml

SPLIT = "6111c3a5b042"
CONFIG_VALUES: dict[str, Any] = {
    "model": "NCL",
    "dataset": "toy",
    "n_layers": 3,
    "ssl_reg": 1e-7,
    "seed": 2020,
    "split_seed": 2020,
    "data_path": "/somewhere/data",
    "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"},
    "benchmark_filename": None,
    "valid_metric": "NDCG@10",
}


def write_run(
    folder: str | Path, recall: float, users: np.ndarray | None = None, result: Any = None, **config: Any
) -> Path:
    """Writes a finished run with recall@10, and ndcg@10 twice as high; returns its folder.

    Args:
        folder: of the run.
        recall: mean test recall@10.
        users: (U,) test recall@10 of users u0, u1, ..., all moved alike to the mean `recall`; None writes no such file.
        result: keys of `result.json` that are replaced.
        config: keys of `config.yaml` that are replaced.
    """
    path = Path(folder)
    path.mkdir(parents=True)
    values = CONFIG_VALUES | config
    (path / CONFIG).write_text(dump_yaml(values))
    content = {
        "model": values["model"],
        "dataset": values["dataset"],
        "seed": values["seed"],
        "split_sha256": SPLIT * 5,
        "test": {"recall@10": recall, "ndcg@10": 2 * recall},
        "epochs_run": 95,
        "seconds_per_epoch": 31.895,
        "peak_rss_mb": 1193.7,
        "n_parameters": 618816,
        "versions": {"torch": "2.13.0"},
        "hardware": {"cpu": "A CPU", "cores": 2, "torch_threads": 1, "gpu": None},
    }
    (path / RESULT).write_text(json.dumps(content | (result or {})))
    if users is not None:
        names = np.array([f"u{place}" for place in range(len(users))])
        moved = users + (recall - users.mean())
        write_arrays(path / USERS, {"user": names, "recall@10": moved, "ndcg@10": 2 * moved})
    return path
