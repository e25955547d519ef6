"""Lists of transport problems, and which of them are solved together."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from recmodels.costs import Masks

# Numbers of the matrices of problems that are solved together: below, an operation's call costs more than its work, and
# above, a core's cache would no longer hold them.
_SOLVED_TOGETHER = 1 << 14


class Problems(NamedTuple):
    """P transport problems of a list of pairs.

    Attributes:
        masks: valid places of rows and columns.
        cost: (P, S, S), or None where no Wasserstein plan is wanted.
        structures: (P, S, S) of the left and of the right ends, or None where no Gromov-Wasserstein plan is wanted.
    """

    masks: Masks
    cost: Tensor | None
    structures: tuple[Tensor, Tensor] | None

    @property
    def n(self) -> int:
        """P."""
        return len(self._matrix)

    @property
    def n_entries(self) -> int:
        """Numbers of one matrix of all problems."""
        return self._matrix.numel()

    @property
    def _matrix(self) -> Tensor:
        matrix = self.cost if self.structures is None else self.structures[0]
        assert matrix is not None  # a distance is wanted
        return matrix


def small_together(lists: Sequence[Problems]) -> list[list[Problems]]:
    """The lists in their order, neighbors together as far as they are small."""
    batches: list[list[Problems]] = [[]]
    for problems in lists:
        if batches[-1] and sum(of.n_entries for of in (*batches[-1], problems)) > _SOLVED_TOGETHER:
            batches.append([])
        batches[-1].append(problems)
    return batches


def joined(lists: Sequence[Problems]) -> Problems:
    """All problems of the lists in one."""
    if len(lists) == 1:
        return lists[0]
    rows, columns = _cat([of.masks.rows for of in lists]), _cat([of.masks.columns for of in lists])
    left, right = (_cat([of.structures[side] if of.structures else None for of in lists]) for side in (0, 1))
    structures = None if left is None or right is None else (left, right)
    return Problems(Masks(rows, columns), _cat([of.cost for of in lists]), structures)


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    """One after another; None where there is nothing."""
    return torch.cat([part for part in parts if part is not None]) if parts[0] is not None else None
