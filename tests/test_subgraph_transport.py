"""The transport objective against a slow reference, over all its settings."""

import logging
import math
import re
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from recmodels.distances import Geometry, GromovSolver, TransportDistance
from recmodels.errors import ParamError
from recmodels.losses import distance_bce, distance_infonce
from recmodels.models.transport_term import TransportParams
from recmodels.objectives import DistanceContrast
from recmodels.objectives.subgraph_transport import Pairs
from recmodels.transport import Solver
from recmodels.views import PropagationView
from tests.transport_reference import N_HOPS, SEED, Reference, World, transport_params

CHOICES = {entry.name: entry.metadata["choices"] for entry in fields(TransportParams) if entry.metadata["choices"]}
REACH2 = {"ot_sample_graph": "reach2", "ot_hop1": 0, "ot_structure": "reach2", "ot_share": 0.5}
# What a value needs beside it to make sense.
BESIDE: dict[str, dict[str, Any]] = {
    "count": REACH2,
    "cluster": {"ot_structure": "feature"},
    "none": {"ot_threshold": 0.0},
    "reach2": REACH2,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "wasserstein only": {"ot_share": 0.0},
    "gromov only": {"ot_share": 1.0},
    "both": {"ot_share": 0.5},
    "joint, two counts": {"ot_share": 0.3, "ot_sides": "joint"},
    "joint, one count": {"ot_sides": "joint", "ot_centers": 6},
    "more centers than nodes": {"ot_centers": [50, 60]},
    "negatives of view a": {"ot_negatives": ["view_a"], "ot_share": 0.5},
    "negatives of both views": {"ot_negatives": ["view_a", "view_b"], "ot_share": 0.5},
    "all negatives": {"ot_negatives_per_center": "all", "ot_negatives": ["view_b", "view_a"]},
    "traced on wasserstein": {"ot_gw_plan": "wasserstein", "ot_share": 1.0},
    "structure of features": {"ot_structure": "feature", "ot_share": 0.5},
    "binary cross-entropy": {"ot_loss": "bce", "ot_share": 0.5, "ot_temperature": 0.5, "ot_gw_temperature": 0.3},
    "breadth first": {"ot_sampler": "bfs", "ot_share": 0.5},
    "epoch": {"ot_resample": "epoch", "ot_share": 0.5},
    "attention": {"ot_view_b": "gat:1", "ot_share": 0.5},
    "mean and next": {"ot_view_a": "mean:0-2", "ot_view_b": "next"},
    "exponential, cut": {"ot_cost": "exp_cosine", "ot_threshold": 0.1, "ot_threshold_scope": "problem"},
    "unrolled": {"ot_plan_grad": "unroll", "ot_share": 0.5},
    "ipot": {"ot_solver": "ipot", "ot_epsilon": 0.5},
    "random walk": {"ot_sampler": "walk", "ot_share": 0.5},
    "clusters, two hops": {"ot_sampler": "cluster", "ot_share": 0.5, "ot_structure": "reach2"},
    "clusters, an epoch": {"ot_sampler": "cluster", "ot_resample": "epoch"},
    "edges sampled, two hops as structure": {"ot_share": 0.5, "ot_structure": "reach2"},
    "reach2, binary": REACH2,
    "reach2, count": REACH2 | {"ot_reach2_weights": "count", "ot_cost": "exp_cosine"},
    "reach2, count, shifted": REACH2 | {"ot_reach2_weights": "count", "ot_cost": "exp_cosine_shifted"},
    "reach2, breadth first": REACH2 | {"ot_sampler": "bfs", "ot_hop1": 3},
    "reach2, walk by paths": REACH2 | {"ot_sampler": "walk", "ot_reach2_weights": "count"},
    "noise on one view": {"ot_view_a": "mean:1-3", "ot_view_b": "noise:1-3", "ot_share": 0.5},
    "noise on both views": {"ot_view_a": "noise:0-2", "ot_view_b": "noise:1-3", "ot_noise": 0.3},
    "inner products": {"ot_normalize": False, "ot_share": 0.5, "ot_structure": "feature"},
}  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS)
def test_value_and_gradient_equal_the_slow_reference(setting: str) -> None:
    world = World(**SETTINGS[setting])
    objective = world.start()
    got, reference = world.term(), Reference(world)
    want = reference.term()
    assert_close(got, want, atol=1e-9, rtol=1e-9)
    inputs = [world.encoding.ego, *objective.parameters()]
    for mine, theirs in zip(
        *(torch.autograd.grad(value, inputs, retain_graph=True) for value in (got, want)), strict=True
    ):
        assert_close(mine, theirs, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_report_is_the_mean_distance_of_positives_and_negatives(share: float) -> None:
    world = World(ot_share=share, ot_sides="joint", ot_negatives=["view_b"])
    objective = world.start()
    world.term()
    reference = Reference(world)
    reference.term()
    report = objective.report()
    error = report.pop("marginal_error")
    want = {
        f"{role}_{name}": float(torch.stack([d[name] for d in distances]).detach().mean())
        for role, distances in (("positive", reference.positives), ("negative", reference.negatives))
        for name in distances[0]
    }
    assert report.keys() == want.keys()
    assert_close(report, want, atol=1e-9, rtol=1e-9)
    assert error >= 0


def test_the_report_averages_over_the_batches_of_the_epoch_and_starts_anew() -> None:
    world = World(ot_sides="joint")
    objective = world.start()
    assert objective.report() == {}
    singles = []
    for _ in range(2):
        world.term()
        singles.append([float(values[-1]) for values in objective._seen.values()])
    first, second = ({key: row[i] for i, key in enumerate(objective._seen)} for row in singles)
    report = objective.report()
    assert_close(report["positive_wasserstein"], (first["positive_wasserstein"] + second["positive_wasserstein"]) / 2)
    assert report["marginal_error"] == max(first["marginal_error"], second["marginal_error"])
    assert world.start(1).report() == {}


@pytest.mark.parametrize(("n_iters", "is_off"), [(1, True), (2000, False)])
def test_a_plan_off_its_marginals_is_warned_about(n_iters: int, is_off: bool, caplog: pytest.LogCaptureFixture) -> None:
    world = World(ot_epsilon=0.02, ot_iters=n_iters)
    objective = world.start()
    world.term()
    with caplog.at_level(logging.WARNING):
        error = objective.report()["marginal_error"]
        objective.report()
    assert (error > 1e-2) == is_off
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (1 if is_off else 0)
    assert all("off their marginals" in text and "ot_iters" in text for text in messages)


VALUES: list[tuple[str, Any]] = [
    *((key, [value] if key == "ot_negatives" else value) for key, choices in CHOICES.items() for value in choices),
    *(("ot_view_a", text) for text in ("hop:0", "hop:-1", "mean:1-2", "next", "gat:0", "noise:0-2")),
    *(("ot_view_b", text) for text in ("hop:0", "hop:-1", "mean:1-2", "next", "gat:0", "noise:0-2")),
    ("ot_normalize", False),
    ("ot_negatives", ["view_a", "view_b"]),
    ("ot_centers", [2, 2]),
    ("ot_hop1", 0),
    ("ot_hop2", 0),
]


@pytest.mark.parametrize(("key", "value"), VALUES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_value_of_every_choice_gives_a_finite_gradient(key: str, value: Any, dtype: torch.dtype) -> None:  # noqa: ANN401
    both = {"ot_share": 0.5, "ot_threshold": 0.1, "ot_threshold_scope": "problem"}
    world = World(**both | BESIDE.get(str(value), {}) | {key: value})
    adjacency = world.graph.normalized_adjacency(dtype)
    ego = world.encoding.ego.detach().to(dtype).requires_grad_()
    world.encoding = PropagationView(adjacency, N_HOPS)(ego)
    world.objective.to(dtype)
    world.start()
    term = world.term()
    inputs = [ego, *world.objective.parameters()]
    assert term.dtype == dtype
    assert math.isfinite(float(term.detach()))
    for gradient in torch.autograd.grad(term, inputs, materialize_grads=True):
        assert gradient.isfinite().all()


def test_batches_are_redrawn_and_epochs_are_not() -> None:
    for resample, is_new in (("batch", True), ("epoch", False)):
        world = World(ot_resample=resample)
        world.start()
        first, second = world.term(), world.term()
        assert (first != second) == is_new
        world.start(1, SEED + 1)
        assert world.term() != first
        world.start(2, SEED)
        assert world.term() == first


def test_centers_are_never_isolated_and_views_see_only_sampled_nodes() -> None:
    world = World(ot_centers=[100, 100], ot_hop1=0, ot_hop2=1)
    isolated = (world.graph.degrees == 0).nonzero().flatten()
    pools = [pool for contrast in world.objective.pools for pool, _ in contrast]
    assert len(isolated) == 4
    assert not torch.isin(torch.cat(pools), isolated).any()
    world.start()
    (gradient,) = torch.autograd.grad(world.term(), world.encoding.ego)
    assert gradient[isolated].abs().sum() == 0


def test_separate_sides_are_the_sum_of_two_terms() -> None:
    world = World(ot_resample="epoch", ot_share=0.5)
    objective = world.start()
    total = world.term()
    draw, parts, first = objective._drawn, [], 0
    for others in draw.others:
        rows = slice(first, first + len(others))
        fields = (None if x is None else x[rows] for x in (draw.places, draw.mask, draw.adjacency))
        objective._drawn = type(draw)(draw.nodes, *fields, [others])
        parts.append(world.term())
        first = rows.stop
    assert len(parts) == 2
    assert_close(total, parts[0] + parts[1], atol=1e-12, rtol=1e-12)


def test_distance_contrast_weighs_the_kinds_of_distance() -> None:
    world = World(ot_share=0.25, ot_resample="epoch")
    world.start()
    terms = {}
    for weights in ((0.25, 0.75), (1.0, 0.0), (0.0, 1.0)):
        kinds = dict(zip(("wasserstein", "gromov"), weights, strict=True))
        temperatures = {"wasserstein": 0.1, "gromov": 0.1}
        world.objective.contrast = DistanceContrast(distance_infonce, temperatures, kinds, ("view_b",), 2)
        terms[weights] = world.term()
    assert_close(terms[0.25, 0.75], 0.25 * terms[1.0, 0.0] + 0.75 * terms[0.0, 1.0], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("solver", "outer", "inner"), [("ipot", 8, 1), ("sinkhorn", 1, 8)])
def test_the_keys_arrive_where_they_belong(solver: str, outer: int, inner: int) -> None:
    keys = {"ot_epsilon": 0.3, "ot_gw_epsilon": 0.7, "ot_plan_grad": "unroll", "ot_gw_plan": "wasserstein"}
    cost = {"ot_cost": "exp_cosine", "ot_cost_temperature": 0.4, "ot_threshold": 0.2, "ot_threshold_scope": "batch"}
    contrast = {"ot_temperature": 0.6, "ot_gw_temperature": 0.9, "ot_loss": "bce", "ot_negatives": ["view_a"]}
    world = World(ot_solver=solver, ot_share=0.25, ot_starts_at=3, ot_weight=0.5, **keys | cost | contrast)
    objective = world.objective
    geometry = Geometry("exp_cosine", 0.4, 0.2, "batch")
    assert objective.distance == TransportDistance(
        geometry,
        Solver(0.3, outer, inner, "unroll", cost_bound=geometry.bound),
        GromovSolver(0.7, outer=2, inner=4, traced_on="wasserstein"),
    )
    temperatures, weights = {"wasserstein": 0.6, "gromov": 0.9}, {"wasserstein": 0.75, "gromov": 0.25}
    assert objective.contrast == DistanceContrast(distance_bce, temperatures, weights, ("view_a",), 2)
    assert (objective.weight, objective.starts_at) == (0.5, 3)
    assert World(ot_share=0.0).objective.distance.gromov is None
    assert not World(ot_share=1.0).objective.distance.has_wasserstein


@pytest.mark.parametrize(
    ("overrides", "key", "problem"),
    [
        ({"ot_hop1": 0, "ot_hop2": 0}, "ot_hop1", "a subgraph needs a node besides its center"),
        ({"ot_centers": 5}, "ot_centers", r"separate needs \[users, items\], got 5"),
        ({"ot_centers": [5, 5, 5], "ot_sides": "joint"}, "ot_centers", r"\[users, items\] or one joint number"),
        ({"ot_centers": [0, 5]}, "ot_centers", "must be >= 1, got 0"),
        ({"ot_centers": [5, 1]}, "ot_centers", r"at least 2 centers, .* got \[5, 1\]"),
        ({"ot_centers": 1, "ot_sides": "joint"}, "ot_centers", r"at least 2 centers, .* got \[1\]"),
        ({"ot_threshold": 1.0, "ot_threshold_scope": "batch"}, "ot_threshold", "must be < 1, got 1.0"),
        ({"ot_negatives": []}, "ot_negatives", "must name view_a, view_b or both"),
        ({"ot_negatives": ["view_a", "view_a"]}, "ot_negatives", "once each"),
        ({"ot_cost": "cosin"}, "ot_cost", "did you mean 'cosine'"),
    ],
)
def test_values_that_do_not_fit_together_are_refused_by_name(overrides: dict[str, Any], key: str, problem: str) -> None:
    with pytest.raises(ParamError, match=f"{key}: .*{problem}"):
        transport_params(**overrides)


@pytest.mark.parametrize(
    ("overrides", "remark"),
    [
        ({"ot_starts_at": 30}, "ot_starts_at: 30 is not reached in 30 epochs"),
        ({"ot_hop1": 0, "ot_share": 0.5}, "ot_hop1: with 0 .* ot_structure: adjacency"),
    ],
)
def test_what_can_hardly_be_meant_is_said(overrides: dict[str, Any], remark: str) -> None:
    assert re.fullmatch(f"{remark}.*", "".join(transport_params(**overrides).remarks(30)))
    assert not transport_params(**overrides, ot_weight=0).remarks(30)
    assert not transport_params(ot_share=0.5, ot_starts_at=29).remarks(30)


def test_the_objective_lowers_the_distance_of_positives_relative_to_negatives() -> None:
    world = World(ot_resample="epoch", ot_negatives_per_center="all")
    objective = world.start()
    x = world.encoding.ego.detach().clone().requires_grad_()
    propagation = PropagationView(world.graph.normalized_adjacency(torch.float64), N_HOPS)
    optimizer = torch.optim.Adam([x], lr=0.05)
    gaps = []
    for _ in range(30):
        world.encoding = propagation(x)
        optimizer.zero_grad()
        world.term().backward()
        gaps.append(float(objective._seen["negative_wasserstein"][-1] - objective._seen["positive_wasserstein"][-1]))
        optimizer.step()
    assert gaps[-1] > gaps[0] + 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ot_threshold": 0.1, "ot_threshold_scope": "none"}, "ot_threshold: has no effect"),
        (
            {"ot_share": 0.5, "ot_cost": "exp_cosine", "ot_cost_temperature": 0.03},
            "ot_cost_temperature: must be >= 0.05",
        ),
        ({"ot_share": 1.0, "ot_structure": "adjacency", "ot_view_a": "gat:0"}, "ot_view_a: no gradient reaches"),
        ({"ot_sides": "separate", "ot_centers": 8}, r"ot_centers: ot_sides: separate needs \[users, items\]"),
        ({"ot_sides": "joint", "ot_centers": [1, 2, 3]}, "ot_centers: must be"),
        ({"ot_hop1": 0, "ot_hop2": 0}, "ot_hop1: a subgraph needs a node"),
        ({"ot_negatives": ["view_a", "view_a"]}, "ot_negatives: must name"),
        (
            {"ot_sampler": "cluster", "ot_sample_graph": "reach2"},
            "ot_sample_graph: ot_sampler: cluster reads no graph, got reach2; choose adjacency",
        ),
        (
            {"ot_sample_graph": "reach2", "ot_hop1": 3},
            "ot_hop1: ot_sample_graph: reach2 has two-hop nodes only, got 3; choose 0",
        ),
        ({"ot_reach2_weights": "count"}, "ot_reach2_weights: count has no effect without .*; choose binary"),
        ({"ot_reach2_weights": "count", "ot_structure": "reach2"}, "ot_reach2_weights: count has no effect"),
        ({"ot_sampler": "cluster", "ot_share": 0.5}, "ot_structure: .* have no edges, .*; choose reach2 or feature"),
        (REACH2 | {"ot_structure": "adjacency"}, "ot_structure: .* have no edges"),
        (
            {"ot_normalize": False, "ot_cost": "exp_cosine_shifted"},
            "ot_normalize: false puts inner products in place of cosines, which ot_cost: exp_cosine_shifted does not",
        ),
        (
            {"ot_share": 1.0, "ot_structure": "reach2", "ot_view_a": "gat:0"},
            "ot_view_a: no gradient .* ot_structure: reach2 and no view_a",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamError, match=message):
        transport_params(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"ot_sample_graph": "reach2", "ot_hop1": 0},  # no Gromov-Wasserstein, so the structure is not looked at
        {"ot_sampler": "cluster"},
        {"ot_sample_graph": "reach2", "ot_sampler": "bfs", "ot_hop1": 3, "ot_reach2_weights": "count"},
        {"ot_structure": "reach2"},
        {"ot_structure": "reach2", "ot_reach2_weights": "count", "ot_cost": "exp_cosine_shifted"},
        {"ot_noise": 5.0},
    ],
)
def test_inactive_keys_are_accepted(settings: dict[str, Any]) -> None:
    assert transport_params(**settings, ot_share=0.0)


