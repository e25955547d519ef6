"""Frequency classes of nodes: ranks by quantiles of their interaction counts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from recmodels.graph import BipartiteGraph


def frequency_ranks(counts: Tensor, quantiles: Sequence[float]) -> Tensor:
    """The frequency class of each id: how many thresholds its count exceeds.

    With the counts sorted from the largest down, threshold j is the one at place `floor(n * quantiles[j])`. A count
    that equals a threshold stays below it, so the class above quantile q holds at most a share q of the ids.

    Args:
        counts: (n,) int64 interactions of each id, the padding left out.
        quantiles: ascending, each in (0, 1), none for a single class; `[0.2]` makes two, of which
            the upper is the most frequent fifth.

    Returns:
        (n,) int64 in `[0, len(quantiles)]`, larger for the more frequent; a class may be empty.

    Source: Guan et al. 2025 (AdaE), the frequency groups. Verified: test_frequency.py (a loop).
    """
    if not len(counts):
        return torch.zeros_like(counts)
    falling = counts.sort(descending=True).values
    # Rounded, because 100 * 0.29 is 28.999... in floating point; which must not make a quantile below 1 all of them.
    places = [min(int(round(len(counts) * quantile, 9)), len(counts) - 1) for quantile in quantiles]
    thresholds = [falling[place] for place in places]
    return sum((counts > threshold for threshold in thresholds), torch.zeros_like(counts))


def distinct_ranks(counts: Tensor) -> Tensor:
    """One class for each distinct count: (n,) int64, the number of distinct counts below that of the id."""
    return torch.unique(counts, return_inverse=True)[1]


def most_frequent_first(graph: BipartiteGraph, nodes: Tensor) -> Tensor:
    """Node ids (n,) in falling order of their counts in the graph; equal ones keep their order."""
    return nodes[graph.degrees[nodes].argsort(descending=True, stable=True)]


def all_most_frequent_first(graph: BipartiteGraph) -> Tensor:
    """All node ids (N,), users and items merged by their place among the most frequent of their side.

    A node at place k of n has the relative place k / n; at equal ones users come first, and the padding rows are last.
    """
    ordered = [most_frequent_first(graph, nodes) for nodes in (graph.users, graph.items)]
    places = torch.cat([torch.arange(len(nodes), dtype=torch.float64) / max(len(nodes), 1) for nodes in ordered])
    real = torch.cat(ordered)[places.argsort(stable=True)]
    return torch.cat([real, torch.stack([nodes[0] for nodes in graph.sides])])


def node_ranks(graph: BipartiteGraph, quantiles: Sequence[Sequence[float] | None]) -> Tensor:
    """The frequency class of each node within its own side, by its interactions in the training graph.

    Args:
        graph: of the training interactions.
        quantiles: of users and of items, see `frequency_ranks`; None makes one class for each distinct count.

    Returns:
        (N,) int64; the padding rows, which are counted nowhere, have the lowest class.
    """
    ranks = torch.zeros(graph.n_nodes, dtype=torch.int64)
    for nodes, chosen in zip((graph.users, graph.items), quantiles, strict=True):
        counts = graph.degrees[nodes]
        ranks[nodes] = distinct_ranks(counts) if chosen is None else frequency_ranks(counts, chosen)
    return ranks
