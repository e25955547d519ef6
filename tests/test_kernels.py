import copy
import re
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from recmodels import kernels, tiling
from recmodels.adjacency import Adjacency
from recmodels.kernels import gather, kth_largest_score, propagate, weighted_infonce_sum
from recmodels.losses import infonce
from tests.conftest import random_graph


def _problem(dtype, n_anchors=37, n_candidates=23, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    make = lambda rows: F.normalize(torch.randn(rows, width, generator=generator, dtype=dtype), dim=-1)  # noqa: E731
    anchors, candidates = make(n_anchors), make(n_candidates)
    positives = candidates[torch.randint(n_candidates, (n_anchors,), generator=generator)]
    weights = torch.randint(1, 4, (n_anchors,), generator=generator).to(dtype)
    return [t.clone().requires_grad_() for t in (anchors, positives, candidates)], weights


def _agrees_with_the_dense_one(inputs, weights, temperature, atol, rtol):
    value = weighted_infonce_sum(*inputs, weights, temperature)
    oracle_inputs = [t.detach().double().requires_grad_() for t in inputs]
    oracle = (weights.double() * infonce(*oracle_inputs, temperature)).sum()
    assert_close(value.double(), oracle, atol=atol, rtol=rtol)
    for got, want in zip(
        torch.autograd.grad(value * 3, inputs), torch.autograd.grad(oracle * 3, oracle_inputs), strict=True
    ):
        scale = want.norm() if want.any() else 1.0  # one candidate leaves no gradient
        assert_close(got.double() / scale, want / scale, atol=atol, rtol=0)


@pytest.mark.parametrize(("dtype", "atol", "rtol"), [(torch.float64, 1e-10, 1e-10), (torch.float32, 1e-5, 1e-5)])
@pytest.mark.parametrize("temperature", [0.01, 0.1, 2.0])
@pytest.mark.parametrize("n_cores", [1, 2, 5])
def test_streaming_contrast_equals_the_dense_one_in_value_and_gradient(
    dtype, atol, rtol, temperature, n_cores, monkeypatch
):
    monkeypatch.setitem(kernels._SIMILARITY_BYTES, "cpu", 1)
    monkeypatch.setattr(kernels, "_FEWEST_ROWS", 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_cores)
    inputs, weights = _problem(dtype)
    n_blocks, rows = kernels._blocks(37, inputs[2], needs_gradient=True)
    assert n_blocks == n_cores
    assert n_blocks * rows < 37 < 37 + -37 % (n_blocks * rows)  # several rounds, the last one short
    _agrees_with_the_dense_one(inputs, weights, temperature, atol, rtol)


@pytest.mark.parametrize(("n_anchors", "n_candidates", "width"), [(1, 1, 1), (1, 9, 4), (9, 1, 4), (700, 900, 16)])
@pytest.mark.parametrize("n_cores", [1, 3])
def test_streaming_contrast_takes_any_size(n_anchors, n_candidates, width, n_cores, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_cores)
    inputs, weights = _problem(torch.float64, n_anchors, n_candidates, width)
    _agrees_with_the_dense_one(inputs, weights, 0.2, 1e-10, 1e-10)


def test_streaming_contrast_takes_strided_inputs():
    inputs, weights = _problem(torch.float64)
    strided = [t.detach().repeat_interleave(2, 1)[:, ::2].requires_grad_() for t in inputs]
    assert not strided[0].is_contiguous()
    _agrees_with_the_dense_one(strided, weights, 0.2, 1e-10, 1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_the_inputs_and_the_gradients_only(dtype):
    inputs, weights = _problem(torch.float32)
    halved = [t.detach().to(dtype).requires_grad_() for t in inputs]
    with torch.autocast("cpu", torch.bfloat16):
        value = weighted_infonce_sum(*halved, weights, 0.2)
    assert value.dtype == torch.float32
    exact = [t.detach().float().requires_grad_() for t in halved]
    expected = weighted_infonce_sum(*exact, weights, 0.2)
    assert torch.equal(value, expected)
    for got, want in zip(torch.autograd.grad(value, halved), torch.autograd.grad(expected, exact), strict=True):
        assert torch.equal(got, want.to(dtype))


def test_the_widest_dtype_counts():
    (anchors, positives, candidates), weights = _problem(torch.float64)
    value = weighted_infonce_sum(anchors.float(), positives, candidates, weights, 0.2)
    assert value.dtype == torch.float64
    oracle = (weights * infonce(anchors.float().double(), positives, candidates, 0.2)).sum()
    assert_close(value, oracle, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(
    ("n_anchors", "budget", "gradients", "n_cores", "expected"),
    [
        (100, 40, 1 << 20, 1, (1, 34)),  # three rounds of even size instead of 40, 40, 20
        (100, 40, 1 << 20, 2, (2, 25)),
        (3, 40, 1 << 20, 8, (8, 1)),
        (0, 40, 1 << 20, 2, (2, 1)),
        (100, 1, 1 << 20, 2, (2, 13)),  # 16 rows at the least
        (100, 40, 3 * 7 * 5 * 4, 8, (3, 34)),  # memory of the gradients allows three cores
        (100, 40, 1, 8, (1, 34)),
    ],
)
def test_blocks_keep_to_the_cores_and_to_both_budgets(n_anchors, budget, gradients, n_cores, expected, monkeypatch):
    monkeypatch.setitem(kernels._SIMILARITY_BYTES, "cpu", budget * 7 * 4)
    monkeypatch.setattr(kernels, "_FEWEST_ROWS", 16)
    monkeypatch.setattr(kernels, "_GRADIENT_BYTES", gradients)
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_cores)
    assert kernels._blocks(n_anchors, torch.zeros(7, 5), needs_gradient=True) == expected


def test_constant_candidates_leave_no_core_out(monkeypatch):
    monkeypatch.setattr(kernels, "_GRADIENT_BYTES", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert kernels._blocks(100, torch.zeros(7, 5), needs_gradient=False) == (4, 25)


def test_similarities_of_many_candidates_stay_within_their_bytes():
    many = torch.zeros(1, 1).expand(30_000_000, 64)
    n_blocks, rows = kernels._blocks(4096, many, needs_gradient=True)
    assert (n_blocks, rows) == (1, 2)
    assert rows * 30_000_000 * 4 <= kernels._MOST_SIMILARITY_BYTES


def test_a_gpu_takes_one_block_of_its_own_size(monkeypatch):
    candidates = SimpleNamespace(device=torch.device("cuda"), shape=(6040, 64), element_size=lambda: 4)
    assert kernels._blocks(2387, candidates, needs_gradient=True) == (1, 2387)
    monkeypatch.setitem(kernels._SIMILARITY_BYTES, "cuda", 1000 * 6040 * 4)
    assert kernels._blocks(2387, candidates, needs_gradient=True) == (1, 796)


@pytest.mark.parametrize(
    ("position", "shape"),
    [(0, (37,)), (0, (36, 5)), (1, (1, 5)), (2, (23, 4)), (2, (0, 5)), (2, (23,)), (3, (1,)), (3, (37, 1))],
)
def test_shapes_that_do_not_fit_are_refused(position, shape):
    inputs, weights = _problem(torch.float32)
    given = [*inputs, weights]
    given[position] = torch.ones(shape)
    with pytest.raises(ValueError, match=rf"expected \(B, d\), .*got .*{re.escape(str(shape))}"):
        weighted_infonce_sum(*given, 0.1)


def test_a_gradient_of_the_gradient_is_refused():
    inputs, weights = _problem(torch.float64)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(weighted_infonce_sum(*inputs, weights, 0.1), inputs, create_graph=True)


def test_without_gradients_the_value_is_the_same_and_nothing_is_kept(monkeypatch):
    inputs, weights = _problem(torch.float64)
    expected = weighted_infonce_sum(*inputs, weights, 0.1)
    wanted = []
    sweep = kernels._sweep
    monkeypatch.setattr(kernels, "_sweep", lambda *given: wanted.append(given[-1]) or sweep(*given))
    with torch.no_grad():
        assert torch.equal(weighted_infonce_sum(*inputs, weights, 0.1), expected)
    assert wanted == [(False, False, False)]


def test_streaming_contrast_passes_gradcheck():
    inputs, weights = _problem(torch.float64, n_anchors=6, n_candidates=5, width=3)
    assert torch.autograd.gradcheck(lambda *x: weighted_infonce_sum(*x, weights, 0.3), inputs)


def test_a_repeated_anchor_is_the_same_as_its_count():
    (anchors, positives, candidates), _ = _problem(torch.float64, n_anchors=4)
    repeat = torch.tensor([0, 1, 1, 2, 3, 3, 3])
    ones = torch.ones(7, dtype=torch.float64)
    repeated = weighted_infonce_sum(anchors[repeat], positives[repeat], candidates, ones, 0.2)
    counts = torch.tensor([1.0, 2, 1, 3], dtype=torch.float64)
    assert_close(weighted_infonce_sum(anchors, positives, candidates, counts, 0.2), repeated, atol=1e-12, rtol=0)


def test_adding_a_candidate_never_lowers_infonce():
    (anchors, positives, candidates), weights = _problem(torch.float64)
    values = [weighted_infonce_sum(anchors, positives, candidates[:n], weights, 0.1).item() for n in range(1, 24)]
    assert all(later >= earlier for earlier, later in zip(values, values[1:], strict=False))


def test_tiny_temperature_does_not_overflow():
    inputs, weights = _problem(torch.float32)
    value = weighted_infonce_sum(*inputs, weights, 1e-4)
    assert torch.isfinite(value)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(value, inputs))


def test_contrast_of_nothing_is_zero():
    empty = torch.zeros(0, 5)
    assert weighted_infonce_sum(empty, empty, torch.randn(3, 5), torch.zeros(0), 0.1).item() == 0


def test_temperature_must_be_positive():
    inputs, weights = _problem(torch.float32)
    with pytest.raises(ValueError, match="temperature must be > 0, got 0"):
        weighted_infonce_sum(*inputs, weights, 0)


@pytest.mark.parametrize("block_bytes", [1, 200, 1 << 20])
@pytest.mark.parametrize("k", [1, 3, 11, 50])
def test_the_kth_largest_score_is_that_of_the_sorted_products(k, block_bytes, monkeypatch):
    monkeypatch.setitem(kernels._SIMILARITY_BYTES, "cpu", block_bytes)
    anchors, candidates = torch.randn(7, 4, requires_grad=True), torch.randn(11, 4)
    found = kth_largest_score(anchors, candidates, k)
    assert_close(found, (anchors @ candidates.T).sort(descending=True).values[:, min(k, 11) - 1].detach())
    assert not found.requires_grad


def test_propagate_equals_the_dense_product_in_value_and_gradient():
    adjacency = random_graph().normalized_adjacency(torch.float64)
    dense = adjacency.matrix().to_dense()
    x = torch.randn(16, 4, dtype=torch.float64, requires_grad=True)
    assert_close(propagate(adjacency, x), dense @ x, atol=1e-12, rtol=0)
    assert torch.autograd.gradcheck(lambda t: propagate(adjacency, t), x)
    assert torch.autograd.gradgradcheck(lambda t: propagate(adjacency, t).square(), x)


@pytest.mark.parametrize("width", [31, 32, 33, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocks_of_columns_give_the_same_product(dtype, width, monkeypatch):
    adjacency = random_graph(60, 90).normalized_adjacency(dtype)
    x = torch.randn(150, width, dtype=dtype)
    blocked = propagate(adjacency, x)
    assert torch.equal(blocked, propagate(adjacency, x.T.contiguous().T))  # whatever the layout
    monkeypatch.setattr(kernels, "_COLUMN_BYTES", 1 << 20)
    # Not to the bit: with AVX-512 the library may sum the columns of a wide product in another order.
    tight = {"atol": 8 * torch.finfo(dtype).eps, "rtol": 8 * torch.finfo(dtype).eps}
    assert_close(blocked, propagate(adjacency, x), **tight)
    assert_close(blocked, adjacency.matrix() @ x, **tight)
    assert_close(blocked, adjacency.matrix().to_dense() @ x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n_nodes", [1, 4, 30, 1000])
def test_tiles_give_the_product_and_its_gradient(n_nodes, monkeypatch):
    monkeypatch.setattr(tiling, "TILE_NODES", n_nodes)
    monkeypatch.setattr(kernels, "_TILED_COLUMN_BYTES", 16)
    adjacency = random_graph(60, 90).normalized_adjacency(torch.float64, target=0.3)
    counts = [len(tiles) for _, tiles in adjacency.sides()]
    assert counts == {1: [35, 23], 4: [23, 15], 30: [3, 2], 1000: [1, 1]}[n_nodes]
    x = torch.randn(150, 5, dtype=torch.float64, requires_grad=True)
    assert_close(propagate(adjacency, x), adjacency.matrix().to_dense() @ x, atol=1e-12, rtol=0)
    assert torch.autograd.gradcheck(lambda t: propagate(adjacency, t)[::7], x)


def test_a_constant_input_of_the_contrast_gets_no_gradient_and_changes_nothing():
    (anchors, positives, candidates), weights = _problem(torch.float64)
    whole = torch.autograd.grad(weighted_infonce_sum(anchors, positives, candidates, weights, 0.1), anchors)
    partial = weighted_infonce_sum(anchors, positives.detach(), candidates.detach(), weights, 0.1)
    partial.backward()
    assert torch.equal(anchors.grad, whole[0])
    assert positives.grad is None
    assert candidates.grad is None


def test_propagate_uses_the_stored_transpose_of_an_asymmetric_matrix():
    dense = torch.tensor([[0.0, 2, 0], [0, 0, 3], [1, 0, 0]], dtype=torch.float64)
    parts = [(m.crow_indices(), m.col_indices(), m.values()) for m in (dense.to_sparse_csr(), dense.T.to_sparse_csr())]
    adjacency = Adjacency(*parts[0], transpose=Adjacency(*parts[1]))
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: propagate(adjacency, t), x)


def test_propagate_works_under_autocast():
    adjacency = random_graph().normalized_adjacency()
    x = torch.randn(16, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = propagate(adjacency, x.bfloat16())
    assert out.dtype == torch.float32
    out.sum().backward()
    assert x.grad is not None


def test_gather_adds_repeated_rows_in_the_backward_pass():
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([4, 1, 1, 0])
    assert_close(gather(x, ids), x[ids])
    (grad,) = torch.autograd.grad(gather(x, ids).sum(), x)
    assert grad[:, 0].tolist() == [1, 2, 0, 0, 1]


def test_gather_is_bit_reproducible_with_many_repeats():
    x = torch.randn(300, 64, requires_grad=True)
    ids = torch.randint(300, (20_000,), generator=torch.Generator().manual_seed(0))
    upstream = torch.randn(20_000, 64)
    grads = [torch.autograd.grad(gather(x, ids), x, upstream)[0] for _ in range(5)]
    assert all(torch.equal(grads[0], g) for g in grads[1:])


def test_kernels_leave_their_inputs_alone():
    inputs, weights = _problem(torch.float32)
    before = copy.deepcopy([t.detach() for t in inputs])
    weighted_infonce_sum(*inputs, weights, 0.1).backward()
    assert all(torch.equal(a, b) for a, b in zip(before, inputs, strict=True))
