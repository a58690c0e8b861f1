"""Linear predictors that share bases: W = L S, solved for L and S in turn.

Shapes as in `mtbench.linear.data`: R trials, U streams, T tasks, d features, p rows of the weights, k bases. Where
weights have an intercept row it is handled as one more basis, fixed at (0, ..., 0, 1) and free of penalties: bases
V [R, p, k'] and coefficients C [R, k', T], with k' = k or k + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtbench.linear.data import LinearData
from mtbench.linear.solvers import conjugate_gradients, lasso

SMALL_SYSTEM = 1000
"""Unknowns up to which the bases are solved for directly."""


def initial_bases(data: LinearData, stressed: Tensor, k: int, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Bases from the singular vectors of predictors, and the coefficients that bring single-task weights closest.

    Args:
        data: The losses.
        stressed: The predictors whose first k singular vectors become bases, [R, p, T]; those beyond their rank are 0.
        k: Bases.
        weights: Single-task weights, [R, p, T].

    Returns:
        V [R, p, k'] and C [R, k', T]; both carry the square roots of the sizes of the coefficients.
    """
    d, p = data.n_features, data.n_rows
    left, values, _ = torch.linalg.svd(stressed[:, :d], full_matrices=False)
    rank = min(k, values.shape[1])
    there = values[:, :rank] > 1e-12 * values[:, :1]
    axes = left[:, :, :rank] * there[:, None]
    along = axes.mT @ weights[:, :d]
    roots = torch.linalg.vector_norm(along, dim=2).sqrt()
    extra = p - d
    bases = weights.new_zeros(len(weights), p, k + extra)
    coefficients = weights.new_zeros(len(weights), k + extra, data.n_tasks)
    bases[:, :d, :rank] = axes * roots[:, None]
    coefficients[:, :rank] = along / torch.where(roots > 0, roots, 1.0)[:, :, None]
    if extra:
        bases[:, d, k] = 1.0
        coefficients[:, k] = weights[:, d]
    return bases, coefficients


def sparse_coefficients(
    data: LinearData, linear: Tensor, bases: Tensor, start: Tensor, mu: Tensor, k: int, n_sweeps: int
) -> Tensor:
    """Minimises over C the sum over tasks of the quadratic w'H_t w / 2 - b_t'w, w = V c_t, plus mu |s_t|_1.

    Args:
        data: Gives H_t.
        linear: The b_t, [R, p, T].
        bases: V [R, p, k'].
        start: C [R, k', T].
        mu: [R].
        k: How many of the coefficients mu weighs on: the first.
        n_sweeps: Passes of coordinate descent.

    Returns:
        C [R, k', T].
    """
    gram = data.curvature_within(bases)
    width = mu[:, None, None] * (torch.arange(bases.shape[2], device=mu.device) < k)
    return lasso(gram, (bases.mT @ linear).mT, width, start.mT, n_sweeps).mT


def ridge_bases(
    data: LinearData, linear: Tensor, bases: Tensor, coefficients: Tensor, lambda_: Tensor, k: int, tolerance: float
) -> Tensor:
    """Minimises over L the same quadratics plus lambda |L|_F^2.

    A small system whose tasks differ in curvature is solved directly. Others are solved by conjugate gradients, with
    the tasks' mean curvature as preconditioner: where tasks share inputs that is exact, and one step is enough.

    Args:
        data: Gives H_t.
        linear: The b_t, [R, p, T].
        bases: V [R, p, k'], where to begin.
        coefficients: C [R, k', T].
        lambda_: [R].
        k: How many of the bases may change: the first.
        tolerance: Relative residual.

    Returns:
        V [R, p, k'].
    """
    d = data.n_features
    s = coefficients[:, :k]
    fixed = bases[:, :, k:] @ coefficients[:, k:]
    right = (linear - data.curvature_product(fixed))[:, :d] @ s.mT
    # What no task uses is 0, to the last digit: iterations would go towards it for ever.
    used = (s != 0).any(2)[:, None]
    if data.n_curvatures > 1 and d * k <= SMALL_SYSTEM:
        found = _direct(data, s, right, lambda_)
    else:
        found = _iterated(data, s, right, lambda_, bases[:, :d, :k] * used, tolerance)
    bases = bases.clone()
    bases[:, :d, :k] = found * used
    return bases


