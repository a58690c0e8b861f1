"""Predictors that are also sparse combinations of each other: W close to W B.

Shapes as in `mtbench.linear.data`: R trials, T tasks, d features, p rows of the weights. B [R, T, T]: row s of column t
says how much of w_s goes into w_t.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mtbench.linear.active_set import best_on_support, nonnegative_least
from mtbench.linear.data import LinearData
from mtbench.linear.ridge import features_only
from mtbench.linear.solvers import Map, conjugate_gradients, fista, newton, soft_threshold


def sparse_combinations(
    bases: Tensor, targets: Tensor, gamma: Tensor, costs: Tensor, allowed: Tensor, start: Tensor, nonnegative: bool
) -> Tensor:
    """Minimises gamma |v_t - V b_t|^2 + sum_s c_s |b_st| over every column b_t of B, exactly.

    Args:
        bases: V [R, d, T].
        targets: The v_t as columns, [R, d, T].
        gamma: [R].
        costs: c, not negative, [R, T].
        allowed: 1 where B may differ from 0, else 0: [T, T] or [R, T, T].
        start: Where to begin, [R, T, T].
        nonnegative: Whether B must be.

    Returns:
        B [R, T, T].
    """
    twice = (2.0 * gamma)[:, None, None]
    gram, cross = twice * (bases.mT @ bases), twice * (bases.mT @ targets)
    dear, free = costs[:, :, None], (allowed > 0).expand_as(start)
    if nonnegative:
        return nonnegative_least(gram, cross - dear, free, start.clamp(min=0.0))
    # What is above 0 and what is below, as numbers of their own.
    both = torch.cat([torch.cat([gram, -gram], 2), torch.cat([-gram, gram], 2)], 1)
    parts = torch.cat([start.clamp(min=0.0), (-start).clamp(min=0.0)], 1)
    parts = nonnegative_least(both, torch.cat([cross - dear, -cross - dear], 1), torch.cat([free, free], 1), parts)
    above, below = parts.chunk(2, 1)
    return above - below


def reconstructed_weights(
    data: LinearData, scale: Tensor, gamma: Tensor, mu: Tensor, transfer: Tensor, start: Tensor, max_steps: int
) -> Tensor:
    """Goes towards the minimum of sum_t c_t L_t(w_t) + gamma |W - W B|_F^2 + mu |W|_1 over W.

    Args:
        data: The losses.
        scale: c, [R, T].
        gamma: [R].
        mu: [R]; trials with l1 norm take proximal gradient steps, others a step of Newton's method.
        transfer: B [R, T, T].
        start: Where to begin, [R, p, T].
        max_steps: Products with the Hessian, or gradients. Enough of them reach the minimum where losses are squared.

    Returns:
        W [R, p, T].
    """
    apart = torch.eye(data.n_tasks, dtype=transfer.dtype, device=transfer.device) - transfer
    coupling = (2.0 * gamma)[:, None, None] * (apart @ apart.mT)
    weights = start.clone()
    for solve, members in ((_smooth_weights, mu == 0), (_sparse_weights, mu > 0)):
        trials = torch.nonzero(members)[:, 0]
        if len(trials):
            some = data.select(trials)
            weights[trials] = solve(some, scale[trials], coupling[trials], mu[trials], start[trials], max_steps)
    return weights


def jointly_improved(
    data: LinearData,
    weights: Tensor,
    transfer: Tensor,
    costs: Tensor,
    gamma: Tensor,
    objective: Callable[[Tensor, Tensor], Tensor],
    combined: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """A step of Newton's method on W, B being the best for it wherever W goes.

    Given B, W hardly moves, since B was chosen for the W before; so alternating is slow. Here the Hessian is that of
    min over B of sum_s (1 + a_s sum_t |b_st|) L_s(w_s) + gamma |W - W B|_F^2 with what is 0 in B held there: the
    Hessian by W minus what B gives way, H_WW - H_WB H_BB^-1 H_BW.

    Args:
        data: The losses.
        weights: W [R, p, T].
        transfer: The best B for it, [R, T, T].
        costs: a, [R, T].
        gamma: [R].
        objective: (W, B) -> [R].
        combined: (W, B to begin from) -> the best B.

    Returns:
        W, B, and bool [R]: whether the step lowered the objective. Where not, W and B are as given.
    """
    features = data.n_features
    value = objective(weights, transfer)
    scale = 1.0 + costs * transfer.abs().sum(2)
    gradient = data.losses_and_gradient(weights)[1]
    apart = torch.eye(data.n_tasks, dtype=weights.dtype, device=weights.device) - transfer
    coupling = (2.0 * gamma)[:, None, None] * (apart @ apart.mT)
    couple, bend, sign = _coupled(data, coupling), data.hessian(weights), transfer.sign()
    v, twice = weights[:, :features], (2.0 * gamma)[:, None, None]
    left = v @ apart
    give_way = best_on_support(twice * (v.mT @ v), transfer != 0)
    below = (0, 0, 0, data.n_rows - features)

    def given(d: Tensor) -> Tensor:
        """How B moves with W."""
        own = d[:, :features]
        cross = (costs * (gradient * d).sum(1))[:, :, None] * sign
        return give_way(twice * (own.mT @ left + v.mT @ (own @ apart)) - cross)

    def hessian(d: Tensor) -> Tensor:
        base, moved = scale[:, None] * bend(d) + couple(d), given(d)
        pulled = twice * (v @ moved @ apart.mT + left @ moved.mT)
        return base + (costs * (sign * moved).sum(2))[:, None] * gradient - nn.functional.pad(pulled, below)

    def precondition(d: Tensor) -> Tensor:
        return data.curvature_solve(scale, coupling.diagonal(dim1=1, dim2=2), d)

    slope = scale[:, None] * gradient + couple(weights)
    direction = conjugate_gradients(hessian, -slope, torch.zeros_like(slope), precondition, (1, 2), 0.03, 150)
    along = given(direction)
    found, beside = weights, transfer
    searching = torch.ones_like(value, dtype=torch.bool)
    for length in (1.0, 0.4, 0.15, 0.05, 0.01):
        tried = weights + length * direction
        best = combined(tried, transfer + length * along)
        better = searching & (objective(tried, best) < value)
        found = torch.where(better[:, None, None], tried, found)
        beside = torch.where(better[:, None, None], best, beside)
        searching &= ~better
        if not searching.any():
            break
    return found, beside, ~searching


def _coupled(data: LinearData, coupling: Tensor) -> Map:
    """The gradient of gamma |W - W B|_F^2, W M with M [R, T, T] = 2 gamma (I - B)(I - B)', and 0 for intercepts."""
    below = (0, 0, 0, data.n_rows - data.n_features)
    return lambda w: nn.functional.pad(w[:, : data.n_features] @ coupling, below)


