"""Transport distances between two batches of embedding sets: a cost, a solver and a structure put together."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from recmodels.costs import Masks, cosine, cosine_to_cost, threshold_cost
from recmodels.transport import Solver, gromov_wasserstein, wasserstein


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


class Distances(NamedTuple):
    """What was computed for P pairs; None for what was not asked for.

    Attributes:
        wasserstein: (P,), unit of the cost.
        gromov: (P,), squared unit of the cost.
        marginal_error: (P,) the larger marginal error of the plans, detached.
    """

    wasserstein: Tensor | None
    gromov: Tensor | None
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
        """Distances of P pairs."""
        masks = Masks(left.mask, right.mask)
        value = plan = None
        if self.has_wasserstein or (self.gromov and self.gromov.traced_on == "wasserstein"):
            value, plan = wasserstein(self.geometry.between(left.x, right.x, masks), self.solver, masks)
        if self.gromov is None:
            return Distances(value, None, plan.marginal_error)
        traced = plan.plan if self.gromov.traced_on == "wasserstein" else None
        gromov, error = self._gromov(left, right, masks, traced)
        error = error if plan is None else error.maximum(plan.marginal_error)
        return Distances(value if self.has_wasserstein else None, gromov, error)

    def _gromov(self, left: Clouds, right: Clouds, masks: Masks, traced: Tensor | None) -> tuple[Tensor, Tensor]:
        """Value and marginal error of Gromov-Wasserstein; (P,) each."""
        solver = Solver(self.gromov.epsilon, outer=self.gromov.inner, inner=1, gradient=self.solver.gradient)
        value, plan = gromov_wasserstein(
            self._structure(left), self._structure(right), solver, self.gromov.outer, masks, traced
        )
        return value, plan.marginal_error

    def _structure(self, cloud: Clouds) -> Tensor:
        """(P, S, S) costs within one end: of its edges where they are given, otherwise of its embeddings."""
        masks = Masks(cloud.mask, cloud.mask)
        if cloud.adjacency is None:
            return self.geometry.between(cloud.x, cloud.x, masks)
        return self.geometry.of_cosine(cloud.adjacency, masks)
