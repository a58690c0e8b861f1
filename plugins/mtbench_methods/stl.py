"""STL: a linear predictor for each task alone, the baseline of all others.

Paper: Deep Asymmetric Multi-task Feature Learning, ICML 2018, section 4.1, baseline 1: eq. (1) with a penalty that
couples no tasks.

Shapes: R trials, T tasks, d features. W [d, T] holds the predictors w_t as columns; L_t is the mean loss of task t
(squared or logistic) over its labelled rows.

Departures: none. `mu` adds an l1 norm, which the paper uses for the baselines of its synthetic experiment only; it is 0
unless set.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mtbench import LinearData, LinearSolution, Problem, Recipe, Reference, SolverMethod, hookimpl, tunable
from mtbench.linear.problems import linear_support
from mtbench.linear.ridge import ridge, ridge_residuals, sparse_ridge


@dataclass(frozen=True, kw_only=True)
class STLParams:
    """Hyperparameters of STL.

    Attributes:
        lambda_: Weight of the squared norm of each w_t.
        mu: Weight of the l1 norm of each w_t; searches leave it at 0.
    """

    lambda_: float = tunable(
        1e-2,
        grid=(1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        low=1e-5,
        high=10.0,
        per="task_curvature",
        help="squared norm of the weights",
    )
    mu: float = tunable(0.0, help="l1 norm of the weights")


class STL(SolverMethod):
    """Single-task learning: min L_t + lambda |w_t|^2 + mu |w_t|_1 for each task."""

    name = "stl"
    reference = Reference("Deep Asymmetric Multi-task Feature Learning", "ICML 2018", arxiv="1708.00260")
    Params = STLParams

    tolerance = 1e-6

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Binary tasks, or regressions with one output."""
        return linear_support(problem)

    def solve(self, data: LinearData, params: STLParams) -> LinearSolution:
        """The exact minimum: convex, and every task on its own.

        The residual is the largest of the tasks': the norm of the smallest subgradient, over that of the gradient of
        L_t at weights 0.
        """
        weights = ridge(data, params.lambda_)
        weights = sparse_ridge(data, params.lambda_, params.mu, start=weights)
        residual = ridge_residuals(data, params.lambda_, params.mu, weights).amax(1)
        return LinearSolution(weights, n_parameters=data.n_features * data.n_tasks, residual=residual)


def objective(data: LinearData, weights: Tensor, params: STLParams) -> Tensor:
    """Sum over tasks of L_t + lambda |w_t|^2 + mu |w_t|_1: [R]."""
    w = weights[:, : data.n_features]
    penalties = params.lambda_ * w.square().sum((1, 2)) + params.mu * w.abs().sum((1, 2))
    return data.losses(weights).sum(1) + penalties


@hookimpl
def mtbench_methods() -> list[type[SolverMethod]]:
    """The methods of this file."""
    return [STL]
