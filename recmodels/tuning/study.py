"""The folder of a study: who it belongs to, its database, and which process works on which trial."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from filelock import AcquireReturnProxy, FileLock, Timeout
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

import recmodels
from recmodels.errors import UserError
from recmodels.experiments.folder import CONFIG, STUDY, TRIALS
from recmodels.files import write_text
from recmodels.streams import stream_seed
from recmodels.tuning.database import DATABASE, database_errors, open_storage
from recmodels.tuning.identity import LOCKS, check_identity, read_identity

FOUND = "found"  # attribute of a finished trial: its `Outcome`, and why it ended before its time
_NAME = "tune"
_COPY_OR_OTHER = "put back a copy of it, or choose another folder with --study=DIR"


class Claim(NamedTuple):
    """A trial that belongs to this process until the lock is released, by the kernel at the latest.

    Attributes:
        trial: as Optuna knows it; of a search, with the sampler of its own number.
        lock: held; a context that releases it.
    """

    trial: optuna.Trial
    lock: AcquireReturnProxy


class SharedStudy:
    """A study on disk that several processes share.

    A trial is RUNNING from its creation to its end, whoever works on it; who that is says a lock of the kernel, which a
    killed process loses at once. So a trial without its lock is taken up again, under its number and in its folder.

    Args:
        folder: its folder.
        identity: plain data; what must be equal in all processes.
        maximize: whether large values are better.
        pruner: of the trials; None prunes nothing.

    Raises:
        UserError: the folder belongs to another study or to something else, cannot be made, or its database is damaged
            or lost. Nothing is written into a folder of something else.
    """

    option = "--study"  # names the folder
    may_begin_with_runs = False  # whether a folder of run folders may become a study
    without_database = _COPY_OR_OTHER  # what can be done when the database is damaged

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], maximize: bool, pruner: optuna.pruners.BasePruner | None = None
    ) -> None:
        self.folder = folder
        self._make_folder(identity)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with study_lock(folder), database_errors(folder / DATABASE, self.without_database):
            self._study = optuna.create_study(
                study_name=_NAME,
                storage=open_storage(folder / DATABASE),
                pruner=pruner or optuna.pruners.NopPruner(),
                direction=StudyDirection.MAXIMIZE if maximize else StudyDirection.MINIMIZE,
                load_if_exists=True,
            )

    def _make_folder(self, identity: Mapping[str, Any]) -> None:
        """The folder with the identity of the study, unless something else is in it."""
        folder, identity = self.folder, json.loads(json.dumps(identity))
        check_identity(folder, identity, self.option, self.may_begin_with_runs)
        try:
            (folder / LOCKS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot create the study folder {folder}: {error.strerror}; choose another one with {self.option}=DIR"
            ) from error
        with study_lock(folder):
            check_identity(folder, identity, self.option, self.may_begin_with_runs)  # another process may have begun
            if not (folder / STUDY).exists():
                write_text(folder / STUDY, json.dumps(identity, indent=2) + "\n")
            _require_database_of_trials(folder)

    def trials(self) -> list[FrozenTrial]:
        """All of them, by number."""
        return self._study.get_trials(deepcopy=False)

    def finished(self) -> list[FrozenTrial]:
        """Trials that came to an end, whatever it was."""
        return [trial for trial in self.trials() if trial.state.is_finished()]

    def _take_up(self, trials: Iterable[FrozenTrial]) -> Claim | None:
        """The first of some running trials that belongs to no process; the study is locked."""
        for frozen in trials:
            lock = self._lock(frozen.number)
            if lock is None:
                continue
            if self.trials()[frozen.number].state == TrialState.RUNNING:
                return Claim(self._trial(frozen.number, frozen._trial_id), lock)
            lock.lock.release()  # its process has ended it since the look at the trials
        return None

    def _begin(self) -> Claim:
        """A trial that nobody had; the study is locked."""
        new = self._study.ask()
        lock = self._lock(new.number)
        if lock is None:
            raise UserError(
                f"{self.folder}: a process works on trial {new.number}, which the study does not know: its database "
                "was removed meanwhile. End that process first"
            )
        return Claim(self._trial(new.number, new._trial_id), lock)

    def _trial(self, number: int, trial_id: int) -> optuna.Trial:
        """A trial of this process."""
        return optuna.Trial(self._study, trial_id)

    def _lock(self, number: int) -> AcquireReturnProxy | None:
        """The lock of a trial, held until the context that it is ends; None while another process holds it."""
        with suppress(Timeout):
            return FileLock(self.folder / LOCKS / f"trial-{number:04d}").acquire(timeout=0)
        return None


class Study(SharedStudy):
    """A search: every trial gets its values from a sampler of its own.

    Args:
        folder: its folder.
        identity: plain data; what must be equal in all processes, `config.yaml` with its seed among it.
        maximize: whether large values are better.
        prune_after: first 0-based epoch that may be pruned; None prunes nothing.

    Raises:
        UserError: the folder belongs to another study or to something else.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], maximize: bool, prune_after: int | None) -> None:
        super().__init__(folder, identity, maximize, None if prune_after is None else _pruner(prune_after))
        self._seed = int(identity[CONFIG]["seed"])

    def enqueue(self, settings: list[dict[str, Any]]) -> None:
        """Puts settings at the front, each once, however often this is called."""
        with study_lock(self.folder):
            for setting in settings:
                self._study.enqueue_trial(setting, skip_if_exists=True)

    def claim(self, n_trials: int) -> Claim | None:
        """A trial to work on: one that its process was killed in, or else a new one.

        Args:
            n_trials: how many there may be in all.

        Returns:
            The trial with its lock; None when every trial is finished or in the hands of another process.
        """
        with study_lock(self.folder):
            trials = self.trials()
            claim = self._take_up(trial for trial in trials if trial.state == TrialState.RUNNING)
            if claim is None and sum(trial.state != TrialState.WAITING for trial in trials) < n_trials:
                claim = self._begin()
            return claim

    def trial_folder(self, number: int) -> Path:
        """The run folder of a trial."""
        return trial_folder(self.folder, number)

    def _trial(self, number: int, trial_id: int) -> optuna.Trial:
        """The trial with a sampler of its own, so that what it is given depends on its number and on what is known."""
        seed = stream_seed(self._seed, "tune", number) % 2**32
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        return super()._trial(number, trial_id)


