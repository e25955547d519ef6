"""Cost and structure matrices between sets of embeddings, one problem per batch row.

A structure matrix is the cost of a set with itself: `cosine_cost(x, x)`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

import torch
from torch import Tensor

from recmodels.errors import ParamError

# A shorter vector has no direction: its square would soon leave the normal float32 range.
SHORTEST = 1e-12

# Costs as functions of the cosine: 1 - cos; exp(-cos / t); the same with the largest exponent subtracted.
COSTS = ("cosine", "exp_cosine", "exp_cosine_shifted")


@dataclass(frozen=True, eq=False)
class Masks:
    """Which nodes of each problem are valid; the others are padding.

    Attributes:
        rows: (B, n) bool, True where a node of the first side is valid; None: all are.
        columns: (B, m) bool, the same of the second side.
    """

    rows: Tensor | None = None
    columns: Tensor | None = None

    @cached_property
    def padded(self) -> Tensor | None:
        """Bool that broadcasts to (B, n, m), True where either node is padding; None: nowhere."""
        pairs = self.pairs
        return None if pairs is None else ~pairs

    @cached_property
    def pairs(self) -> Tensor | None:
        """Bool that broadcasts to (B, n, m), True where both nodes are valid; None: all are."""
        rows = None if self.rows is None else self.rows.unsqueeze(-1)
        columns = None if self.columns is None else self.columns.unsqueeze(-2)
        if rows is None or columns is None:
            return columns if rows is None else rows
        return rows & columns

    def clean(self, matrix: Tensor) -> Tensor:
        """`matrix` (B, n, m) with zeros at padded pairs, whatever was there: neither NaN nor gradient passes."""
        return matrix if self.padded is None else matrix.masked_fill(self.padded, 0)


ALL_VALID = Masks()


def cosine_cost(x: Tensor, y: Tensor) -> Tensor:
    """One minus the cosine of every pair.

    Args:
        x: (B, n, d).
        y: (B, m, d).

    Returns:
        (B, n, m) in [0, 2], dimensionless. A zero vector has cosine 0 with everything and receives gradient 0.

    Source: Chen et al. 2020 (GOT). Verified: test_costs.py (loop, gradcheck).
    """
    return cosine_to_cost(cosine(x, y), "cosine", 1.0)


def exp_cosine_cost(
    x: Tensor, y: Tensor, temperature: float, shifted: bool = False, masks: Masks = ALL_VALID
) -> Tensor:
    """The exponential cost `exp(-cos / temperature)` of every pair.

    Args:
        x: (B, n, d).
        y: (B, m, d).
        temperature: > 0, dimensionless.
        shifted: subtract the largest exponent of the problem, so that its largest valid cost is 1.
        masks: padding, which the largest exponent does not see.

    Returns:
        (B, n, m) in [exp(-1 / temperature), exp(1 / temperature)]; shifted in (0, 1]. Padded pairs are 1 when shifted.
        Where two pairs share the largest exponent, its gradient is divided among them.

    Raises:
        ParamError: temperature is not positive, or so small that the unshifted cost overflows the dtype of `x`.

    Source: Han et al. 2022 (GSC), code; shifted: ours. Verified: test_costs.py (loop, reference values).
    """
    return cosine_to_cost(cosine(x, y), "exp_cosine_shifted" if shifted else "exp_cosine", temperature, masks)


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """The cosine of every pair; (B, n, d) and (B, m, d) to (B, n, m) in [-1, 1], 0 for a zero vector."""
    return direction(x) @ direction(y).mT


def direction(x: Tensor) -> Tensor:
    """(..., d) vectors at unit length, in float32 or wider; a zero vector stays zero and its gradient is 0, not NaN."""
    x = in_float32(x)
    square = x.square().sum(-1, keepdim=True)
    is_zero = square <= SHORTEST**2
    return x * square.masked_fill(is_zero, 1).rsqrt().masked_fill(is_zero, 0)


def in_float32(x: Tensor) -> Tensor:
    """The same in float32, or wider where it was."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def cosine_to_cost(similarity: Tensor, name: str, temperature: float, masks: Masks = ALL_VALID) -> Tensor:
    """A named cost as a function of the cosine, also for 0/1 edges that stand for cosines (GSC).

    Args:
        similarity: (B, n, m).
        name: a name of `COSTS`.
        temperature: > 0, dimensionless, of the exponential costs.
        masks: padding, which the largest exponent of the shifted cost does not see.

    Returns:
        (B, n, m), see `cosine_cost` and `exp_cosine_cost`.

    Raises:
        ParamError: unknown name, or a temperature that the cost does not allow.
    """
    check_choice("cosine_to_cost", "cost", name, COSTS)
    if name == "cosine":
        return (1 - similarity).clamp(0, 2)
    shifted = name == "exp_cosine_shifted"
    _check_temperature(temperature, similarity.dtype, shifted)
    exponent = similarity / -temperature
    return _exp_shifted(exponent, -1 / temperature, masks.padded) if shifted else exponent.exp()


