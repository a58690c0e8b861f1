"""Hard parameter sharing: one backbone for all tasks, and a head for each. Also equal-weight joint training.

Paper: Caruana, Multitask Learning, Machine Learning 28, 1997.

Shapes: B rows, T tasks, k features, C outputs of the widest task. Z = backbone(X) [B, k]; outputs of task t
Z S_t + b_t, S [T, k, C].

Departures: none; the paper prescribes no loss weights. Every task in a batch counts the same, however many rows it has
there. In the own layout batches miss tasks of few rows, which then count less over an epoch (`Batch.task_losses`), but
where the recipe takes rows of each task (`rows_per_task`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, Terms, hookimpl, tunable
from mtbench.nn.backbones import backbone, backbone_support
from mtbench.nn.decay import half_squares
from mtbench.nn.heads import Heads, by_task

_KEPT = 2**17  # numbers of a head that are kept at most


@dataclass(frozen=True, kw_only=True)
class HardSharingParams:
    """Hyperparameters of hard sharing.

    Attributes:
        lambda_: Weight of half the squared norms of all layers.
    """

    lambda_: float = tunable(
        1e-4, grid=(1e-2, 1e-3, 1e-4, 1e-5), low=1e-6, high=1e-2, per="loss", help="l2 on all layers"
    )


class SharedNet(nn.Module):
    """A backbone, and heads.

    Attributes:
        backbone: The recipe's.
        heads: One for each task.
    """

    def __init__(self, problem: Problem, recipe: Recipe) -> None:
        super().__init__()
        self.backbone = backbone(problem, recipe)
        self.heads = Heads(problem, self.backbone.n_features)

    def forward(self, batch: Batch) -> Tensor:
        """Outputs [B, O]."""
        features = self.backbone(batch.inputs)
        return self.heads(by_task(features, batch) if batch.per_task else features, batch)


class HardSharing(GradientMethod):
    """All tasks share everything below their heads, and count the same."""

    name = "hard_sharing"
    reference = Reference("Multitask Learning", "Machine Learning 1997")
    Params = HardSharingParams

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: HardSharingParams, recipe: Recipe) -> nn.Module:
        """The recipe's backbone, and heads."""
        return SharedNet(problem, recipe)

    def terms(self, model: SharedNet, batch: Batch, params: HardSharingParams) -> Terms:
        """L_t, and lambda / 2 (|below|^2 + |S|^2)."""
        return Terms(batch.task_losses(model(batch)), params.lambda_ * half_squares(model.backbone, model.heads.S))

    def learned(self, model: SharedNet, params: HardSharingParams) -> Mapping[str, Tensor]:
        """The heads S [T, k, C], where they are not many."""
        return {"head": model.heads.S} if model.heads.S.numel() <= _KEPT else {}


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The method of this file."""
    return [HardSharing]
