"""RecBole's metrics with what it throws away: per-user values and unrounded means."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from recbole.evaluator import Collector, Evaluator
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


class ItemHits:
    """For each item, in how many of the evaluated interactions it is among the best k of its user.

    Summed over items and divided by the interactions this is recall over interactions, which the popular items decide;
    by groups of items it says for whom a model works.

    Args:
        n_items: padding included.
        topk: list lengths.

    Attributes:
        n_tested: (n_items,) int64 evaluated interactions.
        hits: (n_items,) int64 for each k.
    """

    def __init__(self, n_items: int, topk: Sequence[int]) -> None:
        self.topk = list(topk)
        self.n_tested = np.zeros(n_items, dtype=np.int64)
        self.hits = {k: np.zeros(n_items, dtype=np.int64) for k in self.topk}

    @contextmanager
    def collected_from(self, collector: Collector) -> Iterator["ItemHits"]:
        """Inside, what the collector sees is counted here too."""
        own = collector.eval_batch_collect

        def collect(scores: torch.Tensor, interaction: Any, users: torch.Tensor, items: torch.Tensor) -> None:  # noqa: ANN401
            own(scores, interaction, users, items)
            self.count(scores, users, items)

        collector.eval_batch_collect = collect
        try:
            yield self
        finally:
            del collector.eval_batch_collect

    def count(self, scores: torch.Tensor, users: torch.Tensor, items: torch.Tensor) -> None:
        """Counts a batch.

        Args:
            scores: (B, n_items).
            users: (P,) int64, the row of each positive.
            items: (P,) int64, its item.
        """
        best = scores.topk(min(max(self.topk), scores.shape[1]), dim=-1).indices
        users, items = users.to(best.device), items.to(best.device)
        is_there = best[users] == items[:, None]
        place = torch.where(is_there.any(1), is_there.int().argmax(1), best.shape[1]).cpu()
        of = items.cpu()
        n = len(self.n_tested)
        self.n_tested += np.bincount(of, minlength=n)
        for k, hits in self.hits.items():
            hits += np.bincount(of[place < k], minlength=n)
