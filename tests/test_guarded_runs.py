"""Guards inside real runs: what is stopped, what is left on disk, what goes on."""

import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recmodels import cli
from recmodels.errors import NonFiniteError
from recmodels.experiments import trainers
from recmodels.experiments.session import Session
from recmodels.layers import parse_argv
from recmodels.models import GraphRecommender
from recmodels.records import Batch, Encoding
from recmodels.training import checkpoint
from recmodels.training.callbacks import Callback, Step
from recmodels.training.trainer import Trainer
from tests.runs import Recorder, Started, StopAt, arguments, same_state, start

pytestmark = pytest.mark.usefixtures("undrawn")
BAD_EPOCH = 2


class InfiniteSlope(torch.autograd.Function):
    """The identity with an infinite derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        return gradient * math.inf


def objective(model: GraphRecommender, name: str) -> Any:  # noqa: ANN401
    return next(o for o in model.objectives if o.name == name)


def poison(model: GraphRecommender, module: Any, change: Callable[[Any], Any]) -> None:  # noqa: ANN401
    """Changes what a module returns in training steps of the bad epoch."""
    forward = module.forward

    def poisoned(*args: Any) -> Any:  # noqa: ANN401
        result = forward(*args)
        return change(result) if model.training and model.epoch == BAD_EPOCH else result

    module.forward = poisoned


def poison_encoder(model: GraphRecommender, factor: float) -> None:
    def change(encoding: Encoding) -> Encoding:
        return encoding._replace(final=encoding.final * factor)

    poison(model, model.encoder, change)


def poison_backward(model: GraphRecommender) -> None:
    poison(model, model.encoder, lambda e: e._replace(final=InfiniteSlope.apply(e.final)))


def poison_pair(model: GraphRecommender, user: int, pos: int) -> None:
    """NaN in the ranking term of the batch that contains an interaction."""
    ranking = objective(model, "bpr")
    forward = ranking.forward

    def poisoned(encoding: Encoding, batch: Batch) -> Tensor:
        term = forward(encoding, batch)
        is_bad = model.epoch == BAD_EPOCH and bool(((batch.user == user) & (batch.pos == pos)).any())
        return term * math.nan if is_bad else term

    ranking.forward = poisoned


def failed(root: Path, hurt: Callable[[GraphRecommender], None]) -> tuple[Started, Recorder, dict[str, Any], str]:
    """A run with policy raise: what was recorded before, its diagnosis, and the message."""
    started = start(root, epochs=5)
    recorder = started.watch(Recorder())
    hurt(started.session.model)
    with pytest.raises(NonFiniteError) as caught:
        started.fit()
    (path,) = (root / "run").glob("diagnosis-*.json")
    return started, recorder, json.loads(path.read_text()), str(caught.value)


def poison_term(model: GraphRecommender, name: str, factor: float) -> None:
    poison(model, objective(model, name), lambda term: term * factor)


# What is hurt; the term, its kind, the module and the operation that the message names; the stage.
CASES: dict[str, tuple[Callable[[GraphRecommender], None], str, str, str, str, str]] = {
    "module": (lambda m: poison_encoder(m, math.nan), "bpr", "nan", "encoder", "mul", "forward"),
    "backward": (poison_backward, "gradient of table.weight", "nan", "encoder", "InfiniteSlope", "backward"),
    "term": (lambda m: poison_term(m, "ot", math.nan), "ot", "nan", "objectives.4", "mul", "forward"),
    "infinite term": (lambda m: poison_term(m, "ssl", math.inf), "ssl", "inf", "objectives.2", "mul", "forward"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_failure_names_term_module_and_operation(tmp_path: Path, case: str) -> None:
    hurt, term, kind, module, operation, stage = CASES[case]
    _, recorder, report, message = failed(tmp_path, hurt)
    assert message.startswith(f"epoch {BAD_EPOCH}, batch 0: non-finite {term} ({kind})")
    assert f"first in module {module!r}, operation '{operation}" in message
    assert f"diagnosis: {tmp_path / 'run' / 'diagnosis-1.json'}" in message
    assert message.endswith("policy 'raise' stops at the first failure")
    assert report["non_finite"][term] == kind
    assert (report["module"], report["stage"], report["epoch"]) == (module, stage, BAD_EPOCH)
    drawn = zip(Batch._fields[:3], recorder.batches[-1], strict=True)
    assert report["ids"] == {name: ids.tolist() for name, ids in drawn}


def test_an_infinity_that_becomes_nan_later_is_recorded_with_its_own_module(tmp_path: Path) -> None:
    _, _, report, _ = failed(tmp_path, lambda m: poison_encoder(m, math.inf))
    assert report["non_finite"]["bpr"] == "nan"
    assert report["replay"]["first"]["inf"]["module"] == "encoder"
    assert report["replay"]["first"]["nan"]["module"] == "objectives.0"


@pytest.mark.parametrize("case", CASES)
def test_a_failure_leaves_the_last_good_checkpoint(tmp_path: Path, case: str) -> None:
    started, recorder, report, message = failed(tmp_path, CASES[case][0])
    folder = tmp_path / "run"
    assert report["checkpoints"] == [str(folder / "last.pt"), str(folder / "checkpoint.pt")]
    assert f"last good checkpoint: {folder / 'last.pt'}" in message
    last = checkpoint.load(folder / "last.pt", started.session.identity)
    assert last["next_epoch"] == BAD_EPOCH
    assert same_state(last["weights"], recorder.weights[BAD_EPOCH - 1])
    table = started.session.model.state_dict()["table.weight"]
    assert torch.equal(table, last["weights"]["table.weight"])  # no bad step was taken


def test_the_command_of_a_diagnosis_is_that_of_the_run(tmp_path: Path) -> None:
    started, _, report, _ = failed(tmp_path, lambda m: poison_encoder(m, math.nan))
    python, script, *given = shlex.split(report["command"])
    assert (python, script) == ("python", "run_recbole.py")
    assert parse_argv(given) == {"config_files": [str(tmp_path / "run" / "config.yaml")]}
    assert report["seed"] == started.session.resolved.run.seed


def test_a_failure_in_the_middle_of_an_epoch_names_the_batch_with_the_interaction(tmp_path: Path) -> None:
    control = start(tmp_path, "control", epochs=3)
    batches = control.watch(Recorder()).batches
    control.fit()
    per_epoch = len(batches) // 3
    user, pos, _ = batches[BAD_EPOCH * per_epoch + 1][:, 5].tolist()
    _, recorder, report, _ = failed(tmp_path, lambda model: poison_pair(model, user, pos))
    assert (report["epoch"], report["batch"], report["non_finite"]["bpr"]) == (BAD_EPOCH, 1, "nan")
    assert (report["ids"]["user"][5], report["ids"]["pos"][5]) == (user, pos)
    assert (report["module"], report["operation"]) == ("objectives.0", "mul")
    assert len(recorder.logs) == BAD_EPOCH


def first_batch_only(model: GraphRecommender, state: dict[str, int]) -> None:
    """NaN in the ranking term of the first forward pass of the bad epoch, replays included."""
    ranking = objective(model, "bpr")
    forward = ranking.forward

    def poisoned(encoding: Encoding, batch: Batch) -> Tensor:
        state.setdefault(f"{model.epoch}", int(batch.neg.sum()))  # the first batch, known by its negatives
        is_bad = model.epoch == BAD_EPOCH and state[f"{model.epoch}"] == int(batch.neg.sum())
        return forward(encoding, batch) * (math.nan if is_bad else 1)

    ranking.forward = poisoned


def test_skip_drops_the_batch_and_its_means_leave_it_out(tmp_path: Path) -> None:
    started = start(tmp_path, epochs=4, guard_nonfinite="skip")
    recorder = started.watch(Recorder())
    first_batch_only(started.session.model, {})
    started.fit()
    taken = {epoch: [step for step in recorder.steps if step[0] == epoch] for epoch in range(4)}
    assert len(taken[BAD_EPOCH]) == len(taken[0]) - 1
    values = recorder.logs[BAD_EPOCH].values
    assert values["skipped_batches"] == 1
    by_hand = sum(step[2]["bpr"] for step in taken[BAD_EPOCH]) / len(taken[BAD_EPOCH])
    assert values["train/bpr"] == pytest.approx(by_hand, rel=1e-6)
    assert "skipped_batches" not in recorder.logs[0].values
    assert started.trainer.state_dict()["callbacks"]["NonFiniteGuard"] == {"skips": 1, "rollbacks": 0}


def test_skip_is_bounded(tmp_path: Path) -> None:
    started = start(tmp_path, epochs=4, guard_nonfinite="skip", guard_max_skips=2)
    poison_encoder(started.session.model, math.nan)
    with pytest.raises(NonFiniteError, match="policy 'skip' stops after 2 dropped batches"):
        started.fit()
    assert len(list((tmp_path / "run").glob("diagnosis-*.json"))) == 3


class Rates(Callback):
    """Weights and learning rate at the start of every attempt at an epoch."""

    def __init__(self) -> None:
        self.starts: list[tuple[int, float, dict[str, Tensor]]] = []

    def on_epoch_start(self, trainer: Trainer, epoch: int) -> None:
        rate = trainer.optimizer.param_groups[0]["lr"]
        self.starts.append((epoch, rate, {n: p.detach().clone() for n, p in trainer.model.named_parameters()}))


def poison_above(started: Started, rate: float) -> None:
    """NaN in the second batch of the bad epoch while the learning rate is above a limit."""
    steps = {"n": 0}
    optimizer = started.trainer.optimizer

    class Count(Callback):
        def on_epoch_start(self, trainer: Trainer, epoch: int) -> None:
            steps["n"] = 0

        def on_step_end(self, step: Step) -> None:
            steps["n"] += 1

    started.watch(Count())

    def change(encoding: Encoding) -> Encoding:
        is_bad = steps["n"] == 1 and optimizer.param_groups[0]["lr"] > rate
        return encoding._replace(final=encoding.final * math.nan) if is_bad else encoding

    poison(started.session.model, started.session.model.encoder, change)


def test_rollback_restores_the_last_finished_epoch_and_lowers_the_learning_rate(tmp_path: Path) -> None:
    started = start(tmp_path, epochs=4, guard_nonfinite="rollback", guard_lr_factor=0.5, learning_rate=0.016)
    recorder, rates = started.watch(Recorder()), started.watch(Rates())
    poison_above(started, 0.005)
    started.fit()
    assert [(epoch, rate) for epoch, rate, _ in rates.starts] == [
        (0, 0.016),
        (1, 0.016),
        (2, 0.016),
        (2, 0.008),
        (2, 0.004),
        (3, 0.004),
    ]
    parameters = rates.starts[0][2].keys()
    kept = {name: recorder.weights[1][name] for name in parameters}
    assert all(same_state(weights, kept) for epoch, _, weights in rates.starts if epoch == BAD_EPOCH)
    assert [log.epoch for log in recorder.logs] == [0, 1, 2, 3]
    assert [log.values["learning_rate"] for log in recorder.logs] == [0.016, 0.016, 0.004, 0.004]
    last = checkpoint.load(tmp_path / "run" / "last.pt", None)
    assert (last["learning_rate"], last["callbacks"]["NonFiniteGuard"]["rollbacks"]) == (0.004, 2)


def test_rollback_is_bounded_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    started = start(tmp_path, epochs=4, guard_nonfinite="rollback", guard_max_rollbacks=2)
    poison_encoder(started.session.model, math.nan)
    with pytest.raises(NonFiniteError, match="policy 'rollback' stops after 2 rollbacks"):
        started.fit()
    assert checkpoint.load(tmp_path / "run" / "last.pt", None)["next_epoch"] == BAD_EPOCH


def test_a_run_resumed_after_a_rollback_equals_the_undisturbed_one(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 5, "guard_nonfinite": "rollback"}
    whole = start(tmp_path, "whole", **settings)
    poison_above(whole, 0.006)
    expected = whole.watch(Recorder())
    whole.fit()
    first = start(tmp_path, "halves", **settings)
    poison_above(first, 0.006)
    first.watch(StopAt(3))
    with pytest.raises(KeyboardInterrupt):
        first.fit()
    second = start(tmp_path, "halves", **settings)
    poison_above(second, 0.006)
    second.trainer.load_state_dict(checkpoint.load(tmp_path / "halves" / "last.pt", second.session.identity))
    second.fit()
    assert same_state(dict(second.session.model.state_dict()), expected.weights[-1])
    assert second.trainer.learning_rate == whole.trainer.learning_rate == 0.005


def test_the_command_line_stops_with_one_message_and_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def poisoned(session: Session, folder: Path, make: Any = trainers.make_trainer) -> Trainer:  # noqa: ANN401
        poison_encoder(session.model, math.nan)
        return make(session, folder)

    monkeypatch.setattr(trainers, "make_trainer", poisoned)
    assert cli.main(["train", *arguments(tmp_path, epochs=4), f"--run_dir={tmp_path / 'run'}"]) == 1
    stopped = [line for line in capsys.readouterr().err.splitlines() if line.startswith("training stopped")]
    assert len(stopped) == 1
    assert "module 'encoder'" in stopped[0]
    assert str(tmp_path / "run" / "diagnosis-1.json") in stopped[0]
    assert not (tmp_path / "run" / "result.json").exists()


BLOW_UP: dict[str, Any] = {"epochs": 4, "train_batch_size": 100_000, "learning_rate": 1e30}


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_a_step_that_blows_up_is_neither_validated_nor_saved(tmp_path: Path, policy: str) -> None:
    started = start(tmp_path, guard_nonfinite=policy, **BLOW_UP)
    recorder, folder = started.watch(Recorder()), tmp_path / "run"
    initial = {name: value.clone() for name, value in started.session.model.state_dict().items()}
    with pytest.raises(NonFiniteError, match="epoch 0, after its last step: .*final embedding") as caught:
        started.fit()
    assert (len(recorder.steps), recorder.logs, started.trainer.early_stop.history) == (1, [], [])
    assert not (folder / "checkpoint.pt").exists()
    assert f"last good checkpoint: {folder / 'last.pt'}" in str(caught.value)
    last = checkpoint.load(folder / "last.pt", started.session.identity)
    assert (last["next_epoch"], same_state(last["weights"], initial)) == (0, True)


def test_a_blow_up_of_the_last_step_is_rolled_back_to_the_epoch_before(tmp_path: Path) -> None:
    started = start(tmp_path, epochs=4, guard_nonfinite="rollback")
    recorder = started.watch(Recorder())

    class Spoil(Callback):
        """Adds 1e30 to the weights in the last step of the bad epoch, the first time."""

        done = False

        def on_epoch_trained(self, trainer: Trainer, epoch: int) -> None:
            if epoch == BAD_EPOCH and not self.done:
                self.done = True
                with torch.no_grad():
                    next(trainer.model.parameters()).add_(1e30)

    rates = started.watch(Rates())
    started.watch(Spoil())
    started.fit()
    assert [epoch for epoch, _, _ in rates.starts] == [0, 1, 2, 2, 3]
    again = [weights for epoch, _, weights in rates.starts if epoch == BAD_EPOCH]
    assert same_state(again[0], again[1])
    assert rates.starts[3][1] == rates.starts[2][1] / 2
    assert all(math.isfinite(value) for log in recorder.logs for value in log.values.values())


def test_scores_that_overflow_have_no_metrics_and_are_never_the_best(tmp_path: Path) -> None:
    started = start(tmp_path, epochs=1)
    trainer, valid = started.trainer, started.session.splits.valid
    assert all(math.isfinite(value) for value in trainer.evaluate(valid).values())
    with torch.no_grad():
        started.session.model.table.weight.mul_(1e25)
    metrics = trainer.evaluate(valid)
    assert len(metrics) == 15
    assert all(math.isnan(value) for value in metrics.values())
    assert trainer.early_stop.update(0, metrics["ndcg@10"]) == (False, False)


@pytest.mark.parametrize(("policy", "is_kept"), [("raise", False), ("skip", False), ("rollback", True)])
def test_the_state_to_roll_back_to_is_kept_only_for_that_policy(tmp_path: Path, policy: str, is_kept: bool) -> None:
    started = start(tmp_path, epochs=1, guard_nonfinite=policy).fit()
    assert bool(started.trainer._restore_point) == is_kept