def test_several_settings_that_make_no_sense_are_refused_at_once() -> None:
    cost = {"ot_normalize": False, "ot_cost": "exp_cosine"}
    with pytest.raises(ParamError, match="3 problems") as caught:
        transport_params(ot_sample_graph="reach2", ot_hop1=2, ot_share=0.5, **cost)
    assert all(f"\n  - {key}: " in str(caught.value) for key in ("ot_hop1", "ot_structure", "ot_normalize"))


def test_new_clusters_are_read_at_the_start_of_an_epoch() -> None:
    world = World(ot_sampler="cluster", ot_centers=[9, 12], ot_hop2=9)
    for clusters in (world.clusters, 1 - world.clusters.clamp(max=1)):
        world.clusters = clusters
        drawn = world.start()._draw()
        nodes = drawn.nodes[drawn.places]
        mask = torch.ones_like(nodes, dtype=torch.bool) if drawn.mask is None else drawn.mask
        same = clusters[nodes] == clusters[nodes[:, :1]]
        assert bool(same[mask].all())
        assert mask.sum() > len(mask)


def test_noise_views_draw_from_the_stream_of_the_epoch_alone() -> None:
    world = World(ot_view_b="noise:1-2", ot_resample="epoch")
    terms = []
    for seed in (SEED, SEED, SEED + 1):
        torch.manual_seed(len(terms))
        world.start(0, seed)
        terms.append([float(world.term().detach()) for _ in range(2)])
    assert terms[0] == terms[1]
    assert terms[0] != terms[2]
    assert terms[0][0] != terms[0][1]  # new noise on the same subgraphs


