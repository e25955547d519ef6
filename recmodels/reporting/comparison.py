"""Is one row better than another? Differences of test metrics, paired by user and seed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recmodels.errors import CheckpointError, ParamError
from recmodels.experiments.folder import USERS
from recmodels.reporting.finished import Run
from recmodels.reporting.paired import Difference, paired_difference
from recmodels.reporting.table import Row, Table
from recmodels.reporting.user_metrics import per_user
from recmodels.typed_values import nearest

N_RESAMPLES = 2000
FEWEST_SEEDS_OF_A_CONTROL = 4


class Comparison(NamedTuple):
    """A line of a table of differences.

    Attributes:
        label: what is compared, or that it is a control.
        seeds: which seeds, in words.
        by_metric: metric to difference.
    """

    label: str
    seeds: str
    by_metric: dict[str, Difference]


def compare_rows(table: Table, against: str, metrics: Sequence[str]) -> list[Comparison]:
    """Every other row against one, and a control for each row of at least four seeds.

    Args:
        table: of one split.
        against: name of a row, or its label where the name is not unique.
        metrics: those that some run has not kept for each user are left out.

    Raises:
        ParamError: no row, or several, have that name; a row has no seed in common with it.
        CheckpointError: per-user metrics are absent, damaged, or of other users; none of `metrics` is among them.
    """
    base = _find(table, against)
    kept = _kept(table.rows, metrics)
    lines = [compare_pairs(row.label, _pairs(row, base), kept) for row in table.rows if row is not base]
    halves = {row.label: list(zip(row.runs[::2], row.runs[1::2], strict=False)) for row in table.rows}
    return lines + [
        compare_pairs(f"control: {label}", pairs, kept)
        for label, pairs in halves.items()
        if 2 * len(pairs) >= FEWEST_SEEDS_OF_A_CONTROL
    ]


def compare_pairs(label: str, pairs: Sequence[tuple[Run, Run]], metrics: Sequence[str]) -> Comparison:
    """Ours against theirs, pair by pair; the same resamples for every metric.

    Args:
        label: of the line.
        pairs: at least one; runs of one seed, or of different seeds where only chance is to be measured.
        metrics: kept for each user by every run.

    Raises:
        CheckpointError: per-user metrics are absent, damaged, or of other users.
    """
    users = per_user(pairs[0][0].folder)["user"]
    ours, theirs = ([_same_users(run, users) for run in side] for side in zip(*pairs, strict=True))
    found = {
        metric: paired_difference(_stack(ours, metric), _stack(theirs, metric), N_RESAMPLES, np.random.default_rng(0))
        for metric in metrics
    }
    mine, yours = ([str(run.result["seed"]) for run in side] for side in zip(*pairs, strict=True))
    words = ", ".join(mine) if mine == yours else f"{', '.join(mine)} against {', '.join(yours)}"
    return Comparison(label, words, found)


def _find(table: Table, name: str) -> Row:
    named = [row for row in table.rows if name == row.label] or [row for row in table.rows if name == row.name]
    if len(named) != 1:
        labels = [row.label for row in table.rows]
        raise ParamError(
            f"against: {len(named) or 'no'} rows are named {name!r}{nearest(name, labels)}; expected one of "
            f"{', '.join(map(repr, labels))}"
        )
    return named[0]


def common_metrics(runs: Sequence[Run]) -> set[str]:
    """What every one of some runs has for each user, `user` among it.

    Raises:
        CheckpointError: as `per_user`.
    """
    return set.intersection(*(set(per_user(run.folder)) for run in runs))


def _kept(rows: Sequence[Row], metrics: Sequence[str]) -> list[str]:
    """Those metrics that every run has for each user."""
    found = common_metrics([run for row in rows for run in row.runs])
    kept = [metric for metric in metrics if metric in found]
    if not kept:
        raise CheckpointError(
            f"against: got {', '.join(metrics)}, which no {USERS} or not each of them holds; expected one of "
            f"{', '.join(sorted(found - {'user'})) or 'none: they share no metric'}"
        )
    return kept


def _pairs(row: Row, base: Row) -> list[tuple[Run, Run]]:
    """Runs of the same seed."""
    theirs = dict(zip(base.seeds, base.runs, strict=True))
    pairs = [(run, theirs[run.result["seed"]]) for run in row.runs if run.result["seed"] in theirs]
    if not pairs:
        raise ParamError(
            f"against: {row.label!r} has seeds {row.seeds}, {base.label!r} {base.seeds}; expected one in common, "
            "because runs are compared seed by seed"
        )
    return pairs


def _stack(runs: Sequence[dict[str, np.ndarray]], metric: str) -> np.ndarray:
    return np.stack([run[metric] for run in runs]).astype(np.float64)


def _same_users(run: Run, users: np.ndarray) -> dict[str, np.ndarray]:
    """The per-user metrics of a run.

    Raises:
        CheckpointError: they are of other users.
    """
    found = per_user(run.folder)
    if not np.array_equal(found["user"], users):
        n_common = np.intersect1d(found["user"], users).size
        raise CheckpointError(
            f"{run.folder / USERS}: got {len(found['user'])} users, of which {n_common} are expected; expected the "
            f"{len(users)} users of the runs beside it, because users are compared with themselves"
        )
    return found
