"""Networks of which all tasks share everything below their outputs.

Shapes: B rows, d features, k latent features, O outputs of all tasks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtbench.contracts.batch import Batch
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.terms import PerTask
from mtbench.nn.backbones import backbone
from mtbench.nn.decay import half_squares
from mtbench.nn.feedback import Feedback
from mtbench.tasks import Problem

_HEAD_STD = 0.01


class SharedLayerNet(PerTask):
    """One hidden layer that all tasks share: Z = relu(X L + c), outputs Z S + b.

    With the recipe's activation "identity" the network is linear: Z = X L, outputs Z S.

    Attributes:
        L: [d, k], Glorot-uniform.
        S: [k, O], N(0, 0.01^2).
        c: [k], at 0; None in a linear network.
        b: [O], at 0; None in a linear network.
    """

    def __init__(self, problem: Problem, recipe: Recipe) -> None:
        super().__init__()
        k, n_outputs = recipe.hidden, problem.n_outputs
        relu = recipe.activation == "relu"
        self.L = nn.Parameter(nn.init.xavier_uniform_(torch.empty(problem.n_features, k)))
        self.S = head(k, n_outputs)
        self.c = nn.Parameter(torch.zeros(k)) if relu else None
        self.b = nn.Parameter(torch.zeros(n_outputs)) if relu else None
        self.task_axes = {"S": 1, "b": 0} if relu else {"S": 1}

    def features(self, batch: Batch) -> Tensor:
        """Z [B, k]."""
        hidden = batch.inputs.flatten(1) @ self.L
        return hidden if self.c is None else torch.relu(hidden + self.c)

    def outputs(self, features: Tensor) -> Tensor:
        """Z [B, k] -> outputs [B, O]."""
        return features @ self.S if self.b is None else features @ self.S + self.b

    def forward(self, batch: Batch) -> Tensor:
        """Outputs [B, O]."""
        return self.outputs(self.features(batch))


class FeedbackNet(SharedLayerNet):
    """A shared layer whose outputs are asked to reconstruct the features they came from.

    Attributes:
        feedback: Z^ from outputs, with a bias where the network has any.
    """

    def __init__(self, problem: Problem, recipe: Recipe) -> None:
        super().__init__(problem, recipe)
        self.feedback = Feedback(problem, recipe.hidden, bias=self.c is not None)


class BackboneNet(PerTask):
    """The recipe's backbone, which all tasks share, and a dense output layer: Z = backbone(X), outputs Z S + b.

    Attributes:
        backbone: The recipe's backbone.
        S: [k, O], N(0, 0.01^2).
        b: [O], at 0.
    """

    task_axes: Mapping[str, int] = {"S": 1, "b": 0}

    def __init__(self, problem: Problem, recipe: Recipe) -> None:
        super().__init__()
        self.backbone = backbone(problem, recipe)
        self.S = head(self.backbone.n_features, problem.n_outputs)
        self.b = nn.Parameter(torch.zeros(problem.n_outputs))

    def features(self, batch: Batch) -> Tensor:
        """Z [B, k]."""
        return self.backbone(batch.inputs)  # type: ignore[no-any-return]

    def outputs(self, features: Tensor) -> Tensor:
        """Z [B, k] -> outputs [B, O]."""
        return features @ self.S + self.b

    def forward(self, batch: Batch) -> Tensor:
        """Outputs [B, O]."""
        return self.outputs(self.features(batch))

    def decay(self) -> Tensor:
        """Half the sum of squares of every weight and bias below S: a scalar."""
        return half_squares(self.backbone)


class DeepFeedbackNet(BackboneNet):
    """A backbone whose features the outputs are asked to reconstruct.

    Attributes:
        feedback: Z^ from outputs, with a bias.
    """

    def __init__(self, problem: Problem, recipe: Recipe) -> None:
        super().__init__(problem, recipe)
        self.feedback = Feedback(problem, self.backbone.n_features, bias=True)


def head(n_features: int, n_outputs: int) -> nn.Parameter:
    """Weights [k, O] of an output layer, N(0, 0.01^2)."""
    return nn.Parameter(nn.init.normal_(torch.empty(n_features, n_outputs), 0, _HEAD_STD))
