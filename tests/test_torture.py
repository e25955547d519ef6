"""Kills at random moments: a run that is killed again and again ends like one that never was."""

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recmodels.training import checkpoint
from tests.runs import CHECKOUT, MEASURED, arguments

LONGEST_S = 120
# Long enough to be hit in the middle, with E-steps at every second epoch and an early stop before the last one.
SETTINGS: dict[str, Any] = {"epochs": 40, "learning_rate": 0.05, "stopping_step": 8}


def launch(root: Path, given: list[str]) -> subprocess.Popen[bytes]:
    """A training process of its own."""
    command = [sys.executable, str(CHECKOUT / "run_recbole.py"), *given]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(root: Path, given: list[str]) -> None:
    assert launch(root, given).wait(timeout=LONGEST_S) == 0


def outcome(folder: Path) -> dict[str, Any]:
    """All that must not depend on kills; weights as bytes."""
    result = json.loads((folder / "result.json").read_text())
    rows = csv.DictReader(io.StringIO((folder / "curves.csv").read_text()))
    with np.load(folder / "test_users.npz", allow_pickle=False) as users:
        arrays = {name: users[name].tobytes() for name in users.files}
    states = {name: checkpoint.load(folder / name, None)["weights"] for name in ("checkpoint.pt", "last.pt")}
    return {
        "result": {key: value for key, value in result.items() if key not in MEASURED},
        "curves": [{key: value for key, value in row.items() if "seconds" not in key} for row in rows],
        "users": arrays,
        "weights": {
            (file, name): value.contiguous().view(torch.uint8).numpy().tobytes()
            for file, weights in states.items()
            for name, value in weights.items()
        },
    }


def kill_and_resume(root: Path, n_kills: int, seed: int) -> int:
    """Compares a run that is killed `n_kills` times with one that is left alone.

    Each kill comes a random time after the process has written its first file, or earlier. A process that finishes
    before its kill ends the run, so the next kill hits a new run.

    Args:
        root: an empty folder.
        n_kills: >= 1 kills by SIGKILL.
        seed: of the moments.

    Returns:
        Number of runs that were compared.
    """
    moments = random.Random(seed)
    finish(root, [*arguments(root, **SETTINGS), f"--run_dir={root / 'whole'}"])
    given = [f"--config_files={root / 'whole' / 'config.yaml'}"]
    expected, n_runs, n_killed, folder = outcome(root / "whole"), 0, 0, root / "killed-0"
    while n_killed < n_kills:
        n_killed += is_killed(root, folder, given, moments)
        if (folder / "result.json").exists() or n_killed == n_kills:
            finish(root, continued(folder, given))
            assert outcome(folder) == expected
            n_runs, folder = n_runs + 1, root / f"killed-{n_runs + 1}"
    return n_runs


def continued(folder: Path, given: list[str]) -> list[str]:
    """The command that starts or resumes a run."""
    return [f"--resume={folder}"] if (folder / "config.yaml").exists() else [*given, f"--run_dir={folder}"]


def is_killed(root: Path, folder: Path, given: list[str], moments: random.Random) -> bool:
    """Starts or resumes the run and kills it; False when it was faster than the kill."""
    log = folder / "log.txt"
    size = log.stat().st_size if log.exists() else 0
    process = launch(root, continued(folder, given))
    deadline = time.monotonic() + LONGEST_S
    while process.poll() is None and not (log.exists() and log.stat().st_size > size) and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(moments.uniform(0, 1.5))
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_three_kills_do_not_change_a_run(tmp_path: Path) -> None:
    assert kill_and_resume(tmp_path, n_kills=3, seed=0) >= 1


@pytest.mark.torture
def test_twenty_kills_do_not_change_a_run(tmp_path: Path) -> None:
    assert kill_and_resume(tmp_path, n_kills=20, seed=1) >= 1
