import copy
import json
import math
import shlex
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from recmodels.errors import NonFiniteError, ParamError
from recmodels.records import Batch, Encoding
from recmodels.training.callbacks import RollBack, SkipBatch, Step
from recmodels.training.diagnosis import overflow
from recmodels.training.guards import NonFiniteGuard
from recmodels.training.replay import replay, snapshot

BATCH = Batch.of(torch.tensor([1, 2]), torch.tensor([3, 4]), torch.tensor([5, 5]))


class Scale(nn.Module):
    """Multiplies by a constant; NaN or infinite when poisoned."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


class Root(nn.Module):
    """sqrt(x - x) is 0 with an infinite derivative."""

    def forward(self, x):
        return torch.sqrt((x - x.detach()).abs() * 1.0)


class Counting(nn.Module):
    """Adds noise from its own stream and counts its calls in a buffer, in place and by replacement."""

    def __init__(self, seed=0):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(()))
        self.noise = []

    def forward(self, x):
        self.calls += 1
        self.last = torch.rand((), generator=self.generator)
        self.noise.append((float(self.last), float(torch.rand(()))))
        return x + self.last


class Toy(nn.Module):
    def __init__(self, **parts):
        super().__init__()
        self.table = nn.Embedding(6, 3)
        self.first, self.noise, self.last = Scale(), Counting(), Scale()
        for name, part in parts.items():
            setattr(self, name, part)

    def encode(self):
        ego = self.table.weight
        first = self.first(ego)
        return Encoding(ego, [ego], first, first)

    def terms(self, batch):
        x = self.last(self.noise(self.first(self.table(batch.user))))
        return {"bpr": self.table(batch.pos).sum(), "ot": x.sum()}

    def weighted_sum(self, terms):
        return terms["bpr"] + 0.5 * terms["ot"]


def fake_trainer(model, run_dir, scaler_is_enabled=False):
    return SimpleNamespace(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        scaler=SimpleNamespace(is_enabled=lambda: scaler_is_enabled),
        enable_amp=False,
        seed=7,
        learning_rate=0.1,
        command="python run_recbole.py --model=Toy --seed=7",
        run_dir=run_dir,
    )


def take_step(guard, trainer, index=0):
    """Forward and backward with the guard's hooks, in the order of the loop."""
    trainer.model.zero_grad(set_to_none=True)
    terms = trainer.model.terms(BATCH)
    step = Step(trainer, 3, index, BATCH, terms, trainer.model.weighted_sum(terms))
    guard.on_terms(step)
    step.loss.backward()
    gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    step.norm = nn.utils.get_total_norm(gradients)
    guard.on_gradients(step)
    guard.on_step_end(step)
    return step


def guard_and_trainer(tmp_path, model, policy="raise", limit=0, **kwargs):
    guard, trainer = NonFiniteGuard(policy, limit, limit, tmp_path), fake_trainer(model, tmp_path, **kwargs)
    guard.on_epoch_start(trainer, 3)
    return guard, trainer


def only_report(tmp_path):
    (path,) = tmp_path.glob("diagnosis-*.json")
    return json.loads(path.read_text())


def test_finite_steps_pass_and_write_nothing(tmp_path):
    guard, trainer = guard_and_trainer(tmp_path, Toy())
    for index in range(3):
        take_step(guard, trainer, index)
    assert list(tmp_path.iterdir()) == []
    assert trainer.model.noise.calls == 3  # no replay


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_bad_forward_is_caught_by_term_kind_module_and_operation(tmp_path, value, place):
    guard, trainer = guard_and_trainer(tmp_path, Toy(**{place: Scale(value)}))
    kind = "nan" if math.isnan(value) else "inf"
    if kind == "inf":
        nn.init.ones_(trainer.model.table.weight)  # no inf - inf on the way to the loss
    with pytest.raises(NonFiniteError, match=rf"epoch 3, batch 5: non-finite ot \({kind}\).*'{place}'.*diagnosis-1"):
        take_step(guard, trainer, index=5)
    report = only_report(tmp_path)
    assert report["non_finite"] == {"ot": kind, "loss": kind}
    assert (report["module"], report["operation"], report["stage"]) == (place, "mul", "forward")
    assert "return x * self.factor" in report["source"]
    assert report["gradient_norms"] == {}


def test_an_overflow_in_the_weighted_sum_alone_is_caught(tmp_path):
    model = Toy()
    model.weighted_sum = lambda terms: terms["bpr"] + terms["ot"] * math.inf
    guard, trainer = guard_and_trainer(tmp_path, model)
    with pytest.raises(NonFiniteError, match=r"non-finite loss \(inf\)"):
        take_step(guard, trainer)
    assert only_report(tmp_path)["module"] == "Toy"


