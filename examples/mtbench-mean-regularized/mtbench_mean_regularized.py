"""Mean-regularised multi-task learning: linear predictors that deviate from a common one.

Paper: T. Evgeniou and M. Pontil, Regularized multi-task learning, KDD 2004.
Departures: the paper's hinge loss is the loss of each task's kind here, averaged over a task's rows instead of summed;
each task has an intercept, which is not regularised.

Shapes: B rows, T tasks, d features, C outputs of each task, O = T C. w_0 [d, C], V [T, d, C], b [O].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, hookimpl, tunable

_GRID = (1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True, kw_only=True)
class MeanRegularizedParams:
    """Hyperparameters of mean regularisation.

    Attributes:
        lambda1: Weight of the deviations' mean squared norm: large values make the tasks alike.
        lambda2: Weight of the common predictor's squared norm: large values make the tasks independent.
    """

    lambda1: float = tunable(1e-2, grid=_GRID, low=1e-4, high=10.0, help="weight of mean_t |v_t|^2")
    lambda2: float = tunable(1e-3, grid=_GRID, low=1e-4, high=10.0, help="weight of |w_0|^2")


class CommonAndOwn(nn.Module):
    """w_t = w_0 + v_t, all of them 0 at first: the problem is convex."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        d, n_tasks, width = problem.n_features, problem.n_tasks, problem.tasks[0].n_outputs
        self.w_0 = nn.Parameter(torch.zeros(d, width))
        self.V = nn.Parameter(torch.zeros(n_tasks, d, width))
        self.b = nn.Parameter(torch.zeros(n_tasks * width))

    def forward(self, batch: Batch) -> Tensor:
        """Outputs [B, O], the columns of a task side by side."""
        W = self.w_0 + self.V
        return torch.einsum("bd,tdc->btc", batch.inputs.flatten(1), W).flatten(1) + self.b


class MeanRegularized(GradientMethod):
    """Tasks are deviations from a common linear predictor, and small deviations are preferred."""

    name = "mean_regularized"
    reference = Reference("Regularized multi-task learning", "KDD 2004")
    Params = MeanRegularizedParams
    honours_weights = ("sample", "class", "task")  # its losses are `batch.task_losses`

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """A common predictor needs tasks of one width."""
        widths = sorted({task.n_outputs for task in problem.tasks})
        return None if len(widths) == 1 else f"its tasks must have equally many outputs; found {widths}"

    def build(self, problem: Problem, params: MeanRegularizedParams, recipe: Recipe) -> nn.Module:
        """Linear predictors; the recipe's width plays no part."""
        return CommonAndOwn(problem)

    def objective(self, model: CommonAndOwn, batch: Batch, params: MeanRegularizedParams) -> Tensor:
        """sum_t L_t + (lambda1 / T) sum_t |v_t|^2 + lambda2 |w_0|^2."""
        losses = batch.task_losses(model(batch))
        deviations = model.V.square().sum((1, 2))
        return losses.sum() + params.lambda1 * deviations.mean() + params.lambda2 * model.w_0.square().sum()


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The methods of this file."""
    return [MeanRegularized]
