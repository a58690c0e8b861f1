"""Losses over a batch against slow loops over rows and tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from mtbench import Part, Problem, Task, TaskKind
from mtbench.contracts.batch import Batch, TaskColumns
from mtbench.testing.problems import MINIATURES
from mtbench.training.data import PartData, batch_of

CPU = torch.device("cpu")


def batch_and_outputs(problem: Problem) -> tuple[Batch, torch.Tensor]:
    part = PartData([problem], "train", CPU, torch.float64)
    batch = batch_of(part.rows(0, slice(0, 30)), TaskColumns.of(problem, CPU))
    generator = torch.Generator().manual_seed(1)
    return batch, torch.randn(len(batch.inputs), problem.n_outputs, dtype=torch.float64, generator=generator)


def slow_task_losses(problem: Problem, rows: slice, outputs: torch.Tensor) -> list[list[float]]:
    part, losses = problem.parts["train"], [[] for _ in problem.tasks]
    for i in range(rows.start, rows.stop):
        for t, task in enumerate(problem.tasks):
            if part.task is not None and part.task[i] != t:
                continue
            first = 0 if part.task is not None else problem.label_slices[t].start
            label = torch.as_tensor(part.labels[i, first : first + task.n_labels]).double()
            if label.isnan().any():
                continue
            out = outputs[i, problem.output_slices[t]]
            if task.kind is TaskKind.REGRESSION:
                loss = F.mse_loss(out, label)
            elif task.kind is TaskKind.MULTICLASS:
                loss = F.cross_entropy(out[None], label.long())
            else:
                loss = F.binary_cross_entropy_with_logits(out, label)
            losses[t].append(loss.item())
    return losses


def mixed(own: bool) -> Problem:
    """One task of each kind, in either layout."""
    tasks = (
        Task("yes", TaskKind.BINARY),
        Task("which", TaskKind.MULTICLASS, 3),
        Task("many", TaskKind.MULTILABEL, 2),
        Task("value", TaskKind.REGRESSION, 2),
    )
    generator = torch.Generator().manual_seed(2)
    n = 32
    x = torch.randn(n, 4, generator=generator).numpy()
    columns = [
        torch.randint(0, 2, (n, 1), generator=generator).float(),
        torch.randint(0, 3, (n, 1), generator=generator).float(),
        torch.randint(0, 2, (n, 2), generator=generator).float(),
        torch.randn(n, 2, generator=generator),
    ]
    if not own:
        labels = torch.cat(columns, 1)
        labels[3:9, 0] = float("nan")
        part = Part(x, labels.numpy())
    else:
        task = torch.arange(n) % 4
        labels = torch.full((n, 2), float("nan"))
        for i in range(n):
            label = columns[int(task[i])][i]
            labels[i, : len(label)] = label
        part = Part(x, labels.numpy(), task.numpy())
    return Problem("mixed", 0, tasks, dict.fromkeys(("train", "validation", "test"), part))


PROBLEMS = [
    *(pytest.param(lambda m=m: m().load(Path(), 0, m().Options()), id=m.name) for m in MINIATURES),
    pytest.param(lambda: mixed(own=False), id="mixed_shared"),
    pytest.param(lambda: mixed(own=True), id="mixed_own"),
]


@pytest.mark.parametrize("make", PROBLEMS)
def test_task_losses_equal_a_loop_over_rows_and_tasks(make: Any) -> None:
    problem = make()
    batch, outputs = batch_and_outputs(problem)
    slow = slow_task_losses(problem, slice(0, len(batch.inputs)), outputs)
    expected = torch.tensor([sum(row) / len(row) if row else 0.0 for row in slow], dtype=torch.float64)
    torch.testing.assert_close(batch.task_losses(outputs), expected)
    rows = [loss for row in slow for loss in row]
    assert batch.pooled_loss(outputs).item() == pytest.approx(sum(rows) / len(rows))
    shares = torch.tensor([sum(row) / len(rows) for row in slow], dtype=torch.float64)
    torch.testing.assert_close(batch.pooled_losses(outputs), shares)


@pytest.mark.parametrize("make", PROBLEMS)
def test_losses_map_over_trials(make: Any) -> None:
    batch, outputs = batch_and_outputs(make())
    stacked = torch.stack([outputs, 2 * outputs])
    mapped = torch.func.vmap(batch.task_losses)(stacked)
    torch.testing.assert_close(mapped[1], batch.task_losses(2 * outputs))


def test_values_per_output_sum_to_values_per_task() -> None:
    layout = TaskColumns.of(mixed(own=False), CPU)
    values = torch.arange(8.0)
    torch.testing.assert_close(layout.per_task(values), torch.tensor([0.0, 1 + 2 + 3, 4 + 5, 6 + 7]))
