"""What every table is."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Table(nn.Module):
    """Ids to ego embeddings. Subclasses write `forward`; a table that searches its widths has a picker as well."""

    def forward(self) -> Tensor:
        """(N, d) ego embeddings of all nodes."""
        raise NotImplementedError(f"{type(self).__name__} does not give embeddings")

    def picker_parameters(self) -> Iterator[nn.Parameter]:
        """Those of its parameters that choose widths and belong to an optimizer of their own; none by default."""
        return iter(())

    @property
    def is_warming_up(self) -> bool:
        """Whether the table is not yet one that could be evaluated; never by default."""
        return False

    @property
    def is_searching(self) -> bool:
        """Whether its form is being searched, which is no business of the validation part; never by default."""
        return False

    def n_stored(self) -> int:
        """How many numbers of 32 bits its final form stores; its parameters by default."""
        return sum(p.numel() for p in self.parameters())

    def settled(self) -> Tensor:
        """(N, d) ego embeddings without chance; those of `forward` by default."""
        return self()

    def on_epoch_start(self, epoch: int, generator: torch.Generator) -> None:
        """Hook: an epoch begins (0-based), with the table's random stream for it. By default nothing changes."""
