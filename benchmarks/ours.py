"""Our side: a run's own trainer with all its callbacks."""

import time
from pathlib import Path

from benchmarks.side import Head, Settings, Side, synchronize
from recmodels.experiments.session import prepare
from recmodels.experiments.trainers import make_trainer


class OurSide(Side):
    """One of our models, trained by the very method that `recmodels train` calls for an epoch."""

    def __init__(self, settings: Settings) -> None:
        self.session = prepare(settings.resolved())
        splits = self.session.splits
        super().__init__(settings, splits.train, splits.sha256, self.session.model.device)
        self.trainer = make_trainer(self.session, Path(settings.folder))
        self.trainer._notify("on_fit_start", self.trainer)

    def train(self, loader: Head) -> None:
        """Reseeded loader, E-step, callbacks, steps, and the checks of the weights after them."""
        self.trainer._run_epoch(loader, None, show_progress=False)

    def evaluate(self) -> float:
        """Seconds of the full ranking of the valid users."""
        started = time.perf_counter()
        self.trainer.evaluate(self.session.splits.valid)
        synchronize(self.device)
        return time.perf_counter() - started