def _smooth_weights(
    data: LinearData, scale: Tensor, coupling: Tensor, mu: Tensor, start: Tensor, max_steps: int
) -> Tensor:
    """Newton's method; each task's own curvature and coupling to itself precondition it."""
    couple = _coupled(data, coupling)
    own = coupling.diagonal(dim1=1, dim2=2)
    each = scale[:, None]

    def value_and_gradient(w: Tensor) -> tuple[Tensor, Tensor]:
        losses, gradient = data.losses_and_gradient(w)
        pull = couple(w)
        value = (scale * losses).sum(1)[:, None, None] + 0.5 * (pull * w).sum((1, 2), keepdim=True)
        return value, each * gradient + pull

    def hessian(w: Tensor) -> Map:
        bend = data.hessian(w)
        return lambda v: each * bend(v) + couple(v)

    def precondition(v: Tensor) -> Tensor:
        return data.curvature_solve(scale, own, v)

    linear = each * data.linear_term()[data.stream].mT
    enough = 1e-9 * torch.linalg.vector_norm(linear, dim=(1, 2), keepdim=True)
    # The direction is not solved for any better than this: B changes next, and W with it.
    return newton(value_and_gradient, hessian, precondition, start, (1, 2), enough, 1e-2, max_steps, max_steps=1)


def _sparse_weights(
    data: LinearData, scale: Tensor, coupling: Tensor, mu: Tensor, start: Tensor, max_steps: int
) -> Tensor:
    couple = _coupled(data, coupling)
    widths = mu[:, None, None] * features_only(data, start)
    bound = scale * data.largest_curvature() + torch.linalg.eigvalsh(coupling)[:, -1:]
    return fista(
        start,
        lambda w: scale[:, None] * data.losses_and_gradient(w)[1] + couple(w),
        lambda w, length: soft_threshold(w, length * widths),
        (1.0 / bound)[:, None],
        (1, 2),
        1e-9,
        max_steps,
    )
