import json
from pathlib import Path

import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch.testing import assert_close

from recmodels.costs import Masks, cosine_cost, exp_cosine_cost, threshold_cost
from recmodels.errors import ParamError
from recmodels.sinkhorn import Plan, proximal_sinkhorn
from recmodels.transport import Solver, gromov_wasserstein, wasserstein

pytestmark = pytest.mark.usefixtures("both_layouts")

GSC = json.loads((Path(__file__).parent / "reference" / "gsc-reference-values.json").read_text())["cases"]
# Sinkhorn and IPOT, both converged on the small problems below.
SINKHORN, IPOT = Solver(0.1, 1, 500), Solver(0.1, 500, 1)
gradients = pytest.mark.parametrize("gradient", ["envelope", "unroll"])
solvers = pytest.mark.parametrize("solver", [SINKHORN, IPOT], ids=["sinkhorn", "ipot"])


def costs(n_problems=3, n=4, m=5, seed=0, dtype=torch.float64):
    return torch.rand(n_problems, n, m, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def uniform(n):
    return torch.full((n,), 1 / n, dtype=torch.float64).numpy()


def emd(cost):
    values = [ot.emd2(uniform(c.shape[0]), uniform(c.shape[1]), c.numpy()) for c in cost]
    return torch.tensor(values, dtype=cost.dtype)


def padded(matrix, n, m):
    out = torch.full((len(matrix), n, m), torch.nan, dtype=matrix.dtype)
    out[:, : matrix.shape[1], : matrix.shape[2]] = matrix
    return out


def padding(n_problems, valid, size):
    return (torch.arange(size) < valid).expand(n_problems, size)


# --- the solver against libraries and loops


def test_sinkhorn_equals_pot():
    cost = costs()
    plan = proximal_sinkhorn(cost, 0.05, 1, 400).plan
    for c, p in zip(cost, plan, strict=True):
        oracle = ot.sinkhorn(uniform(4), uniform(5), c.numpy(), 0.05, "sinkhorn_log", 400, 1e-30, warn=False)
        assert_close(p, torch.from_numpy(oracle), atol=1e-12, rtol=0)


def test_ipot_equals_exact_transport_at_large_epsilon():
    cost = costs()
    value, plan = wasserstein(cost, Solver(0.1, 2000, 1))
    assert_close(value, emd(cost), atol=1e-8, rtol=0)
    assert plan.marginal_error.max() < 1e-8


def test_sinkhorn_approaches_exact_transport_from_above_as_epsilon_falls():
    cost = costs()
    gaps = [wasserstein(cost, Solver(epsilon, 1, 5000))[0] - emd(cost) for epsilon in (0.5, 0.05, 0.002)]
    assert (gaps[0] > gaps[1]).all()
    assert (gaps[1] > gaps[2]).all()
    assert gaps[2].abs().max() < 1e-4


def test_square_problems_reach_the_best_assignment():
    cost = costs(n=6, m=6)
    best = [c[linear_sum_assignment(c.numpy())].mean() for c in cost]
    assert_close(wasserstein(cost, Solver(0.05, 2000, 1))[0], torch.stack(best), atol=1e-8, rtol=0)


@pytest.mark.parametrize(("outer", "inner"), [(1, 1), (1, 7), (6, 1), (4, 3)])
def test_plan_equals_the_published_loop_in_the_plain_domain(outer, inner):
    cost = costs()
    sigma, plan = torch.full((3, 5, 1), 0.2, dtype=cost.dtype), torch.ones_like(cost)
    for _ in range(outer):
        kernel = torch.exp(-cost / 0.3) * plan
        for _ in range(inner):
            delta = 1 / (4 * kernel @ sigma)
            sigma = 1 / (5 * kernel.mT @ delta)
        plan = delta * kernel * sigma.mT
    result = proximal_sinkhorn(cost, 0.3, outer, inner)
    assert_close(result.plan, plan)
    assert result.n_iters == outer * inner


def test_planted_permutation_is_recovered():
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    cost = 1 - torch.eye(6)[order].expand(2, 6, 6)
    assert_close(proximal_sinkhorn(cost, 0.02, 1, 50).plan, (1 - cost) / 6)


# --- properties of the solver


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0.01, 10), st.integers(0, 99), st.sampled_from([1, 5]))
@settings(max_examples=30, deadline=None)
def test_column_marginal_is_exact_and_row_error_is_reported(n, m, epsilon, seed, outer):
    plan, error, _ = proximal_sinkhorn(costs(2, n, m, seed), epsilon, outer, 5)
    assert (plan >= 0).all()
    assert_close(plan.sum(1), torch.full_like(plan[:, 0], 1 / m))
    assert_close(error, (plan.sum(2) - 1 / n).abs().sum(1), atol=1e-14, rtol=0)


