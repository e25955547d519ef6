"""Distances of clouds against one problem at a time, without masks, by plain formulas."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from recmodels.costs import Masks, direction
from recmodels.distances import Clouds, Distances, Geometry, GromovSolver, TransportDistance
from recmodels.problems import Problems, joined, small_together
from recmodels.transport import Solver, gromov_wasserstein, wasserstein

SIZES = ((4, 3), (2, 4), (1, 1))  # valid places of the two ends of three pairs, of four each
COSINE = Geometry("cosine", 0.5, 0.0, "none")
SOLVER = Solver(0.1, outer=1, inner=20)
GROMOV = GromovSolver(0.1, outer=3, inner=7, traced_on="gw")


def plain_cost(similarity: Tensor, geometry: Geometry) -> Tensor:
    """The cost of one problem (n, m), formula by formula."""
    exponent = -similarity / geometry.temperature
    cost = {
        "cosine": (1 - similarity).clamp(0, 2),  # within it already, unless inner products stand for cosines
        "exp_cosine": exponent.exp(),
        "exp_cosine_shifted": (exponent - exponent.max()).exp(),
    }[geometry.cost]
    if geometry.scope == "none":
        return cost
    return torch.relu(cost - cost.min() - geometry.threshold * (cost.max() - cost.min()))


def plain_cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosines of rows, (n, d) and (m, d) to (n, m)."""
    return (x @ y.T) / (x.norm(dim=1)[:, None] * y.norm(dim=1))


def inner_products(x: Tensor, y: Tensor) -> Tensor:
    """Inner products of rows, (n, d) and (m, d) to (n, m)."""
    return x @ y.T


def one_pair(
    of: TransportDistance,
    x: Tensor,
    y: Tensor,
    edges: Tensor | None = None,
    similarity: Callable[[Tensor, Tensor], Tensor] = plain_cosine,
) -> dict[str, Tensor]:
    """Distances of one pair of unpadded clouds (n, d) and (m, d)."""
    value, plan = wasserstein(plain_cost(similarity(x, y), of.geometry)[None], of.solver)
    values = {"wasserstein": value[0]} if of.has_wasserstein else {}
    if of.gromov:
        left = plain_cost(similarity(x, x) if edges is None else edges, of.geometry)
        right = plain_cost(similarity(y, y), of.geometry)
        solver = Solver(of.gromov.epsilon, of.gromov.inner, 1, of.solver.gradient)
        traced = plan.plan if of.gromov.traced_on == "wasserstein" else None
        gromov, _ = gromov_wasserstein(left[None], right[None], solver, of.gromov.outer, traced_plan=traced)
        values["gromov"] = gromov[0]
    return values


def _gradients(value: Tensor, *embeddings: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, embeddings, retain_graph=True, materialize_grads=True)


def _clouds(side: int, edges: bool = False) -> Clouds:
    return _embedded(side, edges)[1]


def _embedded(side: int, edges: bool = False) -> tuple[Tensor, Clouds]:
    """Embeddings of three clouds of four places, and the clouds; what lies in padded places must not be seen."""
    generator = torch.Generator().manual_seed(side)
    x = torch.randn(3, 4, 5, dtype=torch.float64, generator=generator)
    mask = torch.arange(4) < torch.tensor([sizes[side] for sizes in SIZES])[:, None]
    upper = (torch.rand(3, 4, 4, generator=generator) < 0.5).double().triu(1)
    x.requires_grad_()
    return x, Clouds(direction(x), mask, (upper + upper.mT) if edges else None)


