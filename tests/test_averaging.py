"""The average of the weights: what is stored, what training goes on from, and interruptions."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from recmodels.errors import ParamError
from recmodels.experiments import run
from recmodels.experiments.session import prepare, resolve_train
from recmodels.training import checkpoint
from recmodels.training.averaging import WeightAverage
from recmodels.training.callbacks import Callback, EpochLog, Step
from recmodels.training.trainer import Trainer
from tests.runs import Recorder, Started, StopAt, options, same_state, start

pytestmark = pytest.mark.usefixtures("undrawn")
DECAY = 0.8
LIGHT: dict[str, Any] = {"model": "LightGCN", "epochs": 4, "learning_rate": 0.05}


class Weights(Callback):
    """Keeps the table before the first and after every step, and after every epoch."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []
        self.epochs: list[Tensor] = []

    def on_fit_start(self, trainer: Trainer) -> None:
        self.steps.append(trainer.model.table().detach().clone())

    def on_step_end(self, step: Step) -> None:
        self.steps.append(step.trainer.model.table().detach().clone())

    def on_epoch_end(self, trainer: Trainer, log: EpochLog) -> None:
        self.epochs.append(trainer.model.table().detach().clone())


def _fit(root: Path, name: str, **overrides: Any) -> tuple[Started, Weights, Recorder]:  # noqa: ANN401
    started = start(root, name, **(LIGHT | overrides))
    weights, recorder = started.watch(Weights()), started.watch(Recorder())
    started.fit()
    return started, weights, recorder


def test_an_epoch_ends_with_the_average_of_all_steps_and_training_goes_on_from_the_last_one(tmp_path: Path) -> None:
    _, plain, plain_record = _fit(tmp_path, "plain")
    started, averaged, record = _fit(tmp_path, "averaged", weight_average=DECAY)
    assert all(torch.equal(a, b) for a, b in zip(plain.steps, averaged.steps, strict=True))
    assert record.steps == plain_record.steps
    average, n_batches = plain.steps[0].double(), len(started.session.splits.train)
    for t, weight in enumerate(plain.steps[1:], start=1):
        decay = min(DECAY, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * weight.double()
        if t % n_batches == 0:
            assert_close(averaged.epochs[t // n_batches - 1].double(), average, atol=1e-6, rtol=1e-5)
            assert not torch.allclose(average, weight.double(), atol=1e-3)


def test_without_a_decay_there_is_no_average_and_with_one_it_comes_first(tmp_path: Path) -> None:
    plain, averaged = (start(tmp_path, str(decay), weight_average=decay).trainer.callbacks for decay in (0.0, DECAY))
    assert not any(isinstance(callback, WeightAverage) for callback in plain)
    assert isinstance(averaged[0], WeightAverage)
    assert averaged[0].decay == DECAY


def test_valid_and_the_stored_best_are_those_of_the_average(tmp_path: Path) -> None:
    started, weights, record = _fit(tmp_path, "run", weight_average=DECAY)
    best = checkpoint.load(tmp_path / "run" / "checkpoint.pt", None)
    assert torch.equal(best["weights"]["table.weight"], weights.epochs[best["epoch"]])
    started.session.model.load_state_dict(best["weights"])
    valid = started.trainer.evaluate(started.session.splits.valid)
    assert valid["ndcg@10"] == record.logs[best["epoch"]].values["valid/ndcg@10"]


class Once(Callback):
    """Spoils the first batch of epoch 2, once."""

    spoiled = False

    def on_terms(self, step: Step) -> None:
        if step.epoch == 2 and not self.spoiled:
            self.spoiled = True
            step.loss = step.loss * math.nan


def test_a_rollback_returns_to_the_weights_and_the_average_of_the_last_epoch(tmp_path: Path) -> None:
    settings = LIGHT | {"weight_average": DECAY, "guard_nonfinite": "rollback", "guard_lr_factor": 0.999999999}
    started = start(tmp_path, "rolled", **settings)
    started.watch(Once())
    rolled = started.fit().session.model.state_dict()
    undisturbed = start(tmp_path, "undisturbed", **settings).fit().session.model.state_dict()
    assert started.trainer.state_dict()["callbacks"]["NonFiniteGuard"]["rollbacks"] == 1
    assert_close(rolled, undisturbed, atol=1e-6, rtol=1e-6)


def test_a_resumed_run_has_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    settings = options(tmp_path, epochs=4, weight_average=DECAY)  # NCL_OT: its prototypes see the average
    whole = run.train(resolve_train(settings), str(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        run.train(resolve_train(settings), str(tmp_path / "broken"), [StopAt(2)])
    broken = run.resume(str(tmp_path / "broken"))
    for name in ("last.pt", "checkpoint.pt"):
        one, other = (checkpoint.load(folder / name, None) for folder in (whole, broken))
        assert same_state(one["weights"], other["weights"])


@pytest.mark.parametrize("model", ["EASE", "BPR", "MultiVAE", "GFCF"])
def test_models_without_our_loop_refuse_what_only_it_does(tmp_path: Path, model: str) -> None:
    with pytest.raises(ParamError) as caught:
        prepare(resolve_train(options(tmp_path, model=model, weight_average=0.9, train_batch_unit="users")))
    for told in ("weight_average: got 0.9, expected 0.0", "train_batch_unit: got 'users', expected 'interactions'"):
        assert f"{told}: {model} is not trained" in str(caught.value)
