"""Attention over edges against PyG, loops and finite differences."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torch_geometric.nn import GATConv

from recmodels.attention import attention_sum

SLOPE = 0.2


def _problem(seed: int, n: int = 7, m: int = 5, n_edges: int = 12) -> tuple[Tensor, ...]:
    """Values, scores of both ends, and edges that leave no target out; some occur twice."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    scores = [torch.randn(k, generator=generator, dtype=torch.float64) for k in (n, m)]
    target = torch.cat([torch.arange(m), torch.randint(m, (n_edges,), generator=generator)]).sort().values
    return values, *scores, torch.randint(n, (len(target),), generator=generator), target


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), n_edges=st.integers(0, 30))
def test_it_is_the_softmax_mean_of_a_loop(seed: int, n_edges: int) -> None:
    values, of_source, of_target, source, target = _problem(seed, n_edges=n_edges)
    got = attention_sum(values, of_source, of_target, source, target, SLOPE)
    for t in range(len(of_target)):
        edges = source[target == t]
        weights = F.leaky_relu(of_source[edges] + of_target[t], SLOPE).softmax(0)
        assert_close(got[t], weights @ values[edges])


def test_its_gradients_are_finite_differences() -> None:
    values, of_source, of_target, source, target = _problem(3)
    inputs = [x.requires_grad_() for x in (values, of_source, of_target)]
    assert torch.autograd.gradcheck(lambda *x: attention_sum(*x, source, target, SLOPE), inputs)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e8])
def test_large_scores_are_pygs_too_and_stay_finite(scale: float) -> None:
    layer = GATConv(3, 3, add_self_loops=False, bias=False)
    values, _, _, source, target = _problem(1)
    x = values.float() * scale
    h = layer.lin(x)
    scores = h @ layer.att_src.flatten(), h[:5] @ layer.att_dst.flatten()
    got = attention_sum(h, *scores, source, target, layer.negative_slope)
    assert_close(got, layer((x, x[:5]), torch.stack([source, target])), rtol=1e-4, atol=1e-5 * scale)
    for gradient in torch.autograd.grad(got.sum(), list(layer.parameters())):
        assert gradient.isfinite().all()
