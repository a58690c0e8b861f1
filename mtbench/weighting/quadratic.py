"""Convex quadratic programs over vectors without negative numbers, many small ones at once.

    min over y >= 0 of y'Qy / 2 + c'y,  that is  y >= 0, s = Qy + c >= 0, y_i s_i = 0

Mehrotra's predictor-corrector method (Mehrotra, On the Implementation of a Primal-Dual Interior Point Method, SIAM
Journal on Optimization 1992) finds which numbers are 0 in some ten rounds for any T; then the others are
solved for as if that were known, which is exact, and kept where it is better. Singular matrices are no problem: of
several solutions the method tends to their centre.

Shapes: leading axes "...", T numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench.weighting.gram import times

_ROUNDS = 16
_SHORT_OF_ZERO = 0.9, 0.9995  # how much of the way to the nearest 0 a step goes, from least to most
_RIDGE = 1e-14  # keeps factors of singular matrices finite; solutions do not feel it


def nonnegative_minimum(Q: Tensor, c: Tensor, active: Tensor) -> Tensor:
    """The minimiser over vectors without negative numbers; accurate to about 1e-10 where |Q| and |c| are about 1.

    Args:
        Q: [..., T, T], symmetric and positive semidefinite, of diagonal about 1 where active.
        c: [..., T], zeros where not active.
        active: [..., T], 1 or 0; numbers that are not active are 0 in the result.

    Returns:
        [..., T].
    """
    Q = Q + torch.diag_embed(1 - active)
    c = c + (1 - active)
    y = _interior_point(Q, c)
    y = _better(Q, c, y, _exact(Q, c, y))
    return y.clamp(min=0.0) * active


def _interior_point(Q: Tensor, c: Tensor) -> Tensor:
    y, s = torch.ones_like(c), torch.ones_like(c)
    for _ in range(_ROUNDS):
        missing = times(Q, y) + c - s
        mu = (y * s).mean(-1, keepdim=True)
        ratio = s / y
        factor = torch.linalg.cholesky_ex(Q + torch.diag_embed(ratio + _RIDGE)).L
        dy = _solve(factor, -missing - s)
        ds = -s - ratio * dy
        step = _step(y, s, dy, ds, 1.0)
        ahead = ((y + step * dy) * (s + step * ds)).mean(-1, keepdim=True)
        aim = ((ahead / mu) ** 3 * mu - dy * ds) / y - s
        dy = _solve(factor, aim - missing)
        ds = aim - ratio * dy
        # Carefully where the prediction was short: always going all the way, a few problems in ten thousand cycle.
        step = _step(y, s, dy, ds, (0.9 + 0.1 * step).clamp(*_SHORT_OF_ZERO))
        y, s = y + step * dy, s + step * ds
    return y


def _step(y: Tensor, s: Tensor, dy: Tensor, ds: Tensor, share: Tensor | float) -> Tensor:
    """How far both can go, at most 1: the given share of the way to where the first number becomes 0."""
    fastest = torch.maximum(-dy / y, -ds / s).amax(-1, keepdim=True)
    return 1 / (fastest / share).clamp(min=1.0)


def _exact(Q: Tensor, c: Tensor, y: Tensor) -> Tensor:
    """The solution if the numbers that exceed their slack are those that are not 0."""
    free = (y > times(Q, y) + c).to(y.dtype)
    kept = y * free
    block = Q * free[..., None] * free[..., None, :] + torch.diag_embed(1 - free + _RIDGE)
    # A correction, because where there are several solutions it then leads to the nearest.
    return kept - _solve(torch.linalg.cholesky_ex(block).L, (times(Q, kept) + c) * free)


def _better(Q: Tensor, c: Tensor, y: Tensor, other: Tensor) -> Tensor:
    errors = [torch.minimum(x, times(Q, x) + c).abs().amax(-1, keepdim=True) for x in (y, other)]
    return torch.where(errors[1] < errors[0], other, y)  # False where the other is NaN


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    return torch.cholesky_solve(right[..., None], factor)[..., 0]