@solvers
def test_scaling_cost_and_epsilon_scales_the_value_and_a_constant_adds_to_it(solver):
    cost = costs()
    value, plan = wasserstein(cost, solver)
    scaled, same_plan = wasserstein(cost * 7 + 2, Solver(solver.epsilon * 7, solver.outer, solver.inner))
    assert_close(scaled, value * 7 + 2)
    assert_close(same_plan.plan, plan.plan)


@solvers
def test_permuted_nodes_permute_the_plan(solver):
    cost, rows, columns = costs(), torch.tensor([2, 0, 3, 1]), torch.tensor([4, 1, 0, 3, 2])
    value, result = wasserstein(cost, solver)
    permuted, permuted_result = wasserstein(cost[:, rows][:, :, columns], solver)
    assert_close(permuted, value)
    assert_close(permuted_result.plan, result.plan[:, rows][:, :, columns])


@solvers
def test_value_is_symmetric_in_the_two_sides(solver):
    cost = costs()
    assert_close(wasserstein(cost, solver)[0], wasserstein(cost.mT, solver)[0], atol=1e-6, rtol=0)


@solvers
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_problem_does_not_see_the_rest_of_its_batch(solver, dtype):
    cost = costs(50, 15, 15, dtype=dtype)
    cost[30:] *= 1e4
    value, result = wasserstein(cost, solver)
    for part in (slice(0, 1), slice(3, 10), slice(29, 30)):
        beside_others = cost.flip(0)
        beside_others[part] = cost[part]
        again, again_result = wasserstein(beside_others, solver)
        assert torch.equal(again[part], value[part])
        assert torch.equal(again_result.plan[part], result.plan[part])
        alone, alone_result = wasserstein(cost[part], solver)  # fewer problems lie in another order, see MANY_PROBLEMS
        assert_close(alone, value[part], rtol=1e-5, atol=0)
        assert_close(alone_result.plan, result.plan[part], rtol=1e-4, atol=1e-8)


def test_one_epsilon_per_problem_equals_separate_calls():
    cost, epsilon = costs(), torch.tensor([0.05, 0.3, 2.0])
    plan = proximal_sinkhorn(cost, epsilon, 3, 4).plan
    for k in range(3):
        assert_close(plan[k], proximal_sinkhorn(cost[k : k + 1], float(epsilon[k]), 3, 4).plan[0], rtol=1e-6, atol=0)


def test_recording_gradients_and_tolerance_do_not_change_the_plan_nor_the_cost_the_input():
    cost = costs().requires_grad_()
    before = cost.detach().clone()
    recorded = proximal_sinkhorn(cost, 0.1, 4, 6).plan
    assert recorded.requires_grad
    with torch.no_grad():
        assert_close(proximal_sinkhorn(cost, 0.1, 4, 6).plan, recorded)
        assert_close(proximal_sinkhorn(cost, 0.1, 4, 6, tolerance=1e-300).plan, recorded)
    assert torch.equal(cost, before)


