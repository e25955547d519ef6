"""The demonstration: NCL_OT on the bundled ml-100k against popularity and against itself untrained."""

from collections.abc import Mapping
from typing import Any

from recmodels.experiments.run import evaluate_unsaved, evaluate_untrained, stored_result, train
from recmodels.experiments.session import resolve_train
from recmodels.params import raise_all

METRIC = "recall@10"

# What the comparison is made of.
FIXED = ("model", "dataset", "topk", "metrics")

# A short run: higher learning rate and fewer epochs than the protocol of the tables, prototypes from epoch 5.
SETTINGS: dict[str, Any] = {
    "epochs": 60,
    "train_batch_size": 4096,
    "learning_rate": 0.005,
    "num_clusters": 100,
    "warm_up_step": 5,
}


def demo(overrides: Mapping[str, Any], run_dir: str | None = None) -> dict[str, float]:
    """Trains NCL_OT on ml-100k and tests it, the popularity baseline and the untrained model on the same split.

    Args:
        overrides: flat names to values, stronger than `SETTINGS`; model, data set and metric are fixed.
        run_dir: folder of the run; None names one.

    Returns:
        Test recall@10 of `popularity`, `untrained` and `trained`.
    """
    fixed = [f"{key}: fixed in the demonstration; run `recmodels train` instead" for key in FIXED if key in overrides]
    raise_all("demo", fixed)
    resolved = resolve_train(SETTINGS | dict(overrides))
    folder = train(resolved, run_dir)
    trained = stored_result(folder)
    assert trained is not None  # `train` returns once it is written
    same = resolved.run.as_values() | resolved.data.as_values()
    popularity = resolve_train({**same, "model": "Pop", "dataset": resolved.dataset, "guard_nonfinite": "raise"})
    return {
        "popularity": evaluate_unsaved(popularity, folder)[METRIC],
        "untrained": evaluate_untrained(resolved, folder)[METRIC],
        "trained": trained["test"][METRIC],
    }


def describe(scores: Mapping[str, float]) -> str:
    """The comparison as a table, with a verdict."""
    rows = [f"{name:<12}{value:.4f}" for name, value in scores.items()]
    return "\n".join([f"test {METRIC} on ml-100k", *rows, _verdict(scores)])


def is_success(scores: Mapping[str, float]) -> bool:
    """Whether training beat both."""
    return scores["trained"] > max(scores["popularity"], scores["untrained"])


def _verdict(scores: Mapping[str, float]) -> str:
    return "trained is above both" if is_success(scores) else "trained is NOT above both"
