"""How the logits of width candidates become gates, and choices: pure functions."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Decay(NamedTuple):
    """A number that falls exponentially with the optimizer's steps, down to a floor.

    Attributes:
        start: at step 0.
        end: the floor; equal to `start` where nothing moves.
        rate: of decay per step.
    """

    start: float
    end: float
    rate: float

    def __call__(self, step: int) -> float:
        """The value at a step."""
        return max(self.end, self.start * math.exp(-self.rate * step))


def gumbel_gates(logits: Tensor, temperature: float, sample: str, generator: torch.Generator) -> Tensor:
    """Weights of the candidates of each row, differentiable in the logits.

    Args:
        logits: (n, K).
        temperature: > 0; small is near one-hot.
        sample: "soft", softmax of noisy logits; "hard", one-hot with the gradient of the soft ones (straight-through);
            "none", softmax without noise.
        generator: of the noise, on the CPU.

    Returns:
        (n, K), >= 0, rows sum to 1.

    Source: Jang et al. 2017 (Gumbel-softmax). Verified: test_gates.py (frequencies of the hard sample).
    """
    if sample != "none":
        uniform = torch.rand(logits.shape, generator=generator).clamp(min=torch.finfo(torch.float32).tiny)
        logits = logits - (-uniform.log()).log().to(logits)
    soft = torch.softmax(logits / temperature, -1)
    if sample != "hard":
        return soft
    return one_hot(soft.argmax(-1), soft) - soft.detach() + soft


def one_hot(choice: Tensor, like: Tensor) -> Tensor:
    """(n,) candidates to (n, K) gates, with K and dtype of the last dimension of `like`."""
    return F.one_hot(choice, like.shape[-1]).to(like.dtype)


def with_random_rows(gates: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Gates (n, K) of which each row is, with probability `share`, a one-hot of a candidate drawn uniformly."""
    if not share:
        return gates
    n, k = gates.shape
    is_random = torch.rand(n, generator=generator) < share
    drawn = torch.randint(k, (n,), generator=generator)
    return torch.where(is_random.to(gates.device)[:, None], one_hot(drawn.to(gates.device), gates), gates)


def best_within_budget(logits: Tensor, sizes: Tensor, budget: int, order: Tensor) -> Tensor:
    """The most probable candidate of each row; where they cost too much, after a price on size that makes them fit.

    Maximizes `log softmax(logits)[choice] - price * size[choice]` by row with the smallest price whose total fits, the
    relaxation of the knapsack problem with one price.

    Args:
        logits: (n, K).
        sizes: (K,) or (n, K) parameters of each candidate.
        budget: parameters of all rows; at least the sum of their smallest candidates.
        order: (n,) row numbers; of rows that change at the same price these go first, as long as they fit.

    Returns:
        (n,) int64 candidates.
    """
    value, sizes = logits.double().log_softmax(-1), sizes.to(logits.device).expand_as(logits)

    def chosen(price: float) -> tuple[Tensor, int]:
        choice = (value - price * sizes).argmax(-1)
        return choice, int(sizes.gather(-1, choice[:, None]).sum())

    choice, total = chosen(0.0)
    if total <= budget:
        return choice
    low, high = 0.0, 1.0
    while chosen(high)[1] > budget and high < 1e12:
        high *= 4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if chosen(middle)[1] > budget else (low, middle)
    # At the price in between, rows with the same logits change at once: as many of them as fit.
    above, (below, total) = chosen(low)[0], chosen(high)
    extra = (sizes.gather(-1, above[:, None]) - sizes.gather(-1, below[:, None])).squeeze(1)
    is_wider = torch.zeros_like(extra, dtype=torch.bool)
    is_wider[order] = as_many_as_fit(extra[order], budget - total)
    return torch.where(is_wider, above, below)


def as_many_as_fit(sizes: Tensor, room: int) -> Tensor:
    """Which of some sizes, (n,) int64 >= 0, are taken if each in turn is taken that still fits: (n,) bool."""
    taken, left = torch.zeros_like(sizes, dtype=torch.bool), sizes > 0
    while bool((left := left & (sizes <= room)).any()):
        places = left.nonzero().squeeze(1)
        totals = sizes[places].cumsum(0)
        n_fit = int((totals <= room).sum())
        taken[places[:n_fit]], left[places[:n_fit]] = True, False
        room -= int(totals[n_fit - 1])
    return taken
