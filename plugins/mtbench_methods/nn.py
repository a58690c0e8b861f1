"""NN and MT-NN: one hidden layer shared by all tasks, the base networks of AMTFL.

Paper: Deep Asymmetric Multi-task Feature Learning, ICML 2018, section 4.1, baselines 4 and 5.

Shapes: T tasks, d features, k latent features, O outputs of all tasks. Z = relu(X L + c) [B, k], outputs Z S + b
[B, O], with L [d, k] and S [k, O].

Departures: N_t, which MT-NN divides by, is the rows of a task with a label: in one-vs-all problems all rows, for all
tasks, so that l1 is all that MT-NN differs in there. Where tasks have rows of their own, batches miss tasks of few
rows, whose loss is then left out: over an epoch a task counts as often as it is in a batch (`Batch.task_losses`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, Terms, hookimpl, tunable
from mtbench.nn.shallow import SharedLayerNet

_PAPER = Reference("Deep Asymmetric Multi-task Feature Learning", "ICML 2018", arxiv="1708.00260")


@dataclass(frozen=True, kw_only=True)
class NNParams:
    """Hyperparameters of NN.

    Attributes:
        lambda_: Weight of the squared norms of L and S.
        nu: Weight of the l1 norm of L, which the paper adds on its synthetic data.
    """

    lambda_: float = tunable(
        1e-3, grid=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5), low=1e-6, high=0.3, per="slope", help="l2 on L and S"
    )
    nu: float = tunable(0.0, help="l1 on L")


class NN(GradientMethod):
    """A network with one shared hidden layer: every labelled row counts the same, l2 on both layers."""

    name = "nn"
    reference = _PAPER
    Params = NNParams

    def build(self, problem: Problem, params: NNParams, recipe: Recipe) -> nn.Module:
        """The network of the recipe's width."""
        return SharedLayerNet(problem, recipe)

    def terms(self, model: SharedLayerNet, batch: Batch, params: NNParams) -> Terms:
        """T times what each task adds to the mean loss over rows, and lambda (|L|_F^2 + |S|_F^2) + nu |L|_1.

        The factor T lets lambda and nu mean the same as in MT-NN.
        """
        losses = batch.problem.n_tasks * batch.pooled_losses(model(batch))
        decay = params.lambda_ * (model.L.square().sum() + model.S.square().sum())
        return Terms(losses, decay + params.nu * model.L.abs().sum())

    def learned(self, model: SharedLayerNet, params: NNParams) -> Mapping[str, Tensor]:
        """The bases L and the coefficients S."""
        return {"bases": model.L, "coefficients": model.S}


@dataclass(frozen=True, kw_only=True)
class MTNNParams:
    """Hyperparameters of MT-NN.

    Attributes:
        mu: Weight of the l1 norm of S.
        lambda_: Weight of the squared norm of L.
        nu: Weight of the l1 norm of L, which the paper adds on its synthetic data.
    """

    mu: float = tunable(1e-3, grid=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5), low=1e-6, high=0.3, per="task_slope", help="l1 on S")
    lambda_: float = tunable(1e-3, grid=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5), low=1e-6, high=0.3, per="loss", help="l2 on L")
    nu: float = tunable(0.0, help="l1 on L")


class MTNN(GradientMethod):
    """NN with each task's loss divided by its number of rows, and l1 instead of l2 on the last layer."""

    name = "mt_nn"
    reference = _PAPER
    Params = MTNNParams

    def build(self, problem: Problem, params: MTNNParams, recipe: Recipe) -> nn.Module:
        """The network of the recipe's width."""
        return SharedLayerNet(problem, recipe)

    def terms(self, model: SharedLayerNet, batch: Batch, params: MTNNParams) -> Terms:
        """L_t, and mu sum_t |s_t|_1 + lambda |L|_F^2 + nu |L|_1."""
        decay = params.mu * model.S.abs().sum() + params.lambda_ * model.L.square().sum()
        return Terms(batch.task_losses(model(batch)), decay + params.nu * model.L.abs().sum())

    def learned(self, model: SharedLayerNet, params: MTNNParams) -> Mapping[str, Tensor]:
        """The bases L and the coefficients S."""
        return {"bases": model.L, "coefficients": model.S}


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The methods of this file."""
    return [NN, MTNN]
