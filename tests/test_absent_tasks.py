"""Batches without rows of a task: its loss is left out, so that it counts as often as it is there."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from mtbench import Part, Problem, Task, TaskKind
from mtbench.contracts.batch import TaskColumns
from mtbench.training.data import PartData, batch_of

SIZES = (5, 2, 1)


def problem() -> Problem:
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(3), SIZES)
    part = Part(rng.normal(size=(8, 2)).astype(np.float32), rng.normal(size=(8, 1)).astype(np.float32), task)
    tasks = tuple(Task(f"task_{t}", TaskKind.REGRESSION) for t in range(3))
    return Problem("unequal", 0, tasks, dict.fromkeys(("train", "validation", "test"), part))


def test_a_task_weighs_its_chance_of_being_in_a_batch_and_all_rows_give_the_stated_objective() -> None:
    made = problem()
    data, layout = (
        PartData([made], "train", torch.device("cpu"), torch.float64),
        TaskColumns.of(made, torch.device("cpu")),
    )
    outputs = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def losses(rows: torch.Tensor) -> torch.Tensor:
        return batch_of(data.rows(0, rows), layout).task_losses(outputs[rows])

    whole = losses(torch.arange(8))
    for size in (1, 3, 5, 8):
        batches = list(itertools.combinations(range(8), size))
        mean = torch.stack([losses(torch.tensor(rows)) for rows in batches]).mean(0)
        there = [np.mean([any(sum(SIZES[:t]) <= row < sum(SIZES[: t + 1]) for row in rows) for rows in batches])
                 for t in range(3)]  # fmt: skip
        torch.testing.assert_close(mean, torch.tensor(there) * whole)
    assert there == [1, 1, 1]
