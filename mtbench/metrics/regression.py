"""Metrics of regression tasks: errors as they are, and relative to the spread of the labels.

A relative error of a task with several columns is the mean over its columns, each relative to its own spread; `mae` is
a mean over all labels, as `rmse` is. What is relative to the training part takes the part that a trial was trained on,
which in a refit has the validation rows as well.

Shapes: R trials, n_t labelled rows of task t, D_t its columns, T tasks. Predictions are [R, n, O] in the shared layout
and [R, n, C] in the own layout; values are [R, T].
"""

from __future__ import annotations

import numpy as np

from mtbench.metrics.blocks import Block, blocks, counted_labels, mean_of_defined, ratio, task_by_task
from mtbench.tasks import Array, Part, Problem


def mae(problem: Problem, part: Part, predictions: Array) -> Array:
    """The mean absolute error over each task's labels."""
    return task_by_task(problem, part, predictions, lambda b: b.mean(np.abs(_residuals(b))))


def r2(problem: Problem, part: Part, predictions: Array) -> Array:
    """1 - sum (y - y')^2 / sum (y - m)^2 with the mean m of this part's labels; NaN where these are all alike."""

    def of(block: Block) -> Array:
        around_mean = np.square(block.labels.astype(np.float64) - means(block.labels, block.weights))
        left = ratio(block.column_sums(np.square(_residuals(block))), block.column_sums(around_mean[None]))
        return mean_of_defined(1 - left)

    return task_by_task(problem, part, predictions, of)


def nrmse(problem: Problem, part: Part, predictions: Array) -> Array:
    """Root mean squared error over the standard deviation of the training labels; NaN where these are all alike."""
    found = []
    for block, (trained, weights) in zip(blocks(problem, part, predictions), training_labels(problem), strict=True):
        each = 1.0 if weights is None else weights[:, None]
        squares, known = each * np.square(trained - means(trained, weights)), each * ~np.isnan(trained)
        deviation = np.sqrt(ratio(np.nansum(squares, 0), known.sum(0)))
        error = np.sqrt(ratio(block.column_sums(np.square(_residuals(block))), block.counts))
        found.append(mean_of_defined(ratio(error, np.nan_to_num(deviation))))
    return np.stack(found, 1)


def rrmse(problem: Problem, part: Part, predictions: Array) -> Array:
    """Root of sum (y - y')^2 / sum (y - m)^2 with the mean m of the training labels: 1 for the prediction of m.

    NaN where the labels are all m. Its mean over tasks is the aRRMSE of Spyromitros-Xioufis et al., "Multi-target
    regression via input space expansion" (Machine Learning, 2016).
    """
    pairs = zip(blocks(problem, part, predictions), training_labels(problem), strict=True)
    return np.stack([mean_of_defined(np.sqrt(relative_squares_of(block, *trained))) for block, trained in pairs], 1)


def relative_squares_of(block: Block, trained: Array, weights: Array | None) -> Array:
    """Squared errors of a task over those of the training labels' mean (of labels and weights), by column: [R, D_t].

    NaN where no label differs from the mean, or none was trained on.
    """
    constant = np.square(block.labels.astype(np.float64) - means(trained, weights))
    return ratio(block.column_sums(np.square(_residuals(block))), block.column_sums(constant[None]))


def means(labels: Array, weights: Array | None) -> Array:
    """The mean of each column of labels [n, D], weighted [n]: float64 [D]; of equal labels, their value.

    NaN where there is none.
    """
    known = ~np.isnan(labels)
    values = np.where(known, labels.astype(np.float64), 0.0)
    first = values[known.argmax(0), np.arange(labels.shape[1])] if len(labels) else np.zeros(labels.shape[1])
    # Labels that are all alike must have no spread, which the rounding of a plain mean would give them.
    alike = (~known | (values == first)).all(0)
    each = 1 if weights is None else weights[:, None]
    return np.where(alike & known.any(0), first, ratio((each * values).sum(0), (each * known).sum(0)))


def training_labels(problem: Problem) -> list[tuple[Array, Array | None]]:
    """Labels of the training part, float64 [N_t, D_t], and their weights [N_t] or None, task by task."""
    found = (counted_labels(problem, problem.parts["train"], t) for t in range(problem.n_tasks))
    return [(labels.astype(np.float64), weights) for _, labels, weights in found]


def _residuals(block: Block) -> Array:
    return block.outputs.astype(np.float64) - block.labels
