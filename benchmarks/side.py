"""What both sides of the comparison share: settings, a cut loader, a timed epoch."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch

from recmodels.config import Resolved
from recmodels.experiments.session import PARAMS, resolve_train


@dataclass(frozen=True)
class Settings:
    """What one worker trains.

    Attributes:
        model: one of our names; RecBole's class of that name on the other side.
        dataset: name of the data set.
        data_path: folder of the data sets.
        batch_size: triples a batch; None leaves it to the properties.
        steps: steps of an epoch; None takes all of them.
        warmup_steps: steps before the first timed epoch.
        use_gpu: whether to use the first visible GPU.
        folder: an existing folder for what trainers write.
        overrides: further values by key, those of `recmodels train`.
    """

    model: str
    dataset: str
    data_path: str
    batch_size: int | None
    steps: int | None
    warmup_steps: int
    use_gpu: bool
    folder: str
    overrides: dict[str, Any] = field(default_factory=dict)

    def resolved(self) -> Resolved:
        """The configuration, equal on both sides; prototypes count from the first epoch on.

        Raises:
            ParamError: a value is out of range.
        """
        values: dict[str, Any] = {"model": self.model, "dataset": self.dataset, "data_path": self.data_path}
        values |= {"use_gpu": self.use_gpu, "gpu_id": "0", "show_progress": False}
        if "warm_up_step" in set(PARAMS[self.model].keys()):
            values["warm_up_step"] = 0
        if self.batch_size is not None:
            values["train_batch_size"] = self.batch_size
        return resolve_train(values | self.overrides)


class Head:
    """The first batches of a loader; everything else is the loader's own.

    Args:
        loader: a training loader.
        n_steps: number of batches, None for all.
    """

    def __init__(self, loader: Any, n_steps: int | None) -> None:
        self._loader, self._n_steps = loader, n_steps

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self._loader), self._n_steps)

    def __len__(self) -> int:
        return len(self._loader) if self._n_steps is None else min(self._n_steps, len(self._loader))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class Side(ABC):
    """A model with its trainer and loader.

    Args:
        settings: what is trained.
        loader: the whole training loader.
        sha256: fingerprint of the split.
        device: of the model.
    """

    def __init__(self, settings: Settings, loader: Any, sha256: str, device: torch.device) -> None:
        self.settings, self.loader, self.sha256, self.device = settings, loader, sha256, device

    @abstractmethod
    def train(self, loader: Head) -> None:
        """One epoch over the loader, the E-step before it included and validation excluded."""

    def warm_up(self) -> None:
        """Takes the first steps, which are not timed; a GPU's peak counts from here on."""
        self.reset_peak()
        self.train(Head(self.loader, self.settings.warmup_steps))

    def reset_peak(self) -> None:
        """Lets the GPU's peak begin anew, where there is a GPU."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def epoch(self) -> float:
        """Seconds of one epoch."""
        started = time.perf_counter()
        self.train(Head(self.loader, self.settings.steps))
        synchronize(self.device)
        return time.perf_counter() - started

    def device_peak_mb(self) -> float | None:
        """MB of 2**20 bytes that torch held at most on the GPU since the warm-up began; None on a CPU."""
        return torch.cuda.max_memory_allocated(self.device) / 2**20 if self.device.type == "cuda" else None

    def facts(self) -> dict[str, Any]:
        """What all that is compared must agree in."""
        run = self.settings.resolved().run
        return {
            "batch_size": run.train_batch_size,
            "threads": torch.get_num_threads(),
            "device": device_name(self.device),
            "seed": run.seed,
            "split_seed": run.split_seed,
            "split_sha256": self.sha256,
            "steps_per_epoch": len(self.loader),
        }


def device_name(device: torch.device) -> str:
    """`cpu`, or `cuda` with the name of the GPU."""
    return f"cuda, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def synchronize(device: torch.device) -> None:
    """Waits for the device, if it works on its own."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
