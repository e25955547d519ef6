"""Processes that share the runs of an ablation, and what happens when one is killed or told to end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from optuna.trial import TrialState

from recmodels.ablation.ablate import Work, ablate
from recmodels.ablation.grid_study import KEY, GridStudy
from recmodels.ablation.points import finished_runs
from recmodels.config import Resolved
from recmodels.errors import TrainingError
from recmodels.experiments import run
from recmodels.experiments.folder import CONFIG
from recmodels.tuning.deaths import BEGUN
from recmodels.tuning.study import FOUND
from tests.runs import CHECKOUT, wait_for_files
from tests.test_ablate import make


def die(resolved: Resolved, folder: Path) -> None:
    """A runner that another process can import, and that ends it."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_several_processes_of_one_command_share_the_runs_and_their_end_is_told(tmp_path: Path) -> None:
    plan = make(tmp_path, "points: {plain: {}, deep: {n_layers: 3}, ease: {model: EASE, reg_weight: 1.0}}")
    with pytest.raises(TrainingError, match="3 of 3 runs are not finished; the same command continues"):
        ablate(Work(plan, runner=die, poll_seconds=0.1), 2, lambda line: None)
    lines: list[str] = []
    ablate(Work(plan, poll_seconds=0.1), 2, lines.append)
    assert lines[0].endswith(": 3 to do")
    assert sorted(line.partition(",")[0][6:] for line in lines[1:]) == ["deep", "ease", "plain"]
    assert [len(found) for found in finished_runs(plan).values()] == [1, 1, 1]


# A worker that waits in the second epoch of a run, so that a kill comes in the middle, until there is a file `go`.
PAUSING_WORKER = """
import os, sys, time
from pathlib import Path
from recmodels import cli
from recmodels.training.progress import Progress

end = Progress.on_epoch_end

def pause(self, trainer, log):
    end(self, trainer, log)
    if log.epoch == 1:
        Path(f"reached-{os.getpid()}").touch()
        while not Path("go").exists():
            time.sleep(0.01)

Progress.on_epoch_end = pause
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_killed_worker_loses_no_run_and_no_run_is_run_twice(tmp_path: Path) -> None:
    rates = [0.002, 0.005, 0.01, 0.02]
    plan = make(tmp_path, f"grid: {{n_layers: [1, 2, 3], reg_weight: {rates}}}")
    command = [sys.executable, "-c", PAUSING_WORKER, "ablate", "points.yaml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    workers = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    wait_for_files("reached-*", 2, workers)
    workers[0].send_signal(signal.SIGKILL)
    workers[0].wait()
    Path("go").touch()
    assert workers[1].wait(timeout=600) == 0
    trials = GridStudy(plan).trials()
    assert [(trial.number, trial.state) for trial in trials] == [(n, TrialState.COMPLETE) for n in range(12)]
    assert [trial.user_attrs[KEY] for trial in trials] == [found.key for found in plan.runs]
    assert sorted(trial.user_attrs[BEGUN] for trial in trials) == [[0]] * 11 + [[0, 2]]
    assert {path.name for path in plan.folder.iterdir() if (path / CONFIG).exists()} == {
        found.folder_name for found in plan.runs
    }
    n_resumed = 0
    for found, trial in zip(plan.runs, trials, strict=True):
        folder = plan.folder / found.folder_name
        log = (folder / "log.txt").read_text()
        n_resumed += "resuming after 1 finished epochs" in log
        assert [log.count(f"epoch   {epoch} |") for epoch in (0, 2)] == [1, 1]
        assert list(pd.read_csv(folder / "curves.csv")["epoch"]) == [0, 1, 2]
        assert trial.user_attrs[FOUND]["score"] == run.stored_result(folder)["best_valid"]["ndcg@10"]  # type: ignore[index]
    assert n_resumed == 1
    assert [len(found) for found in finished_runs(plan).values()] == [1] * 12


@pytest.mark.slow
def test_a_command_that_is_told_to_end_takes_its_workers_along_and_none_of_them_died(tmp_path: Path) -> None:
    plan = make(tmp_path, "points: {plain: {}, deep: {n_layers: 3}}", epochs=10_000, stopping_step=10_000)
    command = [sys.executable, "-m", "recmodels", "ablate", "points.yaml", "--jobs=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_for_files("runs/*/*/curves.csv", 2, [process])
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        told = process.stderr.read().decode()  # to its end, so no worker, which would hold it open, is left
    assert process.returncode == 130
    assert "interrupted; the same command continues" in told
    assert "Traceback" not in told
    trials = GridStudy(plan).trials()
    assert [(trial.state, trial.user_attrs[BEGUN]) for trial in trials] == [(TrialState.RUNNING, [])] * 2
