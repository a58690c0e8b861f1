"""Fine-tuning: hard sharing for all tasks together, then a copy of the network for each task, trained for it alone.

What is gained by sharing early and parting late; in the paper the step from MT-DNN without fine-tuning to MT-DNN.

Paper: Liu, He, Chen and Gao, Multi-Task Deep Neural Networks for Natural Language Understanding, ACL 2019.

Shapes: B rows, T tasks, b rows of each task, k features, C outputs of the widest task. Stage "joint": Z = backbone(X)
[B, k], outputs of task t Z S_t + b_t, S [T, k, C], as hard sharing has it. Stage "own": Z_t = tower_t(X_t) [b, k],
where every tower starts as the backbone was left; heads go on.

Departures: both stages have the recipe's optimiser, learning rate and epochs, `joint` of these together; the paper
fine-tunes for epochs of its own. In the first stage every task counts the same in every step, where the paper draws
batches of one task at a time. Both stages decay weights by the same sum: lambda for the one backbone, lambda / T for
each of T towers. A weighting changes the first stage alone: in the second, tasks share nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, Stage, Terms, hookimpl, tunable
from mtbench.nn.backbones import backbone, backbone_support
from mtbench.nn.copies import Copies
from mtbench.nn.decay import half_squares
from mtbench.nn.heads import Heads, by_task, task_features


@dataclass(frozen=True, kw_only=True)
class FineTunedParams:
    """Hyperparameters of fine-tuning.

    Attributes:
        lambda_: Weight of half the squared norms of all layers.
        joint: Share of the epochs in which all tasks are trained together.
    """

    lambda_: float = tunable(
        1e-4, grid=(1e-2, 1e-3, 1e-4, 1e-5), low=1e-6, high=1e-2, per="loss", help="l2 on all layers"
    )
    joint: float = tunable(
        0.5,
        grid=(0.25, 0.5, 0.75),
        maximum=0.9,
        stackable=False,
        help="share of the epochs that train all tasks together",
    )


class FineTunedNet(nn.Module):
    """A backbone for all tasks and a copy of it for each, with one set of heads.

    Attributes:
        backbone: The recipe's, which the first stage trains.
        towers: T copies of it, which the second stage trains.
        heads: One for each task.
    """

    def __init__(self, problem: Problem, recipe: Recipe) -> None:
        super().__init__()
        self.backbone = backbone(problem, recipe)
        self.towers = Copies(lambda: copy.deepcopy(self.backbone), problem.n_tasks)
        self.heads = Heads(problem, self.backbone.n_features)

    def forward(self, batch: Batch) -> Tensor:
        """Outputs [B, O] of the towers."""
        return self.heads(task_features(self.towers, batch), batch)

    def shared(self, batch: Batch) -> Tensor:
        """Outputs [B, O] of the backbone."""
        features = self.backbone(batch.inputs)
        return self.heads(by_task(features, batch) if batch.per_task else features, batch)


class FineTuned(GradientMethod):
    """All tasks together first, then each task's own copy of the network."""

    name = "fine_tuned"
    reference = Reference(
        "Multi-Task Deep Neural Networks for Natural Language Understanding", "ACL 2019", arxiv="1901.11504"
    )
    Params = FineTunedParams
    separate = True

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: FineTunedParams, recipe: Recipe) -> nn.Module:
        """The recipe's backbone, copies of it, and heads."""
        return FineTunedNet(problem, recipe)

    def stages(self, params: FineTunedParams, recipe: Recipe) -> Sequence[Stage]:
        """The backbone, then the towers; heads in both."""
        return (
            Stage("joint", params.joint, terms=self.joint_terms, trains=("backbone", "heads")),
            Stage("own", 1 - params.joint, objective=self.objective, trains=("towers", "heads")),
        )

    def between(self, model: FineTunedNet, before: str, after: str, params: FineTunedParams) -> Mapping[str, Tensor]:
        """Every tower is the backbone, with its running statistics."""
        held = [*model.backbone.named_parameters(), *model.backbone.named_buffers()]
        n_tasks = model.towers.n
        return {f"towers.{name.replace('.', '__')}": value.expand(n_tasks, *value.shape) for name, value in held}

    def joint_terms(self, model: FineTunedNet, batch: Batch, params: FineTunedParams) -> Terms:
        """L_t, and lambda / 2 (|below|^2 + |S|^2)."""
        return Terms(
            batch.task_losses(model.shared(batch)), params.lambda_ * half_squares(model.backbone, model.heads.S)
        )

    def terms(self, model: FineTunedNet, batch: Batch, params: FineTunedParams) -> Terms:
        """L_t, and lambda / (2 T) sum_t (|below_t|^2 + |S_t|^2)."""
        decay = half_squares(model.towers, model.heads.S) / model.towers.n
        return Terms(batch.task_losses(model(batch)), params.lambda_ * decay)

    def task_axes(self, model: FineTunedNet) -> Mapping[str, int]:
        """Towers and heads; the backbone is shared."""
        return {"towers": 0, "heads": 0}

    def n_parameters(self, model: FineTunedNet, params: FineTunedParams) -> int:
        """Without the backbone, which predicts nothing in the end."""
        return sum(value.numel() for part in (model.towers, model.heads) for value in part.parameters())


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The method of this file."""
    return [FineTuned]
