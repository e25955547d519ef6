"""A small planted data set and short runs on it, for the tests of training and the command line."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from recmodels.experiments.folder import CONFIG
from recmodels.experiments.session import PARAMS, Session, prepare, resolve_train
from recmodels.experiments.trainers import make_trainer
from recmodels.files import write_text
from recmodels.training.callbacks import Callback, EpochLog, Step
from recmodels.training.trainer import Trainer

CHECKOUT = Path(__file__).resolve().parent.parent
N_USERS, N_ITEMS, N_GROUPS = 60, 80, 4
OPTIONS: dict[str, Any] = {
    "model": "NCL_OT",
    "dataset": "planted",
    "epochs": 3,
    "train_batch_size": 384,
    "learning_rate": 0.01,
    "embedding_size": 16,
    "num_clusters": 5,
    "warm_up_step": 1,
    "m_step": 2,
    "ot_centers": [8, 8],
    "ot_weight": 0.1,
    "ot_epsilon": 0.05,
    "ot_iters": 5,
    "ot_negatives_per_center": 3,
    "show_progress": False,
    "use_gpu": False,
}
# Keys of result.json that measure the machine and not the model.
MEASURED = ("seconds_per_epoch", "peak_rss_mb")


def write_data(root: Path, name: str = "planted") -> Path:
    """Writes N_GROUPS groups of users who like the items of their group, with 8 % noise; returns the data path."""
    generator = torch.Generator().manual_seed(0)
    same = torch.arange(N_USERS)[:, None] % N_GROUPS == torch.arange(N_ITEMS)[None] % N_GROUPS
    likes = torch.rand(N_USERS, N_ITEMS, generator=generator) < torch.where(same, 0.6, 0.05)
    return write_rows(root, [f"u{user}\ti{item}" for user, item in likes.nonzero().tolist()], name)


def write_rows(root: Path, rows: list[str], name: str = "planted") -> Path:
    """Writes a data set of lines of a user and an item; returns the data path."""
    folder = root / "data" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.inter").write_text("\n".join(["user_id:token\titem_id:token", *rows]) + "\n")
    return root / "data"


def options(root: Path, **overrides: Any) -> dict[str, Any]:  # noqa: ANN401
    """Overrides of a short run on the planted data under `root`; prototypes and transport are active.

    Keys of OPTIONS that belong to other models than the chosen one are left out.
    """
    if not (root / "data" / "planted").is_dir():
        write_data(root)
    own = set(PARAMS[overrides.get("model", OPTIONS["model"])].keys())
    foreign = set[str]().union(*(params.keys() for params in PARAMS.values())) - own
    short = {key: value for key, value in OPTIONS.items() if key not in foreign}
    paths = {"data_path": str(root / "data"), "runs_dir": str(root / "runs")}
    return {**short, "load_col": {"inter": ["user_id", "item_id"]}, **paths, **overrides}


def arguments(root: Path, **overrides: Any) -> list[str]:  # noqa: ANN401
    """The same as a command line."""
    return [
        f"--{key}={json.dumps(value)}" if isinstance(value, dict | list) else f"--{key}={value}"
        for key, value in options(root, **overrides).items()
    ]


class Started(NamedTuple):
    """A run that is ready to train.

    Attributes:
        session: data, split and model.
        trainer: with all the callbacks of a run.
    """

    session: Session
    trainer: Trainer

    def fit(self) -> "Started":
        """Trains to the end."""
        self.trainer.fit(self.session.splits.train, self.session.splits.valid)
        return self

    def watch(self, callback: Callback) -> Any:  # noqa: ANN401  (the callback that was given)
        """Adds a callback before the guard, so that it sees what the guard sees."""
        self.trainer.callbacks.insert(0, callback)
        return callback


def start(root: Path, name: str = "run", **overrides: Any) -> Started:
    """Prepares a run in `root/name` as `recmodels train` does."""
    resolved = resolve_train(options(root, **overrides))
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / CONFIG, resolved.dump())
    session = prepare(resolved)
    return Started(session, make_trainer(session, folder))


class StopAt(Callback):
    """Cuts a run at the start of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_start(self, trainer: object, epoch: int) -> None:
        """Ends it as ctrl-c does."""
        if epoch == self.epoch:
            raise KeyboardInterrupt


class Recorder(Callback):
    """Keeps what every step and every epoch showed.

    Attributes:
        steps: (epoch, batch, terms as floats, loss, norm by hand) of every finished step.
        batches: (3, B) node ids of every step that reached `on_terms`.
        logs: every epoch's log.
        weights: copies of the weights after every epoch.
    """

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, dict[str, float], float, float]] = []
        self.batches: list[torch.Tensor] = []
        self.logs: list[EpochLog] = []
        self.weights: list[dict[str, torch.Tensor]] = []
        self._norm = 0.0

    def on_terms(self, step: Step) -> None:
        self.batches.append(step.batch.triples)

    def on_gradients(self, step: Step) -> None:
        gradients = [p.grad for p in step.trainer.model.parameters() if p.grad is not None]
        self._norm = float(np.sqrt(sum(float(g.double().square().sum()) for g in gradients)))

    def on_step_end(self, step: Step) -> None:
        terms = {name: float(term.detach()) for name, term in step.terms.items()}
        self.steps.append((step.epoch, step.index, terms, float(step.loss.detach()), self._norm))

    def on_epoch_end(self, trainer: Trainer, log: EpochLog) -> None:
        self.logs.append(log)
        self.weights.append({name: value.clone() for name, value in trainer.model.state_dict().items()})


def same_state(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two state dictionaries are equal bit for bit."""
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def files_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of last change of every file below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def wait_for_files(pattern: str, count: int, workers: list["subprocess.Popen[bytes]"]) -> None:
    """Waits until so many files have such a name in this folder; the workers go on."""
    while len(list(Path().glob(pattern))) < count:
        assert {worker.poll() for worker in workers} == {None}  # none has ended
        time.sleep(0.01)


def python(code_or_file: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a fresh interpreter, with one thread as the tests themselves."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, *code_or_file], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
