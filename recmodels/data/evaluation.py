"""RecBole's metrics with what it throws away: per-user values and unrounded means."""

from functools import partial
from typing import Any

import numpy as np
from recbole.evaluator import Evaluator
from recbole.evaluator.register import smaller_metrics


class MetricRecorder:
    """Binds itself to an Evaluator's top-k metrics and keeps the values of the last evaluation.

    RecBole's top-k metrics hand a (users, max k) array to their own `topk_result`, which averages and rounds. The
    recorder replaces that method on each metric instance, so classes and other evaluators stay as they are.

    Args:
        evaluator: its metrics are changed in place: results are Python floats, unrounded.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self._per_user: dict[str, np.ndarray] = {}
        for metric in evaluator.metric_class.values():
            if hasattr(metric, "topk_result"):
                metric.topk_result = partial(self._record, metric.topk)

    @property
    def per_user(self) -> dict[str, np.ndarray]:
        """(users,) float64 for each `metric@k`, in the order of the evaluation loader's users."""
        return dict(self._per_user)

    def _record(self, topk: list[int], metric: str, value: Any) -> dict[str, float]:  # noqa: ANN401
        values = {f"{metric}@{k}": np.array(value[:, k - 1], dtype=np.float64) for k in topk}
        self._per_user |= values
        return {name: float(column.mean()) for name, column in values.items()}


def is_smaller_better(metric: str) -> bool:
    """As RecBole says; a name it does not know is of a metric where more is better."""
    return metric.partition("@")[0] in smaller_metrics