def largest_cost(name: str, temperature: float) -> float:
    """The largest value that a named cost of a cosine can take; the least is 0 or above."""
    check_choice("largest_cost", "cost", name, COSTS)
    bounds = {"cosine": 2.0, "exp_cosine_shifted": 1.0}
    return bounds[name] if name in bounds else math.exp(1 / temperature)


def _exp_shifted(exponent: Tensor, least: float, padded: Tensor | None) -> Tensor:
    # `least` is the least an exponent can be, hence neutral in the maximum.
    seen = exponent if padded is None else exponent.masked_fill(padded, least)
    exponent = exponent - seen.amax((-2, -1), keepdim=True)
    return (exponent if padded is None else exponent.masked_fill(padded, 0)).exp()


def threshold_cost(cost: Tensor, fraction: float, scope: str, masks: Masks = ALL_VALID) -> Tensor:
    """Cuts the lowest part of the range of costs to zero: relu(C - (min + fraction * (max - min))).

    Args:
        cost: (B, n, m), any unit.
        fraction: in [0, 1], part of the range that becomes zero.
        scope: where minimum and maximum are taken. "problem": each problem by itself; "batch": all problems together,
            so that a value depends on the rest of the batch; "none": the cost is returned as it is.
        masks: padding, which minimum and maximum do not see.

    Returns:
        (B, n, m), unit of `cost`; padded pairs are 0 unless scope is "none". The gradient also flows through minimum
        and maximum, divided among equal entries.

    Raises:
        ParamError: unknown scope, or fraction outside [0, 1].

    Source: Han et al. 2022 (GSC), code, scope "batch" and fraction 0.1. Verified: test_costs.py (loop).
    """
    check_choice("threshold_cost", "scope", scope, ("problem", "batch", "none"))
    if not 0 <= fraction <= 1:
        raise ParamError(f"threshold_cost: fraction must lie in [0, 1], got {fraction}")
    if scope == "none":
        return cost
    over = (-2, -1) if scope == "problem" else (-3, -2, -1)
    padded = masks.padded
    if padded is None:
        return torch.relu(cost - _level(cost, cost, fraction, over))
    low, high = cost.masked_fill(padded, math.inf), cost.masked_fill(padded, -math.inf)
    return torch.relu(cost - _level(low, high, fraction, over)).masked_fill(padded, 0)


def check_choice(where: str, name: str, got: str, choices: Iterable[str]) -> None:
    """Raises a ParamError that lists the choices and names the nearest, unless `got` is one of them."""
    known = list(choices)
    if got not in known:
        nearest = get_close_matches(str(got), known, n=1, cutoff=0)[0]
        raise ParamError(f"{where}: unknown {name} {got!r}, expected one of {known}; nearest: {nearest!r}")


def _level(low: Tensor, high: Tensor, fraction: float, over: tuple[int, ...]) -> Tensor:
    least = low.amin(over, keepdim=True)
    return least + fraction * (high.amax(over, keepdim=True) - least)


def _check_temperature(temperature: float, dtype: torch.dtype, shifted: bool) -> None:
    least = 0.0 if shifted else 1 / math.log(torch.finfo(dtype).max)
    if not temperature > least:
        advice = "" if shifted else " (the shifted cost allows any positive one)"
        raise ParamError(f"exp_cosine_cost: temperature must exceed {least:.4g} in {dtype}, got {temperature}{advice}")
