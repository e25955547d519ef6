"""Runs that end their process: how often that may happen, and which errors are not the run's own."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna

from recmodels.errors import TrainingError
from recmodels.tuning.database import IN_USE

BEGUN = "begun"  # attribute of a trial: how many epochs were finished whenever a process began to work on it
MOST_DEATHS = 3
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class DeathsError(TrainingError):
    """A run has ended too many processes without an error, and would end every one that takes it up."""


@contextmanager
def deaths_counted(trial: optuna.Trial, folder: Path) -> Iterator[None]:
    """Remembers in the trial that a process has begun to work on it; an error or ctrl-c in the block is no death.

    Args:
        trial: of the run, held by this process.
        folder: its run folder; may be absent.

    Raises:
        DeathsError: more than `MOST_DEATHS` processes have begun after the same epoch.
    """
    n_done = n_epochs(folder)
    before = trial.user_attrs.get(BEGUN, [])
    if before.count(n_done) >= MOST_DEATHS:
        raise DeathsError(
            f"{MOST_DEATHS} processes ended without an error after {n_done} epochs, say for lack of memory"
        )
    trial.set_user_attr(BEGUN, [*before, n_done])
    try:
        yield
    except (Exception, KeyboardInterrupt):
        trial.set_user_attr(BEGUN, before)
        raise


def n_epochs(folder: Path) -> int:
    """How many epochs of the run in a folder are finished; 0 where there is none."""
    try:
        return max(len((folder / "curves.csv").read_text(encoding="utf-8").splitlines()) - 1, 0)
    except OSError:
        return 0


def is_of_the_machine(error: BaseException) -> bool:
    """Whether the disk or the study's database are full or read-only, so that no other run would do better."""
    return isinstance(error, IN_USE) or (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE)
