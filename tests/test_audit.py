import logging
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from recmodels.errors import AuditError, ParamError
from recmodels.records import Batch
from recmodels.training.audit import GradientAudit, gradient_shares, orphans
from recmodels.training.callbacks import EpochLog, Step

BATCH = Batch.of(torch.tensor([1, 2]), torch.tensor([3, 4]), torch.tensor([5, 5]))


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1.0, 1.0, 18).reshape(6, 3))
        self.picker = nn.Parameter(torch.ones(3))

    def forward(self):
        return self.weight * self.picker

    def picker_parameters(self):
        return iter([self.picker])


class Term(nn.Module):
    """An objective with a parameter of its own."""

    is_regularizer = False

    def __init__(self, name, weight=1.0, starts_at=0):
        super().__init__()
        self.name, self.weight, self.starts_at = name, weight, starts_at
        self.slope = nn.Parameter(torch.ones(()))

    def is_active(self, epoch):
        return epoch >= self.starts_at

    def forward(self, ego, batch):
        return (ego[batch.user] * self.slope).sum()


class FrozenTensor(Term):
    def __init__(self, name):
        super().__init__(name)
        self.prior = torch.ones(3, requires_grad=True)

    def forward(self, ego, batch):
        return super().forward(ego * self.prior, batch)


class DictOfParameters(Term):
    def __init__(self, name):
        super().__init__(name)
        self.by_type = {"user": nn.Parameter(torch.ones(3)), "item": nn.Parameter(torch.ones(3))}

    def forward(self, ego, batch):
        return super().forward(ego * self.by_type["user"] + self.by_type["item"], batch)


class DetachedBranch(Term):
    def forward(self, ego, batch):
        return ego[batch.user].sum() + super().forward(ego, batch).detach()


class Toy(nn.Module):
    def __init__(self, *objectives):
        super().__init__()
        self.table, self.objectives, self.epoch = Table(), nn.ModuleList(objectives), 0

    def active(self):
        return [o for o in self.objectives if o.is_active(self.epoch)]

    def terms(self, batch):
        ego = self.table()
        return {o.name: o(ego, batch) for o in self.active()}

    def weights(self):
        return {o.name: o.weight for o in self.active()}

    def weighted_sum(self, terms):
        return sum(self.weights()[name] * term for name, term in terms.items())


def audit(unused="raise", orphan="raise", dead="raise", dead_share=1e-4, allow=()):
    return GradientAudit(unused, orphan, dead, dead_share, allow)


def fake_trainer(model):
    held_out = {id(p) for p in model.table.picker_parameters()}
    trained = [p for p in model.parameters() if id(p) not in held_out]
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return SimpleNamespace(model=model, optimizer=torch.optim.SGD(trained, lr=0.1), scaler=scaler)


def make_step(model, index=0):
    terms = model.terms(BATCH)
    return Step(fake_trainer(model), model.epoch, index, BATCH, terms, model.weighted_sum(terms))


def take_step(callback, model, index=0):
    model.zero_grad(set_to_none=True)
    step = make_step(model, index)
    if index == 0:
        callback.on_epoch_start(step.trainer, model.epoch)
    callback.on_terms(step)
    step.loss.backward()
    callback.on_gradients(step)
    return step


def test_a_clean_model_triggers_nothing(caplog):
    callback = audit()
    take_step(callback, Toy(Term("bpr"), Term("ot", 0.5)))
    assert (callback.unused, callback.orphans, caplog.records) == ([], [], [])


def test_a_frozen_plain_tensor_is_an_orphan_by_name():
    callback = audit()
    with pytest.raises(AuditError, match=r"'objectives\.0\.prior' is used by the loss but no optimizer updates it"):
        take_step(callback, Toy(FrozenTensor("bpr")))
    assert (callback.unused, callback.orphans) == ([], ["objectives.0.prior"])


def test_a_dict_of_parameters_is_orphans_by_key():
    callback = audit()
    with pytest.raises(AuditError, match="by_type"):
        take_step(callback, Toy(DictOfParameters("bpr")))
    assert callback.unused == []
    assert sorted(callback.orphans) == ["objectives.0.by_type['item']", "objectives.0.by_type['user']"]


def test_a_detached_branch_is_a_parameter_without_gradient():
    callback = audit()
    with pytest.raises(AuditError, match=r"'objectives\.0\.slope' got no gradient"):
        take_step(callback, Toy(DetachedBranch("bpr")))
    assert (callback.unused, callback.orphans) == (["objectives.0.slope"], [])


def test_all_findings_are_reported_at_once():
    with pytest.raises(AuditError, match=r"slope.*; .*prior.*"):
        take_step(audit(), Toy(DetachedBranch("bpr"), FrozenTensor("ot")))


def test_a_leaf_that_is_no_attribute_is_named_by_its_shape():
    model, loose = Toy(Term("bpr")), torch.ones(2, 3, requires_grad=True)
    model.weighted_sum = lambda terms: terms["bpr"] + loose.sum()
    callback = audit(orphan="warn")
    take_step(callback, model)
    assert callback.orphans == ["tensor of shape (2, 3), no attribute of the model"]


def test_policies_choose_between_error_warning_and_silence(caplog):
    take_step(audit(unused="warn", orphan="ignore"), Toy(DetachedBranch("bpr"), FrozenTensor("ot")))
    assert [r.getMessage() for r in caplog.records] == [
        "parameter 'objectives.0.slope' got no gradient: the loss does not depend on it"
    ]


