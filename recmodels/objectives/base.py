"""What every objective is: a named, weighted, scheduled scalar term."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from recmodels.records import Batch, Encoding


class Objective(nn.Module):
    """A term of the loss. `forward(encoding, batch)` returns the *unweighted* scalar; the model multiplies by `weight`.

    Subclasses set `name` and write `forward`; they own their reduction and candidates. A regularizer sets
    `is_regularizer`: its gradient is small on purpose.

    Args:
        weight: multiplier of the term; a model drops objectives of weight 0 that nobody reads altogether.
        starts_at: first 0-based epoch in which the term counts.

    Attributes:
        readers: objectives that read what this one prepares at the start of an epoch, and need it whatever the weight
            and start of this one; in a model they come after it.
    """

    name: str
    is_regularizer: ClassVar[bool] = False

    def __init__(self, weight: float, starts_at: int = 0) -> None:
        super().__init__()
        self.weight, self.starts_at = weight, starts_at
        self.readers: list[Objective] = []  # in a list, because they are no part of the module
        self.generator = torch.Generator()

    def is_active(self, epoch: int) -> bool:
        """Whether the term counts in this epoch."""
        return self.weight != 0 and epoch >= self.starts_at

    def needed_by(self) -> list["Objective"]:
        """Those that count and need this one: itself, and its readers."""
        return [o for o in (self, *self.readers) if o.weight != 0]

    def is_needed(self, epoch: int) -> bool:
        """Whether the term counts in this epoch, or that of a reader."""
        return any(o.is_active(epoch) for o in self.needed_by())

    def on_epoch_start(self, epoch: int, ego: Tensor, generator: torch.Generator) -> None:
        """Called at the start of each epoch in which it is needed, before the first batch.

        Args:
            epoch: 0-based.
            ego: (N, d) current ego embeddings, detached.
            generator: this objective's stream for this epoch.
        """
        self.generator = generator

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """The unweighted scalar term of one batch."""
        raise NotImplementedError(f"{type(self).__name__} does not compute a term")

    def report(self) -> dict[str, float]:
        """Named diagnostics of the epoch that just ended."""
        return {}

    def extra_repr(self) -> str:
        """Name, weight and start of the term."""
        start = f", starts_at={self.starts_at}" if self.starts_at else ""
        return f"{self.name!r}, weight={self.weight:g}{start}"