@pytest.mark.parametrize("times", [1.0, 0.0])
def test_a_failure_only_in_the_backward_pass_names_the_operation(tmp_path, times):
    model = Toy(first=Root(), last=Scale(times))
    guard, trainer = guard_and_trainer(tmp_path, model)
    with pytest.raises(NonFiniteError, match=r"non-finite gradient of table.weight \(nan\).*'first'.*SqrtBackward0"):
        take_step(guard, trainer)
    report = only_report(tmp_path)
    assert report["stage"] == "backward"
    assert "return torch.sqrt(" in report["source"]
    assert report["terms"]["ot"] == pytest.approx(6 * model.noise.last.item() * times)
    assert report["gradient_norms"] == {"table.weight": "nan"}


class InfiniteSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * math.inf


class Steep(nn.Module):
    def forward(self, x):
        return InfiniteSlope.apply(x)


class Masked(nn.Module):
    """A softmax over masked scores: an infinity on purpose."""

    def forward(self, x):
        return torch.softmax(x.masked_fill(torch.tensor([False, False, True]), -math.inf), -1)


def test_a_mask_of_infinities_is_not_blamed_for_a_nan_elsewhere(tmp_path):
    guard, trainer = guard_and_trainer(tmp_path, Toy(first=Masked(), last=Scale(math.nan)))
    with pytest.raises(NonFiniteError, match="'last', operation 'mul'"):
        take_step(guard, trainer)
    guard, trainer = guard_and_trainer(tmp_path, Toy(first=Masked(), last=Steep()))
    with pytest.raises(NonFiniteError, match="'last', operation 'InfiniteSlopeBackward'"):
        take_step(guard, trainer)


def test_an_infinite_gradient_of_a_custom_function_is_named(tmp_path):
    guard, trainer = guard_and_trainer(tmp_path, Toy(last=Steep()))
    with pytest.raises(NonFiniteError, match=r"gradient of table.weight \(inf\).*'last'.*InfiniteSlopeBackward"):
        take_step(guard, trainer)


def test_a_weight_that_is_already_bad_is_named(tmp_path):
    guard, trainer = guard_and_trainer(tmp_path, Toy())
    with torch.no_grad():
        trainer.model.table.weight[1, 0] = math.nan
    with pytest.raises(NonFiniteError, match=r"module 'table', operation 'stored value of table.weight'"):
        take_step(guard, trainer)


def test_the_replay_sees_the_same_draws_and_leaves_no_trace(tmp_path):
    model = Toy(last=Scale(math.nan))
    guard, trainer = guard_and_trainer(tmp_path, model, policy="skip", limit=5)
    twin = copy.deepcopy(model)
    twin.noise.generator = torch.Generator().manual_seed(0)
    start = torch.get_rng_state()
    for index in range(3):
        with pytest.raises(SkipBatch):
            take_step(guard, trainer, index)
    torch_state, noise_state = torch.get_rng_state(), model.noise.generator.get_state()
    torch.set_rng_state(start)
    for _ in range(3):
        twin.terms(BATCH)
    assert model.noise.noise == [pair for pair in twin.noise.noise for _ in range(2)]  # each draw once more
    assert torch.equal(torch_state, torch.get_rng_state())
    assert torch.equal(noise_state, twin.noise.generator.get_state())
    for name, value in twin.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_the_replay_after_good_steps_sees_the_draws_of_the_failed_step(tmp_path):
    guard, trainer = guard_and_trainer(tmp_path, Toy())
    take_step(guard, trainer, 0)
    trainer.model.last = Scale(math.nan)
    with pytest.raises(NonFiniteError):
        take_step(guard, trainer, 1)
    good, failed, replayed = trainer.model.noise.noise
    assert failed == replayed != good


def test_the_replay_puts_replaced_buffers_back(tmp_path):
    model = Toy()
    terms = model.terms(BATCH)
    before = model.noise.last
    replay(Step(fake_trainer(model, tmp_path), 0, 0, BATCH, terms, model.weighted_sum(terms)), states=None)
    first, second = model.noise.noise
    assert first != second  # without states the replay draws on
    assert model.noise.last is before
    assert float(before) == first[0]


