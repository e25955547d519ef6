"""The gradient of an outer loss through one step of the inner one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

# How far the weights are moved for a finite difference, as a length.
_DISTANCE = 0.01


def unrolled_gradient(
    outer: Callable[[], Tensor],
    inner: Callable[[], Tensor],
    weights: Sequence[Parameter],
    outer_weights: Sequence[Parameter],
    rates_of: Callable[[Sequence[Tensor]], Sequence[Tensor | float]],
) -> tuple[Tensor, list[Tensor]]:
    """Gradient with respect to alpha of `outer(w - rates * d inner / dw, alpha)`.

    The product with the mixed second derivative is a central difference of the inner gradient along the outer one; the
    weights are as before afterwards.

    Args:
        outer: the outer loss at the current values, deterministic.
        inner: the inner loss, the same.
        weights: w.
        outer_weights: alpha.
        rates_of: from the inner gradient to the rates of the inner step, for each of w a number or one for each entry,
            see `step_rates`; they are held fixed.

    Returns:
        The outer loss after the inner step, and the gradient for each of alpha.

    Source: Liu et al. 2019 (DARTS), eqs. 7 and 8; with a rate for each entry as Choe et al. 2023 (SAMA). Verified:
    test_unrolling.py (finite differences).
    """
    gradients = _gradient(inner(), weights)
    rates = rates_of(gradients)
    step = [rate * g for rate, g in zip(rates, gradients, strict=True)]
    with _moved(weights, step, -1.0):
        loss = outer()
        both = _gradient(loss, [*outer_weights, *weights])
    direct = both[: len(outer_weights)]
    along = [rate * g for rate, g in zip(rates, both[len(outer_weights) :], strict=True)]
    length = torch.stack([g.square().sum() for g in along]).sum().sqrt()
    if not float(length):
        return loss, direct
    reach = _DISTANCE / float(length)
    with _moved(weights, along, reach):
        ahead = _gradient(inner(), outer_weights)
    with _moved(weights, along, -reach):
        behind = _gradient(inner(), outer_weights)
    mixed = [(a - b) / (2 * reach) for a, b in zip(ahead, behind, strict=True)]
    return loss, [d - m for d, m in zip(direct, mixed, strict=True)]


def step_rates(
    optimizer: Optimizer, parameters: Sequence[Parameter], rate: float, gradients: Sequence[Tensor]
) -> list[Tensor | float]:
    """By what a step of Adam multiplies the entries of a gradient, if it had no first moment.

    Args:
        optimizer: of the parameters; for any other one than Adam the answer is its learning rate.
        parameters: with the shapes of the answer.
        rate: its learning rate.
        gradients: of the step that is asked about, whose squares enter the second moment.
    """
    pairs = zip(parameters, gradients, strict=True)
    return [_step_rate(optimizer, parameter, rate, gradient) for parameter, gradient in pairs]


def _step_rate(optimizer: Optimizer, parameter: Parameter, rate: float, gradient: Tensor) -> Tensor | float:
    state = optimizer.state.get(parameter, {})
    if "exp_avg_sq" not in state:
        return rate
    group = next(group for group in optimizer.param_groups if any(p is parameter for p in group["params"]))
    decay = group["betas"][1]
    moment = decay * state["exp_avg_sq"] + (1 - decay) * gradient.square()
    unbiased = moment / (1 - decay ** (float(state["step"]) + 1))
    # Entries that never had a gradient do not move; eps alone would give them an enormous rate.
    return torch.where(moment > 0, rate / (unbiased.sqrt() + group["eps"]), 0.0)


def _gradient(loss: Tensor, parameters: Sequence[Parameter]) -> list[Tensor]:
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


@contextmanager
def _moved(parameters: Sequence[Parameter], along: Sequence[Tensor], distance: float) -> Iterator[None]:
    """Inside, the parameters are moved; afterwards they have their old bits."""
    before = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for parameter, direction in zip(parameters, along, strict=True):
            parameter.add_(direction, alpha=distance)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, old in zip(parameters, before, strict=True):
                parameter.copy_(old)
