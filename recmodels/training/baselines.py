"""RecBole's own models as baselines: the one place that asks RecBole for a model and a trainer by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import torch
import yaml
from recbole.utils import ModelType, get_model, get_trainer

from recmodels.compat import RecboleConfig
from recmodels.data.evaluation import MetricRecorder
from recmodels.data.loading import load_dataset
from recmodels.data.split import split


@dataclass(frozen=True)
class BaselineResult:
    """Test metrics of a RecBole model and the split they belong to.

    Attributes:
        test: unrounded metrics, names like `recall@10`.
        split_sha256: fingerprint of the split, equal to that of our models on the same data and `split_seed`.
    """

    test: dict[str, float]
    split_sha256: str


def run_baseline(name: str, values: Mapping[str, Any], split_seed: int, folder: str) -> BaselineResult:
    """Fits one of RecBole's models and tests it on the same split and with the same evaluator as ours.

    Args:
        name: RecBole's name of the model, e.g. `Pop`.
        values: RecBole's flat values; they win over RecBole's YAML of the model.
        split_seed: seed of the split.
        folder: where RecBole's trainer may write its checkpoints.

    Returns:
        The test metrics of the fitted model.
    """
    model_class = get_model(name)
    values = _model_defaults(name) | dict(values) | {"checkpoint_dir": folder}
    if model_class.type == ModelType.TRADITIONAL:
        values["train_neg_sample_args"] = None  # such a model counts interactions; negatives would be counted too
    config = RecboleConfig(values, model_class, torch.device("cpu"))
    splits = split(config, load_dataset(config), split_seed)
    model = model_class(config, splits.train.dataset)
    trainer = get_trainer(model_class.type, name)(config, model)
    trainer.fit(splits.train, saved=False, verbose=False)
    MetricRecorder(trainer.evaluator)
    test = trainer.evaluate(splits.test, load_best_model=False)
    return BaselineResult({key: float(value) for key, value in test.items()}, splits.sha256)


def _model_defaults(name: str) -> dict[str, Any]:
    """RecBole's own YAML of the model; empty where it has none."""
    file = resources.files("recbole") / "properties" / "model" / f"{name}.yaml"
    return (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.is_file() else {}
