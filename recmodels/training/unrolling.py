"""The gradient of an outer loss through one step of the inner one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Parameter

# How far the weights are moved for a finite difference, as a length.
_DISTANCE = 0.01


def unrolled_gradient(
    outer: Callable[[], Tensor],
    inner: Callable[[], Tensor],
    weights: Sequence[Parameter],
    outer_weights: Sequence[Parameter],
    rate: float,
) -> tuple[Tensor, list[Tensor]]:
    """Gradient with respect to alpha of `outer(w - rate * d inner / dw, alpha)`.

    The product with the mixed second derivative is a central difference of the inner gradient along the outer one; the
    weights are as before afterwards.

    Args:
        outer: the outer loss at the current values, deterministic.
        inner: the inner loss, the same.
        weights: w.
        outer_weights: alpha.
        rate: of the inner step, > 0.

    Returns:
        The outer loss after the inner step, and the gradient for each of alpha.

    Source: Liu et al. 2019 (DARTS), eqs. 7 and 8. Verified: test_unrolling.py (finite differences).
    """
    step = _gradient(inner(), weights)
    with _moved(weights, step, -rate):
        loss = outer()
        both = _gradient(loss, [*outer_weights, *weights])
    direct, along = both[: len(outer_weights)], both[len(outer_weights) :]
    length = torch.stack([g.square().sum() for g in along]).sum().sqrt()
    if not float(length):
        return loss, direct
    reach = _DISTANCE / float(length)
    with _moved(weights, along, reach):
        ahead = _gradient(inner(), outer_weights)
    with _moved(weights, along, -reach):
        behind = _gradient(inner(), outer_weights)
    mixed = [(a - b) / (2 * reach) for a, b in zip(ahead, behind, strict=True)]
    return loss, [d - rate * m for d, m in zip(direct, mixed, strict=True)]


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
