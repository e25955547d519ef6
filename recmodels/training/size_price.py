"""The price of size in a search with a budget."""

import torch
from torch import Tensor

# Steps of the rate that the price leads by, so that it falls as soon as the table becomes smaller: without it sizes
# swing below the budget, and columns that nobody has used for a while are not asked for again.
_LEAD = 20


class SizePrice:
    """What a parameter costs the picker: more while the expected table is larger than the budget, less while smaller.

    Without it the picker asks for width wherever it helps at all, and what fits is decided by how sure it is of each
    class, not by how much the class gains.

    Args:
        budget: parameters of the rows.
        rate: >= 0, rise of the price in a step per share of the budget that is exceeded.

    Attributes:
        value: >= 0, the multiplier: slope of the cost at the budget, in units of the ranking term per whole budget.

    Source: augmented Lagrangian of `min loss subject to size <= budget`, Nocedal & Wright 2006, chapter 17.
    """

    def __init__(self, budget: int, rate: float) -> None:
        self.budget, self.rate, self.value = budget, rate, 0.0

    def __call__(self, expected: Tensor) -> Tensor:
        """What an expected size costs beyond the budget, or earns below it; scalar to scalar."""
        over = expected / self.budget - 1
        return (self.value + _LEAD * self.rate * over.detach()).clamp(min=0) * over

    def follow(self, expected: float) -> None:
        """Moves the price after a step."""
        self.value = max(0.0, self.value + self.rate * (expected / self.budget - 1))


def expected_size(probabilities: list[Tensor], sizes: list[Tensor]) -> Tensor:
    """Expected parameters of all rows: of each side (n, K) probabilities and (K,) sizes to a scalar."""
    return torch.stack([(p @ of.to(p)).sum() for p, of in zip(probabilities, sizes, strict=True)]).sum()
