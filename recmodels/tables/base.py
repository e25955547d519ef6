"""What every table is."""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor, nn


class Table(Protocol):
    """Ids to ego embeddings; a module."""

    def __call__(self) -> Tensor:
        """(N, d) ego embeddings of all nodes."""
        ...

    def picker_parameters(self) -> Iterator[nn.Parameter]:
        """Those of its parameters that choose widths and belong to an optimizer of their own."""
        ...
