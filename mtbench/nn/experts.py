"""What mixtures of experts share: mixing by gates, the means of gates, and what stands between mixtures and heads.

Shapes: B rows, T tasks, b rows of each task, E experts, k features, h units of a tower.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtbench.contracts.batch import Batch
from mtbench.contracts.terms import PerTask
from mtbench.tasks import Problem

_MEMORY = 0.99  # share of the running mean that a step keeps


def mixed(gates: Tensor, found: Tensor, per_task: int) -> Tensor:
    """The experts' features, weighted for each task and row: sum_i g_t(x)_i f_i(x).

    Args:
        gates: [T, b, E] where there are b = `per_task` rows of each task in order, else [T, B, E].
        found: [E, B, k].
        per_task: b; 0 where every row counts for every task.

    Returns:
        [T, b, k], or [T, B, k].
    """
    if per_task:
        own = found.reshape(len(found), len(gates), per_task, -1)
        return torch.einsum("tbe,etbk->tbk", gates, own)
    return torch.einsum("tbe,ebk->tbk", gates, found)


def note_means(means: Tensor, gates: Tensor, batch: Batch) -> None:
    """Takes the gates of a batch into their running means, in place; tasks without a row keep theirs.

    Args:
        means: [T, E].
        gates: [T, b, E] or [T, B, E], as in `mixed`.
        batch: Tells whose row is whose.
    """
    if batch.per_task or batch.task is None:
        means.mul_(_MEMORY).add_((1 - _MEMORY) * gates.mean(1))
        return
    own = rows_of_tasks(batch, gates)
    n_rows = own.sum(1)
    found = torch.einsum("tb,tbe->te", own, gates) / n_rows.clamp(min=1.0)[:, None]
    weight = (1 - _MEMORY) * (n_rows > 0).to(gates.dtype)
    means.add_(weight[:, None] * (found - means))


def rows_of_tasks(batch: Batch, like: Tensor) -> Tensor:
    """1 where a row is the task's own: [T, B], of the dtype of `like`. Own layout."""
    assert batch.task is not None, "where tasks share their rows, all rows are every task's"
    tasks = torch.arange(batch.problem.n_tasks, device=batch.task.device)
    return (batch.task == tasks[:, None]).to(like.dtype)


class Towers(PerTask):
    """A hidden layer for each task.

    Attributes:
        V: [T, k, h], Glorot-uniform.
        c: [T, h], at 0.
    """

    def __init__(self, problem: Problem, n_features: int, h: int, linear: bool) -> None:
        super().__init__()
        n_tasks = problem.n_tasks
        self.V = nn.Parameter(
            torch.stack([nn.init.xavier_uniform_(torch.empty(n_features, h)) for _ in range(n_tasks)])
        )
        self.c = nn.Parameter(torch.zeros(n_tasks, h))
        self._linear = linear

    def forward(self, features: Tensor) -> Tensor:
        """[T, n, k] -> relu(features V + c) [T, n, h]; without ReLU in a linear network."""
        hidden = features @ self.V + self.c[:, None]
        return hidden if self._linear else torch.relu(hidden)
