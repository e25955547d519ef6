"""Short measurements and stand-ins of processes, for the tests of the benchmarks."""

import json
import subprocess
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.side import Settings, Side
from benchmarks.worker import Worker
from recmodels.cli import Remedies
from tests.runs import CHECKOUT, python

FACTS = {
    **{"batch_size": 8, "threads": 1, "device": "cpu", "seed": 1, "split_seed": 2},
    **{"split_sha256": "0", "steps_per_epoch": 9},
}
REMEDIES = Remedies(folder="another folder", disk="less", memory="--everything")


def settings(folder: Path, model: str, **changes: Any) -> Settings:  # noqa: ANN401
    values = {"batch_size": 1024, "steps": 2, "warmup_steps": 1, "use_gpu": False} | changes
    return Settings(model, "ml-100k", "dataset", folder=str(folder), **values)


def options(**changes: Any) -> Namespace:  # noqa: ANN401
    """What a command that trains was told."""
    values = {"models": ["NCL"], "dataset": "ml-100k", "data_path": "dataset", "batch_size": None, "steps": None}
    return Namespace(**values | {"warmup_steps": 1, "gpu": False, "set": {}, "epochs": 1} | changes)


def worker(job: Callable[..., Any], *args: Any) -> Worker:  # noqa: ANN401
    return Worker(job, *args, name="a job", remedies=REMEDIES)


class FakeWorker:
    """Answers every action with 1, facts and the GPU's peak apart, and writes down who was asked."""

    def __init__(self, name: str, journal: list[str], facts: dict[str, Any], device_peak_mb: float | None) -> None:
        self.name, self.journal = name, journal
        self.answers = {Side.facts: facts, Side.device_peak_mb: device_peak_mb}

    def run(self, action: Callable[..., Any]) -> Any:  # noqa: ANN401
        self.journal.append(f"{self.name} {action.__name__}")
        return self.answers.get(action, 1.0)

    def peak_mb(self) -> float:
        self.journal.append(f"{self.name} peak")
        return 2.0


def run(module: str, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return python(["-m", f"benchmarks.{module}", *arguments], cwd, PYTHONPATH=str(CHECKOUT))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
