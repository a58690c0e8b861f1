"""GO-MTL: every task's predictor is a sparse combination of bases that the tasks share.

Paper: Kumar and Daume III, Learning Task Grouping and Overlap in Multi-task Learning, ICML 2012; eq. (3) of Deep
Asymmetric Multi-task Feature Learning, ICML 2018.

Shapes: R trials, T tasks, d features, k bases. W = L S with bases L [d, k] and coefficients S [k, T], s_t its columns;
L_t is the mean loss of task t (squared or logistic) over its labelled rows.

Departures: none from the objective. It has local minima; from one start alone it ends up to 0.6 % above the best of
twelve, so twelve are tried: singular vectors of single-task ridge weights, as they are and with stress on random tasks
(the same for all trials). The three that are best after 30 rounds go on, and the best of these to the end. With many
bases the rounds may be over before the residual is at its tolerance (School, k = 8: 6e-5); it is stored as it is. Where
tasks have fewer rows than features and penalties are weak, three dozen starts can still find 4 % less; elsewhere none
was better by a thousandth. Intercepts, where a problem has them, carry no penalty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mtbench import LinearData, LinearSolution, Problem, Recipe, Reference, SolverMethod, hookimpl, seed_from, tunable
from mtbench.linear.descent import State, descend
from mtbench.linear.optimality import relative, smallest_subgradient
from mtbench.linear.problems import linear_support
from mtbench.linear.ridge import light_ridge
from mtbench_methods.go_mtl.latent_bases import (
    SMALL_SYSTEM,
    balanced,
    initial_bases,
    newton_direction,
    ridge_bases,
    sparse_coefficients,
)

_TOGETHER = 64  # trials that are run at once from several starts
_DAMPING, _DAMPING_FACTOR = 1e-2, 4.0  # of Newton's method: at its beginning, and by which it changes
_TRIES = 5  # of a step

_Descended = tuple[State, Tensor, Tensor]  # a state, its objectives [R] and residuals [R]
_Run = Callable[[LinearData, "GOMTLParams", State], _Descended]


@dataclass(frozen=True, kw_only=True)
class GOMTLParams:
    """Hyperparameters of GO-MTL.

    Attributes:
        k: Bases.
        mu: Weight of the l1 norm of each s_t.
        lambda_: Weight of the squared norm of L.
    """

    k: int = tunable(3, grid=(1, 2, 3, 5, 8, 13, 21, 34, 55, 89), up_to="rank", minimum=1, help="number of bases")
    mu: float = tunable(
        3e-2, grid=(1e-3, 1e-2, 1e-1, 1.0), low=1e-4, high=3.0, per="task_loss", help="l1 norm of the coefficients"
    )
    # Only mu^2 lambda matters, because L and S trade their size: most of the range is mu's.
    lambda_: float = tunable(
        3e-2, grid=(1e-2, 1e-1), low=3e-3, high=0.3, per="curvature", help="squared norm of the bases"
    )


class GOMTL(SolverMethod):
    """Grouping and overlap: min over L, S of sum_t {L_t(L s_t) + mu |s_t|_1} + lambda |L|_F^2."""

    name = "go_mtl"
    reference = Reference("Learning Task Grouping and Overlap in Multi-task Learning", "ICML 2012", arxiv="1206.6417")
    version = "2"
    Params = GOMTLParams

    tolerance = 1e-5
    n_starts = 12
    trial_rounds = 30  # of each start
    n_finalists = 3
    near, near_rounds = 1e-3, 60  # where Newton's method begins, at the latest
    final_rounds, newton_rounds = 15, 45  # of finalists and of the best of them
    max_rounds = 1000  # without Newton's method

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Binary tasks, or regressions with one output."""
        return linear_support(problem)

    def solve(self, data: LinearData, params: GOMTLParams) -> LinearSolution:
        """Alternates S (a lasso per task) and L (a ridge) from several starts and keeps the best.

        All starts run a few rounds; the best of them go on, with a damped step of Newton's method on L and on what is
        not 0 in S after each round, and of these the best until its residual is small or its rounds are over. The
        residual is the larger of both blocks': the norm of the smallest subgradient of (3) by L, and by S, over that of
        the gradient of the losses at W = 0 by the same block.
        """
        # |L|_F does not change when the features turn, and S does not see it.
        turned, axes = data.in_mean_axes()
        weights, k = light_ridge(turned), params.k
        starts = [initial_bases(turned, weights @ mix, k, weights) for mix in _mixtures(weights, self.n_starts)]
        tried = self._from_each(self._try, turned, params, starts)
        places = _best([objective for _, objective, _ in tried], self.n_finalists)
        states = [state for state, _, _ in tried]
        finals = self._from_each(self._near, turned, params, [_chosen(states, place) for place in places])
        (first,) = _best([objective for _, objective, _ in finals], 1)
        (bases, coefficients, *_), residual = self._finish(
            turned, params, _chosen([state for state, _, _ in finals], first)
        )
        bases, coefficients = _signed(axes @ bases, coefficients, k)
        learned = {"bases": bases[:, : data.n_features, :k], "coefficients": coefficients[:, :k]}
        n_parameters = k * (data.n_features + data.n_tasks)
        return LinearSolution(bases @ coefficients, n_parameters, learned=learned, residual=residual)

    def _from_each(self, run: _Run, data: LinearData, params: GOMTLParams, starts: Sequence[State]) -> list[_Descended]:
        """Runs every trial from each of its starts, several starts at once as if they were trials of their own.

        Returns:
            For each start the state, objectives [R] and residuals [R] of all trials.
        """
        n, together = data.n_trials, max(1, _TOGETHER // data.n_trials)
        found: list[_Descended] = []
        for first in range(0, len(starts), together):
            group = starts[first : first + together]
            trials = torch.arange(n, device=data.stream.device).repeat(len(group))
            states = tuple(torch.cat(tensors) for tensors in zip(*group, strict=True))
            here = replace(params, mu=params.mu[trials], lambda_=params.lambda_[trials])
            state, objective, residual = run(data.select(trials), here, states)
            parts = zip(objective.split(n), residual.split(n), *(tensor.split(n) for tensor in state), strict=True)
            found += [(tuple(tensors), value, rest) for value, rest, *tensors in parts]
        return found

    def _try(self, data: LinearData, params: GOMTLParams, start: State) -> _Descended:
        """A few rounds, to compare starts by."""
        return self._descend(data, params, start, self.trial_rounds, self.tolerance)

    def _near(self, data: LinearData, params: GOMTLParams, start: State) -> _Descended:
        """More rounds, and a few of Newton's method unless its systems would be too large: its damping is kept."""
        near, objective, residual = self._descend(data, params, start, self.near_rounds, self.near)
        if data.n_features * params.k > SMALL_SYSTEM:
            return near, objective, residual
        damping = torch.full_like(objective, _DAMPING)
        return self._descend(data, params, (*near, damping), self.final_rounds, self.tolerance, _newton)

    def _finish(self, data: LinearData, params: GOMTLParams, start: State) -> tuple[State, Tensor]:
        """From there to the tolerance: the state, and residuals [R]."""
        if data.n_features * params.k > SMALL_SYSTEM:
            state, _, residual = self._descend(data, params, start, self.max_rounds, self.tolerance)
            return state, residual
        (bases, coefficients, _), _, _ = self._descend(data, params, start, self.newton_rounds, self.tolerance, _newton)
        return _settled(data, bases, coefficients, params.mu, params.lambda_)

    def _descend(
        self,
        data: LinearData,
        params: GOMTLParams,
        start: State,
        n_rounds: int,
        tolerance: float,
        polish: Callable[..., State] | None = None,
    ) -> _Descended:
        """From one start of each trial: where it ends, its objective [R] and its residual [R].

        `polish`, if any, follows each round; what it keeps for the next one comes after L and S in the state.
        """
        k = params.k

        def step(trials: Tensor, state: State) -> _Descended:
            some, mu, lambda_ = data.select(trials), params.mu[trials], params.lambda_[trials]
            bases, coefficients, *more = state
            linear = _linear(some, bases, coefficients)
            coefficients = sparse_coefficients(some, linear, bases, coefficients, mu, k, n_sweeps=4)
            bases = ridge_bases(some, linear, bases, coefficients, lambda_, k, tolerance=1e-8)
            bases, coefficients = balanced(bases, coefficients, mu, lambda_, k)
            if polish:
                bases, coefficients, *more = polish(some, bases, coefficients, *more, mu, lambda_)
            value, residual = objective_and_residual(some, bases, coefficients, mu, lambda_)
            return (bases, coefficients, *more), value, residual

        state, residual = descend(step, start, tolerance, n_rounds, accelerated=polish is None)
        return state, objective_and_residual(data, *state[:2], params.mu, params.lambda_)[0], residual


def _settled(
    data: LinearData, bases: Tensor, coefficients: Tensor, mu: Tensor, lambda_: Tensor, n_steps: int = 8
) -> tuple[State, Tensor]:
    """Newton's steps that make the residual smaller, where the objective no longer tells: state, and residuals [R].

    Features that depend on each other leave directions in which the objective is flat to its last digit. There a trial
    would end anywhere, as rounding has it, and so elsewhere in another stack.
    """
    state = (bases, coefficients)
    value, residual = objective_and_residual(data, *state, mu, lambda_)
    for _ in range(n_steps):
        moved = _moved(data, *state, torch.zeros_like(mu), mu, lambda_)
        reached, found = objective_and_residual(data, *moved, mu, lambda_)
        better = (found < residual) & (reached <= value + 1e-12 * value.abs())
        if not better.any():
            break
        state = _where(better, moved, state)
        value, residual = torch.where(better, reached, value), torch.where(better, found, residual)
    return state, residual


def _moved(
    data: LinearData, bases: Tensor, coefficients: Tensor, damping: Tensor, mu: Tensor, lambda_: Tensor
) -> State:
    """Where a step of Newton's method on L and on what is not 0 in S leads: what would change its sign becomes 0."""
    weights = bases @ coefficients
    _, gradient = data.losses_and_gradient(weights)
    of_bases, of_coefficients = subgradients(data, bases, coefficients, gradient, mu, lambda_)
    d, k = of_bases.shape[1:]
    kinked = torch.zeros_like(coefficients, dtype=torch.bool)
    kinked[:, :k] = mu[:, None, None] > 0
    ahead, beside = newton_direction(
        data.hessian_matrices(weights),
        gradient,
        bases,
        coefficients,
        lambda_,
        (-of_bases, -of_coefficients),
        ~kinked | (coefficients != 0),
        damping,
    )
    v, c = bases.clone(), coefficients + beside
    v[:, :d, :k] += ahead
    return v, torch.where(kinked & (c * coefficients < 0), 0.0, c)


def _newton(
    data: LinearData, bases: Tensor, coefficients: Tensor, damping: Tensor, mu: Tensor, lambda_: Tensor
) -> State:
    """A step on L and S together: that they depend on each other makes alternating slow.

    Where the step has led S is found anew for the L there, so that a coefficient may also leave 0 or change its sign.
    A step that does not lower the objective is tried again with more damping, and the next begins with less.

    Returns:
        V [R, p, k'], C [R, k', T] and the next step's damping [R].
    """
    k = bases.shape[2] - (data.n_rows - data.n_features)
    bases, coefficients, damping = bases.clone(), coefficients.clone(), damping.clone()
    lowest = data.losses(bases @ coefficients).sum(1) + penalty(data, bases, coefficients, mu, lambda_)
    searching = torch.arange(len(mu), device=mu.device)
    for _ in range(_TRIES):
        some, m, lam = data.select(searching), mu[searching], lambda_[searching]
        v, c = _moved(some, bases[searching], coefficients[searching], damping[searching], m, lam)
        for _ in range(1 if data.quadratic else 2):
            c = sparse_coefficients(some, _linear(some, v, c), v, c, m, k, n_sweeps=15)
        better = some.losses(v @ c).sum(1) + penalty(some, v, c, m, lam) < lowest[searching]
        bases[searching[better]], coefficients[searching[better]] = v[better], c[better]
        damping[searching] *= torch.where(better, 1.0 / _DAMPING_FACTOR, _DAMPING_FACTOR)
        searching = searching[~better]
        if len(searching) == 0:
            break
    return bases, coefficients, damping


def _linear(data: LinearData, bases: Tensor, coefficients: Tensor) -> Tensor:
    """The b_t of the quadratics w'H_t w / 2 - b_t'w that have the losses' own gradients at V C: [R, p, T]."""
    weights = bases @ coefficients
    return data.curvature_product(weights) - data.losses_and_gradient(weights)[1]


def _where(chosen: Tensor, new: State, old: State) -> State:
    """The trials chosen [R] from the new state, the others from the old one."""
    return tuple(torch.where(chosen[:, None, None], n, o) for n, o in zip(new, old, strict=True))


def _signed(bases: Tensor, coefficients: Tensor, k: int) -> State:
    """Gives each basis the sign by which its largest entry is positive; L S stays as it is.

    Both signs solve (3) alike, and which a solver ends at is up to the device's singular vectors.
    """
    largest = bases.abs().argmax(1, keepdim=True)
    sign = torch.where(bases.gather(1, largest) < 0, -1.0, 1.0)
    sign[:, :, k:] = 1.0
    return bases * sign, coefficients * sign.mT


def _mixtures(weights: Tensor, n_starts: int) -> list[Tensor]:
    """What single-task weights are multiplied by before their singular vectors become bases: n_starts times [T, T].

    The first is the identity, the others lay stress on random tasks. They depend on the number of tasks alone, so that
    all trials of a cell have the same.
    """
    n_tasks = weights.shape[2]
    mixtures = [torch.eye(n_tasks, dtype=weights.dtype, device=weights.device)]
    for i in range(1, n_starts):
        rng = np.random.default_rng(seed_from("go_mtl", "start", i))
        stress = np.exp(rng.normal(size=n_tasks))
        mixtures.append(torch.diag(torch.as_tensor(stress, dtype=weights.dtype, device=weights.device)))
    return mixtures


def _best(objectives: list[Tensor], n: int) -> Tensor:
    """The positions of the n lowest objectives of each trial: starts times [R] -> [n, R]."""
    return torch.stack(objectives).nan_to_num(nan=torch.inf).argsort(dim=0, stable=True)[:n]


def _chosen(states: list[State], place: Tensor) -> State:
    """The state of one start of each trial: place [R]."""
    rows = torch.arange(len(place), device=place.device)
    return tuple(torch.stack(tensors)[place, rows] for tensors in zip(*states, strict=True))


def penalty(data: LinearData, bases: Tensor, coefficients: Tensor, mu: Tensor, lambda_: Tensor) -> Tensor:
    """What eq. (3) adds to the losses, mu |S|_1 + lambda |L|_F^2: [R]. Intercepts are a basis that does not count."""
    k = bases.shape[2] - (data.n_rows - data.n_features)
    sparsity = coefficients[:, :k].abs().sum((1, 2))
    return mu * sparsity + lambda_ * bases[:, :, :k].square().sum((1, 2))


def subgradients(
    data: LinearData, bases: Tensor, coefficients: Tensor, gradient: Tensor, mu: Tensor, lambda_: Tensor
) -> State:
    """The smallest subgradients of eq. (3) by L [R, d, k] and by S with the intercepts [R, k', T]."""
    d, k = data.n_features, bases.shape[2] - (data.n_rows - data.n_features)
    of_bases = (gradient @ coefficients.mT)[:, :d, :k] + 2.0 * lambda_[:, None, None] * bases[:, :d, :k]
    l1 = mu[:, None, None] * (torch.arange(bases.shape[2], device=mu.device) < k)[:, None]
    return of_bases, smallest_subgradient(bases.mT @ gradient, coefficients, l1)


def objective_and_residual(
    data: LinearData, bases: Tensor, coefficients: Tensor, mu: Tensor, lambda_: Tensor
) -> tuple[Tensor, Tensor]:
    """Eq. (3), and the relative residual of its optimality conditions: both [R]."""
    d, k = data.n_features, bases.shape[2] - (data.n_rows - data.n_features)
    losses, gradient = data.losses_and_gradient(bases @ coefficients)
    of_bases, of_coefficients = subgradients(data, bases, coefficients, gradient, mu, lambda_)
    start = data.gradient_at_zero()
    residual = relative(of_bases, (start @ coefficients.mT)[:, :d, :k], (1, 2)).maximum(
        relative(of_coefficients, bases.mT @ start, (1, 2))
    )
    return losses.sum(1) + penalty(data, bases, coefficients, mu, lambda_), residual


@hookimpl
def mtbench_methods() -> list[type[SolverMethod]]:
    """The methods of this file."""
    return [GOMTL]