def _direct(data: LinearData, s: Tensor, right: Tensor, lambda_: Tensor) -> Tensor:
    """The L of sum_t H_t L s_t s_t' + 2 lambda L = right: S [R, k, T] and right [R, d, k] -> [R, d, k]."""
    n, d, k = right.shape
    outer = (s[:, :, None] * s[:, None]).flatten(0, 2)
    system = data.curvature_sum(outer.view(n, k * k, -1))[..., :d, :d]
    system = system.reshape(n, k, k, d, d).permute(0, 1, 3, 2, 4).reshape(n, k * d, k * d)
    # A trace's rounding keeps bases that no task uses, whose rows are 0, apart from a division by 0.
    diagonal = system.diagonal(dim1=1, dim2=2)
    diagonal += 2.0 * lambda_[:, None] + 1e-13 * diagonal.mean(1, keepdim=True)
    factor, _ = torch.linalg.cholesky_ex(system)
    found = torch.cholesky_solve(right.mT.reshape(n, k * d, 1), factor)
    return found.view(n, k, d).mT


def _iterated(data: LinearData, s: Tensor, right: Tensor, lambda_: Tensor, start: Tensor, tolerance: float) -> Tensor:
    """The same by conjugate gradients from `start`."""
    below = (0, 0, 0, data.n_rows - data.n_features)
    twice = (2.0 * lambda_)[:, None, None]
    values, vectors = data.mean_curvature_eigen()
    spread, axes = torch.linalg.eigh(s @ s.mT)
    inverse = values[:, :, None] * spread.clamp(min=0.0)[:, None, :] + twice
    inverse = torch.where(inverse > 0, 1.0 / inverse, 0.0)

    def operator(free: Tensor) -> Tensor:
        bent = data.curvature_product(nn.functional.pad(free @ s, below))
        return bent[:, : data.n_features] @ s.mT + twice * free

    def precondition(free: Tensor) -> Tensor:
        rotated: Tensor = vectors @ (inverse * (vectors.mT @ free @ axes)) @ axes.mT
        return rotated

    return conjugate_gradients(operator, right, start, precondition, (1, 2), tolerance)


