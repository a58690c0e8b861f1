"""Small random problems of every layout and kind, as a batch of the harness and as plain rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtbench import Batch, Part, Problem, Recipe, Task, TaskKind
from mtbench.contracts.batch import TaskColumns
from mtbench.testing.problems import OwnImages, OwnMulticlass, OwnRegression, SharedImages, SharedOneVsAll
from mtbench.training.data import PartData, batch_of

RECIPE = Recipe(hidden=4, layers=2, dtype="float64", max_epochs=3, batch_size=16)


@dataclass(frozen=True)
class Case:
    """Some training rows of a problem.

    Attributes:
        name: For people.
        problem: The problem.
        recipe: Backbone and widths.
        rows: Which rows of its training part.
        per_task: As in `Batch`.
    """

    name: str
    problem: Problem
    recipe: Recipe
    rows: Any
    per_task: int = 0

    def batch(self) -> Batch:
        """The rows as methods see them."""
        cpu = torch.device("cpu")
        columns = PartData([self.problem], "train", cpu, torch.float64).rows(0, torch.as_tensor(self.rows))
        return batch_of(columns, TaskColumns.of(self.problem, cpu), self.per_task)

    @property
    def part(self) -> Part:
        """The whole training part."""
        return self.problem.parts["train"]

    @property
    def own(self) -> bool:
        """Whether every row belongs to one task."""
        return self.part.task is not None

    def inputs(self) -> Tensor:
        """[B, ...], float64; bytes as fractions of 255."""
        rows = np.asarray(self.part.inputs)[self.rows]
        return torch.from_numpy(rows.astype(np.float64) / (255 if rows.dtype == np.uint8 else 1))

    def pairs(self) -> list[tuple[int, int]]:
        """Which rows (by place in the batch) are of which tasks: of one, or of all."""
        if self.own:
            return [(i, int(self.part.task[row])) for i, row in enumerate(self.rows)]
        return [(i, t) for i in range(len(self.rows)) for t in range(self.problem.n_tasks)]

    def label(self, i: int, t: int, whole: bool = False) -> Any:
        """The labels of a row of the batch, or of the whole part, for a task: one, or several; NaN where missing."""
        row = i if whole else self.rows[i]
        width = self.problem.tasks[t].n_labels
        first = 0 if self.own else sum(task.n_labels for task in self.problem.tasks[:t])
        return np.asarray(self.part.labels[row, first : first + width], np.float64)

    def examples(self) -> list[int]:
        """N_t of the whole training part: rows with a label; of binary tasks those labelled 1."""
        counts = [0] * self.problem.n_tasks
        for row in range(self.part.n_rows):
            for t, task in enumerate(self.problem.tasks):
                if self.own and self.part.task[row] != t:
                    continue
                label = self.label(row, t, whole=True)
                is_example = label[0] == 1 if task.kind is TaskKind.BINARY else not np.isnan(label).all()
                counts[t] += int(is_example)
        return counts


def cases() -> Iterator[Case]:
    """All of them."""
    rng = np.random.default_rng(0)
    binary, regression, multiclass = (m().load(Path(), 0, None) for m in (SharedOneVsAll, OwnRegression, OwnMulticlass))
    yield Case("binary shared", binary, RECIPE, rng.permutation(40)[:13])
    yield Case("binary shared, missing labels", with_gaps(binary, rng), RECIPE, rng.permutation(40)[:13])
    yield Case("multiclass own", multiclass, RECIPE, rng.permutation(40)[:13])
    yield Case("regression own", regression, RECIPE, rng.permutation(40)[:17])
    yield Case("regression own, a task absent", regression, RECIPE, np.flatnonzero(regression.parts["train"].task != 2))
    yield Case("regression own, rows of each task", regression, RECIPE, of_each(regression, 3), 3)
    yield Case("kinds mixed, shared, missing labels", mixed(rng, own=False), RECIPE, np.arange(12))
    yield Case("kinds mixed, own, missing labels", mixed(rng, own=True), RECIPE, np.arange(12))
    for backbone in ("lenet", "conv4"):
        recipe = dataclasses.replace(RECIPE, backbone=backbone)
        own, shared = (m().load(Path(), 0, None) for m in (OwnImages, SharedImages))
        yield Case(f"{backbone}, images own", own, recipe, rng.permutation(70)[:9])
        yield Case(f"{backbone}, images own, rows of each task", own, recipe, of_each(own, 3), 3)
        yield Case(f"{backbone}, images shared", shared, recipe, rng.permutation(24)[:5])


def of_each(problem: Problem, n: int) -> Any:
    """So many rows of each task, in their order."""
    task = problem.parts["train"].task
    return np.concatenate([np.flatnonzero(task == t)[:n] for t in range(problem.n_tasks)])


def with_gaps(problem: Problem, rng: np.random.Generator) -> Problem:
    """A third of the labels missing, whatever they are."""
    parts = {}
    for name, part in problem.parts.items():
        labels = np.where(rng.random(part.labels.shape) < 1 / 3, np.nan, part.labels).astype(np.float32)
        parts[name] = dataclasses.replace(part, labels=labels)
    return dataclasses.replace(problem, parts=parts)


def mixed(rng: np.random.Generator, own: bool) -> Problem:
    """One task of each kind, those of several columns with gaps within a row."""
    tasks = (
        Task("yes", TaskKind.BINARY),
        Task("which", TaskKind.MULTICLASS, 3),
        Task("many", TaskKind.MULTILABEL, 2),
        Task("values", TaskKind.REGRESSION, 2),
    )
    n = 24
    columns = [
        rng.integers(0, 2, (n, 1)).astype(np.float32),
        rng.integers(0, 3, (n, 1)).astype(np.float32),
        rng.integers(0, 2, (n, 2)).astype(np.float32),
        rng.normal(size=(n, 2)).astype(np.float32),
    ]
    columns[2][::5, 0] = columns[3][1::5, 1] = columns[3][3] = np.nan
    inputs = rng.normal(size=(n, 5)).astype(np.float32)
    if not own:
        columns[0][4] = columns[1][5] = np.nan
        part = Part(inputs, np.concatenate(columns, 1))
    else:
        task = np.arange(n) % 4
        labels = np.full((n, 2), np.nan, np.float32)
        for row, t in enumerate(task):
            labels[row, : columns[t].shape[1]] = columns[t][row]
        part = Part(inputs, labels, task)
    return Problem("mixed", 0, tasks, dict.fromkeys(("train", "validation", "test"), part))
