"""Weighted sums over the edges of a graph whose weights come from the nodes: attention, without a row for each edge."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# As PyG's softmax, which this one equals.
_TINY = 1e-16


def attention_sum(
    values: Tensor, source_scores: Tensor, target_scores: Tensor, source: Tensor, target: Tensor, slope: float
) -> Tensor:
    """For every target the mean of its sources' values, weighted by a softmax over its edges.

    The weight of an edge is the softmax of `leaky_relu(source_scores[source] + target_scores[target])` over the edges
    of its target. Memory is O(E) numbers beside those of the nodes: sums are sparse products, and so are gradients.

    Args:
        values: (N, d), float32 or float64.
        source_scores: (N,), the same dtype.
        target_scores: (M,), the same dtype.
        source: (E,) int64 in [0, N).
        target: (E,) int64 in [0, M), ascending; every target has an edge.
        slope: of the leaky ReLU below 0.

    Returns:
        (M, d), differentiable once in values and scores.

    Source: Velickovic et al. 2018 (GAT), eqs. 1 to 4 for one head. Verified: test_views.py, test_attention.py (PyG's
    GATConv, gradcheck).
    """
    # Not by plain indexing, whose gradient is added up in the order of the threads.
    scores = F.leaky_relu(source_scores.index_select(0, source) + target_scores.index_select(0, target), slope)
    n = len(target_scores)
    top = scores.new_full((n,), -torch.inf).scatter_reduce(0, target, scores.detach(), "amax")
    raw = (scores - top[target]).exp()
    total = raw.new_zeros(n).index_add(0, target, raw)
    result: Tensor = _WeightedSum.apply(raw / (total.index_select(0, target) + _TINY), values, source, target, n)
    return result


class _WeightedSum(torch.autograd.Function):
    """(E,) weights and (N, d) values to the (M, d) weighted sums."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, values: Tensor, source: Tensor, target: Tensor, n: int) -> Tensor:  # noqa: ANN401
        indptr = _indptr(target, n)
        ctx.save_for_backward(weights, values, source, target, indptr)
        return _csr(indptr, source, weights, len(values)) @ values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:  # noqa: ANN401
        (gradient,) = gradients
        weights, values, source, target, indptr = ctx.saved_tensors
        # 32 bits sort in half the time.
        order = source.int().argsort(stable=True)
        transposed = _csr(_indptr(source, len(values)), target[order], weights[order], len(gradient))
        pattern = _csr(indptr, source, torch.zeros_like(weights), len(values))
        dots = torch.sparse.sampled_addmm(pattern, gradient.contiguous(), values.mT, beta=0.0).values()
        return dots, transposed @ gradient, None, None, None


def _indptr(rows: Tensor, n: int) -> Tensor:
    return F.pad(torch.bincount(rows, minlength=n).cumsum(0), (1, 0))


def _csr(indptr: Tensor, columns: Tensor, values: Tensor, n_columns: int) -> Tensor:
    size = (len(indptr) - 1, n_columns)
    return torch.sparse_csr_tensor(indptr, columns, values, size=size, check_invariants=False)
