"""Output layers per task, and how features of copies per task meet them.

Shapes: B rows, T tasks, b rows of each task, k features, O outputs of all tasks, C the widest task's outputs.

Features come in three forms, and every form gives outputs [B, O]:
- [B, k]: one network for all tasks;
- [T, B, k]: every row went through the network of every task (shared layout, or batches that mix tasks);
- [T, b, k] with `batch.per_task` = b: rows went through the network of their own task alone. Outputs of other tasks,
  which nobody reads, are 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtbench.contracts.batch import Batch
from mtbench.contracts.terms import PerTask
from mtbench.nn.copies import Copies
from mtbench.tasks import Problem

_STD = 0.01


class Heads(PerTask):
    """A dense output layer for each task.

    Attributes:
        S: [T, k, C], N(0, 0.01^2); columns beyond a task's own outputs are never read.
        b: [T, C], at 0.
    """

    def __init__(self, problem: Problem, n_features: int) -> None:
        super().__init__()
        width = max(task.n_outputs for task in problem.tasks)
        self.S = nn.Parameter(nn.init.normal_(torch.empty(problem.n_tasks, n_features, width), 0, _STD))
        self.b = nn.Parameter(torch.zeros(problem.n_tasks, width))

    def forward(self, features: Tensor, batch: Batch) -> Tensor:
        """Applies each task's layer.

        Args:
            features: In one of the three forms above: [B, k], [T, B, k] or [T, b, k].
            batch: The rows that the features are of.

        Returns:
            Outputs [B, O].
        """
        if features.ndim == 2:
            # Tasks beside each other from the start: to turn [T, B, C] takes longer than all else here.
            return real_columns(torch.einsum("bk,tkc->btc", features, self.S) + self.b, batch)
        own = torch.einsum("tbk,tkc->tbc", features, self.S) + self.b[:, None]
        return from_tasks(own, batch, own_rows=batch.per_task > 0)


def real_columns(own: Tensor, batch: Batch) -> Tensor:
    """Outputs of all tasks from those that are padded to the widest: [B, T, C] -> [B, O]."""
    flat = own.flatten(1)
    if flat.shape[1] == batch.problem.n_outputs:
        return flat  # no padding; to select all columns would take time, above all backwards
    # By number, since a GPU is waited for to count a mask.
    return flat.index_select(1, batch.columns.real)


def from_tasks(own: Tensor, batch: Batch, own_rows: bool) -> Tensor:
    """Puts the outputs of each task's network side by side, as outputs of all tasks.

    Args:
        own: What each task's network gave, padded to C columns: [T, B, C], or [T, b, C] with `own_rows`.
        batch: Its rows.
        own_rows: Whether each row went through the network of its own task alone: row j of task t is row t * b + j of
            the batch.

    Returns:
        [B, O]; with `own_rows` 0 in the columns of other tasks.
    """
    known, n_outputs = batch.columns, batch.problem.n_outputs
    if not own_rows:
        return real_columns(own.transpose(0, 1), batch)
    rows = own.flatten(0, 1)
    assert batch.task is not None, "rows of each task need the own layout"
    # Padded columns go to one column more, which is cut off.
    columns = torch.where(known.valid, known.of_task, n_outputs)[batch.task]
    return rows.new_zeros(len(rows), n_outputs + 1).scatter(1, columns, rows)[:, :n_outputs]


def task_features(copies: Copies, batch: Batch) -> Tensor:
    """Features that a network per task gives of a batch, in a form that `Heads` takes.

    Args:
        copies: T copies of a network.
        batch: The rows.

    Returns:
        [T, b, k] where the batch has b rows of each task in order, else [T, B, k].
    """
    if batch.per_task:
        return copies(by_task(batch.inputs, batch), own=True)  # type: ignore[no-any-return]
    return copies(batch.inputs)  # type: ignore[no-any-return]


def by_task(rows: Tensor, batch: Batch) -> Tensor:
    """Splits rows by their task, where a batch has b rows of each task in order.

    Args:
        rows: [B, ...], with B = T * b.
        batch: Gives T, and b as `per_task`.

    Returns:
        [T, b, ...].
    """
    return rows.reshape(batch.problem.n_tasks, batch.per_task, *rows.shape[1:])
