"""GO-MTL: every task's predictor is a sparse combination of bases that the tasks share.

Paper: Kumar and Daume III, Learning Task Grouping and Overlap in Multi-task Learning, ICML 2012; eq. (3) of Deep
Asymmetric Multi-task Feature Learning, ICML 2018.

Shapes: R trials, T tasks, d features, k bases. W = L S with bases L [d, k] and coefficients S [k, T], s_t its columns;
L_t is the mean loss of task t (squared or logistic) over its labelled rows.

Departures: none from the objective. It has local minima; from one start alone it ends up to 0.6 % above the best of
twelve, so twelve are tried: singular vectors of single-task ridge weights, as they are and with stress on random tasks
(the same for all trials). Intercepts, where a problem has them, carry no penalty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtbench import LinearData, LinearSolution, Problem, Recipe, Reference, SolverMethod, hookimpl, seed_from, tunable
from mtbench.nn.latent_bases import balanced, initial_bases, ridge_bases, sparse_coefficients
from mtbench.nn.linear_problems import linear_support
from mtbench.nn.optimality import relative, smallest_subgradient
from mtbench.nn.ridge import light_ridge
from mtbench.nn.solvers import State, descend


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
        3e-2, grid=(1e-3, 1e-2, 1e-1, 1.0), low=1e-4, high=1.0, per="task_loss", help="l1 norm of the coefficients"
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
    max_rounds = 1000
    n_starts = 12
    n_finalists = 2
    trial_rounds = 30

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Binary tasks, or regressions with one output."""
        return linear_support(problem)

    def solve(self, data: LinearData, params: GOMTLParams) -> LinearSolution:
        """Alternates S (a lasso per task) and L (a ridge) from several starts and keeps the best.

        All starts run a few rounds; the best of them go on until the residual is small. The residual is the larger of
        both blocks': the norm of the smallest subgradient of (3) by L, and by S, over that of the gradient of the
        losses at W = 0 by the same block.
        """
        # |L|_F does not change when the features turn, and S does not see it.
        turned, axes = data.in_mean_axes()
        weights = light_ridge(turned)
        starts = [initial_bases(turned, weights @ mix, params.k, weights) for mix in _mixtures(weights, self.n_starts)]
        tried = [self._descend(turned, params, start, self.trial_rounds) for start in starts]
        states, objectives = [state for state, _, _ in tried], [objective for _, objective, _ in tried]
        finals = [
            self._descend(turned, params, _chosen(states, place), self.max_rounds)
            for place in _best(objectives, self.n_finalists)
        ]
        (first,) = _best([objective for _, objective, _ in finals], 1)
        bases, coefficients = _chosen([state for state, _, _ in finals], first)
        (residual,) = _chosen([(residual,) for _, _, residual in finals], first)
        k = params.k
        bases = axes @ bases
        learned = {"bases": bases[:, : data.n_features, :k], "coefficients": coefficients[:, :k]}
        n_parameters = k * (data.n_features + data.n_tasks)
        return LinearSolution(bases @ coefficients, n_parameters, learned=learned, residual=residual)

    def _descend(
        self, data: LinearData, params: GOMTLParams, start: State, n_rounds: int
    ) -> tuple[State, Tensor, Tensor]:
        """From one start of each trial: where it ends, its objective [R] and its residual [R]."""
        k = params.k

        def step(trials: Tensor, state: State) -> tuple[State, Tensor, Tensor]:
            some, mu, lambda_ = data.select(trials), params.mu[trials], params.lambda_[trials]
            bases, coefficients = state
            _, gradient = some.losses_and_gradient(bases @ coefficients)
            # b_t of the quadratic w'H_t w / 2 - b_t'w that has the loss' own gradient at the present weights.
            linear = some.curvature_product(bases @ coefficients) - gradient
            coefficients = sparse_coefficients(some, linear, bases, coefficients, mu, k, n_sweeps=4)
            bases = ridge_bases(some, linear, bases, coefficients, lambda_, k, tolerance=1e-8)
            bases, coefficients = balanced(bases, coefficients, mu, lambda_, k)
            value, residual = objective_and_residual(some, bases, coefficients, mu, lambda_)
            return (bases, coefficients), value, residual

        state, residual = descend(step, start, self.tolerance, n_rounds)
        return state, objective_and_residual(data, *state, params.mu, params.lambda_)[0], residual


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


def objective_and_residual(
    data: LinearData, bases: Tensor, coefficients: Tensor, mu: Tensor, lambda_: Tensor
) -> tuple[Tensor, Tensor]:
    """Eq. (3), and the relative residual of its optimality conditions: both [R]."""
    d, k = data.n_features, bases.shape[2] - (data.n_rows - data.n_features)
    losses, gradient = data.losses_and_gradient(bases @ coefficients)
    start = data.gradient_at_zero()
    of_bases = (gradient @ coefficients.mT)[:, :d, :k] + 2.0 * lambda_[:, None, None] * bases[:, :d, :k]
    l1 = mu[:, None, None] * (torch.arange(bases.shape[2], device=mu.device) < k)[:, None]
    of_coefficients = smallest_subgradient(bases.mT @ gradient, coefficients, l1)
    residual = relative(of_bases, (start @ coefficients.mT)[:, :d, :k], (1, 2)).maximum(
        relative(of_coefficients, bases.mT @ start, (1, 2))
    )
    return losses.sum(1) + penalty(data, bases, coefficients, mu, lambda_), residual


@hookimpl
def mtbench_methods() -> list[type[SolverMethod]]:
    """The methods of this file."""
    return [GOMTL]
