"""Solvers for many independent problems at once.

Each leading index of a tensor is a problem of its own (a trial, or a trial and a task); `dims` names the trailing axes
that belong to one problem. Convergence is decided per problem and a converged problem no longer changes, so that its
result does not depend on what it was solved beside.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


def soft_threshold(x: Tensor, width: Tensor | float) -> Tensor:
    """Moves every number towards 0 by `width`, not past it: the proximal map of the l1 norm."""
    return x - x.clamp(min=-width, max=width) if isinstance(width, float) else x - x.minimum(width).maximum(-width)


def conjugate_gradients(
    operator: Map,
    right: Tensor,
    start: Tensor,
    precondition: Map,
    dims: tuple[int, ...],
    tolerance: float = 1e-10,
    max_steps: int = 200,
) -> Tensor:
    """Solves operator(x) = right for symmetric positive definite operators.

    Where an operator turns out not to be, its problem stops at the last x before: a direction of descent all the same.

    Args:
        operator: Linear, the same shape in and out.
        right: Right-hand sides.
        start: Where to begin.
        precondition: Linear, symmetric, positive definite: about the inverse of `operator`.
        dims: Axes of one problem.
        tolerance: Stops where the residual is this part of the right-hand side, by norm.
        max_steps: Stops at the latest.

    Returns:
        x, of the shape of `right`.
    """
    x = start
    residual = right - operator(x)
    z = precondition(residual)
    direction = z
    rho = (residual * z).sum(dims, keepdim=True)
    enough = tolerance * torch.linalg.vector_norm(right, dim=dims, keepdim=True)
    convex = torch.ones_like(rho, dtype=torch.bool)
    for _ in range(max_steps):
        active = convex & (torch.linalg.vector_norm(residual, dim=dims, keepdim=True) > enough)
        if not active.any():
            break
        bent = operator(direction)
        slope = (direction * bent).sum(dims, keepdim=True)
        convex = convex & (slope > 0)
        step = torch.where(active & convex, rho / torch.where(slope > 0, slope, 1.0), 0.0)
        x = x + step * direction
        residual = residual - step * bent
        z = precondition(residual)
        rho, before = (residual * z).sum(dims, keepdim=True), rho
        direction = z + torch.where(before > 0, rho / torch.where(before > 0, before, 1.0), 0.0) * direction
    return x


def newton(
    value_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
    hessian: Callable[[Tensor], Map],
    precondition: Map,
    start: Tensor,
    dims: tuple[int, ...],
    enough: Tensor,
    cg_tolerance: float = 1e-3,
    cg_steps: int = 200,
    max_steps: int = 60,
) -> Tensor:
    """Minimises smooth convex functions by Newton's method: conjugate gradients inside, step halving outside.

    Args:
        value_and_gradient: Values, with the axes of a problem kept at length 1, and gradients.
        hessian: Gives, at a point, a function that multiplies by the Hessian there.
        precondition: About the inverse of the Hessians; see `conjugate_gradients`.
        start: Where to begin.
        dims: Axes of one problem.
        enough: Norms of the gradients at which a problem is solved, with the axes of a problem at length 1.
        cg_tolerance: How well the Newton direction is solved for, relative to the gradient.
        cg_steps: Most steps of conjugate gradients for one Newton direction.
        max_steps: Stops at the latest.

    Returns:
        The minimiser, of the shape of `start`.
    """
    x = start
    value, gradient = value_and_gradient(x)
    for _ in range(max_steps):
        active = torch.linalg.vector_norm(gradient, dim=dims, keepdim=True) > enough
        if not active.any():
            break
        right = torch.where(active, -gradient, 0.0)
        direction = conjugate_gradients(
            hessian(x), right, torch.zeros_like(x), precondition, dims, cg_tolerance, cg_steps
        )
        slope = (gradient * direction).sum(dims, keepdim=True)
        length = active.to(x.dtype)
        for _ in range(30):
            tried, bent = value_and_gradient(x + length * direction)
            # Near the minimum values differ by less than their rounding: allow for that.
            short = tried > value + 1e-4 * length * slope + 1e-14 * value.abs()
            if not short.any():
                break
            length = torch.where(short, 0.5 * length, length)
        x, value, gradient = x + length * direction, tried, bent
    return x


def fista(
    start: Tensor,
    gradient: Map,
    proximal: Callable[[Tensor, Tensor], Tensor],
    step: Tensor,
    dims: tuple[int, ...],
    tolerance: float = 1e-10,
    max_steps: int = 1000,
) -> Tensor:
    """Accelerated proximal gradient descent with adaptive restart (Beck and Teboulle 2009; O'Donoghue and Candes 2015).

    Args:
        start: Where to begin.
        gradient: Of the smooth part.
        proximal: (x, step) -> the proximal map of the other part times step; must return x where step is 0.
        step: At most 1 over the largest curvature, broadcasting over the axes of a problem (or smaller blocks of it).
        dims: Axes of one problem.
        tolerance: Stops where no number moves by more than this part of the largest.
        max_steps: Stops at the latest.

    Returns:
        The minimiser, of the shape of `start`.
    """
    x = y = start
    momentum = torch.ones_like(start.sum(dims, keepdim=True))
    active = torch.ones_like(momentum, dtype=torch.bool)
    for _ in range(max_steps):
        # A step of 0 and no momentum leave a converged problem as it is, without masks over all its numbers.
        here = step * active
        new = proximal(torch.addcmul(y, here, gradient(y), value=-1.0), here)
        change = new - x
        uphill = ((y - new) * change).sum(dims, keepdim=True) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        following = 0.5 * (1.0 + (1.0 + 4.0 * momentum.square()).sqrt())
        active = active & (change.abs().amax(dims, keepdim=True) > tolerance * new.abs().amax(dims, keepdim=True))
        if not active.any():
            return new
        y = torch.addcmul(new, (momentum - 1.0) / following * active, change)
        x, momentum = new, following
    return x


def lasso(gram: Tensor, linear: Tensor, l1: Tensor, start: Tensor, n_sweeps: int) -> Tensor:
    """Minimises x'Gx/2 - c'x + sum_j l_j |x_j| by coordinate descent, for few coordinates.

    Args:
        gram: G, [..., k, k], broadcasting over the problems.
        linear: c, [..., k].
        l1: l, [..., k], broadcasting over the problems.
        start: Where to begin, [..., k].
        n_sweeps: Passes over the coordinates. A fixed number: then no problem waits for another.

    Returns:
        [..., k]; a coordinate without curvature is 0.
    """
    x = start.clone()
    slope = (gram @ x[..., None])[..., 0] - linear
    curvature = gram.diagonal(dim1=-2, dim2=-1)
    for _ in range(n_sweeps):
        for j in range(x.shape[-1]):
            g = curvature[..., j]
            found = soft_threshold(x[..., j] * g - slope[..., j], l1[..., j].expand_as(x[..., j]))
            change = torch.where(g > 0, found / torch.where(g > 0, g, 1.0), 0.0) - x[..., j]
            x[..., j] += change
            slope += gram[..., j] * change[..., None]
    return x
