"""RecBole 1.2.1 on current libraries: the only file that knows what breaks and why.

Importing this module applies every shim. A shim changes attributes of RecBole's own modules only: numpy, scipy, pandas
and torch stay untouched. `recbole.quick_start` is never imported (it pulls in ray 2.6.3, which dies on numpy 2 and on a
setuptools without pkg_resources), and hyperopt is needed only by RecBole's own tuning, which we do not use.
"""

import copy
import json
from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache, partial
from importlib import import_module, resources
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
import yaml
from recbole.config import Config
from recbole.evaluator import Collector, metric_types

from recmodels.errors import ParamError

NUMPY_ALIASES = {"float": float, "int": int, "bool": bool, "object": object, "str": str, "complex": complex}
NUMPY_MODULES = (
    "recbole.evaluator.metrics",
    "recbole.data.interaction",
    "recbole.data.dataset.dataset",
    "recbole.model.abstract_recommender",
    "recbole.model.layers",
)
DOK_MODULES = tuple(f"recbole.model.general_recommender.{n}" for n in ("lightgcn", "ncl", "ngcf", "gcmc", "spectralcf"))


def stand_in(module: ModuleType, **overrides: Any) -> ModuleType:
    """A module that answers `overrides` itself and asks `module` for every other name."""
    proxy = ModuleType(module.__name__)
    proxy.__dict__.update(overrides, __getattr__=partial(getattr, module))
    return proxy


def restore_numpy_aliases() -> None:
    """`np.float`, `np.bool`, `np.long` and their like for the RecBole modules that use them.

    Why: numpy 1.24 removed the aliases; without them MRR, NDCG and MAP raise AttributeError. `Config` would set them on
    numpy itself and fails to, because numpy 2 removed `np.float_` as well.
    Upstream: https://github.com/RUCAIBox/RecBole/issues/1604, https://github.com/RUCAIBox/RecBole/issues/2215.
    Remove when: RecBole runs on numpy 2 without `Config.compatibility_settings`.
    """
    for name in NUMPY_MODULES:
        import_module(name).__dict__["np"] = stand_in(np, **NUMPY_ALIASES, long=np.int64)


class UpdatableDok(scipy.sparse.dok_matrix):
    """A dictionary-of-keys matrix that can be filled from a dictionary, as before scipy 1.13."""

    def _update(self, data: dict[tuple[int, int], float]) -> None:
        rows, columns = np.array(list(data), dtype=np.int64).reshape(-1, 2).T
        self[rows, columns] = np.array(list(data.values()))


def restore_dok_update() -> None:
    """`dok_matrix._update` for RecBole's graph models.

    Why: scipy 1.13 removed the method; LightGCN, NCL, NGCF, GCMC and SpectralCF build their adjacency with it.
    Upstream: https://github.com/RUCAIBox/RecBole/issues/2034.
    Remove when: RecBole's models no longer call `_update`.
    """
    for name in DOK_MODULES:
        import_module(name).__dict__["sp"] = stand_in(scipy.sparse, dok_matrix=UpdatableDok)


def read_atomic(path: str, **options: Any) -> pd.DataFrame:
    """`pandas.read_csv` with missing sequences read as empty strings, by the C parser where it can.

    The C parser with round-trip floats gives the values of the Python parser that RecBole asks for.
    """
    if len(options.get("delimiter", ",")) == 1:
        options |= {"engine": "c", "float_precision": "round_trip", "index_col": False}
    frame = pd.read_csv(path, **options)
    sequences = [column for column in frame if column.endswith("_seq")]
    frame[sequences] = frame[sequences].fillna("")
    return frame


def length(values: Any) -> Any:
    """`len`, but of a column of sequences the length of each."""
    return values.map(len) if isinstance(values, pd.Series) and values.dtype == object else len(values)


def restore_sequences() -> None:
    """Sequence fields of atomic files on pandas 3.

    Why: RecBole fills missing sequences with `frame[field].fillna(..., inplace=True)`, which copy-on-write turns into a
    change of a copy, and measures them with `column.agg(len)`, which now is the length of the column. (The other
    chained `fillna` is in `Dataset._fill_nan`; see `recmodels.data.loading`.)
    Remove when: RecBole assigns the filled column and maps `len`.
    """
    import_module("recbole.data.dataset.dataset").__dict__.update(pd=stand_in(pd, read_csv=read_atomic), len=length)


def save_plain(state: dict[str, Any], path: str, **_: Any) -> None:
    """Writes a checkpoint of RecBole's `Trainer` as tensors and plain data, so that loading it runs no code."""
    config = json.loads(json.dumps(state["config"].final_config_dict, default=str))
    torch.save(state | {"config": config, "best_valid_score": float(state["best_valid_score"])}, path)


def restore_checkpoints() -> None:
    """Checkpoints of RecBole's own trainers that torch >= 2.6 can load.

    Why: they pickle the `Config` and numpy scalars; `torch.load` now accepts tensors and plain data only, and should.
    Upstream: https://github.com/RUCAIBox/RecBole/issues/2215.
    Remove when: RecBole's checkpoints load with `weights_only=True`.
    """
    load = partial(torch.load, weights_only=True)
    import_module("recbole.trainer.trainer").__dict__["torch"] = stand_in(torch, save=save_plain, load=load)


class SilentWriter:
    """Takes what a TensorBoard writer takes and writes nothing."""

    def add_scalar(self, *_: Any, **__: Any) -> None:
        """Drops one value."""

    def add_hparams(self, *_: Any, **__: Any) -> None:
        """Drops the hyperparameters."""


