"""Random draws without replacement, all rows at once."""

import torch
from torch import Generator, Tensor


def draw_centers(pool: Tensor, count: int, generator: Generator) -> Tensor:
    """Distinct places of `pool`, uniformly drawn, in random order.

    Args:
        pool: (P,) int64 distinct node ids.
        count: >= 0, how many to draw.
        generator: CPU stream of the draws.

    Returns:
        (min(count, P),) int64.

    Raises:
        ValueError: count < 0.
    """
    if count < 0:
        raise ValueError(f"draw_centers: count must be >= 0, got {count}")
    return pool[torch.randperm(len(pool), generator=generator)[:count]]


def other_centers(n: int, k: int, generator: Generator) -> Tensor:
    """For each of n rows, k distinct other rows, uniform over all others.

    Args:
        n: >= 0, number of rows.
        k: >= 0, others of each row; n - 1 or more gives all others.
        generator: CPU stream of the draws.

    Returns:
        (n, min(k, n - 1)) int64 in `[0, n)`, never the row itself; (0, 0) for n = 0.

    Raises:
        ValueError: n or k is negative.
    """
    if n < 0 or k < 0:
        raise ValueError(f"other_centers: n and k must be >= 0, got n={n}, k={k}")
    rows, n_others = torch.arange(n)[:, None], max(n - 1, 0)
    if k >= n_others:
        draws = torch.arange(n_others).expand(n, -1)
    else:
        draws = distinct_draws(torch.full((n,), n_others), k, generator)
    return draws + (draws >= rows).long()


def distinct_draws(size: Tensor, k: int, generator: Generator) -> Tensor:
    """(B, k) int64 distinct uniform integers in `[0, size)` of each row; all of them, then -1, where size < k.

    The set is uniform over all sets, the order is not. Source: Bentley & Floyd 1987.
    """
    quota = size.clamp(max=k)
    uniform = torch.rand(k, len(size), generator=generator, dtype=torch.float64)
    draws = size.new_full((k, len(size)), -1)
    for place in range(k):
        last = size - quota + place
        draw = (uniform[place] * (last + 1)).long()
        draw = torch.where((draws[:place] == draw).any(dim=0), last, draw)
        draws[place] = torch.where(quota > place, draw, -1)
    return draws.T


def first_distinct(centers: Tensor, candidates: Tensor, k: int) -> Tensor:
    """(B, k) first distinct candidates (B, W) of each row other than its center, in their order, then the center."""
    ordered, order = candidates.sort(dim=1, stable=True)
    is_first = torch.ones_like(candidates, dtype=torch.bool)
    is_first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    is_fresh = is_first.scatter(1, order, is_first) & (candidates != centers[:, None])
    place = is_fresh.cumsum(dim=1) - 1
    keep = is_fresh & (place < k)
    distinct = centers[:, None].repeat(1, k)
    distinct[keep.nonzero()[:, 0], place[keep]] = candidates[keep]
    return distinct


def race(row: Tensor, mass: Tensor, quota: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """The outcome of repeated draws by mass until each row has its quota of distinct candidates, or all it has.

    The candidate with the least exponential variable over its mass comes first. Source: Efraimidis & Spirakis 2006.

    Args:
        row: (M,) int64 in `[0, R)`, the row of each candidate.
        mass: (M,) float64, > 0, probability of a single draw up to a constant of the row; equal masses draw uniformly.
        quota: (R,) int64.
        generator: CPU stream of the draws.

    Returns:
        chosen: (K,) positions in `row`; place: (K,) rank of each within its row, from 0.
    """
    uniform = torch.rand(row.shape, generator=generator, dtype=torch.float64)
    order = (-torch.log1p(-uniform) / mass).argsort(stable=True)
    order = order[row[order].argsort(stable=True)]
    count = torch.bincount(row, minlength=len(quota))
    rank = torch.arange(len(row)) - (count.cumsum(0) - count)[row[order]]
    keep = rank < quota[row[order]]
    return order[keep], rank[keep]
