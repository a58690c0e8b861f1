"""Rows on behalf of tasks, in every layout, and back."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mtbench.contracts.batch import Batch, TaskColumns
from mtbench.nn.heads import Heads
from mtbench.nn.task_rows import for_heads, row_tasks, task_rows
from mtbench.testing.problems import OwnMulticlass, SharedRegression
from mtbench.training.data import PartData, batch_of


def batch_from(miniature: type, per_task: int = 0) -> Batch:
    problem = miniature().load(Path(), 0, None)
    task = problem.parts["train"].task
    rows = slice(None)
    if per_task:
        rows = torch.as_tensor(np.concatenate([np.flatnonzero(task == t)[:per_task] for t in range(problem.n_tasks)]))
    cpu = torch.device("cpu")
    columns = PartData([problem], "train", cpu, torch.float64).rows(0, rows)
    return batch_of(columns, TaskColumns.of(problem, cpu), per_task)


@pytest.mark.parametrize(
    ("miniature", "per_task", "n_rows"), [(SharedRegression, 0, 160), (OwnMulticlass, 0, 40), (OwnMulticlass, 5, 15)]
)
def test_outputs_are_those_of_each_rows_own_task(miniature, per_task, n_rows) -> None:
    batch = batch_from(miniature, per_task)
    problem = batch.problem
    rows, task = task_rows(batch.inputs, batch), row_tasks(batch)
    assert len(rows) == len(task) == n_rows
    # A network in which a task only scales the rows.
    features = rows * (1 + task[:, None])
    heads = Heads(problem, 5).double()
    outputs = heads(for_heads(features, batch), batch)
    for t, columns in enumerate(problem.output_slices):
        mine = slice(None) if batch.task is None else batch.task == t
        width = problem.tasks[t].n_outputs
        expected = (1 + t) * batch.inputs[mine] @ heads.S[t, :, :width] + heads.b[t, :width]
        torch.testing.assert_close(outputs[mine, columns], expected)


def test_rows_that_never_parted_serve_all_tasks() -> None:
    batch = batch_from(SharedRegression)
    heads = Heads(batch.problem, 5).double()
    repeated = heads(for_heads(task_rows(batch.inputs, batch), batch), batch)
    torch.testing.assert_close(heads(for_heads(batch.inputs, batch), batch), repeated)
