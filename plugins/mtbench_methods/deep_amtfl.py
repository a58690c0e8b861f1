"""Deep-AMTFL: asymmetric multi-task feature learning on the features of any backbone.

Paper: Lee, Yang and Hwang, Deep Asymmetric Multi-task Feature Learning, ICML 2018, eq. (7).

Shapes: B rows, T tasks, k features, O outputs of all tasks. Z = backbone(X) [B, k]; outputs Z S + b [B, O]; feedback
A [O, k], whose rows a_t are what task t gives back to the features; reconstruction Z^ = relu(outputs A + b_A).

Departures: biases, which the paper leaves out of its formulas though its section 3.2 asks for one in the
reconstruction; the reconstruction error is a mean over rows, so that gamma does not depend on the batch; and the offset
of the loss is delta / sqrt(N_t / N_mean), so that delta does not depend on the size of the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, hookimpl, tunable
from mtbench.nn.backbones import backbone_support
from mtbench.nn.shallow import DeepFeedbackNet

_POWERS_OF_TEN = (1.0, 0.1, 0.01, 0.001, 0.0001)


@dataclass(frozen=True, kw_only=True)
class DeepAMTFLParams:
    """Hyperparameters of Deep-AMTFL.

    Attributes:
        alpha: Sparsity of the feedback, multiplied by each task's loss.
        gamma: Weight of the reconstruction.
        mu: Weight of the l1 norm of S.
        lambda_: Weight of half the squared norms of the layers below S.
        delta: Offset delta / sqrt(N_t / N_mean) of each task's loss: extra sparsity for tasks with few rows.
    """

    alpha: float = tunable(0.1, grid=_POWERS_OF_TEN, help="sparsity of the feedback A", ramped=True)
    gamma: float = tunable(0.01, grid=_POWERS_OF_TEN, per="loss", help="weight of the reconstruction of Z", ramped=True)
    mu: float = tunable(1e-4, per="task_loss", help="l1 on S")
    lambda_: float = tunable(1e-4, per="loss", help="l2 below S")
    delta: float = tunable(1e-3, per="task_loss", help="offset delta / sqrt(N_t / N_mean) of each task's loss")


class DeepAMTFL(GradientMethod):
    """Tasks feed back into the features of a deep network, reliable tasks more than unreliable ones."""

    name = "deep_amtfl"
    reference = Reference("Deep Asymmetric Multi-task Feature Learning", "ICML 2018", arxiv="1708.00260")
    Params = DeepAMTFLParams
    honours_weights = ("sample", "class", "task")

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: DeepAMTFLParams, recipe: Recipe) -> nn.Module:
        """The recipe's backbone with feedback connections from its outputs."""
        return DeepFeedbackNet(problem, recipe)

    def objective(self, model: DeepFeedbackNet, batch: Batch, params: DeepAMTFLParams) -> Tensor:
        """Eq. (7): sum_t {(1 + alpha |a_t|_1) L_t + mu |s_t|_1} + gamma |Z - Z^|_F^2 + lambda / 2 |below|^2."""
        features = model.features(batch)
        outputs = model.outputs(features)
        losses = batch.task_losses(outputs) + batch.size_offset(params.delta)
        feedback = batch.columns.per_task(model.feedback.A.abs().sum(1))
        reconstruction = (features - model.feedback(outputs)).square().sum(1).mean()
        return (
            ((1 + params.alpha * feedback) * losses).sum()
            + params.mu * model.S.abs().sum()
            + params.gamma * reconstruction
            + params.lambda_ * model.decay()
        )

    def learned(self, model: DeepFeedbackNet, params: DeepAMTFLParams) -> Mapping[str, Tensor]:
        """The transfer A S [T, T] (row gives to column), the feedback A and the head S."""
        return {"transfer": model.feedback.transfer(model.S), "feedback": model.feedback.A, "head": model.S}


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The method of this file."""
    return [DeepAMTFL]