def trial_folder(folder: Path, number: int) -> Path:
    """The run folder of a trial of the study in `folder`."""
    return folder / TRIALS / f"trial-{number:04d}"


def study_lock(folder: Path) -> FileLock:
    """The lock of a whole study, not held yet; to be held for moments only."""
    return FileLock(folder / LOCKS / "study")


def load(folder: Path) -> optuna.Study:
    """The study of a folder, to be read.

    Raises:
        UserError: the folder is not a study's, or its database is missing or damaged.
    """
    read_identity(folder)
    path = folder / DATABASE
    if not path.is_file():  # lest it is made
        raise UserError(f"{path} is missing; {_COPY_OR_OTHER}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with database_errors(path, _COPY_OR_OTHER):
        return optuna.load_study(study_name=_NAME, storage=open_storage(path))


def has_complete(folder: Path) -> bool:
    """Whether a trial of the study has come to its end with a score."""
    return bool(load(folder).get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def code_fingerprint() -> str:
    """The beginning of the SHA-256 of the package's sources: trials of different code are not compared."""
    digest = hashlib.sha256()
    root = Path(recmodels.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _pruner(prune_after: int) -> optuna.pruners.BasePruner:
    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=prune_after)


def _require_database_of_trials(folder: Path) -> None:
    """Refuses a folder whose trials no database knows: a new one would take their runs for those of its own trials."""
    if any((folder / TRIALS).glob("trial-*")) and not (folder / DATABASE).exists():
        raise UserError(
            f"{folder / DATABASE} is missing, which has the values of the trials in {folder / TRIALS}; "
            f"{_COPY_OR_OTHER}, or remove {folder}"
        )
