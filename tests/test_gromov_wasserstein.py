import ot
import pytest
import torch
from torch.testing import assert_close

from recmodels.costs import Masks, cosine_cost
from recmodels.errors import ParamError
from recmodels.transport import Solver, gromov_wasserstein

pytestmark = pytest.mark.usefixtures("both_layouts")


def structures(n_problems=3, n=4, seed=0, dtype=torch.float64):
    x = torch.randn(n_problems, n, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return cosine_cost(x, x)


def uniform(n):
    return torch.full((n,), 1 / n, dtype=torch.float64).numpy()


def padded(matrix, n, m):
    out = torch.full((len(matrix), n, m), torch.nan, dtype=matrix.dtype)
    out[:, : matrix.shape[1], : matrix.shape[2]] = matrix
    return out


def padding(n_problems, valid, size):
    return (torch.arange(size) < valid).expand(n_problems, size)


@pytest.mark.parametrize("skew", [0.0, 0.3])
def test_gromov_wasserstein_equals_the_sum_over_four_indices(skew):
    a, b = structures(n=3), structures(n=4, seed=1)
    a, b = a + skew * a.triu(), b + skew * b.tril()
    value, result = gromov_wasserstein(a, b, Solver(0.2, 1, 500), 4)
    square = (a[:, :, None, :, None] - b[:, None, :, None, :]).square()  # axes i j k l: (A_ik - B_jl)^2
    assert_close(value, torch.einsum("bijkl,bij,bkl->b", square, result.plan, result.plan))
    assert result.n_iters == 4 * 500


@pytest.mark.parametrize("n_linearizations", [1, 3, 20])
def test_gromov_wasserstein_equals_pot_from_the_same_start(n_linearizations):
    a, b = structures(n=4), structures(n=5, seed=1)
    value, result = gromov_wasserstein(a, b, Solver(0.1, 1, 2000), n_linearizations)
    for k in range(3):
        plan, log = ot.gromov.entropic_gromov_wasserstein(
            *(a[k].numpy(), b[k].numpy(), uniform(4), uniform(5), "square_loss"),
            epsilon=0.2,  # POT's linear cost is the whole derivative, ours half of it
            max_iter=n_linearizations,
            tol=0,
            log=True,
            numItermax=2000,
            stopThr=1e-15,
            warn=False,
        )
        assert_close(result.plan[k], torch.from_numpy(plan), atol=1e-8, rtol=0)
        assert_close(float(value[k]), float(log["gw_dist"]), atol=1e-8, rtol=0)


def test_identical_structures_are_at_distance_zero_and_relabeled_ones_too():
    x = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a, order = torch.cdist(x, x), torch.tensor([3, 1, 4, 0, 2])
    for other in (a, a[:, order][:, :, order]):
        value, _ = gromov_wasserstein(a, other, Solver(0.005, 1, 300), 60)
        assert value.abs().max() < 1e-9


def test_gromov_wasserstein_is_quadratic_in_the_unit_of_the_structures():
    a, b = structures(n=4), structures(n=5, seed=1)
    value, _ = gromov_wasserstein(a, b, Solver(0.2, 1, 50), 3)
    assert_close(gromov_wasserstein(a * 3, b * 3, Solver(0.2 * 9, 1, 50), 3)[0], value * 9)


def test_gromov_wasserstein_is_symmetric_in_the_two_sides():
    a, b = structures(n=4), structures(n=5, seed=1)
    solver = Solver(0.2, 1, 500)
    assert_close(gromov_wasserstein(a, b, solver, 5)[0], gromov_wasserstein(b, a, solver, 5)[0])


def test_a_problem_does_not_see_the_rest_of_its_batch_nor_the_order_of_its_nodes():
    a, b, order = structures(9, 4), structures(9, 5, seed=1), torch.tensor([2, 0, 3, 1])
    value, result = gromov_wasserstein(a, b, Solver(0.2, 10, 2), 3)
    alone, _ = gromov_wasserstein(a[4:6], b[4:6], Solver(0.2, 10, 2), 3)
    assert_close(alone, value[4:6])
    permuted, permuted_result = gromov_wasserstein(a[:, order][:, :, order], b, Solver(0.2, 10, 2), 3)
    assert_close(permuted, value)
    assert_close(permuted_result.plan, result.plan[:, order])


def test_a_traced_plan_replaces_only_the_trace_and_is_held_fixed():
    a, b = structures(n=4), structures(n=5, seed=1)
    traced = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    own, result = gromov_wasserstein(a, b, Solver(0.2, 1, 50), 3)
    assert_close(gromov_wasserstein(a, b, Solver(0.2, 1, 50), 3, traced_plan=result.plan)[0], own)
    value, same = gromov_wasserstein(a.requires_grad_(), b, Solver(0.2, 1, 50), 3, traced_plan=traced)
    linear = (a.square().mean(2, True) + b.square().mean(2).unsqueeze(1)) - 2 * a @ result.plan @ b
    assert_close(value, (linear * traced).sum((1, 2)))
    assert torch.equal(same.plan, result.plan)
    value.sum().backward()
    assert a.grad.any()
    assert traced.grad is None


@pytest.mark.parametrize("masks", [Masks(), Masks(padding(2, 2, 3), padding(2, 3, 4))], ids=["full", "padded"])
@pytest.mark.parametrize("solver", [(0.3, 1, 5), (0.3, 4, 2)])
def test_unrolled_gradient_agrees_with_finite_differences(solver, masks):
    a, b = structures(2, 3).requires_grad_(), structures(2, 4, seed=1).requires_grad_()
    unroll = Solver(*solver, gradient="unroll")
    assert torch.autograd.gradcheck(lambda a, b: gromov_wasserstein(a, b, unroll, 2, masks)[0], (a, b))


def central_differences(function, at, step=1e-5):
    """Of one problem (1, n, m), with all shifted problems in one batch."""
    shifts = step * torch.eye(at.numel(), dtype=at.dtype).view(-1, *at.shape[1:])
    return ((function(at + shifts) - function(at - shifts)) / (2 * step)).view_as(at)


def negative_entropy(plan):
    return torch.special.xlogy(plan, plan).sum((1, 2))


def test_envelope_gradient_is_that_of_its_regularized_optimum():
    def regularized(a):
        value, result = gromov_wasserstein((a + a.mT) / 2, b.expand(len(a), 4, 4), solver, 60)
        return value + 2 * 0.5 * negative_entropy(result.plan)

    solver = Solver(0.5, 1, 200)
    a, b = structures(1, 3).requires_grad_(), structures(1, 4, seed=1)
    gromov_wasserstein((a + a.mT) / 2, b, solver, 60)[0].sum().backward()
    assert_close(a.grad, central_differences(regularized, a.detach()), atol=1e-8, rtol=0)


@pytest.mark.parametrize("gradient", ["envelope", "unroll"])
def test_padding_changes_nothing_and_receives_nothing(gradient):
    solver = Solver(0.3, 20, 1, gradient)
    a, b = structures(n=4).requires_grad_(), structures(n=5, seed=1)
    wide = padded(a.detach(), 6, 6).requires_grad_()
    value, _ = gromov_wasserstein(a, b, solver, 3)
    masks = Masks(padding(3, 4, 6), padding(3, 5, 7))
    wide_value, _ = gromov_wasserstein(wide, padded(b, 7, 7), solver, 3, masks)
    assert_close(wide_value, value)
    value.sum().backward()
    wide_value.sum().backward()
    assert_close(wide.grad[:, :4, :4], a.grad)
    assert wide.grad.count_nonzero() == a.grad.count_nonzero()


def test_errors_name_value_and_bound():
    with pytest.raises(ParamError, match="n_linearizations must be at least 1, got 0"):
        gromov_wasserstein(structures(), structures(), Solver(0.1, 1, 5), 0)
