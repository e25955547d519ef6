"""The unrolled gradient on a small problem whose outer loss after a step can be computed by hand."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from recmodels.training.unrolling import step_rates, unrolled_gradient

RATES = [torch.tensor([0.05, 0.02, 0.1, 0.05], dtype=torch.float64)]


def rates(_: Sequence[Tensor]) -> list[Tensor]:
    return RATES


class Problem:
    """Inner: ridge regression whose penalty on each weight is alpha; outer: squared error of other rows."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x, self.z = (torch.randn(20, 4, generator=generator, dtype=torch.float64) for _ in range(2))
        self.y = torch.randn(20, generator=generator, dtype=torch.float64)
        self.w = Parameter(torch.randn(4, generator=generator, dtype=torch.float64))
        self.alpha = Parameter(torch.randn(4, generator=generator, dtype=torch.float64))

    def inner(self) -> Tensor:
        return (self.x @ self.w - self.y).square().mean() + (self.alpha.exp() * self.w.square()).sum()

    def outer(self) -> Tensor:
        return (self.z @ self.w - self.y).square().mean() + 0.1 * self.alpha.square().sum() * self.w.sum()

    def after_step(self, alpha: Tensor) -> Tensor:
        """The outer loss as a differentiable function of alpha."""
        w = self.w.detach().requires_grad_()
        inner = (self.x @ w - self.y).square().mean() + (alpha.exp() * w.square()).sum()
        moved = w - RATES[0] * torch.autograd.grad(inner, w, create_graph=True)[0]
        return (self.z @ moved - self.y).square().mean() + 0.1 * alpha.square().sum() * moved.sum()


def test_it_is_the_derivative_through_the_step() -> None:
    problem = Problem()
    loss, (gradient,) = unrolled_gradient(problem.outer, problem.inner, [problem.w], [problem.alpha], rates)
    alpha = problem.alpha.detach().requires_grad_()
    want = problem.after_step(alpha)
    (exact,) = torch.autograd.grad(want, alpha)
    assert float(loss) == pytest.approx(float(want))
    torch.testing.assert_close(gradient, exact, atol=1e-4, rtol=1e-4)


def test_it_agrees_with_finite_differences() -> None:
    problem, h = Problem(), 1e-5
    _, (gradient,) = unrolled_gradient(problem.outer, problem.inner, [problem.w], [problem.alpha], rates)
    alpha = problem.alpha.detach()
    for place in range(4):
        step = torch.zeros(4, dtype=torch.float64)
        step[place] = h
        slope = (problem.after_step(alpha + step) - problem.after_step(alpha - step)) / (2 * h)
        assert float(gradient[place]) == pytest.approx(float(slope), abs=1e-4)


def test_the_first_order_is_another_gradient() -> None:
    problem = Problem()
    _, (gradient,) = unrolled_gradient(problem.outer, problem.inner, [problem.w], [problem.alpha], rates)
    (first_order,) = torch.autograd.grad(problem.outer(), problem.alpha)
    assert (gradient - first_order).norm() > 0.05 * first_order.norm()


def test_nothing_has_moved_afterwards() -> None:
    problem = Problem()
    before = problem.w.detach().clone(), problem.alpha.detach().clone()
    unrolled_gradient(problem.outer, problem.inner, [problem.w], [problem.alpha], rates)
    assert problem.w.equal(before[0])
    assert problem.alpha.equal(before[1])
    assert problem.w.grad is problem.alpha.grad is None


def test_an_outer_loss_that_does_not_know_the_weights_has_its_own_gradient() -> None:
    problem = Problem()
    _, (gradient,) = unrolled_gradient(
        lambda: problem.alpha.square().sum(), problem.inner, [problem.w], [problem.alpha], rates
    )
    torch.testing.assert_close(gradient, 2 * problem.alpha.detach())


@pytest.mark.parametrize("n_steps", [1, 40])
def test_rates_are_those_by_which_adam_moves_along_a_gradient(n_steps: int) -> None:
    """Without a first moment, a step of Adam is its rates times the gradient."""
    w, generator = Parameter(torch.randn(6, dtype=torch.float64)), torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam([w], lr=0.1, betas=(0.0, 0.99))
    for _ in range(n_steps):
        w.grad = torch.randn(6, generator=generator, dtype=torch.float64)
        w.grad[5] = 0.0  # an entry that nothing moves
        optimizer.step()
    w.grad = torch.randn(6, generator=generator, dtype=torch.float64)
    w.grad[5] = 0.0
    (found,) = step_rates(optimizer, [w], 0.1, [w.grad])
    before = w.detach().clone()
    optimizer.step()
    torch.testing.assert_close(before - w.detach(), found * w.grad)
    assert found[5] == 0
    assert found.max() < 0.1 * 10.5  # a step of a single entry is at most rate / sqrt(1 - 0.99)


def test_rates_of_an_optimizer_without_moments_are_its_learning_rate() -> None:
    w = Parameter(torch.ones(3))
    assert step_rates(torch.optim.SGD([w], lr=0.3), [w], 0.3, [w]) == [0.3]
    assert step_rates(torch.optim.Adam([w], lr=0.3), [w], 0.3, [w]) == [0.3]  # before its first step
