"""The live table of an ablation: a line for every run that ends, and a bar."""

import sys
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType

from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from recmodels.ablation.grid_study import GridStudy
from recmodels.ablation.points import Plan, PointRun
from recmodels.tuning.deaths import n_epochs
from recmodels.tuning.study import FOUND


class Board:
    """Tells what happens in a study, whichever process it happens in. A context, in which the bar is shown.

    Args:
        plan: what is run.
        study: its study, opened for the board alone.
        say: told one line at a time.
    """

    def __init__(self, plan: Plan, study: GridStudy, say: Callable[[str], object]) -> None:
        self._plan, self._study, self._say = plan, study, say
        self._runs = {run.key: run for run in plan.runs}
        settled = study.settled()
        self._shown = {trial.number for trial in study.finished()}
        self._n_before, self._started = len(settled), time.monotonic()
        self._say(self._beginning(settled))
        is_shown = plan.points[0].resolved.run.show_progress
        self._bar = tqdm(
            desc=plan.folder.name,
            total=len(plan.runs),
            initial=len(settled),
            disable=None if is_shown else True,  # None: unless the output is a terminal
            file=sys.stderr,
            smoothing=0,
        )

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.close()

    def watch(self, is_over: Callable[[float], bool], seconds: float) -> None:
        """Looks again and again until `is_over`, which waits so many seconds, says so."""
        while not is_over(seconds):
            self.update()

    def update(self) -> None:
        """Says what has ended since the last look."""
        settled = self._study.settled()
        done = sorted(settled.items(), key=lambda entry: entry[1].datetime_complete or datetime.max)
        fresh = [(key, trial) for key, trial in done if trial.number not in self._shown]
        for place, (key, trial) in enumerate(fresh, start=len(done) - len(fresh) + 1):
            self._shown.add(trial.number)
            self._bar.clear()
            parts = [describe(self._runs[key], trial, self._plan.metric), self._best(dict(done)), self._left(len(done))]
            self._say(f"[{place}/{len(self._runs)}] {' | '.join(part for part in parts if part)}")
        self._bar.update(len(done) - self._bar.n)
        self._bar.set_postfix_str(" | ".join(part for part in (self._best(settled), self._running()) if part))

    def _beginning(self, settled: dict[str, FrozenTrial]) -> str:
        """What is there, and what is left to do."""
        n_failed = sum(trial.state == TrialState.FAIL for trial in settled.values())
        parts = [f"{len(settled) - n_failed} finished before (skipped)"] if len(settled) > n_failed else []
        parts += [f"{n_failed} failed before (skipped; --retry-failed tries again)"] if n_failed else []
        parts.append(f"{len(self._runs) - len(settled)} to do")
        return f"{len(self._runs)} runs of {len(self._plan.points)} points in {self._plan.folder}: {', '.join(parts)}"

    def _best(self, settled: dict[str, FrozenTrial]) -> str:
        """The best finished run by the valid metric."""
        complete = [(trial.value or 0.0, key) for key, trial in settled.items() if trial.state == TrialState.COMPLETE]
        if not complete:
            return ""
        value, key = (max if self._study.is_maximized else min)(complete)
        return f"best {value:.4f}, {self._runs[key].label}"

    def _left(self, n_done: int) -> str:
        """An estimate from the runs that ended since the start."""
        n_here, n_left = n_done - self._n_before, len(self._runs) - n_done
        if n_here <= 0 or n_left <= 0:
            return ""
        return f"about {tqdm.format_interval((time.monotonic() - self._started) / n_here * n_left)} left"

    def _running(self) -> str:
        """Runs that are being worked on, with their finished epochs."""
        folders = self._plan.folders()
        running = [key for key, trial in self._study.latest().items() if trial.state == TrialState.RUNNING]
        return ", ".join(f"{self._runs[key].label}: {n_epochs(folders[key])} epochs" for key in running)


def describe(run: PointRun, trial: FrozenTrial, metric: str) -> str:
    """A finished or failed run in a few words."""
    found = trial.user_attrs[FOUND]
    if trial.state == TrialState.FAIL:
        return f"{run.label} failed: {found['reason']}"
    epoch = "" if found["best_epoch"] is None else f" at epoch {found['best_epoch']}"
    return f"{run.label}: {metric} {found['score']:.4f}{epoch}, {found['seconds']:.1f} s"
