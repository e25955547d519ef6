"""The study of an ablation: which run is done, which is whose, and which is next."""

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from recmodels.ablation.points import Plan, PointRun
from recmodels.data.evaluation import is_smaller_better
from recmodels.experiments.run import stored_result
from recmodels.tuning.study import Claim, SharedStudy, study_lock

KEY = "key"  # attribute of a trial: that of its run


class GridStudy(SharedStudy):
    """The runs of a plan as trials, each run by one process at a time, whatever process asks for it.

    A run whose key has no trial is waiting. A trial is running until it is told complete or failed; of several trials
    of one run the last one counts. Trials of runs that are not in the plan are left alone.

    Args:
        plan: what is run.
        retried: numbers of failed trials whose runs are tried again.

    Raises:
        UserError: the folder holds runs of other data, of another split or metric, or something else.
    """

    option = "--runs_dir"
    may_begin_with_runs = True
    without_database = "remove it: finished runs are known by their folders"

    def __init__(self, plan: Plan, retried: frozenset[int] = frozenset()) -> None:
        super().__init__(plan.folder, plan.identity, not is_smaller_better(plan.metric))
        self._plan, self._retried = plan, retried

    @property
    def is_maximized(self) -> bool:
        """Whether large values of the metric are better."""
        return self._study.direction == StudyDirection.MAXIMIZE

    def latest(self) -> dict[str, FrozenTrial]:
        """The trial that counts of every run of the plan that has one, by the run's key."""
        keys = {run.key for run in self._plan.runs}
        return {trial.user_attrs[KEY]: trial for trial in self.trials() if trial.user_attrs.get(KEY) in keys}

    def settled(self) -> dict[str, FrozenTrial]:
        """Those of `latest` whose runs need no more work: finished ones with a result, and failed ones."""
        folders = self._plan.folders()
        return {
            key: trial
            for key, trial in self.latest().items()
            if (trial.state == TrialState.FAIL and trial.number not in self._retried)
            or (trial.state == TrialState.COMPLETE and stored_result(folders[key]) is not None)
        }

    def has_running(self) -> bool:
        """Whether some process works, or was killed when it worked, on a run of the plan."""
        return any(trial.state == TrialState.RUNNING for trial in self.latest().values())

    def claim(self) -> tuple[PointRun, Claim] | None:
        """A run to work on, with its trial: one that its process was killed in, or else the next that is waiting.

        Returns:
            None when every run is finished, failed, or in the hands of another process.
        """
        runs = {run.key: run for run in self._plan.runs}
        with study_lock(self.folder):
            latest, settled = self.latest(), self.settled()
            running = {key: trial for key, trial in latest.items() if trial.state == TrialState.RUNNING}
            claim = self._take_up(running.values())
            if claim is not None:
                return runs[claim.trial.user_attrs[KEY]], claim
            waiting = [
                run
                for key, run in runs.items()
                if key not in running and key not in settled and (run.source is None or run.source.key in settled)
            ]
            if not waiting:
                return None
            claim = self._begin()
            claim.trial.set_user_attr(KEY, waiting[0].key)
            return waiting[0], claim
