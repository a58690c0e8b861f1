"""Rows that each go through one network on behalf of one task, where a network is shared but for what its tasks add.

Shapes: B rows of a batch, T tasks, N rows of the network: B in the own layout, T B in the shared layout, where every
row goes through once for every task.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench.contracts.batch import Batch
from mtbench.nn.heads import by_task


def row_tasks(batch: Batch) -> Tensor:
    """The task on whose behalf each row goes through the network.

    Args:
        batch: The rows.

    Returns:
        int64 [N].
    """
    if batch.task is not None:
        return batch.task
    tasks = torch.arange(batch.problem.n_tasks, device=batch.inputs.device)
    return tasks.repeat_interleave(len(batch.inputs))


def task_rows(rows: Tensor, batch: Batch) -> Tensor:
    """Repeats rows for every task in the shared layout; gives them as they are in the own layout.

    Args:
        rows: [B, ...], of the batch.
        batch: Gives layout and tasks.

    Returns:
        [N, ...], all rows of task 0 first in the shared layout.
    """
    if batch.task is not None:
        return rows
    return rows.expand(batch.problem.n_tasks, *rows.shape).flatten(0, 1)


def for_heads(features: Tensor, batch: Batch) -> Tensor:
    """Brings features to the form that costs `mtbench.nn.heads.Heads` the least work.

    Args:
        features: [N, k]; in the shared layout also [B, k], of rows that are still the same for all tasks.
        batch: Gives layout and tasks.

    Returns:
        [B, k], [T, B, k], or [T, b, k] where the batch has b rows of each task.
    """
    if batch.task is None:
        if len(features) == len(batch.inputs):
            return features
        return features.view(batch.problem.n_tasks, -1, *features.shape[1:])
    return by_task(features, batch) if batch.per_task else features
