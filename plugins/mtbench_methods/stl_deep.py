"""Deep single-task learning: every task has a network of its own, of the same shape.

What multi-task methods are measured against; it has no paper. All networks are trained at once, as one batched network.

Shapes: B rows, T tasks, b rows of each task, k features, C outputs of the widest task. Z_t = backbone_t(X_t) [b, k];
outputs of task t Z_t S_t + b_t, S [T, k, C].

Departures: where batches mix tasks that have rows of their own (`rows_per_task` 0 in the recipe), every row goes
through all networks, and only the output of its own task counts; then batch norm, where the backbone has it, sees rows
of all tasks. With `rows_per_task` nothing of one task reaches another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, Terms, hookimpl, tunable
from mtbench.nn.backbones import backbone, backbone_support
from mtbench.nn.copies import Copies
from mtbench.nn.decay import half_squares
from mtbench.nn.heads import Heads, task_features

_KEPT = 2**17  # numbers of a head that are kept at most


@dataclass(frozen=True, kw_only=True)
class DeepSTLParams:
    """Hyperparameters of deep single-task learning.

    Attributes:
        lambda_: Weight of half the squared norms of all layers.
    """

    lambda_: float = tunable(
        1e-4, grid=(1e-2, 1e-3, 1e-4, 1e-5), low=1e-6, high=1e-2, per="task_loss", help="l2 on all layers"
    )


class SeparateNets(nn.Module):
    """A network for each task.

    Attributes:
        towers: T backbones of the recipe's kind.
        heads: One for each task.
    """

    def __init__(self, problem: Problem, recipe: Recipe) -> None:
        super().__init__()
        self.towers = Copies(lambda: backbone(problem, recipe), problem.n_tasks)
        self.heads = Heads(problem, int(self.towers.template.n_features))

    def forward(self, batch: Batch) -> Tensor:
        """Outputs [B, O]."""
        return self.heads(task_features(self.towers, batch), batch)


class DeepSTL(GradientMethod):
    """Every task is learned alone, by a network of its own."""

    name = "stl_deep"
    reference = Reference("Single-task learning", "the baseline of every multi-task method")
    Params = DeepSTLParams
    separate = True

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: DeepSTLParams, recipe: Recipe) -> nn.Module:
        """A backbone and a head for each task."""
        return SeparateNets(problem, recipe)

    def terms(self, model: SeparateNets, batch: Batch, params: DeepSTLParams) -> Terms:
        """L_t, and lambda / 2 sum_t (|below_t|^2 + |S_t|^2)."""
        return Terms(batch.task_losses(model(batch)), params.lambda_ * half_squares(model.towers, model.heads.S))

    def learned(self, model: SeparateNets, params: DeepSTLParams) -> Mapping[str, Tensor]:
        """The heads S [T, k, C], where they are not many."""
        return {"head": model.heads.S} if model.heads.S.numel() <= _KEPT else {}


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The method of this file."""
    return [DeepSTL]
