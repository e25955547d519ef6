"""Our side: a run's own trainer with all its callbacks."""

import time
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from benchmarks.side import Head, Settings, Side, synchronize
from recmodels.experiments.session import prepare
from recmodels.experiments.trainers import trainer_of


class OurSide(Side):
    """One of our models, trained by the very method that `recmodels train` calls for an epoch."""

    def __init__(self, settings: Settings) -> None:
        self.session = prepare(settings.resolved())
        splits = self.session.splits
        super().__init__(settings, splits.train, splits.sha256, self.session.model.device)
        self.trainer: Any = trainer_of(self.session, Path(settings.folder))
        self.trainer._notify("on_fit_start", self.trainer)

    def train(self, loader: Head) -> None:
        """Reseeded loader, E-step, callbacks, steps, and the checks of the weights after them."""
        self.trainer._run_epoch(loader, None, show_progress=False)

    def begin_epoch(self) -> None:
        """E-step and the like of an epoch whose steps are then taken one by one."""
        epoch = self.trainer.next_epoch
        self._batches = enumerate(chain.from_iterable(repeat(self.loader)))
        self.session.model.train()
        self.session.model.on_epoch_start(epoch)
        self.trainer._notify("on_epoch_start", self.trainer, epoch)

    def next_batch(self) -> tuple[int, Any]:
        """Number and content of the epoch's next batch; the loader begins anew when it is through."""
        return next(self._batches)

    def step(self) -> float:
        """Seconds of the trainer's own step and of its batch."""
        started = time.perf_counter()
        self.trainer._step(self.trainer.next_epoch, *self.next_batch())
        synchronize(self.device)
        return time.perf_counter() - started

    def evaluate(self) -> float:
        """Seconds of the full ranking of the valid users."""
        started = time.perf_counter()
        self.trainer.evaluate(self.session.splits.valid)
        synchronize(self.device)
        return time.perf_counter() - started


class FitSide(OurSide):
    """One of our filters, whose epoch is its whole fit; steps and their number mean nothing here."""

    def warm_up(self) -> None:
        """Takes no steps, since there are none; a GPU's peak counts from here on."""
        self.reset_peak()

    def train(self, loader: Head) -> None:
        """The fit, from the graph to the singular vectors."""
        self.session.model.fit()
