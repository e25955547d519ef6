"""What a non-finite loss, gradient or weight leaves behind: one replay of the batch and a JSON file."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recmodels import __version__
from recmodels.clustering import MAX_NORM
from recmodels.files import write_text
from recmodels.training.callbacks import Step
from recmodels.training.replay import RandomStates, kind, replay

_NO_REPLAY: dict[str, Any] = {"reproduced": False, "error": "switched off", "first": {}}
_CHECKPOINTS = ("last.pt", "checkpoint.pt")


def diagnose(step: Step, run_dir: str | Path, policy: str, states: RandomStates | None, replays: bool = True) -> Path:
    """Replays the batch once and writes `diagnosis-<n>.json` with the next free number.

    Non-finite numbers are strings in the file, since JSON has none.

    Args:
        step: the failed step; a failure of the backward pass has its `norm`.
        run_dir: folder of the run; made when absent.
        policy: what the guard will do, for the record.
        states: the random states at the start of the step; None replays from the present ones.
        replays: False leaves the replay out.

    Returns:
        The file. `module` and `operation` in it are None when the replay did not reproduce the failure.
    """
    found = replay(step, states) if replays else _NO_REPLAY
    bad = {**_non_finite_terms(step), **non_finite_gradients(step)}
    first = _cause(found["first"], bad, is_backward=step.norm is not None)
    report = {
        **_facts(step, Path(run_dir)),
        "policy": policy,
        "stage": "forward" if step.norm is None else "backward",
        "non_finite": bad,
        "module": first.get("module"),
        "operation": first.get("operation"),
        "source": first.get("source"),
        "replay": found,
    }
    return _write(report, Path(run_dir))


def diagnose_state(trainer: Any, epoch: int, stage: str, bad: dict[str, str], run_dir: str | Path, policy: str) -> Path:
    """Writes `diagnosis-<n>.json` for what is not the fault of one batch, which is therefore not replayed.

    Args:
        trainer: the running trainer.
        epoch: 0-based, whose steps were taken.
        stage: "weights", which the steps of an epoch have ruined, or "outer level".
        bad: what is wrong, say from `non_finite_weights`.
        run_dir: folder of the run; made when absent.
        policy: what the guard will do, for the record.

    Returns:
        The file.
    """
    facts = _run_facts(trainer, Path(run_dir))
    report = {"epoch": epoch, "policy": policy, "stage": stage, "non_finite": bad}
    return _write(report | {"learning_rate": trainer.learning_rate} | facts, Path(run_dir))


def overflow(embeddings: Tensor) -> str | None:
    """Returns "nan" or "inf" as `kind`, "longer than ..." when the scores of (N, d) embeddings overflow, else None."""
    longest = torch.linalg.vector_norm(embeddings.detach(), dim=-1, dtype=torch.float64).max()
    if bool(longest <= MAX_NORM):
        return None
    return kind(embeddings) or f"longer than {MAX_NORM:g}"


@torch.no_grad()
def non_finite_weights(model: Any) -> dict[str, str]:
    """What is wrong with parameters and embeddings of a model in evaluation mode; empty when every score is finite."""
    bad = {name: found for name, p in model.named_parameters() if (found := kind(p)) is not None}
    encoding = model.encode()
    embeddings = {"ego embedding": encoding.ego, "final embedding": encoding.final}
    return bad | {name: found for name, x in embeddings.items() if (found := overflow(x)) is not None}


def non_finite_gradients(step: Step) -> dict[str, str]:
    """Kind of each non-finite gradient, as `gradient of <parameter>`; empty before the backward pass."""
    if step.norm is None:
        return {}
    kinds = {name: kind(p.grad) for name, p in step.trainer.model.named_parameters() if p.grad is not None}
    return {f"gradient of {name}": found for name, found in kinds.items() if found is not None}


def _non_finite_terms(step: Step) -> dict[str, str]:
    kinds = {name: kind(value) for name, value in {**step.terms, "loss": step.loss}.items()}
    return {name: found for name, found in kinds.items() if found is not None}


def _cause(first: dict[str, dict[str, str]], bad: dict[str, str], is_backward: bool) -> dict[str, str]:
    earliest: dict[str, str] = next(iter(first.values()), {})
    # Forward, an infinity before the first NaN may be a mask; backward, it is what made the NaN.
    return earliest if is_backward else first.get("nan" if "nan" in bad.values() else "inf", earliest)


def _facts(step: Step, run_dir: Path) -> dict[str, Any]:
    parameters = dict(step.trainer.model.named_parameters())
    gradients = {} if step.norm is None else {name: p.grad for name, p in parameters.items() if p.grad is not None}
    return {
        "epoch": step.epoch,
        "batch": step.index,
        "terms": {name: _number(value) for name, value in step.terms.items()},
        "loss": _number(step.loss),
        "ids": dict(zip(("user", "pos", "neg"), step.batch.triples.tolist(), strict=True)),
        "gradient_norms": {name: _norm(gradient) for name, gradient in gradients.items()},
        **_run_facts(step.trainer, run_dir),
    }


def _run_facts(trainer: Any, run_dir: Path) -> dict[str, Any]:
    model: nn.Module = trainer.model
    return {
        "seed": trainer.seed,
        "weight_norms": {name: _norm(p) for name, p in model.named_parameters()},
        "checkpoints": [str(run_dir / name) for name in _CHECKPOINTS if (run_dir / name).exists()],
        "command": trainer.command,
        "versions": {"recmodels": __version__, "torch": torch.__version__, "numpy": np.__version__},
    }


def _norm(value: Tensor) -> float | str:
    return _number(torch.linalg.vector_norm(value.detach().to_dense().double()))


def _number(value: Tensor) -> float | str:
    number = float(value.detach())
    return number if math.isfinite(number) else str(number)


def _write(report: dict[str, Any], run_dir: Path) -> Path:
    run_dir.mkdir(parents=True, exist_ok=True)
    taken = [int(file.stem[10:]) for file in run_dir.glob("diagnosis-*.json") if file.stem[10:].isdigit()]
    path = run_dir / f"diagnosis-{max(taken, default=0) + 1}.json"
    write_text(path, json.dumps(report, indent=2, allow_nan=False))
    return path
