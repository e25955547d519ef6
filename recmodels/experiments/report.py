"""What a run says at its start and end, and what it leaves in `result.json` and `test_users.npz`."""

import platform
import statistics
import sys
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import recmodels
from recmodels.data.evaluation import ItemHits
from recmodels.data.split import raw_items, raw_users, seen_in_valid
from recmodels.experiments.folder import CONFIG, FREQUENCY, USERS
from recmodels.experiments.hardware import hardware
from recmodels.experiments.session import Session, values_sha256
from recmodels.experiments.unread import is_fitted
from recmodels.models import GraphRecommender
from recmodels.plain_yaml import load_yaml
from recmodels.tables import Table
from recmodels.training.curves import Curves
from recmodels.training.plain_trainer import PlainTrainer
from recmodels.training.trainer import Trainer

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_PACKAGES = ("torch", "recbole", "torch-geometric", "faiss-cpu", "numpy", "scipy", "pandas")
_SUMMARY_METRICS = ("recall", "ndcg")


def describe_session(session: Session, folder: Path) -> str:
    """Model, data, split and folder, for the start of the log."""
    data, resolved = session.splits.dataset, session.resolved
    sizes = {name: len(part.dataset) for name, part in zip(("train", "valid", "test"), session.splits[:3], strict=True)}
    extent = "fitted at once" if is_fitted(session.resolved.model) else f"{n_parameters(session):,} parameters"
    lines = [
        f"{resolved.model} on {resolved.dataset}: {data.user_num - 1:,} users, {data.item_num - 1:,} items, "
        + ", ".join(f"{size:,} {name}" for name, size in sizes.items()),
        f"split {session.splits.sha256[:12]} (split_seed {resolved.run.split_seed}), seed {resolved.run.seed}, "
        f"{extent}, device {session.model.device}",
        repr(session.model),
        f"run folder: {folder}",
    ]
    return "\n".join(lines)


def describe_test(session: Session, test: dict[str, float], best_epoch: int, folder: Path) -> str:
    """The table at the end of a run, and where its files are."""
    run = session.resolved.run
    names = [metric.lower() for metric in run.metrics]
    shown = [name for name in names if name in _SUMMARY_METRICS] or names
    topk = [k for k in run.topk if f"{shown[0]}@{k}" in test]
    header = f"test, best epoch {best_epoch}".ljust(24) + "".join(f"@{k}".rjust(10) for k in topk)
    rows = [
        name.ljust(24) + "".join(f"{test[f'{name}@{k}']:.{run.metric_decimal_place}f}".rjust(10) for k in topk)
        for name in shown
    ]
    shown_files = ("result.json", "curves.csv", "curves.png", USERS, FREQUENCY, "checkpoint.pt", "log.txt")
    files = f"{', '.join(name for name in shown_files if (folder / name).is_file())} in {folder}"
    again = f"evaluate again: recmodels evaluate {folder}"
    return "\n".join(["", header, *rows, "", files, again])


def describe_overflow(session: Session, part: str) -> str:
    """Why there are no metrics of valid or test, and what to change."""
    resolved = session.resolved
    if is_fitted(session.resolved.model):
        told = ", ".join(f"{key}={value!r}" for key, value in resolved.params.as_values().items())
        return (
            f"{resolved.model}: {part} scores of its fit are NaN or infinite, so they rank nothing; got "
            f"{told or 'no keys'}; expected values nearer to the defaults"
        )
    hint = ", or raise the temperatures" if isinstance(session.model, GraphRecommender) else ""
    which = f"no epoch has a finite valid {resolved.run.valid_metric}" if part == "valid" else "no finite test metrics"
    return f"{resolved.model}: {which}: scores overflow; lower learning_rate{hint}"


def result(
    session: Session, trainer: Trainer | PlainTrainer, best: dict[str, Any], test: dict[str, float], folder: Path
) -> dict[str, Any]:
    """The content of `result.json` of a run folder; metrics are not rounded."""
    resolved = session.resolved
    seconds = _seconds(trainer)
    config = load_yaml((folder / CONFIG).read_text(encoding="utf-8"), CONFIG)
    return {
        "model": resolved.model,
        "dataset": resolved.dataset,
        "seed": resolved.run.seed,
        "split_seed": resolved.run.split_seed,
        "config_sha256": values_sha256(config),
        "split_sha256": session.splits.sha256,
        "test_seen_in_valid": seen_in_valid(session.splits),
        "best_epoch": best["epoch"],
        "epochs_run": len(seconds),
        "best_valid": best["valid"],
        "test": test,
        "seconds_per_epoch": statistics.median(seconds),
        "peak_rss_mb": peak_rss_mb(),
        "n_parameters": n_parameters(session),
        "n_stored": n_stored(session),
        "hardware": hardware(session.model.device),
        "versions": versions(),
    }


def n_parameters(session: Session) -> int:
    """Number of trained numbers, the padding rows included; of a model that is fitted at once, those it found."""
    if is_fitted(session.resolved.model):
        return int(session.model.n_fitted)
    return sum(p.numel() for p in session.model.parameters() if p.requires_grad)


def n_stored(session: Session) -> int:
    """Numbers of 32 bits that the final form of the model stores: its parameters, where a table has no other one.

    Of a search that form has the widths of the epoch that is tested.
    """
    table = getattr(session.model, "table", None)
    if not isinstance(table, Table):
        return n_parameters(session)
    return n_parameters(session) - sum(p.numel() for p in table.parameters()) + table.n_stored()


def _seconds(trainer: Trainer | PlainTrainer) -> list[float]:
    """Seconds of every epoch, those before a resumption included."""
    if isinstance(trainer, PlainTrainer):
        return trainer.seconds
    return [row["seconds"] for row in next(c for c in trainer.callbacks if isinstance(c, Curves)).rows]


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, in MiB."""
    if resource is None:
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes on macOS and in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def versions() -> dict[str, str]:
    """Versions of what decides a number."""
    found = {"recmodels": recmodels.__version__, "python": platform.python_version()}
    installed = {distribution.name for distribution in distributions()}
    return found | {name: version(name) for name in _PACKAGES if name in installed}


def test_users(session: Session, per_user: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Per-user test metrics with raw user names, for paired comparisons.

    Returns:
        `user` (users,) unicode, and (users,) float64 for each metric, in the same order.
    """
    test = session.splits.test
    names = raw_users(session.splits.dataset)[test.uid_list.numpy()]
    return {"user": names.astype(np.str_), **per_user}


def test_frequency(session: Session, hits: ItemHits) -> dict[str, np.ndarray]:
    """How often the tested users and all items were met in training, and in how many test interactions items were hits.

    Returns:
        `user` (users,) unicode and `user_n_train` (users,) int64, in the order of `test_users`; of the items without
        the padding `item` unicode, `n_train`, `n_test` and, for each list length k, `hits@k`, all int64.
    """
    data, tested = session.splits.dataset, session.splits.test.uid_list.numpy()
    users, items = session.training_interactions()  # frequent is who is frequent in all of training
    by_user, by_item = np.bincount(users, minlength=data.user_num), np.bincount(items, minlength=data.item_num)
    names = {"user": raw_users(data)[tested].astype(np.str_), "item": raw_items(data)[1:].astype(np.str_)}
    counts = {"user_n_train": by_user[tested], "n_train": by_item[1:], "n_test": hits.n_tested[1:]}
    return names | counts | {f"hits@{k}": found[1:] for k, found in hits.hits.items()}
