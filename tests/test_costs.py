import math

import pytest
import torch
from torch.testing import assert_close

from recmodels.costs import Masks, check_choice, cosine_cost, exp_cosine_cost, threshold_cost
from recmodels.errors import ParamError


def pair(n=4, m=5, d=3, n_problems=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(n * 100 + m)
    x = torch.randn(n_problems, n, d, generator=generator, dtype=dtype)
    return x, torch.randn(n_problems, m, d, generator=generator, dtype=dtype)


def cosine_by_loop(x, y):
    out = torch.zeros(len(x), x.shape[1], y.shape[1], dtype=x.dtype)
    for k, i, j in torch.cartesian_prod(*(torch.arange(size) for size in out.shape)).tolist():
        dot = sum(a * b for a, b in zip(x[k, i].tolist(), y[k, j].tolist(), strict=True))
        out[k, i, j] = dot / (math.hypot(*x[k, i].tolist()) * math.hypot(*y[k, j].tolist()))
    return out


def test_cosine_cost_is_one_minus_the_cosine_of_each_pair():
    x, y = pair()
    assert_close(cosine_cost(x, y), 1 - cosine_by_loop(x, y))


def test_cosine_cost_is_zero_for_parallel_one_for_orthogonal_two_for_opposite():
    x = torch.tensor([[[2.0, 0.0]]])
    y = torch.tensor([[[5.0, 0.0], [0.0, 0.1], [-3.0, 0.0]]])
    assert cosine_cost(x, y).tolist() == [[[0.0, 1.0, 2.0]]]


def test_cosine_cost_stays_in_its_range_in_float32():
    x, _ = pair(n=40, d=64, dtype=torch.float32)
    cost = torch.cat([cosine_cost(x, x), cosine_cost(x, -x)])
    assert cost.min() == 0
    assert cost.max() == 2


def test_cost_ignores_the_length_of_vectors():
    x, y = pair()
    assert_close(cosine_cost(x * 1e-8, y * 1e8), cosine_cost(x, y))


@pytest.mark.parametrize("shifted", [False, True])
def test_exp_cosine_cost_is_the_exponential_of_each_pair(shifted):
    x, y = pair()
    cosine = cosine_by_loop(x, y)
    least = cosine.flatten(1).min(1).values.view(-1, 1, 1) if shifted else 0
    assert_close(exp_cosine_cost(x, y, 0.3, shifted), ((least - cosine) / 0.3).exp())


def test_shifted_cost_has_maximum_one_in_each_problem_at_any_temperature():
    x, y = pair(dtype=torch.float32)
    cost = exp_cosine_cost(x, y, 1e-4, shifted=True)
    assert cost.amax((1, 2)).tolist() == [1.0, 1.0]
    assert cost.isfinite().all()


def test_shifted_cost_does_not_see_padding_and_leaves_it_finite():
    x, y = pair()
    masks = Masks(rows=torch.tensor([[True, True, True, False]] * 2), columns=torch.ones(2, 5, dtype=torch.bool))
    x[:, 3] = -y[:, 0]  # the padded row would hold the largest exponent
    x.requires_grad_()
    cost = exp_cosine_cost(x, y, 0.01, shifted=True, masks=masks)
    assert_close(cost[:, :3], exp_cosine_cost(x[:, :3], y, 0.01, shifted=True))
    assert cost.isfinite().all()
    cost.sum().backward()
    assert x.grad.isfinite().all()
    assert not x.grad[:, 3].any()


@pytest.mark.parametrize("cost", [cosine_cost, lambda x, y: exp_cosine_cost(x, y, 0.1)])
def test_a_zero_vector_has_cosine_zero_and_gradient_zero(cost):
    x, y = pair(dtype=torch.float32)
    x[:, 1] = 0
    x.requires_grad_()
    out = cost(x, y)
    assert (out[:, 1] == 1).all()
    out.square().sum().backward()
    assert not x.grad[:, 1].any()
    assert x.grad.isfinite().all()
    assert x.grad[:, 0].any()


@pytest.mark.parametrize(
    "cost",
    [
        cosine_cost,
        lambda x, y: exp_cosine_cost(x, y, 0.5),
        lambda x, y: exp_cosine_cost(x, y, 0.5, shifted=True),
        lambda x, y: threshold_cost(cosine_cost(x, y), 0.3, "problem"),
        lambda x, y: threshold_cost(cosine_cost(x, y), 0.3, "batch"),
    ],
)
def test_gradients_of_costs_agree_with_finite_differences(cost):
    x, y = pair()
    assert torch.autograd.gradcheck(cost, (x.requires_grad_(), y.requires_grad_()))


@pytest.mark.parametrize("scope", ["problem", "batch"])
def test_threshold_cuts_the_lowest_part_of_the_range(scope):
    cost = cosine_cost(*pair(n_problems=3))
    expected = torch.zeros_like(cost)
    for k in range(3):
        seen = (cost[k] if scope == "problem" else cost).flatten().tolist()
        level = min(seen) + 0.3 * (max(seen) - min(seen))
        for i, j in torch.cartesian_prod(torch.arange(4), torch.arange(5)).tolist():
            expected[k, i, j] = max(0.0, float(cost[k, i, j]) - level)
    assert_close(threshold_cost(cost, 0.3, scope), expected)


def test_threshold_none_returns_the_cost_itself():
    cost = cosine_cost(*pair())
    assert threshold_cost(cost, 0.3, "none") is cost


@pytest.mark.parametrize("scope", ["problem", "batch"])
def test_threshold_does_not_see_padding_and_zeroes_it(scope):
    cost = cosine_cost(*pair(n=3, m=3))
    padded = torch.full((2, 4, 5), math.nan, dtype=cost.dtype)
    padded[:, :3, :3] = cost
    padded.requires_grad_()
    masks = Masks(torch.tensor([[True] * 3 + [False]] * 2), torch.tensor([[True] * 3 + [False] * 2] * 2))
    out = threshold_cost(padded, 0.3, scope, masks)
    assert_close(out[:, :3, :3], threshold_cost(cost, 0.3, scope))
    assert out.count_nonzero() == out[:, :3, :3].count_nonzero()
    out.sum().backward()
    assert padded.grad.isfinite().all()
    assert padded.grad.count_nonzero() == padded.grad[:, :3, :3].count_nonzero()


def test_threshold_of_one_problem_depends_on_the_others_only_in_the_batch_scope():
    cost = cosine_cost(*pair())
    changed = torch.stack([cost[0], cost[1] * 9])
    assert torch.equal(threshold_cost(cost, 0.3, "problem")[0], threshold_cost(changed, 0.3, "problem")[0])
    assert not torch.equal(threshold_cost(cost, 0.3, "batch")[0], threshold_cost(changed, 0.3, "batch")[0])


def test_masks_pair_rows_with_columns():
    rows, columns = torch.tensor([[True, False]]), torch.tensor([[True, True, False]])
    assert Masks().pairs is None
    assert Masks(rows, columns).pairs.tolist() == [[[True, True, False], [False, False, False]]]
    assert Masks(rows).pairs.expand(1, 2, 3).tolist() == [[[True] * 3, [False] * 3]]
    assert Masks(columns=columns).pairs.expand(1, 2, 3).tolist() == [[[True, True, False]] * 2]


def test_masks_clean_whatever_stands_in_the_padding():
    matrix = torch.tensor([[[1.0, math.nan], [math.inf, math.nan]]])
    masks = Masks(torch.tensor([[True, False]]), torch.tensor([[True, False]]))
    assert masks.clean(matrix).tolist() == [[[1.0, 0.0], [0.0, 0.0]]]
    assert Masks().clean(matrix) is matrix


def test_errors_name_value_and_bound():
    x, y = pair(dtype=torch.float32)
    with pytest.raises(ParamError, match=r"exceed 0.01127 in torch.float32, got 0.01 .*shifted"):
        exp_cosine_cost(x, y, 0.01)
    with pytest.raises(ParamError, match="exceed 0 .*got 0.0"):
        exp_cosine_cost(x, y, 0.0, shifted=True)
    with pytest.raises(ParamError, match=r"scope 'problm', expected one of .*; nearest: 'problem'"):
        threshold_cost(x, 0.1, "problm")
    with pytest.raises(ParamError, match=r"fraction must lie in \[0, 1\], got 1.5"):
        threshold_cost(x, 1.5, "problem")
    with pytest.raises(ParamError, match="here: unknown color 'zzz', expected one of .*; nearest: 'red'"):
        check_choice("here", "color", "zzz", ["red"])
