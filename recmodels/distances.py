"""Transport distances between two batches of embedding sets: a cost, a solver and a structure put together."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from recmodels.costs import Masks, cosine, cosine_to_cost, threshold_cost
from recmodels.transport import Plan, Solver, gromov_wasserstein, wasserstein


class Clouds(NamedTuple):
    """One end of P pairs.

    Attributes:
        x: (P, S, d) embeddings.
        mask: (P, S) bool, valid places.
        adjacency: (P, S, S) 0/1 edges between the nodes; None where the structure is read from the embeddings.
    """

    x: Tensor
    mask: Tensor
    adjacency: Tensor | None = None

    def widened(self) -> "Clouds":
        """The same in float32, or in float64 where it is that already."""
        dtype = torch.promote_types(self.x.dtype, torch.float32)
        return Clouds(self.x.to(dtype), self.mask, None if self.adjacency is None else self.adjacency.to(dtype))


class Distances(NamedTuple):
    """Distances of P pairs.

    Attributes:
        values: (P,) each, what was asked for: `wasserstein` in the unit of the cost, `gromov` in its square.
        marginal_error: (P,) the larger marginal error of the plans, detached.
    """

    values: dict[str, Tensor]
    marginal_error: Tensor


@dataclass(frozen=True)
class Geometry:
    """The cost between nodes as a function of their cosine.

    Attributes:
        cost: `cosine`, `exp_cosine` or `exp_cosine_shifted`.
        temperature: > 0, of the exponential costs, dimensionless.
        threshold: in [0, 1], part of the range of costs that is cut to zero.
        scope: `problem`, `batch` or `none`, see `costs.threshold_cost`.
    """

    cost: str
    temperature: float
    threshold: float
    scope: str

    def of_cosine(self, similarity: Tensor, masks: Masks) -> Tensor:
        """Cost of a matrix of cosines, or of 0/1 edges read as such; (P, n, m)."""
        cost = cosine_to_cost(similarity, self.cost, self.temperature, masks)
        return threshold_cost(cost, self.threshold, self.scope, masks)

    def between(self, x: Tensor, y: Tensor, masks: Masks) -> Tensor:
        """Cost between two sets; (P, n, d) and (P, m, d) to (P, n, m)."""
        return self.of_cosine(cosine(x, y), masks)


@dataclass(frozen=True)
class GromovSolver:
    """How Gromov-Wasserstein is solved: re-linearised `outer` times, each by `inner` IPOT steps.

    Attributes:
        epsilon: > 0, unit of the squared structure.
        outer: >= 1 linearisations.
        inner: >= 1 IPOT steps each.
        traced_on: the plan the value is read with: `gw` its own, `wasserstein` that of the feature cost (GSC).
    """

    epsilon: float
    outer: int
    inner: int
    traced_on: str

    def solve(
        self, structures: tuple[Tensor, Tensor], masks: Masks, gradient: str, traced: Tensor | None
    ) -> tuple[Tensor, Plan]:
        """Value (P,) and plan of two structures, (P, n, n) and (P, m, m).

        Computed in float64: squares of structures cancel, and float32 loses a quarter of the value at temperature 0.05.
        """
        solver = Solver(self.epsilon, outer=self.inner, inner=1, gradient=gradient)
        left, right = (structure.double() for structure in structures)
        traced = None if traced is None else traced.double()
        value, plan = gromov_wasserstein(left, right, solver, self.outer, masks, traced)
        return value.to(structures[0].dtype), plan


@dataclass(frozen=True)
class TransportDistance:
    """Wasserstein and Gromov-Wasserstein distances of pairs of clouds.

    Attributes:
        geometry: the cost, also used for structure matrices.
        solver: of the Wasserstein plan; its gradient mode holds for both.
        gromov: of the Gromov-Wasserstein plan; None computes Wasserstein only.
        has_wasserstein: whether the Wasserstein distance itself is wanted.

    Source: Han et al. 2022 (GSC), section 3.3.
    """

    geometry: Geometry
    solver: Solver
    gromov: GromovSolver | None = None
    has_wasserstein: bool = True

    def __call__(self, left: Clouds, right: Clouds) -> Distances:
        """Distances of P pairs, in float32 or wider: differences of distances are below what half precision sees."""
        with torch.autocast(left.x.device.type, enabled=False):
            return self._distances(left.widened(), right.widened())

    def _distances(self, left: Clouds, right: Clouds) -> Distances:
        masks = Masks(left.mask, right.mask)
        values, plans = {}, []
        if self.has_wasserstein or (self.gromov and self.gromov.traced_on == "wasserstein"):
            value, plan = wasserstein(self.geometry.between(left.x, right.x, masks), self.solver, masks)
            plans.append(plan)
            values = {"wasserstein": value} if self.has_wasserstein else {}
        if self.gromov:
            traced = plans[0].plan if self.gromov.traced_on == "wasserstein" else None
            structures = self._structure(left), self._structure(right)
            value, plan = self.gromov.solve(structures, masks, self.solver.gradient, traced)
            plans.append(plan)
            values["gromov"] = value
        return Distances(values, torch.stack([plan.marginal_error for plan in plans]).amax(0))

    def _structure(self, cloud: Clouds) -> Tensor:
        """(P, S, S) costs within one end: of its edges where they are given, otherwise of its embeddings."""
        masks = Masks(cloud.mask, cloud.mask)
        if cloud.adjacency is None:
            return self.geometry.between(cloud.x, cloud.x, masks)
        return self.geometry.of_cosine(cloud.adjacency, masks)
