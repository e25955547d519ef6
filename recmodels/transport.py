"""Transport distances of many small problems at once: Wasserstein, and Gromov-Wasserstein that linearizes around it."""

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from recmodels.costs import ALL_VALID, Masks, check_choice
from recmodels.errors import ParamError
from recmodels.sinkhorn import MAX_SCALED_COST, Plan, log_uniform, proximal_sinkhorn, sinkhorn_scaling


@dataclass(frozen=True)
class Solver:
    """How a plan is found and how gradients pass it.

    Attributes:
        epsilon: > 0, entropic regularization, unit of the cost; a float or one per problem, (B,).
        outer: >= 1 proximal steps; 1 is Sinkhorn.
        inner: >= 1 Sinkhorn iterations per proximal step; 1 is IPOT.
        gradient: "envelope" holds the plan fixed: the exact gradient of the regularized optimum at convergence, no
            second derivatives. "unroll" differentiates through the iterations and keeps two (B, n, m) tensors of each;
            two vectors of each where plain scaling is used.
        tolerance: see `proximal_sinkhorn`.
        cost_bound: costs are known to lie in [0, cost_bound]; where it is small against epsilon, one proximal step is
            solved by plain scaling, to the same values.
    """

    epsilon: float | Tensor
    outer: int
    inner: int
    gradient: str = "envelope"
    tolerance: float = 0.0
    cost_bound: float = math.inf

    def __post_init__(self) -> None:
        check_choice("Solver", "gradient", self.gradient, ("envelope", "unroll"))

    def __call__(self, cost: Tensor, masks: Masks = ALL_VALID) -> Plan:
        """Plans of the costs (B, n, m), detached unless `gradient` is "unroll"."""
        with self.gradient_mode():
            if isinstance(self.epsilon, float) and self._is_scalable(self.epsilon):
                return sinkhorn_scaling(cost, self.epsilon, self.inner, masks)
            return proximal_sinkhorn(cost, self.epsilon, self.outer, self.inner, masks, self.tolerance)

    def _is_scalable(self, epsilon: float) -> bool:
        return self.outer == 1 and not self.tolerance and self.cost_bound <= MAX_SCALED_COST * epsilon

    def gradient_mode(self) -> AbstractContextManager[object]:
        """The context in which plans are computed: gradients are recorded only for "unroll"."""
        return torch.set_grad_enabled(torch.is_grad_enabled() and self.gradient == "unroll")


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
    a = log_uniform(masks.rows, structure_a[:, :, :1]).exp()
    b = log_uniform(masks.columns, structure_b[:, :1, :]).exp()
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


def _linearize(constant: Tensor, structure_a: Tensor, structure_b: Tensor, plan: Tensor) -> Tensor:
    return constant - 2 * structure_a @ plan @ structure_b.mT
