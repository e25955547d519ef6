"""Entropic optimal transport of many small problems at once, in the log domain.

Sizes: B problems, n rows, m columns. One solver, `proximal_sinkhorn`, is Sinkhorn with `outer=1` and IPOT with
`inner=1`; Gromov-Wasserstein linearizes around it. A problem never sees the other problems of its batch.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from recmodels.costs import ALL_VALID, Masks, check_choice
from recmodels.errors import ParamError

# Log mass of padding: exp gives exactly 0 and sums of several stay finite in float32. Costs must stay below it times
# epsilon, which the bounds on the temperature of exponential costs see to.
NO_MASS = -1e30


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


@dataclass(frozen=True)
class Solver:
    """How a plan is found and how gradients pass it.

    Attributes:
        epsilon: > 0, entropic regularization, unit of the cost; a float or one per problem, (B,).
        outer: >= 1 proximal steps; 1 is Sinkhorn.
        inner: >= 1 Sinkhorn iterations per proximal step; 1 is IPOT.
        gradient: "envelope" holds the plan fixed: the exact gradient of the regularized optimum at convergence, no
            second derivatives. "unroll" differentiates through the iterations and keeps two (B, n, m) tensors of each.
        tolerance: see `proximal_sinkhorn`.
    """

    epsilon: float | Tensor
    outer: int
    inner: int
    gradient: str = "envelope"
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        check_choice("Solver", "gradient", self.gradient, ("envelope", "unroll"))

    def __call__(self, cost: Tensor, masks: Masks = ALL_VALID) -> Plan:
        """Plans of the costs (B, n, m), detached unless `gradient` is "unroll"."""
        with self.gradient_mode():
            return proximal_sinkhorn(cost, self.epsilon, self.outer, self.inner, masks, self.tolerance)

    def gradient_mode(self) -> AbstractContextManager[object]:
        """The context in which plans are computed: gradients are recorded only for "unroll"."""
        return torch.set_grad_enabled(torch.is_grad_enabled() and self.gradient == "unroll")


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
    _check_options(cost, epsilon, (outer, inner), tolerance)
    cost = masks.clean(cost)
    log_kernel = cost / -(epsilon.to(cost).view(-1, 1, 1) if isinstance(epsilon, Tensor) else epsilon)
    log_a, log_b = _log_uniform(masks.rows, cost[:, :, :1]), _log_uniform(masks.columns, cost[:, :1, :])
    # In place only where neither autograd nor the tolerance needs the previous state.
    is_kept = bool(tolerance) or (torch.is_grad_enabled() and log_kernel.requires_grad)
    step = _Step(log_kernel, log_a, log_b, tolerance, None if is_kept else torch.empty_like(log_kernel))
    log_plan, g = torch.zeros_like(log_kernel), log_b
    for _ in range(outer):
        log_plan, g = step(log_plan, g, inner)
    pairs = masks.pairs()
    plan = (log_plan if pairs is None else log_plan.masked_fill(~pairs, NO_MASS)).exp()
    return Plan(plan, _marginal_error(plan.detach(), log_a.exp(), log_b.exp()), outer * inner)


def wasserstein(cost: Tensor, solver: Solver, masks: Masks = ALL_VALID) -> tuple[Tensor, Plan]:
    """Transport cost <P, C> of each problem under the solver's plan.

    Args:
        cost: (B, n, m), finite at valid pairs, any unit.
        solver: see Solver; its `gradient` says what the gradient means.
        masks: padding, see `proximal_sinkhorn`.

    Returns:
        The cost (B,), unit of `cost`, differentiable in `cost`; and the Plan.

    Source: Cuturi 2013; Xie et al. 2019. Verified: test_transport.py (POT, assignment, finite differences).
    """
    result = solver(cost, masks)
    return (masks.clean(cost) * result.plan).sum((-2, -1)), result


def gromov_wasserstein(
    structure_a: Tensor,
    structure_b: Tensor,
    solver: Solver,
    n_linearizations: int,
    masks: Masks = ALL_VALID,
    traced_plan: Tensor | None = None,
) -> tuple[Tensor, Plan]:
    """Gromov-Wasserstein cost with squared loss, by repeated linearization from the product plan.

    Each linearization is solved from scratch by `solver`. With the plan P of the last one, the value is
    sum_ijkl (A_ik - B_jl)^2 P_ij P_kl, up to the marginal error of P.

    Args:
        structure_a: (B, n, n), unit free; symmetric if the plan is to be a stationary point of the value.
        structure_b: (B, m, m), the same unit.
        solver: its epsilon has the unit of the squared structure; GSC: `Solver(0.1, outer=20, inner=1)`.
        n_linearizations: >= 1; GSC: 5.
        masks: padding of the two sides, see `proximal_sinkhorn`.
        traced_plan: (B, n, m), a given plan that takes the place of P_ij in the value (GSC: the Wasserstein plan),
            while the linearization stays at P; None: P itself. Held fixed under the envelope gradient.

    Returns:
        The value (B,), unit of the structure squared, differentiable in both structures; and the Plan P, whose
        `n_iters` counts the updates of all linearizations. With entropy E, the envelope gradient is that of the
        stationary value + 2 * epsilon * E, since the linear cost is half the derivative of the quadratic one.

    Raises:
        ParamError: n_linearizations < 1.

    Source: Peyré, Cuturi & Solomon 2016, prop. 1; traced_plan: Han et al. 2022 (GSC), code. Verified:
    test_gromov_wasserstein.py (O(n^4) sum, POT), test_transport.py (GSC's values).
    """
    if n_linearizations < 1:
        raise ParamError(f"gromov_wasserstein: n_linearizations must be at least 1, got {n_linearizations}")
    structure_a = Masks(masks.rows, masks.rows).clean(structure_a)
    structure_b = Masks(masks.columns, masks.columns).clean(structure_b)
    a = _log_uniform(masks.rows, structure_a[:, :, :1]).exp()
    b = _log_uniform(masks.columns, structure_b[:, :1, :]).exp()
    constant = structure_a.square() @ a + (structure_b.square() @ b.mT).mT
    plan = a * b
    with solver.gradient_mode():
        for _ in range(n_linearizations):
            result = solver(_linearize(constant, structure_a, structure_b, plan), masks)
            plan = result.plan
    if traced_plan is None:
        traced_plan = plan
    elif solver.gradient == "envelope":
        traced_plan = traced_plan.detach()
    linear = _linearize(constant, structure_a, structure_b, plan)
    return (linear * traced_plan).sum((-2, -1)), result._replace(n_iters=n_linearizations * result.n_iters)


class _Step(NamedTuple):
    """One proximal step; `work` is a buffer (B, n, m) that allows to work in place, or None."""

    log_kernel: Tensor
    log_a: Tensor
    log_b: Tensor
    tolerance: float
    work: Tensor | None

    def __call__(self, log_plan: Tensor, g: Tensor, inner: int) -> tuple[Tensor, Tensor]:
        """From one log plan (B, n, m) and column potential (B, 1, m) to the next."""
        if self.work is not None:
            return self._scale(log_plan.add_(self.log_kernel), g, inner)
        moved, moved_g = self._scale(log_plan + self.log_kernel, g, inner)
        if not self.tolerance:
            return moved, moved_g
        # A problem that is not moved proposes the same step again: it needs no flag to stay frozen.
        is_moving = (moved.exp() - log_plan.exp()).abs().sum((1, 2), keepdim=True) > self.tolerance
        return torch.where(is_moving, moved, log_plan), torch.where(is_moving, moved_g, g)

    def _scale(self, log_q: Tensor, g: Tensor, inner: int) -> tuple[Tensor, Tensor]:
        """Scales exp(log_q) towards both marginals by `inner` Sinkhorn iterations."""
        f = self._row_potential(log_q, g)
        total = _logsumexp(log_q, f, -2, self.work)
        for _ in range(inner - 1):
            f = self._corrected(f, self._row_potential(log_q, self.log_b - total))
            total = _logsumexp(log_q, f, -2, self.work)
        # In this order the large numbers cancel first: columns sum to their mass even where cost / epsilon is 1e11.
        if self.work is None:
            return log_q + f - total + self.log_b, self.log_b - total
        return log_q.add_(f).sub_(total).add_(self.log_b), self.log_b - total

    def _row_potential(self, log_q: Tensor, g: Tensor) -> Tensor:
        return self.log_a - _logsumexp(log_q, g, -1, self.work)

    def _corrected(self, f: Tensor, proposed: Tensor) -> Tensor:
        if not self.tolerance:
            return proposed
        row_error = ((proposed - f).abs() * self.log_a.exp()).sum(1, keepdim=True)
        return torch.where(row_error > self.tolerance, proposed, f)


def _logsumexp(log_q: Tensor, potential: Tensor, dim: int, work: Tensor | None) -> Tensor:
    if work is None:
        return torch.logsumexp(log_q + potential, dim, keepdim=True)
    top = torch.add(log_q, potential, out=work).amax(dim, keepdim=True)
    return work.sub_(top).exp_().sum(dim, keepdim=True).log_().add_(top)


def _log_uniform(mask: Tensor | None, like: Tensor) -> Tensor:
    """Log masses of one side, in the shape (B, n, 1) or (B, 1, m) of `like`."""
    valid = torch.ones_like(like, dtype=torch.bool) if mask is None else mask.view(like.shape)
    count = valid.sum((1, 2), keepdim=True).to(like.dtype)
    return (-count.log()).expand_as(like).masked_fill(~valid, NO_MASS)


def _marginal_error(plan: Tensor, a: Tensor, b: Tensor) -> Tensor:
    rows = (plan.sum(-1, keepdim=True) - a).abs().sum((1, 2))
    return torch.maximum(rows, (plan.sum(-2, keepdim=True) - b).abs().sum((1, 2)))


def _linearize(constant: Tensor, structure_a: Tensor, structure_b: Tensor, plan: Tensor) -> Tensor:
    return constant - 2 * structure_a @ plan @ structure_b.mT


def _check_options(cost: Tensor, epsilon: float | Tensor, counts: tuple[int, int], tolerance: float) -> None:
    if cost.dim() != 3:
        raise ValueError(f"proximal_sinkhorn: cost must be (B, n, m), got {tuple(cost.shape)}")
    if isinstance(epsilon, Tensor):
        if epsilon.shape != cost.shape[:1]:
            raise ValueError(f"proximal_sinkhorn: epsilon must be ({cost.shape[0]},), got {tuple(epsilon.shape)}")
    elif not epsilon > 0:
        raise ParamError(f"proximal_sinkhorn: epsilon must be positive, got {epsilon}")
    if min(counts) < 1:
        raise ParamError(f"proximal_sinkhorn: outer and inner must be at least 1, got {counts}")
    if not 0 <= tolerance < 1:
        raise ParamError(f"proximal_sinkhorn: tolerance must lie in [0, 1), got {tolerance}")