@pytest.mark.parametrize("cost", ["cosine", "exp_cosine", "exp_cosine_shifted"])
@pytest.mark.parametrize("scope", ["none", "problem"])
@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("traced_on", ["gw", "wasserstein"])
@pytest.mark.parametrize("gradient", ["envelope", "unroll"])
def test_padded_batches_equal_one_pair_at_a_time(
    cost: str, scope: str, edges: bool, traced_on: str, gradient: str
) -> None:
    solver = Solver(0.1, outer=1, inner=20, gradient=gradient)
    of = TransportDistance(Geometry(cost, 0.5, 0.1, scope), solver, GromovSolver(0.1, 3, 7, traced_on))
    (x, left), (y, right) = _embedded(0, edges), _embedded(1)
    got = of(left, right)
    for pair, (n, m) in enumerate(SIZES):
        block = None if left.adjacency is None else left.adjacency[pair, :n, :n]
        want = one_pair(of, x[pair, :n], y[pair, :m], block)
        assert set(got.values) == set(want) == {"wasserstein", "gromov"}
        for name, value in want.items():
            assert_close(got.values[name][pair], value, atol=1e-10, rtol=1e-10)
            # One node against one: a shifted or cut cost is constant there, and its gradient is the clamp's choice.
            if n > 1:
                mine, plain = (_gradients(v, x, y) for v in (got.values[name][pair], value))
                assert_close(mine, plain, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("edges", [False, True])
def test_several_others_are_as_many_pairs(edges: bool) -> None:
    (x, left), (y, right) = _embedded(0, edges), _embedded(1)
    of = TransportDistance(COSINE, SOLVER, GROMOV)
    others = torch.tensor([[1, 2], [0, 2], [2, 2]])
    got = of(left, right, others)
    for column in range(2):
        rows = others[:, column]
        want = of(left, Clouds(right.x[rows], right.mask[rows]))
        assert torch.equal(got.marginal_error[:, column], want.marginal_error)
        for name, value in want.values.items():
            assert_close(got.values[name][:, column], value, atol=1e-12, rtol=1e-12)
            mine, plain = (_gradients(v.sum(), x, y) for v in (got.values[name][:, column], value))
            assert_close(mine, plain, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("scope", ["none", "problem", "batch"])
@pytest.mark.parametrize("traced_on", ["gw", "wasserstein"])
@pytest.mark.parametrize("most", [0, 64, 10**6])
def test_lists_solved_together_are_lists_solved_alone(
    scope: str, traced_on: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recmodels.problems._SOLVED_TOGETHER", most)
    (x, left), (y, right) = _embedded(0, edges=True), _embedded(1)
    of = TransportDistance(Geometry("cosine", 0.5, 0.2, scope), SOLVER, GromovSolver(0.1, 3, 7, traced_on))
    lists = [
        (left, right, None),
        (left, right, torch.tensor([[1, 2], [0, 2], [2, 2]])),
        (left, Clouds(left.x, left.mask), None),
    ]
    for got, one in zip(of.of_all(lists), lists, strict=True):
        want = of(*one)
        assert got.marginal_error.shape == want.marginal_error.shape
        for name, value in want.values.items():
            assert_close(got.values[name], value, atol=1e-12, rtol=1e-12)
            mine, plain = (_gradients(v.sum(), x, y) for v in (got.values[name], value))
            assert_close(mine, plain, atol=1e-10, rtol=1e-10)


def test_lists_go_together_until_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    def problems(n: int) -> Problems:
        return Problems(Masks(), torch.zeros(n, 2, 2), None)

    monkeypatch.setattr("recmodels.problems._SOLVED_TOGETHER", 40)
    batches = small_together([problems(n) for n in (4, 6, 1, 50, 2, 8)])
    assert [[of.n for of in batch] for batch in batches] == [[4, 6], [1], [50], [2, 8]]
    assert joined(batches[0]).n == 10


def test_clouds_without_padding_need_no_mask() -> None:
    left, right = (Clouds(_clouds(side).x[:, :2]) for side in (0, 1))
    left, right = (cloud._replace(x=direction(cloud.x)) for cloud in (left, right))
    of = TransportDistance(COSINE, SOLVER, GROMOV)
    full = torch.ones(3, 2, dtype=torch.bool)
    plain, masked = of(left, right), of(left._replace(mask=full), right._replace(mask=full))
    assert_close(plain.values, masked.values, atol=1e-12, rtol=1e-12)


def test_only_what_was_asked_for_is_given() -> None:
    ends = _clouds(0), _clouds(1)
    for has_wasserstein, gromov in itertools.product((True, False), (GROMOV, None)):
        if has_wasserstein or gromov:
            found = TransportDistance(COSINE, SOLVER, gromov, has_wasserstein)(*ends)
            assert isinstance(found, Distances)
            assert ("wasserstein" in found.values, "gromov" in found.values) == (has_wasserstein, gromov is not None)
            assert found.marginal_error.shape == (3,)


def test_the_wasserstein_plan_can_be_traced_without_giving_its_distance() -> None:
    ends = _clouds(0), _clouds(1)
    traced = GromovSolver(0.1, 3, 7, "wasserstein")
    both, alone = (TransportDistance(COSINE, SOLVER, traced, has)(*ends) for has in (True, False))
    assert set(alone.values) == {"gromov"}
    assert torch.equal(alone.values["gromov"], both.values["gromov"])


def test_the_marginal_error_is_the_larger_one_of_the_two_plans() -> None:
    ends = _clouds(0), _clouds(1)
    rough = Solver(0.01, outer=1, inner=1)
    both = TransportDistance(COSINE, rough, GROMOV)(*ends).marginal_error
    first = TransportDistance(COSINE, rough)(*ends).marginal_error
    second = TransportDistance(COSINE, rough, GROMOV, has_wasserstein=False)(*ends).marginal_error
    assert torch.equal(both, first.maximum(second))
    assert first.max() > 1e-2


def test_scope_batch_takes_the_range_of_costs_over_all_valid_pairs() -> None:
    left, right = _clouds(0), _clouds(1)
    got = TransportDistance(Geometry("cosine", 0.5, 0.3, "batch"), SOLVER)(left, right).values["wasserstein"]
    costs = [1 - plain_cosine(left.x[pair, :n], right.x[pair, :m]) for pair, (n, m) in enumerate(SIZES)]
    low, high = min(c.min() for c in costs), max(c.max() for c in costs)
    want = [wasserstein(torch.relu(c - low - 0.3 * (high - low))[None], SOLVER)[0][0] for c in costs]
    assert_close(got, torch.stack(want), atol=1e-10, rtol=1e-10)


def test_a_cloud_is_nearest_to_itself_and_gromov_does_not_see_rotations() -> None:
    left, right = _clouds(0), _clouds(1)
    sharp = TransportDistance(COSINE, Solver(0.05, outer=200, inner=1), GromovSolver(0.05, 10, 100, "gw"))
    itself, other = sharp(left, left).values, sharp(left, right).values
    assert_close(itself["wasserstein"], torch.zeros(3, dtype=torch.float64), atol=1e-3, rtol=0)
    assert (other["wasserstein"] > itself["wasserstein"] + 0.1)[:2].all()
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4)))
    turned = right._replace(x=right.x @ rotation)
    assert_close(sharp(left, turned).values["gromov"], other["gromov"], atol=1e-9, rtol=1e-9)
    assert (sharp(left, turned).values["wasserstein"] - other["wasserstein"]).abs().max() > 0.05


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_coarsen_the_distances(dtype):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(5, 6, 8, generator=generator) for _ in range(2))
    mask = torch.ones(5, 6, dtype=torch.bool)
    mask[0, 4:] = False
    distance = TransportDistance(
        Geometry("cosine", 1.0, 0.0, "none"), Solver(0.1, outer=1, inner=20), GromovSolver(0.1, 3, 20, "gw")
    )
    ends = Clouds(direction(x), mask), Clouds(direction(y), mask)
    want = distance(*ends).values
    with torch.autocast("cpu", dtype=dtype):
        got = distance(*ends).values
    assert got.keys() == want.keys() == {"wasserstein", "gromov"}
    assert all(torch.equal(got[name], want[name]) for name in want)


@pytest.mark.parametrize("temperature", [0.05, 0.1])
def test_gromov_wasserstein_of_a_sharp_cost_is_as_exact_in_float32_as_in_float64(temperature):
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(4, 6, 8, generator=generator) for _ in range(2))
    mask = torch.ones(4, 6, dtype=torch.bool)
    geometry = Geometry("exp_cosine", temperature, 0.0, "none")
    distance = TransportDistance(geometry, Solver(0.1, outer=1, inner=20), GromovSolver(0.1, 5, 20, "gw"), False)
    narrow, wide = (
        distance(Clouds(direction(x.to(dtype)), mask), Clouds(direction(y.to(dtype)), mask)).values["gromov"]
        for dtype in (torch.float32, torch.float64)
    )
    assert ((narrow.double() - wide).abs() <= 1e-3 * wide.abs()).all()
