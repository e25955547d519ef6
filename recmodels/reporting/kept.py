"""Small copies of finished runs, fit for a repository: figures and configuration, no weights and no paths."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recmodels.errors import ParamError
from recmodels.experiments.folder import CONFIG, RESULT, USERS, write_arrays
from recmodels.files import write_text
from recmodels.params import raise_all
from recmodels.plain_yaml import dump_yaml
from recmodels.reporting.finished import ROW_NAME, Run
from recmodels.reporting.table import make_tables
from recmodels.reporting.user_metrics import per_user

PER_USER = ("recall@10", "ndcg@10", "recall@20", "ndcg@20")
_OF_A_MACHINE = ("data_path", "runs_dir")


def keep(runs: Sequence[Run], under: Path, name: str | None) -> list[Path]:
    """Copies what tables and comparisons need to `under/<row>/<seed>/`.

    `test_users.npz` keeps `PER_USER` (all metrics if it has none of them) as float32: about 10 bytes a user and seed.

    Args:
        runs: seeds of one configuration.
        under: folder of the data set, say `results/ml-1m-r3`; made if it is absent.
        name: name of the row; None is the name the run already has.

    Returns:
        The folders written.

    Raises:
        ParamError: the runs are of several rows, or another result is kept there already; nothing is written then.
        CheckpointError: per-user metrics are absent.
    """
    (table, *_), repeated = make_tables(runs)
    raise_all("report --keep", repeated)
    if len(table.rows) > 1:
        labels = "; ".join(row.label for row in table.rows)
        raise ParamError(f"report --keep: got {len(table.rows)} rows, expected one: {labels}; keep them one by one")
    row = table.rows[0]
    named = name or row.name
    texts = {run.folder: _result(run, named) for run in row.runs}
    targets = {run.folder: under / _folder_name(named) / str(run.result["seed"]) for run in row.runs}
    raise_all("report --keep", [
        f"{target / RESULT}: holds another result; choose another --name, or remove it"
        for folder, target in targets.items()
        if (target / RESULT).exists() and (target / RESULT).read_text(encoding="utf-8") != texts[folder]
    ])  # fmt: skip
    users = {run.folder: per_user(run.folder) for run in row.runs}
    for run in row.runs:
        _write(run, targets[run.folder], texts[run.folder], users[run.folder])
    return list(targets.values())


def _write(run: Run, target: Path, result: str, users: dict[str, np.ndarray]) -> None:
    """The three files of one run, the result last."""
    target.mkdir(parents=True, exist_ok=True)
    metrics = [metric for metric in PER_USER if metric in users] or sorted(users.keys() - {"user"})
    write_arrays(target / USERS, {"user": users["user"], **{name: users[name].astype(np.float32) for name in metrics}})
    write_text(target / CONFIG, dump_yaml({k: v for k, v in run.config.items() if k not in _OF_A_MACHINE}))
    write_text(target / RESULT, result)


def _result(run: Run, name: str) -> str:
    return json.dumps({ROW_NAME: name, **{k: v for k, v in run.result.items() if k != ROW_NAME}}, indent=2) + "\n"


def _folder_name(name: str) -> str:
    """A name as part of a path and of a link.

    Raises:
        ParamError: no letter or digit is left.
    """
    plain = re.sub(r"[^\w.+-]+", "-", name, flags=re.ASCII).strip("-.")
    if not plain:
        raise ParamError(f"name: got {name!r}, expected letters or digits")
    return plain
