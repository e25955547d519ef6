"""RecBole's side: its own classes, in a process that our package has prepared.

RecBole's own are the model with its loss and E-step, the trainer's epoch (optimizer, check of the loss), the loader,
the sampler, and the split. Ours are the values of the properties, reading and checking the data set, the seed of the
split, the loop over epochs instead of `fit` (no validation, no files), `CpuKmeans` in place of `faiss.Kmeans`, and what
comes with importing recmodels: the repairs of `recmodels.compat`, without which RecBole does not start on today's
packages, and `MKL_DYNAMIC=FALSE` where the environment does not set it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import faiss
import numpy as np
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.utils import create_samplers
from recbole.model.general_recommender import NCL, SGL, LightGCN
from recbole.trainer import NCLTrainer, Trainer
from recbole.utils import init_seed

from benchmarks.side import Head, Settings, Side
from recmodels.compat import RecboleConfig, stand_in
from recmodels.data.loading import load_dataset
from recmodels.data.split import fingerprint
from recmodels.streams import global_streams

CLASSES = {"LightGCN": (LightGCN, Trainer), "NCL": (NCL, NCLTrainer), "SGL": (SGL, Trainer)}


class CpuKmeans(faiss.Kmeans):
    """`faiss.Kmeans` for RecBole's NCL, which asks for a GPU build and for more clusters than some data have nodes."""

    def __init__(self, d: int, k: int, gpu: bool) -> None:
        super().__init__(d, k, min_points_per_centroid=1)  # below 39 faiss warns at every E-step

    def train(self, x: np.ndarray, *others: np.ndarray | None, **named: np.ndarray | None) -> float:
        """k-means with at most as many clusters as points, which faiss otherwise refuses."""
        self.k = min(self.k, len(x))
        return float(super().train(x, *others, **named))


@contextmanager
def cpu_kmeans() -> Iterator[None]:
    """Lets `import faiss` inside RecBole's NCL find `CpuKmeans`."""
    sys.modules["faiss"] = stand_in(faiss, Kmeans=CpuKmeans)
    try:
        yield
    finally:
        sys.modules["faiss"] = faiss


class RecboleSide(Side):
    """A model of RecBole's with RecBole's trainer, loader and sampler, on our side's split and with its values."""

    def __init__(self, settings: Settings) -> None:
        resolved, (model_class, trainer_class) = settings.resolved(), CLASSES[settings.model]
        values = resolved.recbole_values() | {"checkpoint_dir": settings.folder}
        config = RecboleConfig(values, model_class, torch.device("cpu"))
        dataset = load_dataset(config)
        with global_streams(resolved.run.split_seed, "split"):
            parts = dataset.build()
        sampler = create_samplers(config, dataset, parts)[0]
        init_seed(config["seed"], config["reproducibility"])
        loader = TrainDataLoader(config, parts[0], sampler, shuffle=config["shuffle"])
        super().__init__(settings, loader, fingerprint(parts), config["device"])
        self.trainer = trainer_class(config, model_class(config, parts[0]))
        self._epoch = 0

    def train(self, loader: Head) -> None:
        """NCL's E-step where its own `fit` takes one, then the trainer's epoch."""
        if isinstance(self.trainer, NCLTrainer) and self._epoch % self.trainer.num_m_step == 0:
            with cpu_kmeans():
                self.trainer.model.e_step()
        self.trainer._train_epoch(loader, self._epoch)
        self._epoch += 1
