"""From rows of their own width to rows of one width."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ZeroPad(nn.Module):
    """Rows of any width up to D, filled up with zeros. Propagation fills a node's zeros from its neighbors."""

    def __init__(self, aligned: int) -> None:
        super().__init__()
        self.aligned = aligned

    def forward(self, rows: Tensor) -> Tensor:
        """(n, w) to (n, D); rows of width D as they are."""
        return F.pad(rows, (0, self.aligned - rows.shape[1]))

    def extra_repr(self) -> str:
        """The width that rows get."""
        return f"to width {self.aligned}"


class Transform(nn.Module):
    """Rows of one width w times a learned (w, D) matrix, without bias.

    It starts as the first w rows of the identity: as zero padding, with the lengths of the rows unchanged.

    Args:
        width: w.
        aligned: D >= w.

    Source: Ginart et al. 2019 (mixed dimension embeddings), the projection.
    """

    def __init__(self, width: int, aligned: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(width, aligned))

    def forward(self, rows: Tensor) -> Tensor:
        """(n, w) to (n, D)."""
        return rows @ self.weight

    def extra_repr(self) -> str:
        """From and to which width."""
        return "width {} to {}".format(*self.weight.shape)


def layer_norm(aligned: int, scale: float) -> nn.LayerNorm:
    """Normalization of aligned rows whose gain starts at `scale`, the deviation that the entries would have without.

    At a gain of 1, PyTorch's, rows of width D would have length sqrt(D), some 50 times that of Xavier's: ranking losses
    would saturate and the regularizer would outweigh them.
    """
    norm = nn.LayerNorm(aligned)
    nn.init.constant_(norm.weight, scale)
    return norm
