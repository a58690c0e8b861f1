"""Convex quadratic programs over vectors without negative numbers, many small ones at once.

    min over y >= 0 of y'Qy / 2 + c'y,  that is  y >= 0, s = Qy + c >= 0, y_i s_i = 0

Block principal pivoting (see `mtbench.weighting.pivoting`) solves most problems in a few rounds. What it leaves goes to
Mehrotra's predictor-corrector method (Mehrotra, On the Implementation of a Primal-Dual Interior Point Method, SIAM
Journal on Optimization 1992), which finds which numbers are 0 in some ten rounds for any T; then the others are
solved for as if that were known, which is exact, and kept where it is better. Singular matrices are no problem: of
several solutions the method tends to their centre.

Shapes: leading axes "...", T numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench.weighting.gram import settled, times

_ROUNDS = 16
_PIVOTING = 6  # rounds of pivoting before
_PIVOT = 1e-5  # least pivot with which a solution counts as the only one
_LOOKS = (5, 7, 10, 13)  # rounds after which it is asked whether what is 0 is known already
_EXACT = 1e-12  # errors of a solution, relative to its largest number
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
    if Q.device.type != "cpu":  # a GPU would have to be waited for in every round
        return _interior_point(Q, c).clamp(min=0.0) * active
    y, solved = _pivoted(Q, c)
    if not settled(solved):
        y = torch.where(solved, y, _interior_point(Q, c))
    return y.clamp(min=0.0) * active


def _pivoted(Q: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Solutions [..., T], and whether a problem is solved, [..., 1]; often in three or four rounds, sometimes never."""
    free = c < 0
    for _ in range(_PIVOTING):
        here = free.to(Q.dtype)
        block = Q * here[..., None] * here[..., None, :] + torch.diag_embed(1 - here)
        factor = torch.linalg.cholesky_ex(block).L
        y = _solve(factor, -c * here)
        wrong = torch.where(free, y, times(Q, y) + c) < -_EXACT * y.abs().amax(-1, keepdim=True).clamp(min=1.0)
        if not wrong.any():
            break
        free = free ^ wrong
    unique = factor.diagonal(dim1=-2, dim2=-1).amin(-1, keepdim=True) > _PIVOT
    return y, unique & ~wrong.any(-1, keepdim=True)


def _interior_point(Q: Tensor, c: Tensor) -> Tensor:
    y, s = torch.ones_like(c), torch.ones_like(c)
    found, done = y, torch.zeros_like(c[..., :1], dtype=torch.bool)
    for k in range(1, _ROUNDS + 1):
        y, s = _round(Q, c, y, s)
        if k in _LOOKS:
            exact, good = _exact(Q, c, y)
            found = torch.where(done, found, exact)
            done = done | good
            if settled(done):
                return found
    exact, _ = _exact(Q, c, y)
    return torch.where(done, found, _better(Q, c, y, exact))


def _round(Q: Tensor, c: Tensor, y: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """A prediction, and a step that corrects it: y and s after them."""
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
    return y + step * dy, s + step * ds


def _step(y: Tensor, s: Tensor, dy: Tensor, ds: Tensor, share: Tensor | float) -> Tensor:
    """How far both can go, at most 1: the given share of the way to where the first number becomes 0."""
    fastest = torch.maximum(-dy / y, -ds / s).amax(-1, keepdim=True)
    return 1 / (fastest / share).clamp(min=1.0)


def _exact(Q: Tensor, c: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The solution if the numbers that exceed their slack are those that are not 0; and whether they are, [..., 1]."""
    free = (y > times(Q, y) + c).to(y.dtype)
    kept = y * free
    block = Q * free[..., None] * free[..., None, :] + torch.diag_embed(1 - free + _RIDGE)
    # A correction, because where there are several solutions it then leads to the nearest.
    exact = kept - _solve(torch.linalg.cholesky_ex(block).L, (times(Q, kept) + c) * free)
    return exact, _error(Q, c, exact) <= _EXACT * exact.abs().amax(-1, keepdim=True).clamp(min=1.0)


def _error(Q: Tensor, c: Tensor, y: Tensor) -> Tensor:
    """How far y and its slack are from being zero or positive, each where the other is not 0: [..., 1]."""
    return torch.minimum(y, times(Q, y) + c).abs().amax(-1, keepdim=True)


def _better(Q: Tensor, c: Tensor, y: Tensor, other: Tensor) -> Tensor:
    return torch.where(_error(Q, c, other) < _error(Q, c, y), other, y)  # False where the other is NaN


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    return torch.cholesky_solve(right[..., None], factor)[..., 0]
