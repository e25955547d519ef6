"""The rows of a search: every width that a node may get."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from recmodels.tables.alignment import Transform, ZeroPad, layer_norm


class Candidates(nn.Module):
    """The rows of one side at every candidate width, aligned to D.

    Args:
        start: gives for a width the (n, width) embeddings.
        dims: K ascending widths.
        aligned: D.
        is_shared: one (n, D) weight of which a candidate is the first columns; otherwise a weight for each candidate.
        has_transform: whether each candidate is multiplied by a learned matrix; otherwise it is padded with zeros.
        has_norm: whether all candidates are then normalized by one LayerNorm.

    Source: Guan et al. 2025 (AdaE), `share` and `noshare`, `zp` and `ts`.
    """

    masks: Tensor

    def __init__(
        self,
        start: Callable[[int], Tensor],
        dims: Sequence[int],
        aligned: int,
        is_shared: bool,
        has_transform: bool,
        has_norm: bool,
    ) -> None:
        super().__init__()
        self.dims, self.aligned = tuple(dims), aligned
        whole = start(aligned)
        self.weights = nn.ParameterList([whole] if is_shared else [start(width) for width in dims])
        self.alignments = nn.ModuleList(
            Transform(width, aligned) if has_transform else ZeroPad(aligned) for width in dims
        )
        self.norm: nn.LayerNorm | None = layer_norm(aligned, float(whole.std(correction=0))) if has_norm else None
        self.is_mask = is_shared and not has_transform and not has_norm
        self.register_buffer("masks", (torch.arange(aligned) < torch.tensor(dims)[:, None]).float(), persistent=False)

    def forward(self, gates: Tensor) -> Tensor:
        """(n, K) gates to the (n, D) weighted sum of the candidates."""
        if self.is_mask:  # the same sum, without its terms
            return self.weights[0] * (gates @ self.masks)
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
