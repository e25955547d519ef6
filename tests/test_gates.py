"""Gates, schedules and choices within a budget."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recmodels.tables.gates import Decay, as_many_as_fit, best_within_budget, gumbel_gates, one_hot, with_random_rows


def _stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("sample", ["soft", "hard", "none"])
def test_rows_of_gates_sum_to_one_and_follow_their_generator(sample: str) -> None:
    logits = torch.randn(50, 4, generator=_stream())
    gates = gumbel_gates(logits, 0.5, sample, _stream(1))
    torch.testing.assert_close(gates.sum(1), torch.ones(50))
    assert gates.min() >= 0
    assert gates.equal(gumbel_gates(logits, 0.5, sample, _stream(1)))
    assert gates.equal(gumbel_gates(logits, 0.5, sample, _stream(2))) is (sample == "none")


def test_hard_gates_draw_candidates_as_often_as_the_softmax_says() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(40_000, 3)
    gates = gumbel_gates(logits, 0.7, "hard", _stream())
    assert set(gates.unique().tolist()) <= {0.0, 1.0} or (gates.round() - gates).abs().max() < 1e-6
    torch.testing.assert_close(gates.mean(0), torch.softmax(logits[0], 0), atol=0.01, rtol=0)


def test_hard_gates_have_the_gradient_of_the_soft_ones() -> None:
    pull = torch.randn(5, 3, generator=_stream(4))
    gradients = []
    for sample in ("soft", "hard"):
        logits = torch.zeros(5, 3, requires_grad=True)
        (gumbel_gates(logits, 0.5, sample, _stream(1)) * pull).sum().backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().sum() > 0


def test_without_noise_gates_are_the_tempered_softmax() -> None:
    logits = torch.tensor([[1.0, 3.0]])
    torch.testing.assert_close(gumbel_gates(logits, 2.0, "none", _stream()), torch.softmax(logits / 2, -1))


def test_a_low_temperature_is_near_one_hot() -> None:
    gates = gumbel_gates(torch.randn(100, 5, generator=_stream()), 0.01, "soft", _stream(3))
    assert float(gates.max(1).values.mean()) > 0.97


def test_a_decay_falls_exponentially_to_its_floor() -> None:
    decay = Decay(1.0, 0.2, 0.01)
    assert decay(0) == 1.0
    assert decay(50) == pytest.approx(math.exp(-0.5))
    assert decay(10_000) == 0.2
    assert Decay(0.3, 0.3, 0.01)(77) == 0.3


def test_random_rows_are_one_hot_and_as_many_as_their_share() -> None:
    gates = torch.full((20_000, 4), 0.25)
    mixed = with_random_rows(gates, 0.3, _stream())
    is_drawn = mixed.max(1).values == 1
    assert float(is_drawn.float().mean()) == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(mixed[is_drawn].mean(0), torch.full((4,), 0.25), atol=0.02, rtol=0)
    assert mixed[~is_drawn].equal(gates[~is_drawn])
    assert with_random_rows(gates, 0.0, _stream()) is gates


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), slack=st.floats(0, 1))
def test_a_choice_within_a_budget_fits_and_is_near_the_best(seed: int, slack: float) -> None:
    logits, sizes = torch.randn(5, 3, generator=_stream(seed)), torch.tensor([1, 3, 8])
    budget = int(5 + slack * 35)
    choice = best_within_budget(logits, sizes, budget, torch.arange(5))
    assert int(sizes[choice].sum()) <= budget
    value = logits.double().log_softmax(-1)
    reached = float(value.gather(1, choice[:, None]).sum())
    feasible = [c for c in itertools.product(range(3), repeat=5) if sum(int(sizes[k]) for k in c) <= budget]
    best = max(sum(float(value[i, k]) for i, k in enumerate(c)) for c in feasible)
    # One price leaves at most the gain of one row's step on the table.
    assert best - reached <= float((value.max(1).values - value.min(1).values).max()) + 1e-9


def test_a_budget_that_holds_all_takes_the_most_probable() -> None:
    logits = torch.randn(30, 3, generator=_stream())
    assert best_within_budget(logits, torch.tensor([1, 2, 3]), 90, torch.arange(30)).equal(logits.argmax(1))


def test_equal_rows_grow_in_the_order_given_and_what_does_not_fit_is_passed_over() -> None:
    logits, sizes = torch.tensor([[0.0, 60.0], [0.0, 1.0], [0.0, 1.0]]), torch.tensor([[1, 61], [1, 2], [1, 2]])
    assert best_within_budget(logits, sizes, 5, torch.arange(3)).tolist() == [0, 1, 1]
    alike = torch.tensor([[0.0, 1.0]]).expand(6, 2)
    order = torch.tensor([4, 1, 3, 0, 2, 5])
    assert best_within_budget(alike, torch.tensor([1, 3]), 6 + 2 * 2, order).nonzero().squeeze(1).tolist() == [1, 4]


@settings(deadline=None, max_examples=60)
@given(sizes=st.lists(st.integers(0, 9), max_size=12), room=st.integers(0, 40))
def test_as_many_as_fit_are_those_of_a_loop(sizes: list[int], room: int) -> None:
    taken, left = [], room
    for size in sizes:
        taken.append(0 < size <= left)
        left -= size if taken[-1] else 0
    assert as_many_as_fit(torch.tensor(sizes, dtype=torch.int64), room).tolist() == taken


def test_one_hot_has_the_dtype_it_is_told() -> None:
    assert one_hot(torch.tensor([1]), torch.zeros(1, 3, dtype=torch.float64)).tolist() == [[0.0, 1.0, 0.0]]
