"""Adaptive tables against dense ones with a mask; sizes against the formulas of the design."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from recmodels.tables import INITIALIZATIONS, AdaptiveTable, PlainTable, TransformedTable
from recmodels.tables.alignment import Transform, ZeroPad
from recmodels.tables.pruned import PrunedTable
from tests.conftest import random_graph

GRAPH = random_graph(n_users=21, n_items=31)
D = 16
WIDTHS = torch.randint(1, D + 1, (GRAPH.n_nodes,), generator=torch.Generator().manual_seed(3))
START = INITIALIZATIONS["xavier_uniform"](GRAPH, D, torch.Generator().manual_seed(0))


def _table(widths: Tensor = WIDTHS, **options: bool) -> AdaptiveTable:
    return AdaptiveTable(GRAPH, widths, lambda width: START[:, :width], D, **options)


def _sides(widths: Tensor) -> tuple[Tensor, ...]:
    return widths.split([GRAPH.n_users, GRAPH.n_items])


def _count(table: torch.nn.Module) -> int:
    return sum(p.numel() for p in table.parameters())


def test_zero_padding_is_a_dense_table_under_a_mask_in_value_and_gradient() -> None:
    table, dense = _table(), START.clone().requires_grad_()
    mask = torch.arange(D) < WIDTHS[:, None]
    masked = dense * mask
    assert table().equal(masked)
    pull = torch.randn(GRAPH.n_nodes, D, generator=torch.Generator().manual_seed(1))
    (table() * pull).sum().backward()
    (masked * pull).sum().backward()
    assert sum(w.grad.sum() for w in table.weights) == pytest.approx(float(dense.grad.sum()), abs=1e-4)
    moved = _table()
    with torch.no_grad():
        for weight, source in zip(moved.weights, table.weights, strict=True):
            weight.sub_(source.grad)
    assert_close(moved(), (dense - dense.grad).detach() * mask, atol=0, rtol=0)


def test_all_rows_of_full_width_are_the_plain_table() -> None:
    plain = PlainTable(GRAPH, D, "xavier_uniform", torch.Generator().manual_seed(0))
    full = torch.full((GRAPH.n_nodes,), D)
    for options in ({}, {"has_transform": True}, {"has_norm": True}, {"has_transform": True, "has_norm": True}):
        assert _table(full, **options)().equal(plain())
        assert _count(_table(full, **options)) == GRAPH.n_nodes * D


def test_a_transform_starts_as_zero_padding_and_can_leave_it() -> None:
    table = _table(has_transform=True)
    assert_close(table(), _table()(), atol=1e-6, rtol=0)
    table().square().sum().backward()
    transforms = [module for module in table.modules() if isinstance(module, Transform)]
    assert transforms
    assert all(isinstance(align, ZeroPad) for align in _table().alignments)
    assert all(module.weight.grad.abs().sum() > 0 for module in transforms)


@pytest.mark.parametrize("has_norm", [False, True])
def test_it_stores_what_the_formulas_say(has_norm: bool) -> None:
    narrow = [set(of[of < D].tolist()) for of in _sides(WIDTHS)]
    norms = 2 * D * 2 * has_norm
    assert _count(_table(has_norm=has_norm)) == int(WIDTHS.sum()) + norms
    transforms = sum(width * D for of in narrow for width in of)
    assert _count(_table(has_transform=True, has_norm=has_norm)) == int(WIDTHS.sum()) + transforms + norms


def test_its_state_is_no_larger_than_its_rows_and_two_bytes_a_node() -> None:
    state = _table().state_dict()
    assert sum(value.nbytes for value in state.values()) == 4 * int(WIDTHS.sum()) + 2 * GRAPH.n_nodes


def test_widths_beyond_two_bytes_are_kept() -> None:
    graph = random_graph(n_users=2, n_items=2)
    widths = torch.full((graph.n_nodes,), 40_000)
    table = AdaptiveTable(graph, widths, lambda width: torch.zeros(graph.n_nodes, width), 40_000)
    assert table.widths.tolist() == widths.tolist()


def test_the_norm_is_shared_by_the_narrow_rows_of_a_side_at_the_scale_of_the_start() -> None:
    widths = WIDTHS.clone()
    widths[GRAPH.n_users :] = D
    table = _table(widths, has_norm=True)
    assert list(table.norms) == ["user"]
    narrow = widths < D
    assert_close(
        table()[narrow].std(1, correction=0),
        torch.full((int(narrow.sum()),), float(table.norms["user"].weight.detach()[0])),
        atol=1e-4,
        rtol=0.05,
    )
    assert 0.5 < float(table()[narrow].std() / START[: GRAPH.n_users].std()) < 2
    assert table()[~narrow].equal(START[~narrow])


def test_a_state_dict_restores_it_and_one_of_other_widths_is_refused() -> None:
    source, target = _table(has_transform=True), _table(has_transform=True)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1)
    assert not target().equal(source())
    target.load_state_dict(source.state_dict())
    assert target().equal(source())
    with pytest.raises(RuntimeError, match="widths: of a table whose nodes have other widths; make it with those"):
        _table(WIDTHS.flip(0)).load_state_dict(_table().state_dict())


def test_a_state_dict_of_the_same_shapes_in_which_others_have_the_widths_is_refused() -> None:
    one = torch.where(torch.arange(GRAPH.n_nodes) % 2 == 0, 4, D)
    users, items = one[: GRAPH.n_users].roll(2), one[GRAPH.n_users :]
    users[[1, 2]] = users[[2, 1]]
    other = torch.cat([users, items])
    assert sorted(other.tolist()) == sorted(one.tolist())
    source, target = _table(one), _table(other)
    assert [w.shape for w in source.weights] == [w.shape for w in target.weights]
    before = target().detach().clone()
    for _ in range(2):  # nothing is loaded, so it is refused again
        with pytest.raises(RuntimeError, match="widths: of a table whose nodes have other widths"):
            target.load_state_dict({name: value + 1 for name, value in source.state_dict().items()} | {"widths": one})
        assert target().equal(before)
        assert target.widths.tolist() == other.tolist()
    mask = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    with pytest.raises(RuntimeError, match="bits: of a table whose nodes have other bits"):
        PrunedTable(torch.ones(4, 3), mask).load_state_dict(PrunedTable(torch.ones(4, 3), mask.flip(0)).state_dict())


def test_its_repr_says_how_many_rows_have_which_width() -> None:
    widths = torch.where(torch.arange(GRAPH.n_nodes) % 2 == 0, 4, D)
    assert "11 of width 4, 10 of width 16, 15 of width 4, 16 of width 16" in repr(_table(widths))
    assert "..." in repr(_table())


def test_nothing_is_for_a_picker() -> None:
    assert list(_table().picker_parameters()) == list(TransformedTable(START.clone()).picker_parameters()) == []


def test_a_transformed_table_is_two_maps_with_one_norm() -> None:
    table = TransformedTable(START.clone())
    hidden = table.norm(torch.relu(table.weight @ table.first.weight.T + table.first.bias))
    want = table.norm(hidden @ table.second.weight.T + table.second.bias)
    assert_close(table(), want)
    assert_close(float(table().std()), float(START.std()), rtol=0.1, atol=0)
    assert _count(table) == GRAPH.n_nodes * D + 2 * (D * D + D) + 2 * D
