"""Entropic transport plans of many small problems at once: proximal steps in the log domain, and plain scaling.

Sizes: B problems, n rows, m columns. No problem sees the values of another one; how many there are, and its
place among them, decide the last bits.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from recmodels.costs import ALL_VALID, Masks
from recmodels.errors import ParamError
from recmodels.proximal_steps import exp_or_zero, proximal_log_plan

# Log mass of padding: exp gives exactly 0 and sums of several stay finite in float32. Costs must stay below it times
# epsilon, which the bounds on the temperature of exponential costs see to.
NO_MASS = -1e30

# Up to this cost / epsilon no product of kernel and scalings leaves float32, whatever the problem.
MAX_SCALED_COST = 40.0


class Plan(NamedTuple):
    """Transport plans and how far they are from feasible.

    Attributes:
        plan: (B, n, m), >= 0, sums to 1 per problem; exactly 0 at padded nodes.
        marginal_error: (B,), the larger L1 error of the two marginals; detached.
        n_iters: row and column updates that were done per problem.
    """

    plan: Tensor
    marginal_error: Tensor
    n_iters: int


def proximal_sinkhorn(
    cost: Tensor,
    epsilon: float | Tensor,
    outer: int,
    inner: int,
    masks: Masks = ALL_VALID,
    tolerance: float = 0.0,
) -> Plan:
    """Transport plans between uniform marginals by proximal steps, each a Sinkhorn solve.

    Step k minimizes <P, C> + epsilon * KL(P | P_k) from the product plan. `outer=1` is entropic transport; many steps
    approach unregularized transport, whatever epsilon. The column potential is carried from step to step.

    Args:
        cost: (B, n, m), float32 or float64, finite at valid pairs, any unit.
        epsilon: > 0, unit of `cost`; a float or one per problem, (B,).
        outer: >= 1 proximal steps.
        inner: >= 1 row and column updates per step.
        masks: padding carries no mass: the marginals are uniform over the valid nodes; a problem with an empty side
            has plan 0. Padded entries of `cost` may be anything and receive gradient 0.
        tolerance: in [0, 1); 0 turns it off. Otherwise a problem stays as it is once an iteration would correct its
            row sums by at most this much in L1 (first order), or a proximal step would move its plan by at most this
            much in L1. The count of iterations is the same, so that nothing waits for the device.

    Returns:
        A Plan whose column marginal is exact; what is left in the rows is `marginal_error`. Differentiable in `cost`.

    Raises:
        ParamError: epsilon, outer, inner or tolerance out of range.
        ValueError: `cost` is not (B, n, m), or epsilon is not (B,).

    Source: Xie et al. 2019 (IPOT); log domain as in Peyré & Cuturi 2019, §4.4. Verified: test_transport.py
    (POT, assignment, GSC's values).
    """
    _check_options(cost, epsilon, outer=outer, inner=inner)
    if not 0 <= tolerance < 1:
        raise ParamError(f"sinkhorn: tolerance must lie in [0, 1), got {tolerance}")
    cost = masks.clean(cost)
    log_kernel = cost / -(epsilon.to(cost).view(-1, 1, 1) if isinstance(epsilon, Tensor) else epsilon)
    log_a, log_b = (log_uniform(mask, like) for mask, like in _sides(cost, masks))
    log_plan = proximal_log_plan(log_kernel, log_a, log_b, outer, inner, tolerance)
    plan = exp_or_zero(log_plan if masks.padded is None else log_plan.masked_fill(masks.padded, NO_MASS))
    return Plan(plan, _marginal_error(plan.detach(), log_a.exp(), log_b.exp()), outer * inner)


def sinkhorn_scaling(cost: Tensor, epsilon: float, n_iters: int, masks: Masks = ALL_VALID) -> Plan:
    """Sinkhorn's plan by scaling the kernel: the values of `proximal_sinkhorn(cost, epsilon, 1, n_iters)`, faster.

    Args:
        cost: (B, n, m), float32 or float64; at valid pairs in [0, MAX_SCALED_COST * epsilon], which the caller knows
            and nobody checks, lest the host wait for the device.
        epsilon: > 0, unit of `cost`, one number for all problems.
        n_iters: >= 1 row and column updates.
        masks: padding, see `proximal_sinkhorn`.

    Returns:
        A Plan as that of `proximal_sinkhorn`, also under autocast; differentiable in `cost`.

    Raises:
        ParamError: epsilon or n_iters out of range.
        ValueError: `cost` is not (B, n, m), or epsilon is a tensor.

    Source: Cuturi 2013, algorithm 1. Verified: test_sinkhorn.py (the log domain, POT).
    """
    if isinstance(epsilon, Tensor):
        raise ValueError(f"sinkhorn_scaling: epsilon must be one number, got a tensor {tuple(epsilon.shape)}")
    _check_options(cost, epsilon, n_iters=n_iters)
    with torch.autocast(cost.device.type, enabled=False):
        kernel = (masks.clean(cost) / -epsilon).exp()
        a, b = (log_uniform(mask, like).exp() for mask, like in _sides(cost, masks))
        # Padding has no mass, so no plan; but where a whole side has none, 0 / 0 was computed.
        plan = masks.clean(_scaled(kernel, a, b, n_iters))
    return Plan(plan, _marginal_error(plan.detach(), a, b), n_iters)


def _scaled(kernel: Tensor, a: Tensor, b: Tensor, n_iters: int) -> Tensor:
    """Kernel (B, n, m) scaled to the masses a (B, n, 1) and b (B, 1, m).

    Many small problems: with the problems last, sums run over as many of them at once as a register holds, which takes
    half the time of batched products. Rows and columns have a copy of the kernel each, to be summed over the middle.
    """
    by_row, by_column = kernel.permute(1, 2, 0).contiguous(), kernel.permute(2, 1, 0).contiguous()
    rows, columns = a[:, :, 0].T.contiguous(), b[:, 0].T.contiguous()
    v = columns
    for _ in range(n_iters):
        u = rows / (by_row * v).sum(1)
        v = columns / (by_column * u).sum(1)
    return u.T.unsqueeze(-1) * kernel * v.T.unsqueeze(-2)


def log_uniform(mask: Tensor | None, like: Tensor) -> Tensor:
    """Log masses of one side, in the shape (B, n, 1) or (B, 1, m) of `like`."""
    if mask is None:
        return torch.full_like(like, -math.log(like.shape[1] * like.shape[2]))
    valid = mask.view(like.shape)
    count = valid.sum((1, 2), keepdim=True).to(like.dtype)
    return (-count.log()).expand_as(like).masked_fill(~valid, NO_MASS)


def _marginal_error(plan: Tensor, a: Tensor, b: Tensor) -> Tensor:
    rows = (plan.sum(-1, keepdim=True) - a).abs().sum((1, 2))
    return torch.maximum(rows, (plan.sum(-2, keepdim=True) - b).abs().sum((1, 2)))


def _sides(cost: Tensor, masks: Masks) -> tuple[tuple[Tensor | None, Tensor], ...]:
    """Mask of each side with a tensor of the shape of its masses, (B, n, 1) and (B, 1, m)."""
    return (masks.rows, cost[:, :, :1]), (masks.columns, cost[:, :1, :])


def _check_options(cost: Tensor, epsilon: float | Tensor, **counts: int) -> None:
    if cost.dim() != 3:
        raise ValueError(f"sinkhorn: cost must be (B, n, m), got {tuple(cost.shape)}")
    if isinstance(epsilon, Tensor):
        if epsilon.shape != cost.shape[:1]:
            raise ValueError(f"sinkhorn: epsilon must be ({cost.shape[0]},), got {tuple(epsilon.shape)}")
    elif not epsilon > 0:
        raise ParamError(f"sinkhorn: epsilon must be positive, got {epsilon}")
    for name, count in counts.items():
        if count < 1:
            raise ParamError(f"sinkhorn: {name} must be at least 1, got {count}")
