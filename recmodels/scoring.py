"""Scores: from the readout of an Encoding to rows whose inner products rank items."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recmodels.graph import BipartiteGraph
from recmodels.records import Encoding

SIMILARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "inner": lambda x: x,
    "cosine": lambda x: F.normalize(x, dim=-1),
}


@dataclass(frozen=True)
class Temperature:
    """What scores are divided by, and how it moves.

    Attributes:
        start: > 0, dimensionless; the value of the first epoch, or the first value of a learned one.
        end: > 0, the value from epoch `n_epochs` on, reached geometrically.
        n_epochs: >= 0 epochs from start to end; 0 keeps it at `start`.
        is_learned: whether it is a parameter, kept positive by its logarithm, instead.
    """

    start: float
    end: float
    n_epochs: int
    is_learned: bool = False

    def at(self, epoch: int) -> float:
        """The scheduled value in a 0-based epoch."""
        if not self.n_epochs:
            return self.start
        return self.start * (self.end / self.start) ** min(1.0, epoch / self.n_epochs)


class Scorer(nn.Module):
    """A score of user u and item i: `similarity(u, i) / temperature + bias_i`.

    Args:
        graph: gives the sides.
        similarity: a name of `SIMILARITIES`.
        temperature: of the scores; it moves losses, not rankings, unless items have a bias.
        has_bias: whether each item has a learned bias, starting from 0.
    """

    def __init__(self, graph: BipartiteGraph, similarity: str, temperature: Temperature, has_bias: bool) -> None:
        super().__init__()
        self.n_users, self.similarity, self.schedule = graph.n_users, similarity, temperature
        self.bias = nn.Parameter(torch.zeros(graph.n_items)) if has_bias else None
        log_start = torch.tensor(math.log(temperature.start))
        self.log_temperature = nn.Parameter(log_start) if temperature.is_learned else None
        self.scheduled: Tensor | None
        # Part of the state: with a bias it decides rankings, so the best epoch is tested with its own temperature.
        self.register_buffer("scheduled", torch.tensor(temperature.start) if temperature.n_epochs else None)

    def on_epoch_start(self, epoch: int) -> None:
        """Moves a scheduled temperature."""
        if self.scheduled is not None:
            self.scheduled.fill_(self.schedule.at(epoch))

    @property
    def temperature(self) -> float | Tensor:
        """The current temperature, > 0."""
        if self.log_temperature is not None:
            return self.log_temperature.exp()
        return self.schedule.start if self.scheduled is None else self.scheduled

    def forward(self, encoding: Encoding) -> Encoding:
        """The encoding with `scored` filled in; (N, d), or (N, d + 1) where items have a bias."""
        rows = SIMILARITIES[self.similarity](encoding.final)
        temperature = self.temperature
        if self.bias is None and isinstance(temperature, float) and temperature == 1:
            return encoding._replace(scored=rows)
        users, items = rows[: self.n_users] / temperature, rows[self.n_users :]
        if self.bias is not None:
            users = F.pad(users, (0, 1), value=1.0)
            items = torch.cat([items, self.bias[:, None]], dim=1)
        return encoding._replace(scored=torch.cat([users, items]))

    def extra_repr(self) -> str:
        """What is divided and added."""
        how = "learned" if self.log_temperature is not None else f"to {self.schedule.end:g}"
        is_moving = self.log_temperature is not None or self.schedule.n_epochs
        moves = f" ({how})" if is_moving else ""
        return f"{self.similarity}, temperature={self.schedule.start:g}{moves}, item bias={self.bias is not None}"