def test_the_replay_keeps_the_gradients(tmp_path):
    guard, trainer = guard_and_trainer(tmp_path, Toy(first=Root()), policy="skip", limit=1)
    with pytest.raises(SkipBatch):
        take_step(guard, trainer)
    got = trainer.model.table.weight.grad.clone()
    trainer.model.zero_grad()
    trainer.model.weighted_sum(trainer.model.terms(BATCH)).backward()
    torch.testing.assert_close(got, trainer.model.table.weight.grad, rtol=0, atol=0, equal_nan=True)
    assert not torch.is_anomaly_enabled()
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in trainer.model.modules())


class Once(nn.Module):
    """Bad at the first call only, so that no replay can reproduce it."""

    def __init__(self):
        super().__init__()
        self.factor = math.nan

    def forward(self, x):
        factor, self.factor = self.factor, 1.0
        return x * factor


class BreaksOnReplay(Once):
    def forward(self, x):
        if self.factor == 1.0:
            raise RuntimeError("out of memory")
        return super().forward(x)


def test_what_the_replay_does_not_reproduce_is_said(tmp_path):
    guard, trainer = guard_and_trainer(tmp_path, Toy(last=Once()))
    with pytest.raises(NonFiniteError, match=r"non-finite ot \(nan\).*did not reproduce"):
        take_step(guard, trainer)
    assert only_report(tmp_path)["replay"] == {"reproduced": False, "error": None, "first": {}}


def test_a_replay_that_breaks_does_not_hide_the_failure(tmp_path):
    guard, trainer = guard_and_trainer(tmp_path, Toy(first=BreaksOnReplay()))
    with pytest.raises(NonFiniteError, match=r"non-finite ot \(nan\).*no module named, replay: out of memory"):
        take_step(guard, trainer)
    after = torch.Generator().manual_seed(0)
    torch.rand((), generator=after)
    assert torch.equal(trainer.model.noise.generator.get_state(), after.get_state())
    assert only_report(tmp_path)["replay"]["error"] == "out of memory"


def test_the_replay_can_be_switched_off(tmp_path):
    trainer = fake_trainer(Toy(last=Scale(math.nan)), tmp_path)
    with pytest.raises(NonFiniteError, match=r"non-finite ot \(nan\).*replay: switched off"):
        take_step(NonFiniteGuard("raise", 0, 0, tmp_path, replays=False), trainer)
    assert trainer.model.noise.calls == 1
    assert len(trainer.model.noise.noise) == 1