@pytest.mark.parametrize(("epsilon", "outer", "inner"), [(0.2, 1, 400), (0.02, 200, 1), (0.02, 100, 20)])
def test_tolerance_freezes_each_problem_once_it_has_converged(epsilon, outer, inner):
    cost = costs()
    short = proximal_sinkhorn(cost, epsilon, outer, inner, tolerance=1e-5)
    longer = proximal_sinkhorn(cost, epsilon, outer + (outer > 1), inner + (outer == 1), tolerance=1e-5)
    exact = proximal_sinkhorn(cost, epsilon, outer, inner)
    assert torch.equal(short.plan, longer.plan)
    assert not torch.equal(short.plan, exact.plan)
    assert_close(short.plan, exact.plan, atol=1e-3, rtol=0)
    assert short.n_iters == outer * inner
    if outer == 1:
        assert 0 < short.marginal_error.max() < 2e-5


# --- padding


@gradients
@solvers
def test_padding_changes_nothing_and_receives_nothing(solver, gradient):
    solver = Solver(solver.epsilon, min(solver.outer, 30), min(solver.inner, 30), gradient)
    cost = costs().requires_grad_()
    wide = padded(cost.detach(), 6, 8).requires_grad_()
    value, result = wasserstein(cost, solver)
    wide_value, wide_result = wasserstein(wide, solver, Masks(padding(3, 4, 6), padding(3, 5, 8)))
    assert_close(wide_value, value)
    assert_close(wide_result.marginal_error, result.marginal_error)
    assert_close(wide_result.plan[:, :4, :5], result.plan)
    assert wide_result.plan.count_nonzero() == result.plan.count_nonzero()
    value.sum().backward()
    wide_value.sum().backward()
    assert_close(wide.grad[:, :4, :5], cost.grad)
    assert wide.grad.count_nonzero() == cost.grad.count_nonzero()


def test_problems_of_different_sizes_share_a_batch():
    cost = costs()
    valid = torch.tensor([2, 4, 3])
    masks = Masks(rows=torch.arange(4) < valid.unsqueeze(1))
    value, _ = wasserstein(cost, IPOT, masks)
    for k in range(3):
        assert_close(value[k : k + 1], wasserstein(cost[k : k + 1, : valid[k]], IPOT)[0])


@gradients
def test_a_problem_without_valid_rows_has_plan_zero_and_gradient_zero(gradient):
    cost = costs(dtype=torch.float32).requires_grad_()
    value, result = wasserstein(
        cost, Solver(0.1, 3, 3, gradient), Masks(rows=torch.tensor([[True], [False], [True]]) & padding(3, 4, 4))
    )
    value.sum().backward()
    assert not result.plan[1].any()
    assert not cost.grad[1].any()
    assert value.isfinite().all()
    assert cost.grad.isfinite().all()


# --- numbers that used to overflow