def silence_tensorboard() -> None:
    """No `log_tensorboard/` in the working directory.

    Why: `Trainer.__init__` creates the folder wherever the process happens to run.
    Remove when: RecBole lets the folder be chosen or switched off.
    """
    import_module("recbole.trainer.trainer").__dict__["get_tensorboard"] = lambda _logger: SilentWriter()


class CountingCollector(Collector):
    """RecBole's collector for metrics that need counts (coverage, popularity, Gini, tail)."""

    def get_data_struct(self) -> Any:
        """Hands over what was collected; counts are carried around RecBole's move of everything to the CPU."""
        data = self.data_struct._data_dict
        counts = {key: data.pop(key) for key in list(data) if not isinstance(data[key], torch.Tensor)}
        collected = super().get_data_struct()
        data.update(counts)
        collected._data_dict.update(counts)
        return collected


def restore_counting_metrics() -> None:
    """ItemCoverage, AveragePopularity, GiniIndex and TailPercentage.

    Why: `Collector.get_data_struct` calls `.cpu()` on integers and counters and raises AttributeError.
    Remove when: RecBole moves only tensors.
    """
    import_module("recbole.trainer.trainer").__dict__["Collector"] = CountingCollector


def count_interactions(self: Any, interaction: Any) -> torch.Tensor:
    """`Pop.calculate_loss` that counts every interaction of a batch; the loss is a constant with a gradient of zero."""
    items = interaction[self.ITEM_ID].to(self.device)
    self.item_cnt.index_add_(0, items, torch.ones_like(items).unsqueeze(-1))
    self.max_cnt = self.item_cnt.max(dim=0)[0]
    return self.fake_loss.sum() * 0


def restore_popularity() -> None:
    """The popularity baseline.

    Why: `item_cnt[item] = item_cnt[item] + 1` counts an item once a batch however often it occurs, so with large
    batches all popular items tie: recall@10 on ml-100k at batch 4096 is 0.02 instead of 0.13.
    Remove when: RecBole's `Pop` accumulates.
    """
    import_module("recbole.model.general_recommender.pop").Pop.calculate_loss = count_interactions


def apply() -> None:
    """Applies every shim; calling it again changes nothing."""
    restore_numpy_aliases()
    restore_dok_update()
    restore_sequences()
    restore_checkpoints()
    silence_tensorboard()
    restore_counting_metrics()
    restore_popularity()


apply()


@lru_cache(maxsize=1)
def _defaults() -> dict[str, Any]:
    properties = resources.files("recbole") / "properties"
    files = (properties / "overall.yaml", properties / "dataset" / "sample.yaml")
    layers = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
    return layers[0] | layers[1]


def recbole_defaults() -> dict[str, Any]:
    """RecBole's keys and default values: its `overall.yaml` and `dataset/sample.yaml`, a fresh copy."""
    return copy.deepcopy(_defaults())


def bundled_ml_100k() -> Path:
    """The folder of ml-100k inside the recbole wheel."""
    return Path(str(resources.files("recbole"))) / "dataset_example" / "ml-100k"


class RecboleConfig(Config):
    """A finished RecBole configuration that reads nothing by itself.

    No `sys.argv`, no YAML of a model or data set, no evaluation of strings, no alias on numpy, no CUDA_VISIBLE_DEVICES.

    Args:
        values: flat RecBole names and typed values; wins over `recbole_defaults`. Not changed. `metric_decimal_place`
            is overridden, because rounded metrics tie and ties reset the patience of early stopping.
        model_class: a class with `type` and `input_type`; its name becomes `model`.
        device: where RecBole's components put their tensors; decides `use_gpu`.

    Attributes:
        explicit: the keys of `values`, to tell a choice from a default.
        data_root: `data_path` as given; `config["data_path"]` has the data set's name joined.

    Raises:
        ParamError: a metric is unknown, or a key that RecBole checks has a wrong value.
    """

    def __init__(self, values: Mapping[str, Any], model_class: type[Any], device: torch.device) -> None:
        self.final_config_dict: dict[str, Any] = recbole_defaults() | copy.deepcopy(dict(values))
        self.explicit = frozenset(values)
        self.model, self.model_class, self.dataset = model_class.__name__, model_class, self._dataset_name()
        self.data_root = str(self.final_config_dict["data_path"])
        self._init_parameters_category()
        self._set_environment(device)
        self._check_metrics()
        try:
            self._set_default_parameters()
            self._set_train_neg_sample_args()
            self._set_eval_neg_sample_args("valid")
            self._set_eval_neg_sample_args("test")
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
            raise ParamError(f"configuration of {self.model}: {error}") from error
        self.final_config_dict["data_path"] = str(Path(self.data_root) / self.dataset)

    def _dataset_name(self) -> str:
        name = self.final_config_dict.get("dataset")
        if not isinstance(name, str) or not name:
            raise ParamError(f"dataset: got {name!r}; expected the name of a data set, e.g. 'ml-100k'")
        return name

    def _set_environment(self, device: torch.device) -> None:
        self.final_config_dict |= {
            "MODEL_TYPE": self.model_class.type,
            "device": device,
            "use_gpu": device.type != "cpu",
            "single_spec": True,
            "local_rank": 0,
            "metric_decimal_place": 17,  # a float64 in [0, 1] has no further decimals that count
        }
        self.final_config_dict.setdefault("encoding", "utf-8")

    def _check_metrics(self) -> None:
        metrics = self.final_config_dict["metrics"]
        for metric in [metrics] if isinstance(metrics, str) else metrics:
            if metric.lower() not in metric_types:
                near = get_close_matches(metric.lower(), list(metric_types), 1, 0)[0]
                raise ParamError(f"metrics: unknown {metric!r}; did you mean {near!r}? Known: {sorted(metric_types)}")
