"""Transport distances between two batches of embedding sets: a cost, a solver and a structure put together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from recmodels.costs import Masks, cosine_to_cost, largest_cost, threshold_cost
from recmodels.kernels import gather
from recmodels.problems import Problems, joined, small_together
from recmodels.transport import Plan, Solver, gromov_wasserstein, wasserstein


class Clouds(NamedTuple):
    """B sets of embeddings, whose inner products are read as cosines.

    Attributes:
        x: (B, S, d) directions, of unit length or zero; or embeddings as they are, for the cost that bounds them.
        mask: (B, S) bool, valid places; None: all are.
        adjacency: (B, S, S) edges or two-step paths between the nodes; None where the structure is read from x.
    """

    x: Tensor
    mask: Tensor | None = None
    adjacency: Tensor | None = None

    def rows(self, rows: slice | Tensor) -> "Clouds":
        """Some of the clouds."""
        return Clouds(*(None if field is None else field[rows] for field in self))  # type: ignore[arg-type]

    def structure(self, geometry: "Geometry") -> Tensor:
        """(B, S, S) costs within each cloud."""
        similarity = self.x @ self.x.mT if self.adjacency is None else self.adjacency.to(self.x.dtype)
        return geometry.of_cosine(similarity, Masks(self.mask, self.mask))


class Distances(NamedTuple):
    """Distances of pairs of clouds.

    Attributes:
        values: (B,) or (B, K) each, what was asked for: `wasserstein` in the unit of the cost, `gromov` in its square.
        marginal_error: of the same shape, the larger marginal error of the plans, detached.
    """

    values: dict[str, Tensor]
    marginal_error: Tensor

    def view(self, shape: Sequence[int]) -> "Distances":
        """The same in another shape."""
        values = {name: value.view(shape) for name, value in self.values.items()}
        return Distances(values, self.marginal_error.view(shape))

    def columns(self, chosen: int | slice) -> "Distances":
        """Some of K columns, or one without its axis."""
        return Distances(
            {name: value[:, chosen] for name, value in self.values.items()}, self.marginal_error[:, chosen]
        )


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
        """Cost of a matrix of cosines, or of 0/1 edges read as such; (B, n, m)."""
        cost = cosine_to_cost(similarity, self.cost, self.temperature, masks)
        return threshold_cost(cost, self.threshold, self.scope, masks)

    @property
    def is_of_batch(self) -> bool:
        """Whether a cost depends on all problems that are looked at together."""
        return self.scope == "batch"

    @property
    def bound(self) -> float:
        """The largest cost there can be; no cost is negative."""
        return largest_cost(self.cost, self.temperature)


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

    def __call__(self, left: Clouds, right: Clouds, others: Tensor | None = None) -> Distances:
        """Distances of every left cloud to its right ones, in the dtype of the directions, also under autocast.

        Args:
            left: B clouds.
            right: B clouds, of as many places and dimensions.
            others: (B, K) int64, the right clouds that each left one is compared with; None compares row with row.

        Returns:
            Distances of shape (B, K), or (B,) where `others` is None.
        """
        return self.of_all([(left, right, others)])[0]

    def of_all(self, pairs: Sequence[tuple[Clouds, Clouds, Tensor | None]]) -> list[Distances]:
        """Distances of several lists of pairs: what calls with each would give, in fewer solves.

        A threshold over a batch is one over each list. Few small problems cost as many calls of torch as many, so lists
        are solved together as far as they are small.

        Args:
            pairs: arguments of a call each; all clouds have as many places and dimensions, and all or none a mask.
        """
        with torch.autocast(pairs[0][0].x.device.type, enabled=False):
            problems = [self._problems(*of) for of in pairs]
            solved = [distances for batch in small_together(problems) for distances in self._solve(batch)]
        return [
            distances if others is None else distances.view(others.shape)
            for distances, (_, _, others) in zip(solved, pairs, strict=True)
        ]

    def wasserstein_plan(self, left: Clouds, right: Clouds) -> tuple[Tensor, Plan]:
        """Cost (B, S, S) between the nodes of each left cloud and of its right one, and the Wasserstein plan."""
        masks = _masks(left, right, None)
        cost = masks.clean(self.geometry.of_cosine(_similarity(left.x, right.x, None), masks))
        return cost, self.solver(cost, masks)

    def _problems(self, left: Clouds, right: Clouds, others: Tensor | None) -> Problems:
        """Costs and structures of one list of pairs."""
        masks, cost, structures = _masks(left, right, others), None, None
        if self.has_wasserstein or (self.gromov and self.gromov.traced_on == "wasserstein"):
            cost = self.geometry.of_cosine(_similarity(left.x, right.x, others), masks)
        if self.gromov:
            within = left.structure(self.geometry), right.structure(self.geometry)
            structures = _repeated(within[0], others), _chosen(within[1], others)
        return Problems(masks, cost, structures)

    def _solve(self, lists: Sequence[Problems]) -> list[Distances]:
        """Distances of each list; all of their problems are solved at once."""
        masks, cost, structures = joined(lists)
        values, plans = {}, []
        if cost is not None:
            value, plan = wasserstein(cost, self.solver, masks)
            plans.append(plan)
            values = {"wasserstein": value} if self.has_wasserstein else {}
        if self.gromov and structures is not None:
            traced = plans[0].plan if self.gromov.traced_on == "wasserstein" else None
            value, plan = self.gromov.solve(structures, masks, self.solver.gradient, traced)
            plans.append(plan)
            values["gromov"] = value
        error = torch.stack([plan.marginal_error for plan in plans]).amax(0)
        sizes = [problems.n for problems in lists]
        parts = {name: value.split(sizes) for name, value in values.items()}
        return [
            Distances({name: part[place] for name, part in parts.items()}, of)
            for place, of in enumerate(error.split(sizes))
        ]


def _masks(left: Clouds, right: Clouds, others: Tensor | None) -> Masks:
    """Valid places of each pair's rows and columns."""
    rows = None if left.mask is None else _repeated(left.mask, others)
    return Masks(rows, None if right.mask is None else _chosen(right.mask, others))


def _similarity(x: Tensor, y: Tensor, others: Tensor | None) -> Tensor:
    """(B * K, S, S) cosines of each x (B, S, d) with its K others of y; one product for each x."""
    if others is None:
        return x @ y.mT
    (n, k), (s, d) = others.shape, x.shape[1:]
    beside = _chosen(y, others).view(n, k * s, d)
    return (x @ beside.mT).view(n, s, k, s).transpose(1, 2).reshape(n * k, s, s)


def _chosen(x: Tensor, others: Tensor | None) -> Tensor:
    """The rows `others` of x (B, ...), one after another, with a reproducible backward pass; all in order for None."""
    if others is None:
        return x
    if not x.is_floating_point():
        return x[others.flatten()]
    return gather(x.flatten(1), others.flatten()).unflatten(1, x.shape[1:])


def _repeated(x: Tensor, others: Tensor | None) -> Tensor:
    """Each row of x (B, ...) once for each of its others."""
    return x if others is None else x.repeat_interleave(others.shape[1], 0)
