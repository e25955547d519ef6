"""What a run needs in memory: data, split and an untrained model."""

from dataclasses import dataclass
from typing import Any

import torch

from recmodels.compat import RecboleConfig
from recmodels.config import Resolved, resolve
from recmodels.data.loading import load_dataset
from recmodels.data.split import Splits, split
from recmodels.errors import ParamError
from recmodels.experiments.folder import CONFIG, existing_run_folder
from recmodels.models import MODELS, GraphRecommender

DEFAULTS = {"model": "NCL_OT", "dataset": "ml-100k"}
PARAMS = {name: model.Params for name, model in MODELS.items()}


@dataclass(frozen=True)
class Session:
    """Data, split and model of one run.

    Attributes:
        resolved: the resolved layers.
        config: RecBole's view of them.
        splits: the three loaders and the fingerprint of the split.
        model: built from the training part, untrained.
    """

    resolved: Resolved
    config: RecboleConfig
    splits: Splits
    model: GraphRecommender

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with."""
        resolved = self.resolved
        return {"model": resolved.model, "dataset": resolved.dataset, "split_sha256": self.splits.sha256}


def prepare(resolved: Resolved) -> Session:
    """Loads and splits the data and builds the untrained model; writes nothing.

    Raises:
        ParamError: the GPU that was asked for does not exist.
        DataError: the data set is absent or malformed.
    """
    run, model_class = resolved.run, MODELS[resolved.model]
    torch.use_deterministic_algorithms(run.reproducibility, warn_only=True)
    config = RecboleConfig(resolved.recbole_values(), model_class, _device(run.use_gpu, run.gpu_id))
    splits = split(config, load_dataset(config), run.split_seed)
    return Session(resolved, config, splits, model_class(config, splits.train.dataset))


def resolve_train(given: dict[str, Any]) -> Resolved:
    """The configuration of a new run from parsed arguments; see `recmodels.config.resolve`."""
    return resolve(given, PARAMS, DEFAULTS)


def resolve_run(run_dir: str) -> Resolved:
    """The configuration that a run folder was made with.

    Raises:
        CheckpointError: it is not a run folder.
        ParamError: its `config.yaml` no longer resolves, say because another version wrote it.
    """
    folder = existing_run_folder(run_dir)
    return resolve({"config_files": [str(folder / CONFIG)]}, PARAMS)


def _device(use_gpu: bool, gpu_id: str) -> torch.device:
    """The CPU unless a GPU is wanted and there is one."""
    if not use_gpu or not gpu_id or not torch.cuda.is_available():
        return torch.device("cpu")
    if int(gpu_id) >= torch.cuda.device_count():
        raise ParamError(f"gpu_id: got {gpu_id}, expected 0 to {torch.cuda.device_count() - 1}, or '' for the CPU")
    return torch.device("cuda", int(gpu_id))
