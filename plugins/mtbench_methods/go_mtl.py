"""GO-MTL: every task's predictor is a sparse combination of bases that the tasks share.

Paper: Kumar and Daume III, Learning Task Grouping and Overlap in Multi-task Learning, ICML 2012; eq. (3) of Deep
Asymmetric Multi-task Feature Learning, ICML 2018.

Shapes: R trials, T tasks, d features, k bases. W = L S with bases L [d, k] and coefficients S [k, T], s_t its columns;
L_t is the mean loss of task t (squared or logistic) over its labelled rows.

Departures: none from the objective. It has local minima; bases start at the singular vectors of single-task ridge
weights, so that nothing is random. Intercepts, where a problem has them, carry no penalty.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mtbench import LinearData, LinearSolution, Problem, Recipe, Reference, SolverMethod, hookimpl, tunable
from mtbench.nn.latent_bases import balanced, initial_bases, ridge_bases, sparse_coefficients
from mtbench.nn.linear_problems import linear_support
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
        1e-2, grid=(1e-4, 1e-3, 1e-2, 1e-1), low=1e-8, high=10.0, per="task_loss", help="l1 norm of the coefficients"
    )
    lambda_: float = tunable(
        1e-2, grid=(1e-4, 1e-3, 1e-2, 1e-1), low=1e-8, high=10.0, per="curvature", help="squared norm of the bases"
    )


class GOMTL(SolverMethod):
    """Grouping and overlap: min over L, S of sum_t {L_t(L s_t) + mu |s_t|_1} + lambda |L|_F^2."""

    name = "go_mtl"
    reference = Reference("Learning Task Grouping and Overlap in Multi-task Learning", "ICML 2012", arxiv="1206.6417")
    Params = GOMTLParams

    tolerance = 1e-5
    max_rounds = 300

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Binary tasks, or regressions with one output."""
        return linear_support(problem)

    def solve(self, data: LinearData, params: GOMTLParams) -> LinearSolution:
        """Alternates S (a lasso per task) and L (a ridge), on quadratics that majorise the losses and touch them."""
        k = params.k
        # |L|_F does not change when the features turn, and S does not see it.
        turned, axes = data.in_mean_axes()

        def step(trials: Tensor, state: State) -> tuple[State, Tensor]:
            some, mu, lambda_ = turned.select(trials), params.mu[trials], params.lambda_[trials]
            bases, coefficients = state
            _, gradient = some.losses_and_gradient(bases @ coefficients)
            # b_t of the quadratic w'H_t w / 2 - b_t'w that has the loss' own gradient at the present weights.
            linear = some.curvature_product(bases @ coefficients) - gradient
            coefficients = sparse_coefficients(some, linear, bases, coefficients, mu, k, n_sweeps=4)
            bases = ridge_bases(some, linear, bases, coefficients, lambda_, k, tolerance=1e-6)
            bases, coefficients = balanced(bases, coefficients, mu, lambda_, k)
            losses = some.losses(bases @ coefficients)
            return (bases, coefficients), losses.sum(1) + penalty(some, bases, coefficients, mu, lambda_)

        start = initial_bases(turned, light_ridge(turned), k)
        bases, coefficients = descend(step, start, self.tolerance, self.max_rounds)
        bases = axes @ bases
        learned = {"bases": bases[:, : data.n_features, :k], "coefficients": coefficients[:, :k]}
        return LinearSolution(bases @ coefficients, n_parameters=k * (data.n_features + data.n_tasks), learned=learned)


def penalty(data: LinearData, bases: Tensor, coefficients: Tensor, mu: Tensor, lambda_: Tensor) -> Tensor:
    """What eq. (3) adds to the losses, mu |S|_1 + lambda |L|_F^2: [R]. Intercepts are a basis that does not count."""
    k = bases.shape[2] - (data.n_rows - data.n_features)
    sparsity = coefficients[:, :k].abs().sum((1, 2))
    return mu * sparsity + lambda_ * bases[:, :, :k].square().sum((1, 2))


@hookimpl
def mtbench_methods() -> list[type[SolverMethod]]:
    """The methods of this file."""
    return [GOMTL]
