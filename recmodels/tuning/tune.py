"""A search for the best values of a model's keys, on the valid part alone."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from tqdm import tqdm

from recmodels.config import Resolved
from recmodels.errors import CheckpointError, ParamError, UserError
from recmodels.experiments.report import versions
from recmodels.experiments.session import Session, check_steps, prepare, resolve_train, size_of
from recmodels.params import raise_all
from recmodels.tuning.database import DATABASE, errors_in_use
from recmodels.tuning.deaths import deaths_counted, is_of_the_machine
from recmodels.tuning.identity import check_identity, read_identity
from recmodels.tuning.refusals import search_problems, size_problems
from recmodels.tuning.report import describe_trial
from recmodels.tuning.space import Space
from recmodels.tuning.study import FOUND, Claim, Study, code_fingerprint
from recmodels.tuning.trial import PrunedError, Watcher, kept_off_the_terminal, one_line, outcome, run_trial


@dataclass(frozen=True)
class Search:
    """What is searched, and how.

    Attributes:
        overrides: flat names to plain data, `model` and `dataset` among them, the same in every trial.
        space: what differs between trials.
        prune_after: first 0-based epoch after which a trial that is behind the median ends; None prunes nothing.
    """

    overrides: dict[str, Any]
    space: Space
    prune_after: int | None

    def resolve(self, values: dict[str, Any]) -> Resolved:
        """The configuration of a trial.

        Raises:
            ParamError: the model refuses the values together.
        """
        return resolve_train({**self.space.fixed, **self.overrides, **values})

    def identity(self, session: Session) -> dict[str, Any]:
        """What all processes of a study agree on: data, values, space, code and versions."""
        own = {"space": self.space.as_values(), "prune_after": self.prune_after}
        code = {"metric": metric_of(session.resolved), "code": code_fingerprint(), "versions": versions()}
        return session.identity | own | code


def metric_of(resolved: Resolved) -> str:
    """The metric that is searched for, as in the logs."""
    return resolved.run.valid_metric.lower()


def tune(
    search: Search, folder: Path | None, n_trials: int, say: Callable[[str], object], poll_seconds: float = 2.0
) -> Path:
    """Works on a study until it has `n_trials` finished trials; several processes may do so at once.

    Args:
        search: what is searched.
        folder: of the study; None is `<runs_dir>/tune-<model>-<dataset>`. An earlier study in it is continued.
        n_trials: >= 1, with the earlier ones; completed, pruned and failed trials count.
        say: told one line for every trial.
        poll_seconds: > 0, between two looks at the last trials of other processes.

    Returns:
        The folder; `write_report` says what is in it.

    Raises:
        UserError: data or configuration do not allow the runs, or the folder holds another study. A trial that had
            begun is taken up again by the next process; one whose own values or files are refused has failed.
        OSError: the disk is full or read-only.
    """
    resolved = search.resolve(search.space.first())
    raise_all("configuration", search_problems(resolved))
    session = prepare(resolved)
    check_steps(session)
    raise_all("space", size_problems(search.space, resolved, *size_of(session.splits)))
    folder = folder or Path(resolved.run.runs_dir) / f"tune-{resolved.model}-{resolved.dataset}"
    study = Study(folder, search.identity(session), bool(session.config["valid_metric_bigger"]), search.prune_after)
    del session  # data and model of a trial take its place
    if (n_settings := search.space.size) is not None and n_settings < n_trials:
        say(f"the space has {n_settings} settings, so some of {n_trials} trials repeat others, with equal results")
    study.enqueue([search.space.labeled(setting) for setting in search.space.enqueued])
    with errors_in_use(folder / DATABASE), _bar(resolved, study, n_trials) as bar:
        while (claim := _next(study, n_trials, bar, poll_seconds)) is not None:
            with claim.lock:
                text = _work(search, study, claim, bar, metric_of(resolved))
            done = len(study.finished())
            bar.update(done - bar.n)
            bar.clear()
            say(f"[{done}/{n_trials}] {text}")
            bar.refresh()
    return folder


@contextmanager
def _bar(resolved: Resolved, study: Study, n_trials: int) -> "Iterator[tqdm[Any]]":
    """Trials done of all trials, the only progress on the terminal."""
    title, done = f"tune {resolved.model}", len(study.finished())
    bar = tqdm(desc=title, total=n_trials, initial=done, disable=not resolved.run.show_progress, file=sys.stderr)
    with bar, kept_off_the_terminal():
        yield bar


def _next(study: Study, n_trials: int, bar: "tqdm[Any]", poll_seconds: float) -> Claim | None:
    """The next trial of this process; waits for those of others, which are taken up if they are killed."""
    while (claim := study.claim(n_trials)) is None and len(study.finished()) < n_trials:
        bar.set_postfix_str("waiting for the trials of other processes")
        time.sleep(poll_seconds)
    return claim


def _work(search: Search, study: Study, claim: Claim, bar: "tqdm[Any]", metric: str) -> str:
    """Runs one trial to its end and records it; returns a line about it."""
    trial, folder = claim.trial, study.trial_folder(claim.trial.number)
    values, started = search.space.suggest(trial), time.perf_counter()
    state, reason = TrialState.COMPLETE, ""
    try:
        with deaths_counted(trial, folder):
            run_trial(search.resolve(values), folder, Watcher(trial, metric, bar.set_postfix_str))
    except PrunedError as error:
        state, reason = TrialState.PRUNED, str(error)
    except Exception as error:  # a baseline's libraries raise nearly anything; left running, it would come first again
        if _concerns_all(error, search, study.folder):
            raise
        state, reason = TrialState.FAIL, one_line(error)
    found = outcome(folder, metric)
    found = found._replace(seconds=found.seconds or time.perf_counter() - started)
    trial.set_user_attr(FOUND, {**found._asdict(), "reason": reason})
    ended = trial.study.tell(trial, found.score if state == TrialState.COMPLETE else None, state)
    return describe_trial(ended, metric)


def _concerns_all(error: Exception, search: Search, folder: Path) -> bool:
    """Whether other trials would end alike: the data, the machine or a folder are to blame, and not the values.

    Raises:
        UserError: the study itself could not begin any more, which says more than the error does.
    """
    if not isinstance(error, UserError):
        return is_of_the_machine(error)
    if not isinstance(error, (ParamError, CheckpointError)):
        return True
    again = prepare(search.resolve(search.space.first())).identity
    check_identity(folder, read_identity(folder) | again, Study.option)
    return False
