"""Tables whose rows have widths of their own and store no more."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from recmodels.graph import BipartiteGraph
from recmodels.kernels import gather
from recmodels.tables.alignment import Transform, ZeroPad, layer_norm
from recmodels.tables.base import Table

_SIDES = ("user", "item")
_LARGEST_INT16 = 2**15 - 1


class AdaptiveTable(Table):
    """Ego embeddings of mixed widths, aligned to one.

    Rows of a side that have the same width are one weight: a table of widths (w_i) has sum_i w_i parameters, and with
    transforms w * D for each width w < D of a side. Rows of width D are taken as they are, without transform or norm.

    Args:
        graph: gives the sides.
        widths: (N,) int64 in [1, D], of all nodes.
        start: gives for a width the (N, width) embeddings whose rows are those of the nodes of that width.
        aligned: D, the width of what the table returns.
        has_transform: whether narrow rows are multiplied by a learned matrix; otherwise they are padded with zeros.
        has_norm: whether narrow rows are then normalized, by one LayerNorm a side.

    Source: Guan et al. 2025 (AdaE), modes `rank` and retraining; stored as in Ginart et al. 2019. Verified:
    test_adaptive_table.py (a dense table with a mask).
    """

    layout = ("widths",)
    widths: Tensor
    _place: Tensor

    def __init__(
        self,
        graph: BipartiteGraph,
        widths: Tensor,
        start: Callable[[int], Tensor],
        aligned: int,
        has_transform: bool = False,
        has_norm: bool = False,
    ) -> None:
        super().__init__()
        self.aligned = aligned
        self.register_buffer("widths", widths.to(torch.int16 if aligned <= _LARGEST_INT16 else torch.int32))
        self.weights, self.alignments, self.norms = nn.ParameterList(), nn.ModuleList(), nn.ModuleDict()
        self._norm_of: list[str | None] = []
        groups = _groups(graph, widths)
        for side, width, nodes in groups:
            weight, is_narrow = start(width)[nodes], width < aligned
            self.weights.append(nn.Parameter(weight))
            self.alignments.append(Transform(width, aligned) if has_transform and is_narrow else ZeroPad(aligned))
            self._norm_of.append(side if has_norm and is_narrow else None)
        if has_norm:  # drawn last, so that a norm leaves the starts of the rows as they are
            scales = dict(zip(_SIDES, map(float, deviations(graph, start(aligned))), strict=True))
            self.norms.update({side: layer_norm(aligned, scales[side]) for side in _SIDES if side in self._norm_of})
        place = torch.cat([nodes for _, _, nodes in groups]).argsort()
        self.register_buffer("_place", place, persistent=False)

    def forward(self) -> Tensor:
        """(N, D) ego embeddings."""
        rows = [align(weight) for align, weight in zip(self.alignments, self.weights, strict=True)]
        normed = [x if side is None else self.norms[side](x) for side, x in zip(self._norm_of, rows, strict=True)]
        return gather(torch.cat(normed), self._place)

    def __repr__(self) -> str:
        """Nodes of each side by width, in one line however many widths there are."""
        sizes = [f"{len(w)} of width {w.shape[1]}" for w in self.weights]
        shown = sizes if len(sizes) <= 8 else [*sizes[:4], "...", sizes[-1]]
        align = ", ".join(sorted({type(align).__name__ for align in self.alignments}))
        return f"AdaptiveTable({', '.join(shown)}, {align} to {self.aligned}{', normed' if self.norms else ''})"


def deviations(graph: BipartiteGraph, start: Tensor) -> list[Tensor]:
    """Root mean square of the entries (N, w) of the users' rows, and of the items'; two scalars."""
    return [side.square().mean().sqrt() for side in start.split([graph.n_users, graph.n_items])]


def _groups(graph: BipartiteGraph, widths: Tensor) -> list[tuple[str, int, Tensor]]:
    """Side, width, and the nodes of the side that have it, narrow ones first."""
    return [
        (side, width, nodes[widths[nodes] == width])
        for side, nodes in zip(_SIDES, graph.sides, strict=True)
        for width in widths[nodes].unique().tolist()
    ]
