"""Proximal steps of entropic transport in the log domain, laid out for many small problems."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

# From here on sums and maxima run over as many problems at once as a register of a CPU holds (docs/performance.md).
MANY_PROBLEMS = 32
# Numbers of a block that stays in the cache of a core from one iteration to the next: three arrays of half a megabyte.
_BLOCK = 2**17


class _Axes(NamedTuple):
    """Where the rows and the columns of many problems lie: `order` brings them there, `inverse` back."""

    rows: int
    columns: int
    order: tuple[int, int, int]
    inverse: tuple[int, int, int]

    def laid(self, x: Tensor) -> Tensor:
        """Moves (B, ., .) there."""
        return x.permute(self.order).contiguous()


PROBLEMS_FIRST = _Axes(1, 2, (0, 1, 2), (0, 1, 2))
PROBLEMS_LAST = _Axes(0, 1, (1, 2, 0), (2, 0, 1))


def _n_blocks(log_kernel: Tensor) -> int:
    """Into how many blocks of problems the work is cut."""
    most = max(len(log_kernel) // MANY_PROBLEMS, 1)
    return min(max(log_kernel.numel() // (_BLOCK * torch.get_num_threads()), 1), most)


def proximal_log_plan(
    log_kernel: Tensor, log_a: Tensor, log_b: Tensor, outer: int, inner: int, tolerance: float
) -> Tensor:
    """The logarithm (B, n, m) of the plans after proximal steps, each a Sinkhorn solve, from the product plan.

    Args:
        log_kernel: (B, n, m), costs over minus epsilon.
        log_a: (B, n, 1), logarithm of the masses of the rows.
        log_b: (B, 1, m), the same of the columns.
        outer: >= 1 steps.
        inner: >= 1 row and column updates a step.
        tolerance: see `proximal_sinkhorn`.
    """
    is_many = len(log_kernel) >= MANY_PROBLEMS and log_kernel.device.type == "cpu"
    axes = PROBLEMS_LAST if is_many else PROBLEMS_FIRST
    n_blocks = _n_blocks(log_kernel) if is_many else 1
    steps = [
        _Step(axes.laid(kernel), axes.laid(a), axes.laid(b), axes, tolerance)
        for kernel, a, b in zip(*(x.chunk(n_blocks) for x in (log_kernel, log_a, log_b)), strict=True)
    ]
    return torch.cat([step.repeated(outer, inner).permute(axes.inverse) for step in steps])


class _Step(NamedTuple):
    """A proximal step: kernel (B, n, m) and masses (B, n, 1) and (B, 1, m) in logarithms, all laid out by `axes`."""

    log_kernel: Tensor
    log_a: Tensor
    log_b: Tensor
    axes: _Axes
    tolerance: float

    def repeated(self, outer: int, inner: int) -> Tensor:
        """The log plan after `outer` steps of `inner` iterations each."""
        # In place only where neither autograd nor the tolerance needs the previous state.
        is_kept = bool(self.tolerance) or (torch.is_grad_enabled() and self.log_kernel.requires_grad)
        work = None if is_kept else torch.empty_like(self.log_kernel)
        log_plan, g = torch.zeros_like(self.log_kernel), self.log_b
        for _ in range(outer):
            log_plan, g = self(log_plan, g, inner, work)
        return log_plan

    def __call__(self, log_plan: Tensor, g: Tensor, inner: int, work: Tensor | None) -> tuple[Tensor, Tensor]:
        """From one log plan and column potential to the next; in place if there is a buffer to work in."""
        if work is not None:
            return self._scale(log_plan.add_(self.log_kernel), g, inner, work)
        moved, moved_g = self._scale(log_plan + self.log_kernel, g, inner)
        if not self.tolerance:
            return moved, moved_g
        # A problem that is not moved proposes the same step again: it needs no flag to stay frozen.
        change = (exp_or_zero(moved) - exp_or_zero(log_plan)).abs()
        is_moving = change.sum((self.axes.rows, self.axes.columns), keepdim=True) > self.tolerance
        return torch.where(is_moving, moved, log_plan), torch.where(is_moving, moved_g, g)

    def _scale(self, log_q: Tensor, g: Tensor, inner: int, work: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scales exp(log_q) towards both marginals by `inner` Sinkhorn iterations."""
        rows, columns = self.axes.rows, self.axes.columns
        f = self.log_a - _logsumexp(log_q, g, columns, work)
        total = _logsumexp(log_q, f, rows, work)
        for _ in range(inner - 1):
            f = self._corrected(f, self.log_a - _logsumexp(log_q, self.log_b - total, columns, work))
            total = _logsumexp(log_q, f, rows, work)
        # In this order the large numbers cancel first: columns sum to their mass even where cost / epsilon is 1e11.
        if work is None:
            return log_q + f - total + self.log_b, self.log_b - total
        return log_q.add_(f).sub_(total).add_(self.log_b), self.log_b - total

    def _corrected(self, f: Tensor, proposed: Tensor) -> Tensor:
        if not self.tolerance:
            return proposed
        row_error = ((proposed - f).abs() * self.log_a.exp()).sum(self.axes.rows, keepdim=True)
        return torch.where(row_error > self.tolerance, proposed, f)


def _logsumexp(log_q: Tensor, potential: Tensor, axis: int, work: Tensor | None) -> Tensor:
    x = torch.add(log_q, potential, out=work)
    if x.requires_grad:
        return torch.logsumexp(x, axis, keepdim=True)
    top = x.amax(axis, keepdim=True)
    return x.sub_(top).clamp_(min=_log_of_smallest(x)).exp_().sum(axis, keepdim=True).log_().add_(top)


def _log_of_smallest(like: Tensor) -> float:
    """Somewhat above where exp underflows, for which the vectors of a CPU take 50 to 140 times as long."""
    return math.log(torch.finfo(like.dtype).tiny) + 1


def exp_or_zero(x: Tensor) -> Tensor:
    """The exponential, 0 where it underflows."""
    lowest = _log_of_smallest(x)
    return x.clamp(min=lowest).exp().masked_fill(x < lowest, 0.0)
