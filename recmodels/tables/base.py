"""What every table is."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class Table(nn.Module):
    """Ids to ego embeddings. Subclasses write `forward`; a table that searches its widths has a picker as well.

    Attributes:
        layout: names of the buffers that say which numbers are whose; a state with others is refused when loaded.
    """

    layout: ClassVar[tuple[str, ...]] = ()

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

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401
        """As torch's, but a state of another layout is an error: rows of the same shapes may be of other nodes."""
        for name in self.layout:
            given, own = state_dict.get(prefix + name), getattr(self, name)
            if given is not None and not (given.shape == own.shape and bool((given.to(own) == own).all())):
                # At once, as torch would go on to load what belongs to other nodes.
                raise RuntimeError(f"{prefix}{name}: of a table whose nodes have other {name}; make it with those")
        super()._load_from_state_dict(state_dict, prefix, *args)

    def n_stored(self) -> int:
        """How many numbers of 32 bits its final form stores; its parameters by default."""
        return sum(p.numel() for p in self.parameters())

    def settled(self) -> Tensor:
        """(N, d) ego embeddings without chance; those of `forward` by default."""
        return self()

    def on_epoch_start(self, epoch: int, generator: torch.Generator) -> None:
        """Hook: an epoch begins (0-based), with the table's random stream for it. By default nothing changes."""
