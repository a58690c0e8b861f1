"""Networks with one hidden layer shared by all tasks.

Shapes: B rows, d features, k latent features, O outputs of all tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtbench.batch import Batch
from mtbench.recipe import Recipe
from mtbench.tasks import Problem

_HEAD_STD = 0.01


class SharedLayerNet(nn.Module):
    """Z = relu(X L + c), outputs Z S + b; with the recipe's activation "identity" Z = X L and outputs Z S.

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
        self.S = nn.Parameter(nn.init.normal_(torch.empty(k, n_outputs), 0, _HEAD_STD))
        self.c = nn.Parameter(torch.zeros(k)) if relu else None
        self.b = nn.Parameter(torch.zeros(n_outputs)) if relu else None

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
    """A network whose outputs are asked to reconstruct the features they came from: Z^ = relu(outputs A + b_A).

    Attributes:
        A: [O, k], N(0, 0.01^2): row t is what task t feeds back to the features.
        b_A: [k], at 0; None in a linear network.
    """

    def __init__(self, problem: Problem, recipe: Recipe) -> None:
        super().__init__(problem, recipe)
        self.A = nn.Parameter(nn.init.normal_(torch.empty(problem.n_outputs, recipe.hidden), 0, _HEAD_STD))
        self.b_A = None if self.c is None else nn.Parameter(torch.zeros(recipe.hidden))

        self._task_columns = problem.output_slices

    def transfer(self) -> Tensor:
        """A S [T, T]: what the row's task gives to the column's; norms of blocks where tasks have several outputs."""
        by_output = self.A @ self.S
        if len(self._task_columns) == len(by_output):
            return by_output
        blocks = [[by_output[rows, columns].norm() for columns in self._task_columns] for rows in self._task_columns]
        return torch.stack([torch.stack(row) for row in blocks])

    def reconstruct(self, outputs: Tensor) -> Tensor:
        """Z^ [B, k] from outputs [B, O]."""
        feedback = outputs @ self.A
        return feedback if self.b_A is None else torch.relu(feedback + self.b_A)
