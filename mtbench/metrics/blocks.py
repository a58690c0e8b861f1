"""The labelled rows of each task, and means over their labels.

Shapes: R trials, n_t labelled rows of task t, C_t its outputs, D_t its label columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mtbench.tasks import Array, Part, Problem, Task


@dataclass(frozen=True, eq=False)
class Block:
    """The labelled rows of one task.

    Attributes:
        task: The task.
        outputs: Predictions of these rows, [R, n_t, C_t].
        labels: [n_t, D_t], NaN for those missing.
        known: Which of them are there, bool [n_t, D_t]; None where all are.
        weights: What each row counts for, above 0, [n_t]; None where all count the same.
    """

    task: Task
    outputs: Array
    labels: Array
    known: Array | None
    weights: Array | None = None

    def mean(self, values: Array) -> Array:
        """The mean of values [R, n_t, D_t] over the labels that are there, weighted: [R]; NaN where none is."""
        if not self.labels.size:
            return np.full(len(values), np.nan)
        if self.weights is not None:
            return np.asarray(self.column_sums(values).sum(1) / self.counts.sum())
        if self.known is None:
            return np.asarray(values.mean((1, 2)))
        return np.asarray(np.where(self.known, values, 0.0).sum((1, 2)) / self.known.sum())

    def column_sums(self, values: Array) -> Array:
        """Sums of values [R, n_t, D_t], weighted, over the labels that are there, by label column: [R, D_t]."""
        counted = values if self.known is None else np.where(self.known, values, 0.0)
        if self.weights is not None:
            counted = counted * self.weights[:, None]
        # Row by row in memory: the bits of a sum must not depend on how many trials there are.
        return np.asarray(np.ascontiguousarray(counted.transpose(0, 2, 1)).sum(2))

    @property
    def counts(self) -> Array:
        """How many labels each column has, int64 [D_t]; their weights, float64, where rows are weighted."""
        if self.weights is not None:
            return np.asarray((self.weights[:, None] * (~np.isnan(self.labels))).sum(0))
        return np.full(self.labels.shape[1], len(self.labels)) if self.known is None else self.known.sum(0)


def blocks(problem: Problem, part: Part, predictions: Array) -> Iterator[Block]:
    """Block by block, the labelled rows of each task; rows that weigh 0 are left out."""
    for t, task in enumerate(problem.tasks):
        rows, labels, weights = counted_labels(problem, part, t)
        columns = problem.output_slices[t] if part.task is None else slice(task.n_outputs)
        own = predictions[:, :, columns] if part.task is None else predictions[:, rows, columns]
        if part.task is None and len(rows) < part.n_rows:
            own = own[:, rows]
        known = ~np.isnan(labels)
        yield Block(task, own, labels, None if known.all() else known, weights)


def counted_labels(problem: Problem, part: Part, t: int) -> tuple[Array, Array, Array | None]:
    """The labelled rows of task t that weigh more than 0.

    Returns:
        Row numbers [n_t], labels [n_t, D_t], and weights [n_t], None where all count the same.
    """
    rows, labels = problem.labelled(part, t)
    weights = problem.label_weights(part, t)
    if weights is None or weights.all():
        return rows, labels, weights
    return rows[weights > 0], labels[weights > 0], weights[weights > 0]


def task_by_task(problem: Problem, part: Part, predictions: Array, value: Callable[[Block], Array]) -> Array:
    """Values of all tasks, [R, T]: `value` of a task's labelled rows, [R]; NaN for a task without any."""
    nothing = np.full(len(predictions), np.nan)
    return np.stack([value(b) if len(b.labels) else nothing for b in blocks(problem, part, predictions)], 1)


def ratio(above: Array, below: Array) -> Array:
    """Quotients, elementwise; NaN where `below` is 0."""
    below = np.broadcast_to(below, above.shape)
    return np.asarray(np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0))


def mean_of_defined(values: Array) -> Array:
    """The mean over the last axis of what is not NaN: [..., K] -> [...]; NaN where nothing is."""
    return ratio(np.nansum(values, -1), (~np.isnan(values)).sum(-1))
