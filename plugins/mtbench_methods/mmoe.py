"""MMoE: experts that all tasks share, and for each task a gate that says how much of which to use for a row.

Paper: Ma, Zhao, Yi, Chen, Hong and Chi, Modeling Task Relationships in Multi-task Learning with Multi-gate
Mixture-of-Experts, KDD 2018, eqs. (6) to (8).

Shapes: B rows, T tasks, E experts, d numbers of a row laid flat, k features, h units of a tower, C outputs of the
widest task. Experts f_i are backbones of the recipe's kind, [B, k] each; with G [T, d, E], V [T, k, h] and S [T, h, C]

    g_t(x) = softmax(x G_t)                 (8)
    f_t(x) = sum_i g_t(x)_i f_i(x)          (7)
    y_t    = relu(f_t(x) V_t + c_t) S_t + b_t   (6)

Departures: gates start at 0, so that every expert counts the same for every task at first; the paper leaves their start
open. Gates have no weight decay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, Terms, hookimpl, tunable
from mtbench.contracts.terms import PerTask
from mtbench.nn.backbones import backbone, backbone_support
from mtbench.nn.copies import Copies
from mtbench.nn.decay import half_squares
from mtbench.nn.experts import Towers, mixed, note_means
from mtbench.nn.heads import Heads, by_task


@dataclass(frozen=True, kw_only=True)
class MMoEParams:
    """Hyperparameters of MMoE.

    Attributes:
        experts: E.
        tower: h, units of each task's hidden layer.
        lambda_: Weight of half the squared norms of all layers but the gates.
    """

    experts: int = tunable(8, choices=(4, 8, 16), help="experts")
    tower: int = tunable(64, choices=(16, 64, 256), help="units of each task's tower")
    lambda_: float = tunable(
        1e-4, grid=(1e-2, 1e-3, 1e-4, 1e-5), low=1e-6, high=1e-2, per="loss", help="l2 on all layers"
    )


class ExpertsNet(PerTask):
    """Experts, and a gate, a tower and a head for each task.

    Attributes:
        experts: E backbones of the recipe's kind.
        G: [T, d, E], at 0.
        towers: V [T, k, h] and c [T, h].
        heads: One for each task.
        gate_means: [T, E], running means of the gates over the rows of each task in training.
    """

    task_axes: Mapping[str, int] = {"G": 0}
    gate_means: Tensor

    def __init__(self, problem: Problem, recipe: Recipe, n_experts: int, h: int) -> None:
        super().__init__()
        n_tasks = problem.n_tasks
        self.experts = Copies(lambda: backbone(problem, recipe), n_experts)
        k = int(self.experts.template.n_features)
        self.G = nn.Parameter(torch.zeros(n_tasks, problem.n_features, n_experts))
        self.towers = Towers(problem, k, h, linear=recipe.activation == "identity")
        self.heads = Heads(problem, h)
        self.register_buffer("gate_means", torch.full((n_tasks, n_experts), 1 / n_experts))

    def forward(self, batch: Batch) -> Tensor:
        """Outputs [B, O]."""
        found = self.experts(batch.inputs)
        rows = batch.inputs.flatten(1)
        gates = torch.softmax((by_task(rows, batch) if batch.per_task else rows) @ self.G, -1)
        if self.training:
            note_means(self.gate_means, gates.detach(), batch)
        return self.heads(self.towers(mixed(gates, found, batch.per_task)), batch)


class MMoE(GradientMethod):
    """Tasks share experts, and each weighs them anew for every row."""

    name = "mmoe"
    reference = Reference(
        "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", "KDD 2018"
    )
    Params = MMoEParams

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: MMoEParams, recipe: Recipe) -> nn.Module:
        """Backbones as experts, and a gate, a tower and a head for each task."""
        return ExpertsNet(problem, recipe, params.experts, params.tower)

    def terms(self, model: ExpertsNet, batch: Batch, params: MMoEParams) -> Terms:
        """L_t, and lambda / 2 |experts, towers, S|^2."""
        decay = half_squares(model.experts, model.towers, model.heads.S)
        return Terms(batch.task_losses(model(batch)), params.lambda_ * decay)

    def learned(self, model: ExpertsNet, params: MMoEParams) -> Mapping[str, Tensor]:
        """Mean gates [T, E] over the rows of each task."""
        return {"gates": model.gate_means}


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The method of this file."""
    return [MMoE]