def balanced(bases: Tensor, coefficients: Tensor, mu: Tensor, lambda_: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Moves each basis' scale between L and S to where mu |S|_1 + lambda |L|_F^2 is least; L S stays as it is.

    Alternating alone would get there too, but slowly: a basis times a and its coefficients over a fit the data alike.
    """
    size = lambda_[:, None] * bases[:, :, :k].square().sum(1)
    reach = mu[:, None] * coefficients[:, :k].abs().sum(2)
    both = (size > 0) & (reach > 0)
    scale = torch.where(both, (reach / torch.where(both, 2.0 * size, 1.0)).pow(1 / 3), 1.0)
    scale = nn.functional.pad(scale, (0, bases.shape[2] - k), value=1.0)
    return bases * scale[:, None, :], coefficients / scale[:, :, None]


def newton_direction(
    hessians: Tensor,
    gradient: Tensor,
    bases: Tensor,
    coefficients: Tensor,
    lambda_: Tensor,
    right: tuple[Tensor, Tensor],
    free: Tensor,
    damping: Tensor,
) -> tuple[Tensor, Tensor]:
    """Newton's direction for the losses and lambda |L|_F^2, by L and C together: S is eliminated task by task.

    Where few rows or constant features leave a task's coefficients hardly determined, they alone would make what is
    left for L anything but convex; damping keeps them in place. Where that is not convex all the same, directions of
    negative curvature count as if it were positive: downhill, and away from saddles (Dauphin et al., NIPS 2014).

    Args:
        hessians: Of the losses by w_t, [R, T, p, p].
        gradient: Of the losses by w_t, [R, p, T].
        bases: V [R, p, k'].
        coefficients: C [R, k', T].
        lambda_: [R].
        right: Minus the gradients by L [R, d, k] and by C [R, k', T].
        free: bool [R, k', T]: the coefficients that move.
        damping: Added to curvatures, as a part of each number's own, of a coefficient's the mean over tasks: [R].

    Returns:
        Directions of L [R, d, k] and C [R, k', T].
    """
    by_bases, by_coefficients = right
    n, d, k = by_bases.shape
    s, moves = coefficients[:, :k].mT, free.mT
    bent = hessians @ bases[:, None]
    own = bases.mT[:, None] @ bent
    damped = damping[:, None, None] * own.diagonal(dim1=2, dim2=3).mean(1, keepdim=True)
    own = own * (moves[:, :, :, None] & moves[:, :, None])
    diagonal = own.diagonal(dim1=2, dim2=3)
    diagonal += torch.where(moves, 1e-13 * diagonal.sum(2, keepdim=True) + damped, 1.0)
    factor, _ = torch.linalg.cholesky_ex(own)
    across = s[:, :, None, :, None] * bent[:, :, :d, None]
    across.diagonal(dim1=3, dim2=4)[:] += gradient[:, :d].mT[..., None]
    across = (across * moves[:, :, None, None]).flatten(2, 3)
    half = torch.linalg.solve_triangular(factor, across.mT, upper=False)
    known = torch.linalg.solve_triangular(factor, torch.where(moves, by_coefficients.mT, 0.0)[..., None], upper=False)
    outer = (s[:, :, :, None] * s[:, :, None]).flatten(2).mT @ hessians[..., :d, :d].flatten(2)
    system = outer.view(n, k, k, d, d).permute(0, 3, 1, 4, 2).reshape(n, d * k, d * k)
    system.diagonal(dim1=1, dim2=2)[:] += 2.0 * lambda_[:, None]
    scale = system.diagonal(dim1=1, dim2=2).clone()
    system = system - half.flatten(1, 2).mT @ half.flatten(1, 2)
    rest = by_bases.reshape(n, d * k, 1) - half.flatten(1, 2).mT @ known.flatten(1, 2)
    found = _solved_convex(system, scale, damping, rest)
    each = torch.linalg.solve_triangular(factor.mT, known - half @ found[:, None], upper=True)
    return found.view(n, d, k), each[..., 0].mT


def _solved_convex(system: Tensor, scale: Tensor, damping: Tensor, right: Tensor) -> Tensor:
    """(|system| + damping D)^-1 right, D = diag(scale): |A| has the eigenvalues' sizes, in coordinates where D is I.

    Args:
        system: Symmetric, [R, n, n].
        scale: Not negative, [R, n].
        damping: [R].
        right: [R, n, 1].

    Returns:
        [R, n, 1]; 0 where `scale` is.
    """
    root = torch.where(scale > 0, scale, torch.inf).rsqrt()[..., None]
    unit = root * system * root.mT
    known = root * right
    _, failed = torch.linalg.cholesky_ex(unit)
    damped = unit.clone()
    damped.diagonal(dim1=1, dim2=2)[:] += damping[:, None]
    factor, _ = torch.linalg.cholesky_ex(damped)
    found = torch.cholesky_solve(known, factor)
    bent = torch.nonzero((failed > 0) & torch.isfinite(unit).all((1, 2)))[:, 0]
    if len(bent):
        values, vectors = torch.linalg.eigh(unit[bent])
        sizes = values.abs().clamp(min=1e-10) + damping[bent, None]
        found[bent] = vectors @ ((vectors.mT @ known[bent]) / sizes[..., None])
    return root * found