def test_the_diagnosis_has_what_reproduces_the_batch(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    guard, trainer = guard_and_trainer(tmp_path, Toy(last=Scale(math.nan)))
    with pytest.raises(NonFiniteError, match=r"last good checkpoint: \S*checkpoint\.pt"):
        take_step(guard, trainer)
    report, weight = only_report(tmp_path), trainer.model.table.weight
    assert (report["epoch"], report["batch"], report["seed"], report["policy"]) == (3, 0, 7, "raise")
    assert report["ids"] == {"user": [1, 2], "pos": [3, 4], "neg": [5, 5]}
    assert shlex.split(report["command"])[-1] == "--seed=7"
    assert report["weight_norms"]["table.weight"] == pytest.approx(weight.detach().double().norm().item(), rel=1e-12)
    assert report["terms"] == {"bpr": pytest.approx(weight[3:5].sum().item()), "ot": "nan"}
    assert set(report["versions"]) == {"recmodels", "torch", "numpy"}
    assert report["checkpoints"] == [str(tmp_path / "checkpoint.pt")]


def test_skip_and_rollback_give_up_after_their_limit_with_one_diagnosis_each(tmp_path):
    for policy, control in [("skip", SkipBatch), ("rollback", RollBack)]:
        guard, trainer = guard_and_trainer(tmp_path / policy, Toy(last=Scale(math.nan)), policy=policy, limit=2)
        for _ in range(2):
            with pytest.raises(control):
                take_step(guard, trainer)
        with pytest.raises(NonFiniteError, match=rf"policy '{policy}' stops after 2"):
            take_step(guard, trainer)
        names = sorted(path.name for path in (tmp_path / policy).iterdir())
        assert names == ["diagnosis-1.json", "diagnosis-2.json", "diagnosis-3.json"]


def test_the_limit_counts_across_a_resume(tmp_path):
    guard, trainer = guard_and_trainer(tmp_path, Toy(last=Scale(math.nan)), policy="skip", limit=1)
    with pytest.raises(SkipBatch):
        take_step(guard, trainer)
    resumed = NonFiniteGuard("skip", 1, 1, tmp_path)
    resumed.load_state_dict(guard.state_dict())
    with pytest.raises(NonFiniteError):
        take_step(resumed, trainer)


def test_a_norm_that_overflows_over_finite_gradients_is_said_and_passes(tmp_path, caplog):
    guard, trainer = guard_and_trainer(tmp_path, Toy(last=Scale(3e38)))
    with torch.no_grad():
        trainer.model.table.weight.zero_()
        trainer.model.noise.forward = lambda x: x
    assert take_step(guard, trainer).norm == math.inf
    assert "gradient norm overflows although every gradient is finite" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_gradients_are_left_to_an_active_scaler_but_the_loss_is_not(tmp_path):
    guard, trainer = guard_and_trainer(tmp_path, Toy(first=Root()), scaler_is_enabled=True)
    assert not take_step(guard, trainer).norm.isfinite()
    trainer.model.last = Scale(math.nan)
    with pytest.raises(NonFiniteError):
        take_step(guard, trainer)


def test_a_snapshot_holds_every_generator_of_the_model():
    states = snapshot(Toy())
    assert list(states.modules) == ["noise"]
    assert torch.equal(states.modules["noise"], torch.Generator().manual_seed(0).get_state())


def test_wrong_settings_name_what_was_expected(tmp_path):
    with pytest.raises(ParamError, match="policy: got 'rise', expected one of raise, skip, rollback"):
        NonFiniteGuard("rise", 0, 0, tmp_path)
    with pytest.raises(ParamError, match="got -1 skips"):
        NonFiniteGuard("skip", -1, 0, tmp_path)


def spoil(model, value):
    with torch.no_grad():
        model.table.weight[2, 1] = value


@pytest.mark.parametrize(
    ("value", "factor", "bad"),
    [
        (math.nan, 1.0, {"table.weight": "nan", "ego embedding": "nan", "final embedding": "nan"}),
        (-math.inf, 1.0, {"table.weight": "inf", "ego embedding": "inf", "final embedding": "inf"}),
        (1e30, 1.0, {"ego embedding": "longer than 1e+18", "final embedding": "longer than 1e+18"}),
        (1e10, 1e10, {"final embedding": "longer than 1e+18"}),
        (1e10, 1e30, {"final embedding": "inf"}),
    ],
)
def test_weights_that_a_step_has_ruined_are_named_after_the_epoch(tmp_path, value, factor, bad):
    guard, trainer = guard_and_trainer(tmp_path, Toy(first=Scale(factor)))
    (tmp_path / "last.pt").write_bytes(b"")
    spoil(trainer.model, value)
    with pytest.raises(
        NonFiniteError, match="epoch 3, after its last step: non-finite .*policy 'raise' stops"
    ) as caught:
        guard.on_epoch_trained(trainer, 3)
    for name, found in bad.items():
        assert f"{name} ({found})" in str(caught.value)
    assert f"last good checkpoint: {tmp_path / 'last.pt'}" in str(caught.value)
    report = only_report(tmp_path)
    assert (report["non_finite"], report["stage"], report["epoch"], report["seed"]) == (bad, "weights", 3, 7)
    assert set(report["weight_norms"]) == {"table.weight"}


def test_large_finite_weights_pass_and_write_nothing(tmp_path):
    guard, trainer = guard_and_trainer(tmp_path, Toy())
    spoil(trainer.model, 9e17)
    guard.on_epoch_trained(trainer, 3)
    assert list(tmp_path.iterdir()) == []


def test_ruined_weights_are_rolled_back_within_the_limit_and_never_skipped(tmp_path):
    guard, trainer = guard_and_trainer(tmp_path, Toy(), policy="rollback", limit=1)
    spoil(trainer.model, math.nan)
    with pytest.raises(RollBack):
        guard.on_epoch_trained(trainer, 3)
    with pytest.raises(NonFiniteError, match="policy 'rollback' stops after 1 rollbacks"):
        guard.on_epoch_trained(trainer, 3)
    guard, _ = guard_and_trainer(tmp_path, Toy(), policy="skip", limit=5)
    with pytest.raises(NonFiniteError, match="policy 'skip' cannot undo a step that was taken; 'rollback' can"):
        guard.on_epoch_trained(trainer, 3)
    assert guard.state_dict() == {"skips": 0, "rollbacks": 0}


def test_embeddings_overflow_exactly_when_a_row_is_too_long():
    assert overflow(torch.tensor([[6e17, 7e17], [0.0, 0.0]])) is None
    assert overflow(torch.tensor([[6e17, 9e17], [0.0, 0.0]])) == "longer than 1e+18"
    assert overflow(torch.tensor([[3e38, 3e38]])) == "longer than 1e+18"  # its length is not finite in float32
    assert overflow(torch.tensor([[1.0, math.nan], [math.inf, 0.0]])) == "nan"
