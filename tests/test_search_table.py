"""The searching table: mixtures in training, choices in evaluation, state, traces."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from recmodels.tables.candidates import Candidates, Form
from recmodels.tables.gates import Decay
from recmodels.tables.picker import BucketLogits, PickerNetwork
from recmodels.tables.search import GateSchedule, SearchTable, SideSearch

D, DIMS, SIZES = 8, (2, 4, 8), (11, 7)
START = torch.randn(sum(SIZES), D, generator=torch.Generator().manual_seed(0))
SOFT = GateSchedule("soft", Decay(1.0, 1.0, 0.0), Decay(0.0, 0.0, 0.0), 0)


def _candidates(place: slice, **options: bool) -> Candidates:
    return Candidates(lambda width: START[place, :width].clone(), DIMS, D, Form(**options))


def _table(
    schedule: GateSchedule = SOFT,
    budget: int | None = None,
    reads: bool = False,
    order: Tensor | None = None,
    **options: bool,
) -> SearchTable:
    sides = []
    for place in (slice(0, SIZES[0]), slice(SIZES[0], sum(SIZES))):
        candidates, n = _candidates(place, **options), place.stop - place.start
        network = PickerNetwork(3, 3, 4, 5, D, torch.Generator().manual_seed(1))
        picker = network if reads else BucketLogits(3, 3)
        sides.append(SideSearch(candidates, picker, torch.arange(n) % 3))
    table = SearchTable(*sides, schedule, budget, torch.arange(sum(SIZES)) if order is None else order)
    table.on_epoch_start(0, torch.Generator().manual_seed(5))
    return table


def _prefer(table: SearchTable, *choices: int) -> None:
    """Bucket k of both sides prefers candidate choices[k]."""
    with torch.no_grad():
        for side in table.sides:
            side.picker.logits.copy_(10 * torch.eye(3)[list(choices)])


def _dense(gates: Tensor, rows: Tensor) -> Tensor:
    return sum(gates[:, k : k + 1] * rows * (torch.arange(D) < width) for k, width in enumerate(DIMS))  # type: ignore[return-value]


@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("has_transform", [True, False])
def test_candidates_are_mixed_as_the_sum_of_aligned_prefixes(is_shared: bool, has_transform: bool) -> None:
    candidates = _candidates(slice(0, SIZES[0]), is_shared=is_shared, has_transform=has_transform)
    gates = torch.rand(SIZES[0], 3, generator=torch.Generator().manual_seed(2)).softmax(-1)
    assert_close(candidates(gates), _dense(gates, START[: SIZES[0]]))  # all start as prefixes of one table
    assert len(candidates.weights) == (1 if is_shared else 3)
    candidates(gates).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in candidates.parameters())


def test_a_mixture_may_keep_the_length_of_the_widest_candidate() -> None:
    plain, candidates = _candidates(slice(0, SIZES[0])), _candidates(slice(0, SIZES[0]), keeps_length=True)
    whole = START[: SIZES[0]]
    random = torch.rand(SIZES[0], 3, generator=torch.Generator().manual_seed(2)).softmax(-1)
    for gates in (random, torch.eye(3)[[0] * SIZES[0]]):
        rows = candidates(gates)
        assert_close(rows.norm(dim=-1), whole.norm(dim=-1))
        assert_close(F.normalize(rows, dim=-1), F.normalize(plain(gates), dim=-1))
    assert_close(candidates(torch.eye(3)[[2] * SIZES[0]]), whole)


def test_columns_of_no_candidate_are_no_part_of_the_length() -> None:
    whole = START[: SIZES[0]]
    candidates = Candidates(lambda width: whole[:, :width].clone(), (2, 4), D, Form(keeps_length=True))
    rows = candidates(torch.eye(2)[[0] * SIZES[0]])
    assert_close(rows.norm(dim=-1), whole[:, :4].norm(dim=-1))
    rows.sum().backward()
    assert candidates.weights[0].grad is not None
    assert candidates.weights[0].grad[:, 4:].eq(0).all()


def test_rows_of_zeros_stay_zeros_with_a_finite_gradient() -> None:
    candidates = _candidates(slice(0, SIZES[0]), keeps_length=True)
    with torch.no_grad():
        candidates.weights[0][0].zero_()
        candidates.weights[0][1, : DIMS[0]].zero_()  # the narrow candidate alone
    gates = torch.eye(3)[[0] * SIZES[0]].requires_grad_()
    rows = candidates(gates)
    rows.sum().backward()
    assert rows[:2].eq(0).all()
    for x in (gates, *candidates.parameters()):
        assert x.grad is not None
        assert float(x.grad.abs().max()) <= 100 * D


def test_a_norm_acts_on_every_candidate() -> None:
    candidates = _candidates(slice(0, SIZES[0]), has_norm=True)
    for k, width in enumerate(DIMS):
        rows = candidates(torch.eye(3)[[k] * SIZES[0]])
        assert_close(rows, candidates.norm(START[: SIZES[0]] * (torch.arange(D) < width)))


def test_gates_are_uniform_while_it_warms_up() -> None:
    table = _table(SOFT._replace(warm_up=2))
    _prefer(table, 0, 0, 0)
    uniform = _dense(torch.full((sum(SIZES), 3), 1 / 3), START)
    for epoch in (0, 1):
        table.on_epoch_start(epoch, torch.Generator())
        assert_close(table(), uniform)
    table.on_epoch_start(2, torch.Generator())
    assert (table() - uniform).abs().max() > 0.1


def test_evaluation_takes_the_preferred_candidate_without_noise() -> None:
    table = _table().eval()
    _prefer(table, 2, 0, 1)
    widths = torch.tensor([[8, 2, 4][k % 3] for n in SIZES for k in range(n)])
    assert_close(table(), START * (torch.arange(D) < widths[:, None]))
    assert table().equal(table())
    assert table.widths.equal(widths)


def test_evaluation_stays_within_the_budget() -> None:
    table = _table(budget=60).eval()
    _prefer(table, 2, 2, 2)
    table()
    assert int(table.widths.sum()) <= 60 < 8 * sum(SIZES)
    assert int(table.widths.sum()) > 45
    assert set(table.widths.tolist()) <= set(DIMS)


def test_of_nodes_that_are_wanted_alike_a_budget_makes_the_first_of_the_order_wider() -> None:
    order = torch.randperm(sum(SIZES), generator=torch.Generator().manual_seed(3))
    table = _table(budget=2 * sum(SIZES) + 6 * 5, order=order).eval()
    _prefer(table, 2, 2, 2)
    assert sorted(table.preferred_widths().ne(2).nonzero().squeeze(1).tolist()) == sorted(order[:5].tolist())


def test_what_is_settled_is_the_equal_mixture_until_the_picker_has_learned_and_later_the_choice() -> None:
    table = _table(SOFT._replace(warm_up=1), reads=True)
    table.on_epoch_start(1, torch.Generator())
    uniform = _dense(torch.full((sum(SIZES), 3), 1 / 3), START)
    assert_close(table.settled(), uniform)
    assert not any(side.previous.any() for side in table.sides)  # no trace
    table.advance_picker()
    table.on_epoch_start(0, torch.Generator())  # as where a finished search is looked at
    assert table.settled().equal(table.eval()())


def test_noise_follows_the_stream_of_the_epoch() -> None:
    table = _table()
    first, second = table(), table()
    assert not first.equal(second)
    table.on_epoch_start(0, torch.Generator().manual_seed(5))
    assert first.equal(table())


def test_the_temperature_falls_with_the_steps_that_are_counted() -> None:
    table = _table(SOFT._replace(sample="none", temperature=Decay(10.0, 0.01, 0.5)))
    _prefer(table, 0, 1, 2)
    warm = table()
    assert warm.equal(table())  # looking is no step
    for _ in range(20):
        table.advance()
    cold = table.eval()()
    assert (table.train()() - cold).abs().max() < 1e-3 < (warm - cold).abs().max()
    assert int(table.step) == 20


def test_gradients_reach_weights_and_pickers() -> None:
    table = _table()
    pull = torch.randn(sum(SIZES), D, generator=torch.Generator().manual_seed(9))
    (table() * pull).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in table.parameters())
    pickers, weights = list(table.picker_parameters()), list(table.weights_of_candidates())
    assert {id(p) for p in pickers} | {id(p) for p in weights} == {id(p) for p in table.parameters()}
    assert len(pickers) == len(weights) == 2


def test_held_passes_leave_no_trace() -> None:
    table, twin = _table(reads=True), _table(reads=True)
    for other in (table, twin):
        other()
    with table.held(torch.Generator().manual_seed(8)):
        table()
    state = table.state_dict()
    assert all(state[key].equal(value) for key, value in twin.state_dict().items())
    assert table().equal(twin())


def test_the_picker_sees_the_last_mixture() -> None:
    table = _table(reads=True)
    before = table.users.logits()
    rows = table()
    assert table.users.previous.equal(rows[: SIZES[0]])
    assert not table.users.logits().equal(before)
    kept = table.users.previous.clone()
    table.eval()()
    assert table.users.previous.equal(kept)


@pytest.mark.parametrize("options", [{}, {"reads": True}, {"is_shared": False, "has_transform": True}])
def test_a_state_in_the_middle_of_a_schedule_is_restored(options: dict[str, Any]) -> None:
    schedule = SOFT._replace(temperature=Decay(1.0, 0.1, 0.05))
    table, fresh = _table(schedule, **options), _table(schedule, **options)
    with torch.no_grad():
        for parameter in table.parameters():
            parameter.add_(0.3)
    for _ in range(7):
        table()
        table.advance()
    table.eval()()
    fresh.load_state_dict(table.state_dict())
    for other in (table, fresh):
        other.train().on_epoch_start(3, torch.Generator().manual_seed(4))
    assert int(fresh.step) == 7
    assert fresh.widths.equal(table.widths)
    assert fresh().equal(table())


def test_every_width_can_be_a_candidate() -> None:
    every = tuple(range(1, D + 1))
    candidates = Candidates(lambda width: START[:, :width].clone(), every, D, Form())
    gates = torch.eye(D)[torch.arange(sum(SIZES)) % D]
    assert_close(candidates(gates), START * (torch.arange(D) <= (torch.arange(sum(SIZES)) % D)[:, None]))
