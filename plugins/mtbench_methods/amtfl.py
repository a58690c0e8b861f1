"""AMTFL: asymmetric multi-task feature learning with one hidden layer.

Paper: Lee, Yang and Hwang, Deep Asymmetric Multi-task Feature Learning, ICML 2018, eq. (6).

Shapes: B rows, T tasks, k latent features. Z = relu(X L + c) [B, k]; outputs Z S + b [B, T]; feedback A [T, k], whose
row a_t is what task t gives back to the features; reconstruction Z^ = relu(outputs A + b_A).

Departures: biases, which the paper leaves out of its formulas though its section 3.2 asks for one in the
reconstruction; the reconstruction error is a mean over rows, not a sum, so that gamma does not depend on the batch; and
the offset is delta / sqrt(N_t / N_mean), with N_mean the mean N_t, as Deep-AMTFL's is here, so that delta does not
depend on the size of the data; it is searched in multiples of the loss, as AMTL's is, where the paper tunes it "to have
similar scale" by hand. N_t counts the rows of a task, of binary tasks those labelled 1. Where tasks have rows of their
own, a batch that holds none of a task leaves its loss out, but not its offset (`Batch.task_losses`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, hookimpl, tunable
from mtbench.nn.shallow import FeedbackNet

_POWERS_OF_TEN = (1.0, 0.1, 0.01, 0.001, 0.0001)
_LIGHT = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True, kw_only=True)
class AMTFLParams:
    """Hyperparameters of AMTFL.

    Attributes:
        alpha: Sparsity of the feedback, multiplied by each task's loss.
        gamma: Weight of the reconstruction.
        mu: Weight of the l1 norm of S.
        lambda_: Weight of the squared norm of L.
        nu: Weight of the l1 norm of L, which the paper adds on its synthetic data.
        delta: Offset delta / sqrt(N_t / N_mean) of each task's loss: extra sparsity for tasks with few rows.
    """

    alpha: float = tunable(
        0.1, grid=_POWERS_OF_TEN, low=1e-4, high=1.0, per="weight", help="sparsity of the feedback A"
    )
    gamma: float = tunable(1e-3, grid=_LIGHT, low=1e-6, high=0.1, per="loss", help="weight of the reconstruction of Z")
    mu: float = tunable(1e-3, low=1e-6, high=0.3, per="task_slope", help="l1 on S")
    lambda_: float = tunable(1e-3, low=1e-6, high=0.3, per="loss", help="l2 on L")
    nu: float = tunable(0.0, help="l1 on L")
    delta: float = tunable(
        0.1, grid=(0.1,), low=1e-3, high=10.0, per="task_loss", help="loss added to tasks, the smaller the more"
    )


class AMTFL(GradientMethod):
    """Tasks feed back into the shared features, reliable tasks more than unreliable ones."""

    name = "amtfl"
    version = "2"
    reference = Reference("Deep Asymmetric Multi-task Feature Learning", "ICML 2018", arxiv="1708.00260")
    Params = AMTFLParams
    honours_weights = ("sample", "class", "task")

    def build(self, problem: Problem, params: AMTFLParams, recipe: Recipe) -> nn.Module:
        """A one-hidden-layer network with feedback connections."""
        return FeedbackNet(problem, recipe)

    def objective(self, model: FeedbackNet, batch: Batch, params: AMTFLParams) -> Tensor:
        """Eq. (6): sum_t {(1 + alpha |a_t|_1) L_t + mu |s_t|_1} + gamma |Z - Z^|_F^2 + lambda |L|_F^2 (+ nu |L|_1)."""
        features = model.features(batch)
        outputs = model.outputs(features)
        losses = batch.task_losses(outputs) + batch.size_offset(params.delta)
        feedback = batch.columns.per_task(model.feedback.A.abs().sum(1))
        reconstruction = (features - model.feedback(outputs)).square().sum(1).mean()
        return (
            ((1 + params.alpha * feedback) * losses).sum()
            + params.mu * model.S.abs().sum()
            + params.gamma * reconstruction
            + params.lambda_ * model.L.square().sum()
            + params.nu * model.L.abs().sum()
        )

    def learned(self, model: FeedbackNet, params: AMTFLParams) -> Mapping[str, Tensor]:
        """The transfer A S [T, T] (row gives to column), the feedback A, the bases L and the coefficients S."""
        return {
            "transfer": model.feedback.transfer(model.S),
            "feedback": model.feedback.A,
            "bases": model.L,
            "coefficients": model.S,
        }


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The method of this file."""
    return [AMTFL]
