"""The two hot kernels: sparse propagation and the streaming contrast; and a deterministic row gather."""

import math
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recmodels.adjacency import Adjacency

# Bytes of one block's similarities; there are two such buffers for each block. On a CPU a core's block should stay in
# its last-level cache; a GPU starves on little.
_SIMILARITY_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}
# Each round passes over all candidates and their gradients, which fewer anchors than this would not pay for; unless
# their similarities alone take more than the bytes below.
_FEWEST_ROWS, _MOST_SIMILARITY_BYTES = 64, 256 << 20
# Bytes of the candidates' gradients of all cores, each of which adds up its own.
_GRADIENT_BYTES = 256 << 20
# Bytes of a row of the columns that a sparse product takes at once on a CPU. Of a few thousand nodes a core's own cache
# holds 128 a row. Of a tile it does not, so narrow blocks would only read the indices more often.
_COLUMN_BYTES, _TILED_COLUMN_BYTES = 128, 256


def gather(x: Tensor, ids: Tensor) -> Tensor:
    """Rows `ids` of `x`, with a backward pass that adds repeated rows in a fixed order.

    Plain indexing accumulates with atomics on several CPU threads and is then not reproducible.

    Args:
        x: (N, d).
        ids: any shape, int64 in [0, N).

    Returns:
        ids.shape + (d,).
    """
    return F.embedding(ids, x)


def propagate(adjacency: Adjacency, x: Tensor) -> Tensor:
    """One hop: the sparse product of the adjacency and the embeddings.

    The backward pass multiplies by the stored transpose, the same matrix when it is symmetric; nothing is coalesced
    or converted. Differentiable any number of times with respect to `x`; the adjacency is a constant. Under autocast
    the product stays in the adjacency's dtype, since no half-precision sparse product exists.

    Args:
        adjacency: (N, N), floating.
        x: (N, d).

    Returns:
        (N, d) in the adjacency's dtype.

    Source: He et al. 2020 (LightGCN), eq. 7.
    """
    return _Propagate.apply(x, adjacency, False)


