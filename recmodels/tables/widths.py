"""Who gets which width: pure functions from frequency classes and counts to (N,) widths."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from recmodels.errors import ParamError
from recmodels.graph import BipartiteGraph
from recmodels.tables.frequency import most_frequent_first

_SMALLEST = 1e-300  # a power of popularity below it counts as this


def widths_by_rank(graph: BipartiteGraph, ranks: Tensor, dims: Sequence[Sequence[int]]) -> Tensor:
    """The width that each node's frequency class has on its side.

    Args:
        graph: gives the sides.
        ranks: (N,) int64 classes within the sides.
        dims: of users and of items, the width of each class, rarest first.

    Returns:
        (N,) int64.
    """
    sides = ranks.split([graph.n_users, graph.n_items])
    return torch.cat([torch.tensor(of)[rank] for of, rank in zip(dims, sides, strict=True)])


def reversed_widths(graph: BipartiteGraph, widths: Tensor) -> Tensor:
    """The same widths with the widest given to the rarest: a control of equal size. (N,) int64 to (N,) int64.

    Within each side the i-th most frequent node gets the i-th narrowest width; the padding keeps its own.
    """
    given = widths.clone()
    for nodes in (graph.users, graph.items):
        given[most_frequent_first(graph, nodes)] = widths[nodes].sort().values
    return given


def shuffled_widths(graph: BipartiteGraph, widths: Tensor, generator: torch.Generator) -> Tensor:
    """The same widths in a random order within each side: a control of equal size. (N,) int64 to (N,) int64."""
    given = widths.clone()
    for nodes in (graph.users, graph.items):
        given[nodes] = widths[nodes[torch.randperm(len(nodes), generator=generator)]]
    return given


def power_rule_widths(graph: BipartiteGraph, ranks: Tensor, budget: int, exponent: float, widest: int) -> Tensor:
    """Widths in proportion to a power of popularity, as wide as a budget of parameters allows.

    Each frequency class of each side gets `scale * f ** exponent`, rounded down and kept in [1, widest], where f is the
    mean count of the class relative to that of its side, so that a user and an item of average popularity get the same.
    The scale is the largest that fits.

    Args:
        graph: gives counts and sides.
        ranks: (N,) int64 classes within the sides.
        budget: parameters of the whole table, padding rows included.
        exponent: 0 makes all classes alike; 1 is proportional.
        widest: >= 1, the aligned width.

    Returns:
        (N,) int64, whose sum is at most the budget.

    Raises:
        ParamError: not even widths of 1 fit.

    Source: Ginart et al. 2019 (mixed dimension embeddings), the power rule. Verified: test_widths.py.
    """
    require_budget(budget, graph.n_nodes)
    shares = torch.cat([_relative_popularity(graph, ranks, nodes) for nodes in graph.sides])
    # Powers of distinct values, because equal ones in different lanes of a vector may differ in their last bit.
    values, place = torch.unique(shares / shares.max(), return_inverse=True)
    popularity = (values**exponent).clamp(min=_SMALLEST)[place]
    low, high = 1.0, widest / float(popularity.min()) * (1 + 1e-12)  # rounded, the least popular may miss the widest
    for _ in range(70):  # halves the logarithm down to its last bits, since a large exponent has a wide range
        middle = math.sqrt(low) * math.sqrt(high)
        low, high = (middle, high) if int(_scaled(popularity, middle, widest).sum()) <= budget else (low, middle)
    whole = _scaled(popularity, high, widest)
    return whole if int(whole.sum()) <= budget else _scaled(popularity, low, widest)


def require_budget(budget: int, smallest: int, given: str = "") -> None:
    """Refuses a budget that the smallest table exceeds; both in parameters.

    Args:
        budget: of the rows.
        smallest: rows of the smallest table.
        given: the budget as it was typed, where that is another number.

    Raises:
        ParamError: it does.
    """
    if budget < smallest:
        words = f"{given}, which leaves {budget:,}" if given else f"{budget:,}"
        raise ParamError(f"adae_budget: got {words} parameters, but the smallest table has {smallest:,}; raise it")


def _scaled(popularity: Tensor, scale: float, widest: int) -> Tensor:
    return (popularity * scale).floor().clamp(1, widest).long()


def _relative_popularity(graph: BipartiteGraph, ranks: Tensor, nodes: Tensor) -> Tensor:
    """Mean count of each node's class over that of the side; (n,) float64, > 0; the padding is counted nowhere."""
    classes, counts = ranks[nodes], graph.degrees[nodes].double()
    size = torch.zeros(int(classes.max()) + 1, dtype=torch.float64)
    total = size.index_add(0, classes[1:], counts[1:])
    size = size.index_add(0, classes[1:], torch.ones_like(counts[1:]))
    # A class without interactions counts like half of one, lest its power be zero.
    mean = (total / size.clamp(min=1)).clamp(min=0.5)
    return mean[classes] / max(float(counts[1:].mean()) if len(counts) > 1 else 1.0, 0.5)
