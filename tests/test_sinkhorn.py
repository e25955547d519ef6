"""Plain scaling against the log domain, and when a Solver takes which."""

import dataclasses

import ot
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from recmodels import transport
from recmodels.costs import Masks, cosine_to_cost, largest_cost
from recmodels.errors import ParamError
from recmodels.sinkhorn import MAX_SCALED_COST, proximal_sinkhorn, sinkhorn_scaling
from recmodels.transport import Solver

pytestmark = pytest.mark.usefixtures("both_layouts")


def _costs(dtype: torch.dtype = torch.float64, spread: float = 2.0) -> Tensor:
    cost = torch.rand(6, 5, 7, dtype=dtype, generator=torch.Generator().manual_seed(0)) * spread
    cost[0, 0, 0], cost[0, 1, 1] = 0, spread  # the whole range occurs
    return cost


def _masks() -> Masks:
    """Padding on both sides; one problem has no valid row, one no valid column."""
    generator = torch.Generator().manual_seed(1)
    rows, columns = (torch.rand(6, n, generator=generator) < 0.6 for n in (5, 7))
    rows[:, 0], columns[:, 0] = True, True
    rows[4], columns[5] = False, False
    return Masks(rows, columns)


@pytest.mark.parametrize("n_iters", [1, 2, 25])
@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("epsilon", [0.05, 0.2, 3.0])
def test_scaling_gives_the_plan_of_the_log_domain(
    n_iters: int, is_masked: bool, dtype: torch.dtype, tolerance: float, epsilon: float
) -> None:
    cost, masks = _costs(dtype), _masks() if is_masked else Masks()
    got = sinkhorn_scaling(cost, epsilon, n_iters, masks)
    want = proximal_sinkhorn(cost.double(), epsilon, 1, n_iters, masks)
    assert_close(got.plan.double(), want.plan, atol=tolerance, rtol=100 * tolerance)
    assert_close(got.marginal_error.double(), want.marginal_error, atol=10 * tolerance, rtol=0)
    assert got.n_iters == n_iters


def test_the_gradient_through_the_iterations_is_that_of_the_log_domain_and_nothing_passes_padding() -> None:
    cost, masks = _costs(), _masks()
    cost[masks.padded.expand_as(cost)] = torch.nan
    upstream = torch.randn(cost.shape, dtype=cost.dtype, generator=torch.Generator().manual_seed(2))
    gradients = []
    for solve in (lambda c: sinkhorn_scaling(c, 0.3, 8, masks), lambda c: proximal_sinkhorn(c, 0.3, 1, 8, masks)):
        leaf = cost.clone().requires_grad_()
        gradients.append(torch.autograd.grad(solve(leaf).plan, leaf, upstream)[0])
    assert_close(*gradients, atol=1e-10, rtol=1e-8)
    assert gradients[0][masks.padded.expand_as(cost)].abs().sum() == 0


def test_the_plan_is_pots() -> None:
    cost, epsilon = _costs(), 0.2
    plans = sinkhorn_scaling(cost, epsilon, 2000).plan
    for plan, problem in zip(plans, cost, strict=True):
        a, b = (torch.full((n,), 1 / n, dtype=cost.dtype) for n in problem.shape)
        want = ot.sinkhorn(a, b, problem, epsilon, method="sinkhorn_log", numItermax=5000, stopThr=1e-14)
        assert_close(plan, want, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 9), (9, 1), (24, 40), (64, 64)])
