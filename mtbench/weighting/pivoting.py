"""Convex quadratic programs over vectors without negative numbers that share a matrix of many rows.

    min over y >= 0 of y'Qy / 2 + c_k'y,  for many c_k

An interior point method factors a matrix for each problem in each of its rounds. Here the alternating direction method
of multipliers (Boyd, Parikh, Chu, Peleato and Eckstein, Distributed Optimization and Statistical Learning via the
Alternating Direction Method of Multipliers, 2011, section 5.2), which factors one matrix for all, guesses which numbers
are 0; block principal pivoting (Portugal, Judice and Vicente, A Comparison of Block Pivoting and Interior-Point
Algorithms for Linear Least Squares Problems with Nonnegative Variables, Mathematics of Computation 1994) puts that
right, and factors only the rows of numbers that are not 0. What is left then is left to the interior point method.

Shapes: leading axes "...", K problems of a matrix, T numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench.weighting.quadratic import nonnegative_minimum

_MANY = 32  # numbers above which this is faster than the interior point method
_NUMBERS = 2**22  # of matrices that are solved at once, 32 MiB
_STEPS, _PENALTY, _RELAXATION = 100, 0.1, 1.6  # of the alternating direction method
_ROUNDS = 12  # of pivoting
_EXACT = 1e-12  # how negative numbers and slacks of a solution may be
_PIVOT = 1e-5  # least pivot with which a solution counts as the only one


def nonnegative_minima(Q: Tensor, c: Tensor, active: Tensor) -> Tensor:
    """The minimisers over vectors without negative numbers; accurate to about 1e-10 where |Q| and |c| are about 1.

    To be called within `one_operation` alone.

    Args:
        Q: [..., T, T], symmetric and positive semidefinite, of diagonal about 1 where active.
        c: [..., K, T], zeros where not active.
        active: [..., T], 1 or 0; numbers that are not active are 0 in the result.

    Returns:
        [..., K, T].
    """
    if Q.shape[-1] <= _MANY or Q.device.type != "cpu":  # a GPU would have to be waited for in every round
        at_once = max(1, _NUMBERS // Q.numel())
        return torch.cat([_by_interior_point(Q, some, active) for some in torch.split(c, at_once, -2)], -2)
    # One matrix after the other, so that what is computed for one trial does not depend on the others.
    n = Q.shape[-1]
    problems = zip(Q.reshape(-1, n, n), c.reshape(-1, c.shape[-2], n), active.reshape(-1, n), strict=True)
    return torch.stack([_of_one_matrix(*one) for one in problems]).view(c.shape)


def _by_interior_point(Q: Tensor, c: Tensor, active: Tensor) -> Tensor:
    return nonnegative_minimum(Q[..., None, :, :].expand(*c.shape, c.shape[-1]), c, active[..., None, :].expand_as(c))


def _of_one_matrix(Q: Tensor, c: Tensor, active: Tensor) -> Tensor:
    known = Q + torch.diag(1 - active), c + (1 - active)
    y, solved = _pivoted(*known, _guess(*known))
    rest = (~solved).nonzero()[:, 0]
    if len(rest):
        y[rest] = _by_interior_point(Q, c[rest], active)
    return y * active


def _guess(Q: Tensor, c: Tensor) -> Tensor:
    """Which numbers are probably not 0: bool [K, T]."""
    identity = torch.eye(len(Q), dtype=Q.dtype, device=Q.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(Q + _PENALTY * identity).L)
    z, u = torch.zeros_like(c), torch.zeros_like(c)
    for _ in range(_STEPS):
        x = (_PENALTY * (z - u) - c) @ inverse
        u = u + torch.lerp(z, x, _RELAXATION)
        z = u.clamp(min=0.0)
        u = u - z
    return z > 0


def _pivoted(Q: Tensor, c: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Solutions [K, T], and which problems are solved, bool [K], from numbers that are probably not 0."""
    found, solved = torch.zeros_like(c), torch.zeros(len(c), dtype=torch.bool)
    left = torch.arange(len(c))
    for _ in range(_ROUNDS):
        y, unique = _restricted(Q, c[left], free)
        slack = y @ Q + c[left]
        wrong = torch.where(free, y, slack) < -_EXACT * y.abs().amax(-1, keepdim=True).clamp(min=1.0)
        on = wrong.any(-1)
        found[left], solved[left] = y.clamp(min=0.0), ~on & unique
        left, free = left[on], (free ^ wrong)[on]
        if not len(left):
            break
    return found, solved


def _restricted(Q: Tensor, c: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Minimisers over the free numbers, the others being 0, [K, T]; and whether they are the only ones, bool [K]."""
    widest = max(1, int(free.sum(-1).max()))
    place = free.to(torch.int8).argsort(dim=-1, descending=True, stable=True)[:, :widest]
    here = free.gather(-1, place).to(Q.dtype)
    blocks = Q[place[:, :, None], place[:, None, :]] * here[:, :, None] * here[:, None, :]
    blocks.diagonal(dim1=-2, dim2=-1).add_(1 - here)
    factor = torch.linalg.cholesky_ex(blocks).L
    values = torch.cholesky_solve((-c.gather(-1, place) * here)[..., None], factor)[..., 0] * here
    unique = factor.diagonal(dim1=-2, dim2=-1).amin(-1) > _PIVOT
    return torch.zeros_like(c).scatter(-1, place, values), unique
