"""Ridge regression and its kin, task by task: what single-task learning is, and where other solvers begin.

Shapes as in `mtbench.linear.data`: R trials, T tasks, d features, p rows of the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench.linear.data import LinearData
from mtbench.linear.optimality import relative, smallest_subgradient
from mtbench.linear.solvers import Map, fista, newton, soft_threshold


def features_only(data: LinearData, like: Tensor) -> Tensor:
    """A mask of the rows of the weights that regularisers may touch: 1 for features, 0 for the intercept.

    Args:
        data: Gives d and p.
        like: Gives type and device.

    Returns:
        [p, 1].
    """
    return (torch.arange(data.n_rows, device=like.device) < data.n_features).to(like.dtype)[:, None]


def light_ridge(data: LinearData) -> Tensor:
    """Single-task weights to begin from, [R, p, T]: a hundredth of the mean curvature as lambda.

    They depend on the training set alone, and are defined also where rows are few.
    """
    values, _ = data.mean_curvature_eigen()
    return ridge(data, 0.01 * values.mean(1))


def ridge(data: LinearData, lambda_: Tensor, centre: Tensor | None = None, start: Tensor | None = None) -> Tensor:
    """Minimises L_t(w_t) + lambda |w_t - v_t|^2 for every trial and task.

    Squared losses in closed form, of least norm where that is not unique; logistic losses by Newton's method, to
    gradients of 1e-10 of those at 0.

    Args:
        data: The losses.
        lambda_: [R].
        centre: The v_t, [R, p, T], whose intercept row does not matter; None is 0.
        start: Where Newton's method begins, [R, p, T]; None is 0.

    Returns:
        [R, p, T].
    """
    twice = (2.0 * lambda_)[:, None, None]
    linear = data.linear_term()[data.stream].mT
    shift = twice[:, 0].expand(-1, data.n_tasks)
    ones = torch.ones_like(shift)
    if data.quadratic:
        return data.curvature_solve(ones, shift, linear if centre is None else linear + twice * centre)
    penalty = twice * features_only(data, linear)
    middle = torch.zeros_like(linear) if centre is None else centre

    def value_and_gradient(w: Tensor) -> tuple[Tensor, Tensor]:
        losses, gradient = data.losses_and_gradient(w)
        pull = penalty * (w - middle)
        return losses[:, None] + 0.5 * (pull * (w - middle)).sum(1, keepdim=True), gradient + pull

    def hessian(w: Tensor) -> Map:
        bend = data.hessian(w)
        return lambda v: bend(v) + penalty * v

    def precondition(v: Tensor) -> Tensor:
        return data.curvature_solve(ones, shift, v)

    begin = torch.zeros_like(linear) if start is None else start
    enough = 1e-10 * torch.linalg.vector_norm(linear, dim=1, keepdim=True)
    return newton(value_and_gradient, hessian, precondition, begin, (1,), enough)


def sparse_ridge(data: LinearData, lambda_: Tensor, mu: Tensor, start: Tensor, centre: Tensor | None = None) -> Tensor:
    """Minimises L_t(w_t) + lambda |w_t - v_t|^2 + mu |w_t|_1 for every trial and task.

    Args:
        data: The losses.
        lambda_: [R].
        mu: [R].
        start: Where to begin, [R, p, T]; trials whose mu is 0 must begin at their solution, and stay there.
        centre: The v_t, [R, p, T], as in `ridge`.

    Returns:
        [R, p, T].
    """
    sparse = torch.nonzero(mu > 0)[:, 0]
    if len(sparse) == 0:
        return start
    some = data.select(sparse)
    touched = features_only(data, start)
    twice = (2.0 * lambda_[sparse])[:, None, None] * touched
    middle = torch.zeros_like(start[sparse]) if centre is None else centre[sparse]
    width = mu[sparse, None, None] * touched
    step = 1.0 / (some.largest_curvature()[:, None] + (2.0 * lambda_[sparse])[:, None, None])
    found = fista(
        start[sparse],
        lambda w: some.losses_and_gradient(w)[1] + twice * (w - middle),
        lambda w, length: soft_threshold(w, length * width),
        step,
        (1,),
        max_steps=5000,
    )
    return start.index_copy(0, sparse, found)


def ridge_residuals(
    data: LinearData, lambda_: Tensor, mu: Tensor, weights: Tensor, centre: Tensor | None = None
) -> Tensor:
    """The norm of each task's smallest subgradient, relative to the gradient of L_t at weights 0.

    Args:
        data: The losses.
        lambda_: [R].
        mu: [R].
        weights: [R, p, T].
        centre: The v_t, [R, p, T], as in `ridge`.

    Returns:
        [R, T].
    """
    touched = features_only(data, weights)
    apart = (weights if centre is None else weights - centre) * touched
    slope = data.losses_and_gradient(weights)[1] + 2.0 * lambda_[:, None, None] * apart
    subgradient = smallest_subgradient(slope, weights, mu[:, None, None] * touched)
    return relative(subgradient, data.gradient_at_zero(), (1,))
