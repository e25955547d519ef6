"""The plain table: one embedding of the same width for every node."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from recmodels.graph import BipartiteGraph

INITIALIZATIONS: dict[str, Callable[..., Tensor]] = {
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "normal": lambda weight, generator: nn.init.normal_(weight, std=0.1, generator=generator),
}


class PlainTable(nn.Module):
    """Ego embeddings as one (N, d) weight, users above items.

    Each side is initialised by itself, because the bound of a Xavier initialisation depends on the number of rows and
    RecBole keeps two tables. Called with nothing it returns the weight itself: no copy, no concatenation.

    Args:
        graph: gives the number of users and items.
        width: d >= 1.
        init: a name of `INITIALIZATIONS`.
        generator: stream of the initialisation.
    """

    def __init__(self, graph: BipartiteGraph, width: int, init: str, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(graph.n_nodes, width))
        with torch.no_grad():
            for side in self.weight.split([graph.n_users, graph.n_items]):
                INITIALIZATIONS[init](side, generator=generator)

    def forward(self) -> Tensor:
        """(N, d) ego embeddings."""
        return self.weight

    def picker_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the width picker: none."""
        return iter(())

    def extra_repr(self) -> str:
        """Shape of the table."""
        return "{} nodes, width {}".format(*self.weight.shape)