def test_scaling_takes_problems_of_any_size(n: int, m: int) -> None:
    cost = torch.rand(5, n, m, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    want = proximal_sinkhorn(cost, 0.2, 1, 25)
    assert_close(sinkhorn_scaling(cost, 0.2, 25).plan, want.plan, atol=1e-12, rtol=1e-10)


def test_autocast_changes_nothing() -> None:
    cost = _costs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        plan = sinkhorn_scaling(cost, 0.2, 25).plan
    assert torch.equal(plan, sinkhorn_scaling(cost, 0.2, 25).plan)


def test_one_epsilon_serves_all_problems() -> None:
    with pytest.raises(ValueError, match=r"one number, got a tensor \(6,\)"):
        sinkhorn_scaling(_costs(), torch.full((6,), 0.1), 5)


def test_a_problem_does_not_see_the_others() -> None:
    cost = _costs(torch.float32)
    alone = torch.cat([sinkhorn_scaling(one[None], 0.2, 25).plan for one in cost])
    assert_close(sinkhorn_scaling(cost, 0.2, 25).plan, alone, atol=1e-7, rtol=1e-5)  # sums in another order


def test_the_largest_allowed_cost_stays_exact_in_float32() -> None:
    epsilon = 1.0 / MAX_SCALED_COST
    cost = _costs(torch.float32, spread=1.0)
    plan = sinkhorn_scaling(cost, epsilon, 50)
    want = proximal_sinkhorn(cost.double(), epsilon, 1, 50)
    assert torch.isfinite(plan.plan).all()
    assert_close(plan.plan.double(), want.plan, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "is_scaled"),
    [
        ({}, True),
        ({"gradient": "unroll"}, True),
        ({"cost_bound": 0.1 * MAX_SCALED_COST + 1e-6}, False),
        ({"cost_bound": float("inf")}, False),
        ({"outer": 2, "inner": 1}, False),
        ({"tolerance": 1e-6}, False),
        ({"epsilon": torch.full((6,), 0.1, dtype=torch.float64)}, False),
    ],
)
def test_a_solver_scales_where_costs_are_known_to_be_small(
    changes: dict, is_scaled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = dataclasses.replace(Solver(0.1, outer=1, inner=12, cost_bound=2.0), **changes)
    want = proximal_sinkhorn(_costs(), solver.epsilon, solver.outer, solver.inner, tolerance=solver.tolerance)
    assert_close(solver(_costs()).plan, want.plan, atol=1e-12, rtol=1e-10)
    calls: list[float] = []
    real = sinkhorn_scaling
    monkeypatch.setattr(transport, "sinkhorn_scaling", lambda *args: calls.append(args[1]) or real(*args))
    solver(_costs())
    assert bool(calls) == is_scaled


@pytest.mark.parametrize(("name", "temperature"), [("cosine", 1.0), ("exp_cosine", 0.4), ("exp_cosine_shifted", 0.4)])
def test_the_bound_of_a_cost_is_its_largest_value(name: str, temperature: float) -> None:
    cost = cosine_to_cost(torch.linspace(-1, 1, 101, dtype=torch.float64).view(1, 1, -1), name, temperature)
    assert cost.min() >= 0
    assert float(cost.max()) == pytest.approx(largest_cost(name, temperature), rel=1e-12)


@pytest.mark.parametrize("ratio", [300, 1e4])
def test_in_float32_plans_of_costs_far_above_epsilon_are_those_of_float64(ratio: float) -> None:
    """Where nearly all exponentials underflow; costs are multiples of 2^-6, which both types hold exactly."""
    cost = (torch.rand(40, 6, 5, generator=torch.Generator().manual_seed(2)) * 64).floor() / 64
    masks = Masks(torch.arange(6) < torch.randint(1, 7, (40, 1), generator=torch.Generator().manual_seed(3)), None)
    exact = proximal_sinkhorn(cost.double(), 1 / ratio, 3, 20, masks)
    single = proximal_sinkhorn(cost, 1 / ratio, 3, 20, masks)
    assert_close(single.plan.double(), exact.plan, atol=1e-4, rtol=0)
    assert_close(single.marginal_error.double(), exact.marginal_error, atol=1e-3, rtol=0)


def test_bad_options_are_named() -> None:
    with pytest.raises(ParamError, match="epsilon must be positive, got 0"):
        sinkhorn_scaling(_costs(), 0.0, 5)
    with pytest.raises(ParamError, match="n_iters must be at least 1, got 0"):
        sinkhorn_scaling(_costs(), 0.1, 0)
    with pytest.raises(ValueError, match=r"cost must be \(B, n, m\)"):
        sinkhorn_scaling(_costs()[0], 0.1, 5)
