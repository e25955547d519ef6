"""Tables of which single entries are kept, and the mask of them as text."""

import base64
import binascii
import zlib

import numpy as np
import torch
from torch import Tensor, nn

from recmodels.errors import ParamError
from recmodels.tables.base import Table


class PrunedTable(Table):
    """Ego embeddings of which only the entries under a mask are stored and trained; the others are zero.

    Beside its numbers it keeps one bit for every entry of the plain table, which `n_stored` counts.

    Args:
        start: (N, D) embeddings; kept entries start there, as they did before pruning (Frankle & Carbin 2019).
        mask: (N, D) bool, entries that are kept.

    Source: magnitude pruning, Han et al. 2015; as a rival of learned widths in the LERS benchmark (arXiv 2406.17335).
    """

    layout = ("bits",)
    bits: Tensor
    _mask: Tensor

    def __init__(self, start: Tensor, mask: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(start[mask])
        self.register_buffer("bits", torch.from_numpy(np.packbits(mask.numpy())))
        self.register_buffer("_mask", mask, persistent=False)

    def forward(self) -> Tensor:
        """(N, D) ego embeddings."""
        return self.values.new_zeros(self._mask.shape).masked_scatter(self._mask, self.values)

    def n_stored(self) -> int:
        """Its numbers, and the bits that say where they belong."""
        return n_with_mask(len(self.values), self._mask.numel())

    def extra_repr(self) -> str:
        """How much is kept."""
        return "{} of {} entries of {} nodes, width {}".format(len(self.values), self._mask.numel(), *self._mask.shape)


def n_with_mask(n_kept: int, n_entries: int) -> int:
    """Numbers of 32 bits that a pruned table stores: those that are kept, and a bit for every entry."""
    return n_kept + -(-n_entries // 32)


def largest_entries(weight: Tensor, budget: int) -> Tensor:
    """Which (N, D) entries are the `budget` largest in magnitude; of equal ones the first in the order of the rows."""
    order = weight.abs().flatten().argsort(descending=True, stable=True)
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[order[:budget].cpu()] = True
    return mask.view(weight.shape)


def mask_as_text(mask: Tensor) -> str:
    """(N, D) bool as text: its bits, compressed, in base 64."""
    return base64.b64encode(zlib.compress(np.packbits(mask.numpy()).tobytes(), 9)).decode()


def mask_from_text(text: str, n_nodes: int, width: int) -> Tensor:
    """What `mask_as_text` wrote.

    Args:
        text: see `mask_as_text`.
        n_nodes: N.
        width: D.

    Raises:
        ParamError: it is no such text, or of a table of another size.
    """
    try:
        packed = np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), dtype=np.uint8)
    except (binascii.Error, zlib.error, ValueError):
        raise ParamError("adae_mask: not a mask that recmodels compact --prune wrote") from None
    n_entries = n_nodes * width
    if len(packed) != -(-n_entries // 8):
        raise ParamError(
            f"adae_mask: of a table of about {8 * len(packed):,} entries, expected {n_nodes:,} nodes of width {width}, "
            f"{n_entries:,} entries; it is of another data set, split or embedding_size"
        )
    return torch.from_numpy(np.unpackbits(packed)[:n_entries].astype(bool)).view(n_nodes, width)
