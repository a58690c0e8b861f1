"""Metrics of how well outputs order the rows: area under the ROC curve, average precision.

Multiclass tasks: each class against the rest, ordered by its probability; multilabel tasks: each column. The value is
the mean over the classes or columns that have one.

Shapes: R trials, n_t labelled rows of task t, T tasks; K classes or columns of a task, G groups of rows with equal
outputs. Predictions are [R, n, O] in the shared layout and [R, n, C] in the own layout; values are [R, T].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mtbench.metrics.blocks import Block, mean_of_defined, task_by_task
from mtbench.metrics.probabilities import log_softmax
from mtbench.tasks import Array, Part, Problem, TaskKind

Curve = Callable[[Array, Array], float]
"""(rows of the class [G], rows [G], from the smallest output to the largest) -> value; weights, not numbers, of rows
where they are weighted."""


def auc(problem: Problem, part: Part, predictions: Array) -> Array:
    """Area under the ROC curve: how often a row of the class has a larger output than one of another, ties half.

    A class that all rows are of, or none, has no value.
    """
    return task_by_task(problem, part, predictions, lambda block: _over_classes(block, _auc))


def average_precision(problem: Problem, part: Part, predictions: Array) -> Array:
    """Sum over thresholds of the gain in recall times the precision, with rows of equal outputs taken together.

    A step sum, not a trapezoid. A class without rows has no value; one that all rows are of has 1.
    """
    return task_by_task(problem, part, predictions, lambda block: _over_classes(block, _average_precision))


def _over_classes(block: Block, curve: Curve) -> Array:
    """The mean over classes or columns of what a curve gives: [R]."""
    multiclass = block.task.kind is TaskKind.MULTICLASS
    true = block.labels == np.arange(block.task.n_outputs) if multiclass else block.labels > 0.5
    found = np.full((len(block.outputs), true.shape[1]), np.nan)
    # One trial at a time: sorting takes several times the memory of the outputs.
    for r, outputs in enumerate(block.outputs):
        scores = log_softmax(outputs) if multiclass else outputs
        for k in np.flatnonzero(true.any(0)):
            rows = slice(None) if block.known is None else block.known[:, k]
            weights = None if block.weights is None else block.weights[rows]
            found[r, k] = curve(*_groups(scores[rows, k], true[rows, k], weights))
    return mean_of_defined(found)


def _groups(outputs: Array, true: Array, weights: Array | None) -> tuple[Array, Array]:
    """Rows of a class, and all rows, of each group of equal outputs in ascending order: [G] and [G]."""
    _, group, sizes = np.unique(outputs, return_inverse=True, return_counts=True)
    if weights is None:
        return np.bincount(group, weights=true, minlength=len(sizes)), sizes
    return np.bincount(group, true * weights, len(sizes)), np.bincount(group, weights, len(sizes))


def _auc(true: Array, sizes: Array) -> float:
    others = sizes - true
    # What rounding leaves of weights is no row of another class.
    if not true.sum() or others.sum() <= 1e-12 * sizes.sum():
        return np.nan
    below = others.cumsum() - others
    return float((true * (below + others / 2)).sum() / (true.sum() * others.sum()))


def _average_precision(true: Array, sizes: Array) -> float:
    gains, taken = true[::-1], sizes[::-1].cumsum()
    return float((gains * gains.cumsum() / taken).sum() / gains.sum())
