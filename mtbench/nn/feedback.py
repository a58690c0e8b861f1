"""What outputs give back: reconstructions of features from outputs, and matrices between tasks.

Shapes: B rows, T tasks, k latent features, O outputs of all tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtbench.tasks import Problem

_STD = 0.01


class Feedback(nn.Module):
    """Reconstructs features from outputs: Z^ = relu(outputs A + b_A), or outputs A in a linear network.

    Attributes:
        A: [O, k], N(0, 0.01^2): the rows of task t are what it feeds back to the features.
        b: [k], b_A, at 0; None in a linear network.
    """

    def __init__(self, problem: Problem, n_features: int, bias: bool) -> None:
        super().__init__()
        self.A = nn.Parameter(nn.init.normal_(torch.empty(problem.n_outputs, n_features), 0, _STD))
        self.b = nn.Parameter(torch.zeros(n_features)) if bias else None
        self._slices = problem.output_slices

    def forward(self, outputs: Tensor) -> Tensor:
        """Z^ [B, k] from outputs [B, O]."""
        back = outputs @ self.A
        return back if self.b is None else torch.relu(back + self.b)

    def transfer(self, S: Tensor) -> Tensor:
        """What each task gives to each other by way of the features: A S, as a matrix between tasks.

        Args:
            S: Weights of the output layer, [k, O].

        Returns:
            [T, T]: the row's task gives to the column's.
        """
        return between_tasks(self.A @ S, self._slices)


def between_tasks(matrix: Tensor, slices: Sequence[slice]) -> Tensor:
    """Turns a matrix between outputs into one between tasks: the Frobenius norm of each pair's block.

    Args:
        matrix: [O, O].
        slices: Columns of each task, `problem.output_slices`.

    Returns:
        [T, T]; the matrix itself where every task has one output.
    """
    if len(slices) == len(matrix):
        return matrix
    blocks = [torch.stack([matrix[rows, columns].norm() for columns in slices]) for rows in slices]
    return torch.stack(blocks)
