import math

import torch
from torch.testing import assert_close

from recmodels.losses import bpr, distance_bce, distance_infonce, infonce, norm, squared_norm


def test_bpr_is_minus_log_sigmoid_of_the_difference():
    positive, negative = torch.tensor([2.0, -1.0, 0.0]), torch.tensor([0.5, 3.0, 0.0])
    want = [-math.log(1 / (1 + math.exp(-(p - n)))) for p, n in zip(positive.tolist(), negative.tolist(), strict=True)]
    assert_close(bpr(positive, negative), torch.tensor(want))


def test_bpr_still_learns_on_the_worst_pair():
    score = torch.tensor([-200.0], requires_grad=True)
    (grad,) = torch.autograd.grad(bpr(score, torch.zeros(1)).sum(), score)
    assert grad.item() == -1


def test_infonce_equals_the_loop():
    a, p, c = (torch.randn(n, 3, dtype=torch.float64) for n in (4, 4, 6))
    for i in range(4):
        exps = [math.exp(float(a[i] @ c[j]) / 0.5) for j in range(6)]
        want = -math.log(math.exp(float(a[i] @ p[i]) / 0.5) / sum(exps))
        assert_close(infonce(a, p, c, 0.5)[i].item(), want, atol=1e-12, rtol=1e-12)


def test_distance_infonce_counts_the_positive_once():
    positive, negatives = torch.tensor([0.2]), torch.tensor([[0.5, 0.9]])
    exps = [math.exp(-d / 0.1) for d in (0.2, 0.5, 0.9)]
    assert_close(distance_infonce(positive, negatives, 0.1).item(), -math.log(exps[0] / sum(exps)), atol=1e-6, rtol=0)


def test_distance_infonce_falls_when_the_positive_comes_closer():
    negatives = torch.tensor([[0.5, 0.9]])
    near, far = (distance_infonce(torch.tensor([d]), negatives, 0.1) for d in (0.1, 0.4))
    assert near < far


def test_distance_bce_equals_the_loop_and_has_the_published_floor():
    positive, negatives = torch.tensor([0.003]), torch.tensor([[0.02, 0.05]])
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    logits = [math.exp(-d / 0.01) for d in (0.003, 0.02, 0.05)]
    want = -(math.log(sigmoid(logits[0])) + sum(math.log(1 - sigmoid(x)) for x in logits[1:])) / 3
    assert_close(distance_bce(positive, negatives, 0.01).item(), want, atol=1e-6, rtol=0)
    best = distance_bce(torch.tensor([0.0]), torch.tensor([[99.0]]), 0.01)
    assert_close(best.item(), (math.log(1 + math.exp(-1)) + math.log(2)) / 2, atol=1e-6, rtol=0)


def test_norms_and_their_gradient_at_zero():
    x = torch.tensor([[3.0, 4.0]], requires_grad=True)
    assert norm(x).item() == 5
    assert squared_norm(x).item() == 12.5
    zero = torch.zeros(2, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(norm(zero), zero)
    assert torch.equal(grad, torch.zeros(2, 2))
