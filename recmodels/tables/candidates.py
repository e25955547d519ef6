"""The rows of a search: every width that a node may get."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recmodels.tables.alignment import Transform, ZeroPad, layer_norm

_SMALLEST, _LONGEST_STRETCH = 1e-24, 100.0  # a square of a length, and a ratio of lengths


class Form(NamedTuple):
    """How the candidates of a row are stored and aligned.

    Attributes:
        is_shared: one (n, D) weight of which a candidate is the first columns; otherwise a weight for each candidate.
        has_transform: whether each candidate is multiplied by a learned matrix; otherwise it is padded with zeros.
        has_norm: whether all candidates are then normalized by one LayerNorm.
        keeps_length: whether a mixture of prefixes has the length of the widest one, so that gates weigh directions
            alone: otherwise a narrow row is also a short one, whose node counts less beside its neighbors.
    """

    is_shared: bool = True
    has_transform: bool = False
    has_norm: bool = False
    keeps_length: bool = False

    @property
    def has_prefixes(self) -> bool:
        """Whether all candidates of a row are its first columns, as they are."""
        return self.is_shared and not self.has_transform and not self.has_norm


class Candidates(nn.Module):
    """The rows of one side at every candidate width, aligned to D.

    Args:
        start: gives for a width the (n, width) embeddings.
        dims: K ascending widths.
        aligned: D.
        form: how they are stored and aligned.

    Source: Guan et al. 2025 (AdaE), `share` and `noshare`, `zp` and `ts`; lengths are ours.
    """

    masks: Tensor

    def __init__(self, start: Callable[[int], Tensor], dims: Sequence[int], aligned: int, form: Form) -> None:
        super().__init__()
        self.dims, self.aligned = tuple(dims), aligned
        whole = start(aligned)
        self.weights = nn.ParameterList([whole] if form.is_shared else [start(width) for width in dims])
        self.alignments = nn.ModuleList(
            Transform(width, aligned) if form.has_transform else ZeroPad(aligned) for width in dims
        )
        self.norm: nn.LayerNorm | None = layer_norm(aligned, float(whole.std(correction=0))) if form.has_norm else None
        self.form = form
        self.register_buffer("masks", (torch.arange(aligned) < torch.tensor(dims)[:, None]).float(), persistent=False)

    def forward(self, gates: Tensor) -> Tensor:
        """(n, K) gates to the (n, D) weighted sum of the candidates."""
        if self.form.has_prefixes:  # the same sum, without its terms
            whole = self.weights[0]
            rows = whole * (gates @ self.masks)
            return rows * _stretch(rows, whole[:, : self.dims[-1]]) if self.form.keeps_length else rows
        terms = []
        for k, (width, align) in enumerate(zip(self.dims, self.alignments, strict=True)):
            weight = self.weights[k] if len(self.weights) > 1 else self.weights[0]
            rows = align(weight[:, :width])
            terms.append(gates[:, k : k + 1] * (self.norm(rows) if self.norm else rows))
        return torch.stack(terms).sum(0)

    def n_stored(self, widths: Tensor) -> int:
        """Numbers of a table with some widths (n,): of its rows, and of what aligns those that are narrow."""
        used = {width for width in widths.unique().tolist() if width < self.aligned}
        align = [a for a, width in zip(self.alignments, self.dims, strict=True) if width in used]
        align += [self.norm] if self.norm and used else []
        return int(widths.sum()) + sum(p.numel() for module in align for p in module.parameters())


def _stretch(rows: Tensor, whole: Tensor) -> Tensor:
    """(n, 1) factors that make rows (n, D) as long as those of `whole`, bounded, lest next to nothing fill a row."""
    wanted = _lengths(whole)
    return wanted / torch.maximum(_lengths(rows), wanted / _LONGEST_STRETCH)


def _lengths(rows: Tensor) -> Tensor:
    """(n, D) to (n, 1), at least tiny."""
    return rows.square().sum(-1, keepdim=True).clamp(min=_SMALLEST).sqrt()
