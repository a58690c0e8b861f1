"""Exact solutions of many small non-negative lasso problems at once, by their active sets.

Shapes: R trials, each with one matrix K [T, T] that its C problems (columns) share; M problems are moved at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_ROUNDS = 1000
_ZERO = 1e-12
"""A slope this part of a problem's largest number is rounding."""


def nonnegative_least(gram: Tensor, linear: Tensor, allowed: Tensor, start: Tensor) -> Tensor:
    """Minimises x'Kx/2 - q'x over x >= 0, for every trial and column, exactly.

    Lawson and Hanson's active sets (1974), with the coordinates of steepest slope entering together: on the coordinates
    that are not 0 the minimum is a linear system; where it would make some negative, x goes as far as it may and those
    that arrive at 0 leave. Every move lowers the objective, so that it ends, and it ends soon from a good start.

    Args:
        gram: K, positive semi-definite, [R, T, T].
        linear: q as columns, [R, T, C].
        allowed: bool [R, T, C]: where x may differ from 0.
        start: x >= 0 to begin from, [R, T, C].

    Returns:
        x, [R, T, C].
    """
    n, size, width = linear.shape
    trial = torch.arange(n, device=gram.device).repeat_interleave(width)
    q, free, x = (part.mT.reshape(n * width, size) for part in (linear, allowed, start))
    x = torch.where(free, x, 0.0)
    support = x > 0
    enough = _ZERO * q.abs().amax(1)
    open_ = torch.arange(n * width, device=gram.device)
    for _ in range(_ROUNDS):
        k = trial[open_]
        x[open_], support[open_] = _settle(gram, k, q[open_], x[open_], support[open_])
        fall = q[open_] - _product(gram, x.view(n, width, size), x[open_], k)
        fall = torch.where(free[open_] & ~support[open_], fall, -torch.inf)
        steepest = fall.amax(1)
        falls = steepest > enough[open_]
        support[open_] |= (fall > 0.5 * steepest[:, None]) & falls[:, None]
        open_ = open_[falls]
        if len(open_) == 0:
            break
    return x.view(n, width, size).mT.contiguous()


def _product(gram: Tensor, every: Tensor, some: Tensor, trial: Tensor) -> Tensor:
    """K x of some problems [M, T]; of all, and picked, where they are many: one product per trial is then cheaper."""
    if len(some) == every.shape[0] * every.shape[1]:
        return (every @ gram).reshape(some.shape)
    return torch.bmm(gram[trial], some[:, :, None])[:, :, 0]


def _settle(gram: Tensor, trial: Tensor, q: Tensor, x: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
    """The minimum on each support, [M, T], from which what would be negative has left."""
    x, support = x.clone(), support.clone()
    moving = torch.arange(len(x), device=x.device)
    while len(moving):
        here, on = x[moving], support[moving]
        aim = solve_on(gram, trial[moving], q[moving], on)
        # Where a system has no solution to speak of, x stays: its slope, and so its residual, tells.
        aim = torch.where(torch.isfinite(aim).all(1, keepdim=True), aim, here)
        below = on & (aim <= 0)
        share = torch.where(below, here / torch.where(below, here - aim, 1.0), torch.inf)
        reach = share.amin(1, keepdim=True).clamp(max=1.0)
        gone = below & ((share <= reach) | (here <= 0))
        x[moving] = torch.where(on & ~gone, here + reach * (aim - here), 0.0).clamp(min=0.0)
        support[moving] = on & ~gone
        moving = moving[below.any(1)]
    return x, support


def solve_on(gram: Tensor, trial: Tensor, right: Tensor, support: Tensor) -> Tensor:
    """Solves K x = q on each problem's support; x is 0 elsewhere.

    Args:
        gram: K, [R, T, T].
        trial: The trial whose K each problem has, int64 [M].
        right: q, [M, T].
        support: bool [M, T].

    Returns:
        x, [M, T].
    """
    # A trace's rounding keeps supports that are larger than the rank apart from a division by 0.
    return _factored_on(gram, trial, support, 1e-14)(right)


def best_on_support(gram: Tensor, support: Tensor) -> Callable[[Tensor], Tensor]:
    """A function that solves K x = q on each column's support for any q; K is factored once.

    Args:
        gram: K, [R, T, T].
        support: bool [R, T, C].

    Returns:
        A function of q [R, T, C], with X [R, T, C].
    """
    n, size, n_columns = support.shape
    trial = torch.arange(n, device=gram.device).repeat_interleave(n_columns)
    solve = _factored_on(gram, trial, support.mT.reshape(n * n_columns, size), 1e-12)
    return lambda right: solve(right.mT.reshape(n * n_columns, size)).view(n, n_columns, size).mT


def _factored_on(gram: Tensor, trial: Tensor, support: Tensor, damping: float) -> Callable[[Tensor], Tensor]:
    """The function q -> X of K x = q on each support, and 0 elsewhere: q, support and X [M, T].

    `damping`, as a part of its trace, is added to the diagonal of each K on its support.
    """
    width = max(int(support.sum(1).max()), 1)
    at = torch.argsort((~support).to(torch.int8), dim=1, stable=True)[:, :width]
    used = support.gather(1, at)
    small = gram[trial[:, None, None], at[:, :, None], at[:, None, :]]
    small = torch.where(used[:, :, None] & used[:, None, :], small, 0.0)
    diagonal = small.diagonal(dim1=1, dim2=2)
    diagonal += torch.where(used, damping * diagonal.sum(1, keepdim=True), 1.0)
    factor, _ = torch.linalg.cholesky_ex(small)

    def solve(right: Tensor) -> Tensor:
        found = torch.cholesky_solve(torch.where(used, right.gather(1, at), 0.0)[:, :, None], factor)[:, :, 0]
        return torch.zeros_like(right).scatter_(1, at, torch.where(used, found, 0.0))

    return solve
