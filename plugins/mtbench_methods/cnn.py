"""CNN and MT-CNN: a backbone shared by all tasks, the base networks of Deep-AMTFL.

Paper: Deep Asymmetric Multi-task Feature Learning, ICML 2018, section 4.2, baselines 1 and 2. Any backbone serves, not
only convolutional ones.

Shapes: B rows, T tasks, k features, O outputs of all tasks. Z = backbone(X) [B, k], outputs Z S + b [B, O].

Weight decay is lambda / 2 |.|^2, biases below the head included, as in the authors' base networks.

Departures: where tasks have rows of their own, or labels are missing, which the paper's one-vs-all problems do not
know, MT-CNN's loss is sum_t L_t, in which every task counts the same, and CNN's has every labelled row count the same.
So MT-CNN is Deep-AMTFL without its feedback on every problem, and MT-NN with a deep network below. In one-vs-all
problems without missing labels the two losses are equal, and l1 is all that MT-CNN differs in, as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, Terms, hookimpl, tunable
from mtbench.nn.backbones import backbone_support
from mtbench.nn.shallow import BackboneNet

_PAPER = Reference("Deep Asymmetric Multi-task Feature Learning", "ICML 2018", arxiv="1708.00260")
_DECAYS = (1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True, kw_only=True)
class CNNParams:
    """Hyperparameters of CNN.

    Attributes:
        lambda_: Weight of half the squared norms of all layers.
    """

    lambda_: float = tunable(1e-4, grid=_DECAYS, low=1e-6, high=1e-2, per="loss", help="l2 on all layers")


class CNN(GradientMethod):
    """The base network: every labelled row counts the same, l2 on all layers."""

    name = "cnn"
    reference = _PAPER
    Params = CNNParams

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: CNNParams, recipe: Recipe) -> nn.Module:
        """The recipe's backbone and a dense head."""
        return BackboneNet(problem, recipe)

    def terms(self, model: BackboneNet, batch: Batch, params: CNNParams) -> Terms:
        """T times what each task adds to the mean loss over rows, and lambda / 2 (|below|^2 + |S|_F^2).

        The factor T lets lambda mean the same as in MT-CNN.
        """
        losses = batch.problem.n_tasks * batch.pooled_losses(model(batch))
        return Terms(losses, params.lambda_ * (model.decay() + model.S.square().sum() / 2))

    def learned(self, model: BackboneNet, params: CNNParams) -> Mapping[str, Tensor]:
        """The head S."""
        return {"head": model.S}


@dataclass(frozen=True, kw_only=True)
class MTCNNParams:
    """Hyperparameters of MT-CNN.

    Attributes:
        mu: Weight of the l1 norm of S.
        lambda_: Weight of half the squared norms of the layers below.
    """

    mu: float = tunable(1e-4, grid=_DECAYS, low=1e-6, high=1e-2, per="task_loss", help="l1 on S")
    lambda_: float = tunable(1e-4, low=1e-6, high=1e-2, per="loss", help="l2 below S")


class MTCNN(GradientMethod):
    """CNN with l1 instead of l2 on the last layer; tasks count the same, however many rows they have."""

    name = "mt_cnn"
    reference = _PAPER
    Params = MTCNNParams

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: MTCNNParams, recipe: Recipe) -> nn.Module:
        """The recipe's backbone and a dense head."""
        return BackboneNet(problem, recipe)

    def terms(self, model: BackboneNet, batch: Batch, params: MTCNNParams) -> Terms:
        """L_t, and mu sum_t |s_t|_1 + lambda / 2 |below|^2."""
        penalty = params.mu * model.S.abs().sum() + params.lambda_ * model.decay()
        return Terms(batch.task_losses(model(batch)), penalty)

    def learned(self, model: BackboneNet, params: MTCNNParams) -> Mapping[str, Tensor]:
        """The head S."""
        return {"head": model.S}


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The methods of this file."""
    return [CNN, MTCNN]
