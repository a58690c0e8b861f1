"""Equations G w = w^(-1 / alpha) for weights w > 0, many small ones at once.

With G = N C N, norms N and cosines C, and y = N w, the logarithms of y and of s = C y are bound by

    log y + alpha log s = (1 - alpha) log n

Newton's method on both equations at once, with steps that keep y and s above 0, needs about ten rounds from any start,
and none of it depends on the scale of the gradients.

Shapes: leading axes "...", T tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench.weighting.gram import Cosines, settled, times

_ROUNDS = 20
_LOOKS = (7, 8, 9, 10, 12, 15)  # rounds after which it is asked whether it was the last
_SMALL = 1e-9  # changes, relative to the numbers, of which Newton's method leaves nothing in the next round
_SHORT_OF_ZERO = 0.9  # how much of the way to the nearest 0 a step goes at most
_RIDGE = 1e-12  # bounds y by about 1e6 where there is no solution


def proportional_weights(of: Cosines, alpha: Tensor) -> Tensor:
    """The weights w > 0 of unit scale: gradients are taken as divided by the largest norm.

    Where a sum of gradients with positive weights is 0 there is no solution; weights are then large, and finite.

    Args:
        of: Cosines and norms.
        alpha: [...], above 0.

    Returns:
        [..., T] with w_i (G w)_i^alpha = 1, G being divided by its largest entry; 1 for inactive tasks.
    """
    identity = torch.eye(of.matrix.shape[-1], dtype=of.matrix.dtype, device=of.matrix.device)
    C = of.matrix + identity * (1 - of.active + _RIDGE)[..., None]
    largest = of.norms.amax(-1, keepdim=True)
    norms = torch.where(of.active > 0, of.norms / largest, 1.0)
    alpha = alpha.to(C.dtype)[..., None]
    bound = (1 - alpha) * norms.log()
    y = s = found = (bound / (1 + alpha)).exp()
    done = torch.zeros_like(largest, dtype=torch.bool)
    for k in range(1, _ROUNDS + 1):
        missing = times(C, y) - s
        error = bound - y.log() - alpha * s.log()
        factor = torch.linalg.cholesky_ex(C + torch.diag_embed(s / (alpha * y))).L
        dy = torch.cholesky_solve((error * s / alpha - missing)[..., None], factor)[..., 0]
        ds = times(C, dy) + missing
        fastest = torch.maximum(-dy / y, -ds / s).amax(-1, keepdim=True)
        step = 1 / (fastest / _SHORT_OF_ZERO).clamp(min=1.0)
        if k in _LOOKS:
            small = torch.maximum(dy.abs() / y, ds.abs() / s).amax(-1, keepdim=True) < _SMALL
            found = torch.where(done, found, y + dy)
            done = done | small
            if settled(done):
                break
        y, s = y + step * dy, s + step * ds
    return torch.where(done, found, y) / norms
