"""The control of adaptive tables: a transform of a table in which all rows have one width."""

import torch.nn.functional as F
from torch import Tensor, nn

from recmodels.tables.alignment import layer_norm
from recmodels.tables.base import Table


class TransformedTable(Table):
    """Ego embeddings of one width after two linear maps with a norm behind each: does a transform alone help?

    `norm(linear2(norm(relu(linear1(x)))))`, as AdaE's mode `fix`; the gain of the one norm starts at the deviation of
    the start.

    Args:
        start: (N, D) embeddings.

    Source: Guan et al. 2025 (AdaE), mode `fix`. Verified: test_adaptive_table.py.
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        width = start.shape[1]
        self.weight = nn.Parameter(start)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = layer_norm(width, float(start.std(correction=0)))

    def forward(self) -> Tensor:
        """(N, D) ego embeddings."""
        hidden = self.norm(F.relu(self.first(self.weight)))
        return self.norm(self.second(hidden))
