"""The plain table: one embedding of the same width for every node."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from recmodels.graph import BipartiteGraph
from recmodels.spectral import normalized_interactions, truncated_svd
from recmodels.tables.base import Table


def _by_side(fill: Callable[..., Tensor]) -> Callable[[BipartiteGraph, int, torch.Generator], Tensor]:
    """Fills each side by itself: Xavier's bound depends on the number of rows, and RecBole keeps two tables."""

    def init(graph: BipartiteGraph, width: int, generator: torch.Generator) -> Tensor:
        return torch.cat([fill(torch.empty(n, width), generator=generator) for n in (graph.n_users, graph.n_items)])

    return init


_xavier_uniform = _by_side(nn.init.xavier_uniform_)


def _svd(graph: BipartiteGraph, width: int, generator: torch.Generator) -> Tensor:
    """`U S^1/2` and `V S^1/2` of the normalized interactions, whose inner products are their best approximation.

    Rows without interactions, and columns beyond the rank of the matrix, are Xavier's.
    """
    start = _xavier_uniform(graph, width, generator)
    rank = min(width, graph.n_users - 1, graph.n_items - 1)
    u, s, v = truncated_svd(normalized_interactions(graph), rank, generator)
    rank = int((s > 1e-6 * s[0]).sum())  # a column of zeros would get no gradient from inner products
    u, s, v = u[:, :rank], s[:rank], v[:, :rank]
    rows = graph.degrees > 0
    start[rows, :rank] = (torch.cat([u, v]) * s.sqrt()).to(start.dtype)[rows]
    return start


INITIALIZATIONS: dict[str, Callable[[BipartiteGraph, int, torch.Generator], Tensor]] = {
    "xavier_uniform": _xavier_uniform,
    "xavier_normal": _by_side(nn.init.xavier_normal_),
    "normal": _by_side(lambda weight, generator: nn.init.normal_(weight, std=0.1, generator=generator)),
    "svd": _svd,
}


class PlainTable(Table):
    """Ego embeddings as one (N, d) weight, users above items.

    Called with nothing it returns the weight itself: no copy, no concatenation.

    Args:
        graph: gives the number of users and items.
        width: d >= 1.
        init: a name of `INITIALIZATIONS`.
        generator: stream of the initialisation.
    """

    def __init__(self, graph: BipartiteGraph, width: int, init: str, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(INITIALIZATIONS[init](graph, width, generator))

    def forward(self) -> Tensor:
        """(N, d) ego embeddings."""
        return self.weight

    def extra_repr(self) -> str:
        """Shape of the table."""
        return "{} nodes, width {}".format(*self.weight.shape)