@gradients
@pytest.mark.parametrize("solver", [(1e-3, 1, 50), (1e-3, 50, 1)])
def test_tiny_epsilon_and_temperature_stay_finite_in_float32(solver, gradient):
    x = torch.randn(8, 6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    cost = exp_cosine_cost(x, x.flip(0), 0.05)
    assert cost.max() > 1e8
    value, result = wasserstein(cost, Solver(*solver, gradient), Masks(rows=padding(8, 5, 6)))
    gw, gw_result = gromov_wasserstein(cosine_cost(x, x), cost / cost.max(), Solver(*solver, gradient), 5)
    (value.sum() + gw.sum()).backward()
    for tensor in (value, gw, x.grad, result.marginal_error, gw_result.marginal_error):
        assert tensor.isfinite().all()
    assert_close(result.plan.sum(1), torch.full((8, 6), 1 / 6))


# --- gradients


@pytest.mark.parametrize("masks", [Masks(), Masks(padding(2, 2, 3), padding(2, 3, 4))], ids=["full", "padded"])
@pytest.mark.parametrize("solver", [(0.3, 1, 5), (0.3, 4, 2)])
def test_unrolled_gradient_agrees_with_finite_differences(solver, masks):
    unroll = Solver(*solver, gradient="unroll")
    cost = costs(2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: wasserstein(c, unroll, masks)[0], cost)
    assert torch.autograd.gradcheck(lambda c: wasserstein(c, unroll, masks)[1].plan, cost)


def central_differences(function, at, step=1e-5):
    """Of one problem (1, n, m), with all shifted problems in one batch."""
    shifts = step * torch.eye(at.numel(), dtype=at.dtype).view(-1, *at.shape[1:])
    return ((function(at + shifts) - function(at - shifts)) / (2 * step)).view_as(at)


def negative_entropy(plan):
    return torch.special.xlogy(plan, plan).sum((1, 2))


def test_envelope_gradient_is_that_of_the_regularized_optimum():
    def regularized(cost):
        value, result = wasserstein(cost, Solver(0.2, 1, 1000))
        return value + 0.2 * negative_entropy(result.plan)

    cost = costs(1, 3, 4).requires_grad_()
    value, result = wasserstein(cost, Solver(0.2, 1, 1000))
    value.sum().backward()
    assert torch.equal(cost.grad, result.plan)
    assert_close(cost.grad, central_differences(regularized, cost.detach()), atol=1e-8, rtol=0)


# --- the published computation


@pytest.mark.parametrize("case", GSC, ids=[f"temperature {case['tau']}" for case in GSC])
def test_gsc_setting_gives_the_values_of_the_reference(case):
    x, y, adjacency = (torch.tensor(case[key]) for key in ("x", "y", "adjacency"))
    temperature = case["tau"]
    cost = threshold_cost(exp_cosine_cost(x, y, temperature), 0.1, "batch")
    value, result = wasserstein(cost, Solver(0.5, 40, 1))
    assert_close(value, torch.tensor(case["wasserstein"]), rtol=1e-4, atol=1e-6)
    assert_close(result.plan, torch.tensor(case["wasserstein_plan"]), rtol=1e-4, atol=1e-6)
    structure_a = threshold_cost((adjacency / -temperature).exp(), 0.1, "batch")
    structure_b = threshold_cost(exp_cosine_cost(y, y, temperature), 0.1, "batch")
    gw, _ = gromov_wasserstein(structure_a, structure_b, Solver(0.1, 20, 1), 5, traced_plan=result.plan)
    assert gw.isfinite().all()
    reference = torch.tensor([torch.nan if v is None else v for v in case["gw_traced_on_wasserstein_plan"]])
    known = reference.isfinite()
    assert known.any()
    assert_close(gw[known], reference[known], rtol=1e-4, atol=1e-6)


# --- errors


def test_errors_name_value_and_bound():
    cost = costs()
    with pytest.raises(ParamError, match="epsilon must be positive, got 0"):
        proximal_sinkhorn(cost, 0, 1, 1)
    with pytest.raises(ParamError, match="inner must be at least 1, got 0"):
        proximal_sinkhorn(cost, 0.1, 1, 0)
    with pytest.raises(ParamError, match=r"tolerance must lie in \[0, 1\), got -1"):
        proximal_sinkhorn(cost, 0.1, 1, 1, tolerance=-1)
    with pytest.raises(ParamError, match="gradient 'envelop', expected .*nearest: 'envelope'"):
        Solver(0.1, 1, 1, "envelop")
    with pytest.raises(ValueError, match=r"\(B, n, m\), got \(4, 5\)"):
        proximal_sinkhorn(cost[0], 0.1, 1, 1)
    with pytest.raises(ValueError, match=r"epsilon must be \(3,\), got \(2,\)"):
        proximal_sinkhorn(cost, torch.ones(2), 1, 1)


def test_a_solver_called_directly_gives_a_plan_detached_under_envelope():
    cost = costs().requires_grad_()
    assert isinstance(SINKHORN(cost), Plan)
    assert not SINKHORN(cost).plan.requires_grad
    assert Solver(0.1, 2, 2, "unroll")(cost).plan.requires_grad
