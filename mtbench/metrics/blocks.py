"""The labelled rows of each task, and what metrics ask of tasks.

Shapes: R trials, n_t labelled rows of task t, C_t its outputs, D_t its label columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mtbench.tasks import Array, Part, Problem, Task, TaskKind


@dataclass(frozen=True, eq=False)
class Block:
    """The labelled rows of one task.

    Attributes:
        task: The task.
        outputs: Predictions of these rows, [R, n_t, C_t].
        labels: [n_t, D_t], NaN for those missing.
        known: Which of them are there, bool [n_t, D_t]; None where all are.
    """

    task: Task
    outputs: Array
    labels: Array
    known: Array | None

    def mean(self, values: Array) -> Array:
        """The mean of values [R, n_t, D_t] over the labels that are there: [R]; NaN where none is."""
        if not self.labels.size:
            return np.full(len(values), np.nan)
        if self.known is None:
            return np.asarray(values.mean((1, 2)))
        return np.asarray(np.where(self.known, values, 0.0).sum((1, 2)) / self.known.sum())


def blocks(problem: Problem, part: Part, predictions: Array) -> Iterator[Block]:
    """Block by block, the labelled rows of each task."""
    for t, task in enumerate(problem.tasks):
        rows, labels = problem.labelled(part, t)
        columns = problem.output_slices[t] if part.task is None else slice(task.n_outputs)
        own = predictions[:, :, columns] if part.task is None else predictions[:, rows, columns]
        if part.task is None and len(rows) < part.n_rows:
            own = own[:, rows]
        known = ~np.isnan(labels)
        yield Block(task, own, labels, None if known.all() else known)


def regressions_only(problem: Problem) -> str | None:
    """None, or that a task is no regression."""
    return _lacking(problem, "regression tasks only", TaskKind.REGRESSION)


def classes_only(problem: Problem) -> str | None:
    """None, or that a task is a regression."""
    return _lacking(problem, "classification tasks", TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.MULTILABEL)


def multilabel_only(problem: Problem) -> str | None:
    """None, or that a task is not multilabel."""
    return _lacking(problem, "multilabel tasks", TaskKind.MULTILABEL)


def _lacking(problem: Problem, what: str, *kinds: TaskKind) -> str | None:
    other = next((task for task in problem.tasks if task.kind not in kinds), None)
    return (
        None
        if other is None
        else f"{what}; {other.name!r} is not one (its kind is {other.kind}). Name another, such as 'loss'."
    )