class _Propagate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, adjacency: Adjacency, is_transposed: bool) -> Tensor:  # noqa: ANN401
        ctx.adjacency, ctx.is_transposed, ctx.dtype = adjacency, is_transposed, x.dtype
        chosen = adjacency.transpose if is_transposed else adjacency
        with torch.autocast(x.device.type, enabled=False):
            return _product(chosen, x.to(chosen.values.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        return _Propagate.apply(grad, ctx.adjacency, not ctx.is_transposed).to(ctx.dtype), None, None


def _product(adjacency: Adjacency, x: Tensor) -> Tensor:
    """The sparse product; on a CPU in parts, so that a cache holds the rows that are gathered.

    Parts are tiles of the matrix and blocks of columns of x. What it gives is that of one product, to rounding.
    """
    if x.device.type != "cpu":
        return adjacency.matrix() @ x
    product, sides = x.new_empty(x.shape), adjacency.sides()
    is_tiled = any(len(tiles) > 1 for _, tiles in sides)
    width = (_TILED_COLUMN_BYTES if is_tiled else _COLUMN_BYTES) // x.element_size()
    for first in range(0, x.shape[1], width):
        columns = slice(first, first + width)
        block = x[:, columns].contiguous()
        for rows, tiles in sides:
            out = product[rows, columns]
            torch.mm(tiles[0], block, out=out)
            for tile in tiles[1:]:
                torch.addmm(out, tile, block, out=out)
    return product


def kth_largest_score(anchors: Tensor, candidates: Tensor, k: int) -> Tensor:
    """Each anchor's k-th largest inner product with the candidates; block by block, without gradients.

    Args:
        anchors: (B, d).
        candidates: (M, d), M >= 1.
        k: >= 1; more than M is M, the smallest.

    Returns:
        (B,), in the widest dtype of both and float32, also under autocast.
    """
    dtype = _widest(anchors, candidates)
    anchors, candidates = anchors.to(dtype), candidates.to(dtype)
    budget = _SIMILARITY_BYTES.get(anchors.device.type, _SIMILARITY_BYTES["cpu"])
    rows = max(1, budget // (candidates.shape[0] * candidates.element_size()))
    with torch.no_grad(), torch.autocast(anchors.device.type, enabled=False):
        blocks = anchors.split(rows)
        return torch.cat([(block @ candidates.T).topk(min(k, len(candidates))).values[:, -1] for block in blocks])


def _widest(*inputs: Tensor) -> torch.dtype:
    """The widest of their dtypes and float32: sums over nodes have no room in float16."""
    return reduce(torch.promote_types, (x.dtype for x in inputs), torch.float32)


def weighted_infonce_sum(
    anchors: Tensor, positives: Tensor, candidates: Tensor, row_weights: Tensor, temperature: float
) -> Tensor:
    """Weighted sum of InfoNCE terms, streamed over blocks of anchors.

    `sum_i w_i [logsumexp_j(a_i . c_j / T) - a_i . p_i / T]`. Value and gradients come out of one sweep, because the row
    weights are known in the forward pass; no (B, M) matrix outlives its block, so memory is O(B d + cores (M d +
    block)). Differentiable once with respect to anchors, positives and candidates. On a CPU the number of threads
    decides the order in which the candidates' gradient is added up, so it decides the last bits.

    Args:
        anchors: (B, d), usually of unit length; repeated anchors should be given once with their count as weight.
        positives: (B, d), the partner of each anchor; the caller sees to it that it is among the candidates.
        candidates: (M, d), the denominator, including the positives.
        row_weights: (B,), constants.
        temperature: > 0, dimensionless.

    Returns:
        Scalar, in the widest dtype of the first three and float32, also under autocast.

    Raises:
        ValueError: temperature <= 0, no candidate, or shapes that do not fit.
        RuntimeError: from a backward pass that is to be differentiated again (`create_graph=True`).

    Source: van den Oord et al. 2018, eq. 4; Lin et al. 2022 (NCL), eqs. 7 and 11. Verified: test_kernels.py
    (brute force in float64, gradcheck).
    """
    _check_contrast(anchors, positives, candidates, row_weights, temperature)
    inputs = anchors, positives, candidates
    if not torch.is_grad_enabled():  # the function below cannot see this, and would compute gradients
        inputs = anchors.detach(), positives.detach(), candidates.detach()
    return _WeightedInfoNCESum.apply(*inputs, row_weights, temperature)


def _check_contrast(a: Tensor, p: Tensor, c: Tensor, w: Tensor, temperature: float) -> None:
    if not temperature > 0:  # NaN is refused too
        raise ValueError(f"weighted_infonce_sum: temperature must be > 0, got {temperature}")
    fits = a.dim() == c.dim() == 2 and a.shape == p.shape and a.shape[1] == c.shape[1] and w.shape == a.shape[:1]
    if not fits or not c.numel():
        got = ", ".join(str(tuple(x.shape)) for x in (a, p, c, w))
        raise ValueError(f"weighted_infonce_sum: expected (B, d), (B, d), (M, d), (B,) with M, d >= 1; got {got}")


class _WeightedInfoNCESum(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: ANN401
        ctx: Any, anchors: Tensor, positives: Tensor, candidates: Tensor, row_weights: Tensor, temperature: float
    ) -> Tensor:
        with torch.autocast(anchors.device.type, enabled=False):
            inputs = anchors, positives, candidates
            dtype = _widest(*inputs)
            a, p, c, w = (x.to(dtype) for x in (*inputs, row_weights))
            value, grads = _sweep(a, p, c, w, temperature, tuple(ctx.needs_input_grad[:3]))
        ctx.save_for_backward(*grads)
        ctx.dtypes = tuple(x.dtype for x in inputs)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        if torch.is_grad_enabled():  # torch's own once_differentiable is silent where `grad` is a constant
            raise RuntimeError("weighted_infonce_sum: differentiable once, got create_graph=True")
        found = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return (*(None if g is None else (grad * g).to(dtype) for g, dtype in found), None, None)


def _sweep(
    a: Tensor, p: Tensor, c: Tensor, w: Tensor, temperature: float, needs: tuple[bool, bool, bool]
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """Value, and the gradients of a, p and c where they are wanted, round by round of a block of anchors per core.

    The softmax of a row is its gradient, and its largest entry is exp(peak - logsumexp) >= 1 / M, so the value needs no
    exponential of its own. Weights and temperature multiply the (B, d) sides, never the similarities. MKL's batched
    products and torch's softmax both give a block to one core, whose cache then holds it from the first product to the
    last.
    """
    scale = (w / temperature)[:, None]
    weighted = scale * a
    n_blocks, rows = _blocks(a.shape[0], c, needs[2])
    queries, weights = (_in_rounds(side, n_blocks, rows) for side in (a / temperature, weighted))
    keys = c.expand(n_blocks, -1, -1)
    logits, share = a.new_empty(2, n_blocks, rows, c.shape[0])  # one pair of buffers for all rounds
    normalizers = a.new_empty(queries.shape[:-1])
    mean = torch.empty_like(queries) if needs[0] else None
    sums = c.new_zeros(n_blocks, *c.shape) if needs[2] else None
    for i, block in enumerate(queries):
        torch.bmm(block, keys.mT, out=logits)
        torch.softmax(logits, -1, out=share)
        torch.sub(logits.amax(-1), share.amax(-1).log(), out=normalizers[i])
        if mean is not None:
            torch.bmm(share, keys, out=mean[i])
        if sums is not None:
            sums.baddbmm_(share.mT, weights[i])
    value = (w * (_rows(normalizers, a) - (a * p).sum(-1) / temperature)).sum()
    grad_a = None if mean is None else scale * (_rows(mean, a) - p)
    grad_c = None if sums is None else sums.sum(0) if n_blocks > 1 else sums[0]
    return value, (grad_a, -weighted if needs[1] else None, grad_c)


def _blocks(n_anchors: int, candidates: Tensor, needs_gradient: bool) -> tuple[int, int]:
    """How many blocks are worked on at once, one a core, and the anchors of each; even over all rounds."""
    device, row_bytes = candidates.device.type, candidates.shape[0] * candidates.element_size()
    n_blocks = torch.get_num_threads() if device == "cpu" else 1
    if needs_gradient:
        n_blocks = max(1, min(n_blocks, _GRADIENT_BYTES // (row_bytes * candidates.shape[1])))
    budget = _SIMILARITY_BYTES.get(device, _SIMILARITY_BYTES["cpu"])
    most = max(budget // row_bytes, min(_FEWEST_ROWS, _MOST_SIMILARITY_BYTES // row_bytes), 1)
    n_rounds = max(1, math.ceil(n_anchors / (n_blocks * most)))
    return n_blocks, max(1, math.ceil(n_anchors / (n_blocks * n_rounds)))


def _in_rounds(side: Tensor, n_blocks: int, rows: int) -> Tensor:
    """(B, d) as (rounds, blocks, rows, d), filled up with zeros."""
    return F.pad(side, (0, 0, 0, -side.shape[0] % (n_blocks * rows))).view(-1, n_blocks, rows, side.shape[1])


def _rows(in_rounds: Tensor, side: Tensor) -> Tensor:
    """The rows of `side` out of what was computed in rounds."""
    return in_rounds.flatten(0, 2)[: side.shape[0]]
