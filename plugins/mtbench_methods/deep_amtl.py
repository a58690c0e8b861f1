"""Deep-AMTL: the last layer of a deep network under the objective of asymmetric multi-task learning.

Paper: Deep Asymmetric Multi-task Feature Learning, ICML 2018, section 4.2, baseline 3: the deep version of eq. (5),
where the product L S of (5) is the last layer; its penalty is that of eq. (4).

Shapes: B rows, T tasks, k features, O outputs of all tasks. Z = backbone(X) [B, k]; outputs Z S + b [B, O]; transfer
B [O, O]: row s of column t says how much of s_s goes into s_t; its rows b_t are what task t gives to others; 0 within a
task.

Departures: B is kept non-negative by projection after every step (the papers ask for B >= 0 and do not say how deep
networks keep it). Tasks of several outputs transfer output by output. The loss has the offset of Deep-AMTFL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, hookimpl, tunable
from mtbench.nn.backbones import backbone_support
from mtbench.nn.feedback import between_tasks
from mtbench.nn.shallow import BackboneNet

_POWERS_OF_TEN = (1.0, 0.1, 0.01, 0.001, 0.0001)
_START = 0.01


@dataclass(frozen=True, kw_only=True)
class DeepAMTLParams:
    """Hyperparameters of Deep-AMTL.

    Attributes:
        alpha: Cost of transfer from a task, per unit of its loss.
        gamma: Weight of |S - S B|_F^2.
        mu: Weight of the l1 norm of S.
        lambda_: Weight of half the squared norms of the layers below S.
        delta: Offset delta / sqrt(N_t / N_mean) of each task's loss.
    """

    alpha: float = tunable(0.1, grid=_POWERS_OF_TEN, help="cost of transfer", ramped=True)
    gamma: float = tunable(0.01, grid=_POWERS_OF_TEN, per="task_loss", help="weight of |S - S B|^2", ramped=True)
    mu: float = tunable(1e-4, per="task_loss", help="l1 on S")
    lambda_: float = tunable(1e-4, per="loss", help="l2 below S")
    delta: float = tunable(1e-3, per="task_loss", help="offset delta / sqrt(N_t / N_mean) of each task's loss")


class TransferNet(BackboneNet):
    """A backbone with a head S, and a transfer B among its columns.

    Attributes:
        B: [O, O], non-negative, 0 between outputs of one task; starts at |N(0, 0.01^2)|.
        others: [O, O], 1 where two outputs belong to different tasks.
    """

    others: Tensor

    def __init__(self, problem: Problem, recipe: Recipe) -> None:
        super().__init__(problem, recipe)
        owner = torch.repeat_interleave(torch.tensor([task.n_outputs for task in problem.tasks]))
        self.register_buffer("others", (owner[:, None] != owner[None, :]).float())
        self.B = nn.Parameter(_START * torch.randn(len(owner), len(owner)).abs() * self.others)
        self.slices = problem.output_slices


class DeepAMTL(GradientMethod):
    """Every task's last layer is close to a sparse combination of the others', and bad ones cost more to use."""

    name = "deep_amtl"
    reference = Reference("Deep Asymmetric Multi-task Feature Learning", "ICML 2018", arxiv="1708.00260")
    Params = DeepAMTLParams
    honours_weights = ("sample", "class", "task")
    update_every = 1

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: DeepAMTLParams, recipe: Recipe) -> nn.Module:
        """The recipe's backbone, a head, and a transfer among the head's columns."""
        return TransferNet(problem, recipe)

    def objective(self, model: TransferNet, batch: Batch, params: DeepAMTLParams) -> Tensor:
        """Eq. (4) on S: sum_t {(1 + alpha |b_t|_1) L_t + mu |s_t|_1} + gamma |S - S B|_F^2 + lambda / 2 |below|^2."""
        losses = batch.task_losses(model(batch)) + batch.size_offset(params.delta)
        B = model.B * model.others
        given = batch.columns.per_task(B.abs().sum(1))
        return (
            ((1 + params.alpha * given) * losses).sum()
            + params.mu * model.S.abs().sum()
            + params.gamma * (model.S - model.S @ B).square().sum()
            + params.lambda_ * model.decay()
        )

    def after_step(self, model: TransferNet, batch: Batch, params: DeepAMTLParams) -> Mapping[str, Tensor]:
        """The projection of B on what is allowed: B >= 0, nothing within a task."""
        return {"B": model.B.clamp(min=0.0) * model.others}

    def learned(self, model: TransferNet, params: DeepAMTLParams) -> Mapping[str, Tensor]:
        """The transfer B [T, T] (row gives to column) and the head S."""
        return {"transfer": between_tasks(model.B * model.others, model.slices), "head": model.S}


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The method of this file."""
    return [DeepAMTL]