def test_allowed_names_and_patterns_are_passed_over():
    callback = audit(allow=["objectives.*.slope", "objectives.1.prior"])
    take_step(callback, Toy(DetachedBranch("bpr"), FrozenTensor("ot")))
    assert (callback.unused, callback.orphans) == ([], [])


def test_parameters_that_need_no_gradient_are_passed_over():
    model = Toy(DetachedBranch("bpr"))
    model.objectives[0].slope.requires_grad_(False)
    callback = audit()
    take_step(callback, model)
    assert (callback.unused, callback.orphans) == ([], [])


def test_orphans_of_a_plain_loss_are_exactly_the_leaves_outside_the_optimizer():
    model = Toy(Term("bpr"))
    assert [leaf is model.table.picker for leaf in orphans(make_step(model))] == [True]


def test_an_objective_is_audited_when_it_becomes_active_and_not_before():
    model, callback = Toy(Term("bpr"), DetachedBranch("late", starts_at=2)), audit()
    for model.epoch in (0, 1):
        take_step(callback, model)
        assert callback.unused == []
    model.epoch = 2
    with pytest.raises(AuditError, match=r"objectives\.1\.slope"):
        take_step(callback, model)


@pytest.mark.parametrize("index", [1, 0])
def test_a_batch_that_another_callback_drops_does_not_use_up_the_audit(index):
    model, callback = Toy(DetachedBranch("bpr")), audit()
    callback.on_terms(make_step(model))
    with pytest.raises(AuditError, match="slope"):
        take_step(callback, model, index=index)


def test_later_batches_are_not_audited():
    model, callback = Toy(Term("bpr")), audit()
    take_step(callback, model)
    model.objectives[0].forward = lambda ego, batch: ego.sum()
    take_step(callback, model, index=1)
    assert callback.unused == []


def test_shares_are_those_of_the_weighted_gradients_on_the_table():
    model = Toy(Term("bpr"), Term("ot", 0.25), Term("none", 3.0))
    model.objectives[1].forward = lambda ego, batch: ego[batch.pos].square().sum()
    model.objectives[2].forward = lambda ego, batch: ego.detach().sum()
    shares = gradient_shares(make_step(model))
    bpr = torch.zeros(6, 3, dtype=torch.float64)
    bpr[BATCH.user] = 1
    ot = torch.zeros(6, 3, dtype=torch.float64)
    ot[BATCH.pos] = 0.25 * 2 * model.table.weight.detach()[BATCH.pos].double()
    total = bpr.norm() + ot.norm()
    expected = {"bpr": (bpr.norm() / total).item(), "ot": (ot.norm() / total).item(), "none": 0.0}
    assert shares == pytest.approx(expected, rel=1e-6)
    assert model.table.weight.grad is None


def test_shares_do_not_change_the_gradient_that_is_stepped():
    model = Toy(Term("bpr"), Term("ot", 0.5))
    model.weighted_sum(model.terms(BATCH)).backward()
    expected = [p.grad.clone() for p in model.parameters()]
    take_step(audit(), model)
    assert all(torch.equal(a.grad, b) for a, b in zip(model.parameters(), expected, strict=True))


def test_a_dead_term_is_warned_of_once_with_its_number_and_logged_every_epoch(caplog):
    model, callback = Toy(Term("bpr"), Term("ot", 1e-8)), audit(dead="warn")
    with caplog.at_level(logging.WARNING):
        for model.epoch in (0, 1):
            take_step(callback, model)
            log = EpochLog(model.epoch)
            callback.on_epoch_end(None, log)
            assert log.values == pytest.approx({"share/bpr": 1.0, "share/ot": 1e-8}, rel=1e-6)
    assert [r.getMessage() for r in caplog.records] == [
        "term 'ot' is dead: share 1.0e-08 of the gradient on the ego embeddings; raise its weight or temperature"
    ]


def test_shares_are_taken_anew_at_the_first_batch_of_an_epoch_only():
    model, callback = Toy(Term("bpr"), Term("ot")), audit()
    take_step(callback, model)
    model.objectives[1].weight = 3.0
    take_step(callback, model, index=1)
    assert callback.shares == pytest.approx({"bpr": 0.5, "ot": 0.5})
    take_step(callback, model)
    assert callback.shares == pytest.approx({"bpr": 0.25, "ot": 0.75})


def test_a_model_whose_terms_never_reach_the_table_has_shares_of_zero():
    model = Toy(Term("bpr"))
    model.objectives[0].forward = lambda ego, batch: model.objectives[0].slope * 2
    assert gradient_shares(make_step(model)) == {"bpr": 0.0}


def test_wrong_settings_name_what_was_expected():
    with pytest.raises(ParamError, match="orphan: got 'rise', expected one of raise, warn, ignore"):
        audit(orphan="rise")
    with pytest.raises(ParamError, match="dead_share: got 2"):
        audit(dead_share=2)


def test_a_weak_regularizer_is_not_dead_but_its_share_is_logged(caplog):
    model, callback, log = Toy(Term("bpr"), Term("reg", 1e-8), Term("ot", 1e-8)), audit(dead="warn"), EpochLog(0)
    model.objectives[1].is_regularizer = True
    take_step(callback, model)
    callback.on_epoch_end(None, log)
    (message,) = [r.getMessage() for r in caplog.records]
    assert message.startswith("term 'ot' is dead")
    assert log.values["share/reg"] == pytest.approx(1e-8, rel=1e-6)
