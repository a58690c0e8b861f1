"""How far from optimal a solver ended: the residual of the optimality conditions, relative to the forces at work.

At a minimum (of a non-convex objective: at a stationary point) the gradient of what is smooth balances the penalties
that have kinks: 0 is a subgradient. The residual is the norm of the smallest subgradient, over a norm that says what
would be large: that of the losses' gradient at weights 0, or of the penalties. It has no unit; 0 is optimal.
"""

from __future__ import annotations

import torch
from torch import Tensor


def smallest_subgradient(slope: Tensor, x: Tensor, l1: Tensor, nonnegative: bool = False) -> Tensor:
    """The smallest subgradient of f(x) + sum_i l_i |x_i|, number by number.

    Args:
        slope: The gradient of f at x.
        x: The point, of any shape.
        l1: l, not negative, broadcasting over x.
        nonnegative: Whether x >= 0 is required, so that a number at 0 cannot fall.

    Returns:
        As x; 0 where x is a minimum.
    """
    moving = slope + l1 * x.sign()
    resting = (slope + l1).clamp(max=0.0)
    if not nonnegative:
        resting = resting + (slope - l1).clamp(min=0.0)
    return torch.where(x != 0, moving, resting)


def relative(subgradient: Tensor, scale: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The norm of a subgradient over the norm of a scale; 0 where the subgradient is 0.

    Args:
        subgradient: [R, ...].
        scale: [R, ...], such as the gradient of the losses at weights 0.
        dims: Axes that a norm is over.

    Returns:
        The remaining axes, such as [R].
    """
    size = torch.linalg.vector_norm(subgradient, dim=dims)
    unit = torch.linalg.vector_norm(scale, dim=dims)
    return torch.where(size > 0, size / unit, 0.0)