def test_the_pairs_are_plans_between_the_embeddings_of_two_subgraphs() -> None:
    world = World(ot_epsilon=0.5, ot_iters=200)
    objective = world.start()
    before = objective.generator.get_state()
    left, right = torch.tensor([1, 1, 12]), torch.tensor([1, 2, 14])
    found = objective.pairs(world.encoding, left, right, torch.Generator().manual_seed(3))
    assert isinstance(found, Pairs)
    assert torch.equal(objective.generator.get_state(), before)
    assert (found.left.nodes[:, 0].tolist(), found.right.nodes[:, 0].tolist()) == (left.tolist(), right.tolist())
    assert torch.equal(found.left.nodes[0], found.right.nodes[0])
    assert torch.equal(found.left.nodes[0], found.left.nodes[1])
    z_a, z_b = (
        view(world.encoding, torch.arange(world.graph.n_nodes)) for view in (objective.view_a, objective.view_b)
    )
    for pair in range(len(left)):
        rows, columns = found.left.nodes[pair], found.right.nodes[pair]
        for i, j in ((i, j) for i in range(len(rows)) for j in range(len(columns))):
            is_valid = bool(found.left.mask[pair, i] & found.right.mask[pair, j])
            cosine = torch.cosine_similarity(z_a[rows[i]], z_b[columns[j]], dim=0)
            assert_close(found.cost[pair, i, j], (1 - cosine) * is_valid)
        masses = found.plan.plan[pair]
        assert_close(masses.sum(1), found.left.mask[pair] / found.left.mask[pair].sum().double(), atol=1e-6, rtol=0)
        assert_close(masses.sum(0), found.right.mask[pair] / found.right.mask[pair].sum().double(), atol=1e-6, rtol=0)
