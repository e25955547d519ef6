"""Working on the runs of an ablation, alone or with other processes."""

import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path

from optuna.trial import TrialState

from recmodels.ablation.board import Board
from recmodels.ablation.grid_study import GridStudy
from recmodels.ablation.points import Plan, PointRun
from recmodels.config import Resolved
from recmodels.errors import TrainingError, UserError
from recmodels.experiments.compact import compacted, pruned
from recmodels.experiments.folder import RESULT
from recmodels.experiments.run import stored_result
from recmodels.experiments.session import resolve_train
from recmodels.tuning.database import DATABASE, errors_in_use
from recmodels.tuning.deaths import DeathsError, deaths_counted, is_of_the_machine
from recmodels.tuning.study import FOUND, Claim
from recmodels.tuning.trial import kept_off_the_terminal, one_line, train_or_resume


@dataclass(frozen=True)
class Work:
    """What a process needs to take part; it can be sent to another one.

    Attributes:
        plan: what is run.
        retried: numbers of failed trials whose runs are tried again.
        runner: trains a configuration in a folder, from where an earlier process was killed, up to its result.
        poll_seconds: > 0, between two looks at the runs of other processes.
    """

    plan: Plan
    retried: frozenset[int] = frozenset()
    runner: Callable[[Resolved, Path], object] = train_or_resume
    poll_seconds: float = 2.0

    def do(self) -> None:
        """Works until every run of the plan is finished or failed, those of other processes included.

        A run that raises is recorded as failed, and the next one begins.

        Raises:
            OSError: the disk is full or read-only.
            UserError: the study's database is.
        """
        study = GridStudy(self.plan, self.retried)
        with errors_in_use(self.plan.folder / DATABASE):
            while not _is_abandoned():
                claimed = study.claim()
                if claimed is not None:
                    self._finish(*claimed)
                elif study.has_running():
                    time.sleep(self.poll_seconds)
                else:
                    return

    def _finish(self, run: PointRun, claim: Claim) -> None:
        """Runs one to its end and records it."""
        folder, trial, started = self.plan.folders()[run.key], claim.trial, time.monotonic()
        with claim.lock:
            reason = self._reason(run, claim, folder)
            result = {} if reason else stored_result(folder) or {}
            score = result.get("best_valid", {}).get(self.plan.metric)
            if not reason and score is None:
                reason = f"{folder / RESULT} has no valid {self.plan.metric}"
            found = {"score": score, "best_epoch": result.get("best_epoch"), "seconds": time.monotonic() - started}
            trial.set_user_attr(FOUND, {**found, "reason": reason})
            trial.study.tell(trial, None if reason else score, TrialState.FAIL if reason else TrialState.COMPLETE)

    def _reason(self, run: PointRun, claim: Claim, folder: Path) -> str:
        """Runs one to its end; why it has failed, or nothing."""
        if stored_result(folder) is not None:
            return ""
        try:
            with deaths_counted(claim.trial, folder), kept_off_the_terminal():
                self.runner(self._configuration(run), folder)
        except DeathsError as error:
            return f"{error}; --retry-failed tries it again"
        except Exception as error:  # nearly anything, and the other points are to go on
            if is_of_the_machine(error):
                raise
            return one_line(error)
        return ""

    def _configuration(self, run: PointRun) -> Resolved:
        """Of a run; if it is made from another one, by what that has found.

        Raises:
            UserError: the other one has failed, or cannot be read.
        """
        if run.source is None:
            return resolve_train(run.values)
        folder, compact = self.plan.folders()[run.source.key], run.source.compact
        if stored_result(folder) is None:
            raise UserError(f"{run.source.label}, which it is made from, has failed")
        if compact.prune is None:
            return compacted(str(folder), compact.overrides)[0]
        return pruned(str(folder), compact.prune, compact.overrides)[0]


def ablate(work: Work, n_jobs: int, say: Callable[[str], object]) -> None:
    """Runs what is left of a plan, and shows how it goes; several processes may do so at once.

    Args:
        work: on the plan.
        n_jobs: >= 1 processes at a time; one is this one.
        say: told one line at the start and one for every run that ends, whichever process it was in.

    Raises:
        UserError: the folder holds runs of other data, or something else.
        TrainingError: all processes ended before their time.
    """
    study = GridStudy(work.plan, work.retried)
    with Board(work.plan, study, say) as board:
        (_alone if n_jobs == 1 else _together)(work, n_jobs, board)
        board.update()
    left = len(work.plan.runs) - len(study.settled())
    if left:
        raise TrainingError(f"{left} of {len(work.plan.runs)} runs are not finished; the same command continues")


def failed_trials(plan: Plan) -> frozenset[int]:
    """Numbers of the trials of a plan whose runs have failed, to be tried again."""
    latest = GridStudy(plan).latest().values()
    return frozenset(trial.number for trial in latest if trial.state == TrialState.FAIL)


def _alone(work: Work, n_jobs: int, board: Board) -> None:
    """In this process, the board beside it."""
    is_over = threading.Event()
    beside = threading.Thread(target=board.watch, args=(is_over.wait, work.poll_seconds))
    beside.start()
    try:
        work.do()
    finally:
        is_over.set()
        beside.join()


def _together(work: Work, n_jobs: int, board: Board) -> None:
    """In processes of their own, the board in this one."""
    context = multiprocessing.get_context("spawn")
    work = replace(work, plan=replace(work.plan, points=()))  # a baseline's parameters cannot be sent
    workers = [context.Process(target=_do_in_child, args=(work,), daemon=True) for _ in range(n_jobs)]
    for worker in workers:
        worker.start()

    def are_over(seconds: float) -> bool:
        wait([worker.sentinel for worker in workers if worker.is_alive()], seconds)
        return not any(worker.is_alive() for worker in workers)

    try:
        board.watch(are_over, work.poll_seconds)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _do_in_child(work: Work) -> None:
    logging.captureWarnings(True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # how the parent ends it: an interruption, no death
    try:
        work.do()
    except KeyboardInterrupt:
        return  # the parent says so
    except (OSError, UserError) as error:
        raise SystemExit(f"worker stopped: {one_line(error)}") from None


def _is_abandoned() -> bool:
    """Whether the process that started this one was killed."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()
