"""Loss relative to the constant predictor's: one scale for tasks of different kinds.

Shapes: R trials, n_t labelled rows of task t, C_t its outputs, D_t its label columns, N_t its training rows, T tasks.
Predictions are [R, n, O] in the shared layout and [R, n, C] in the own layout; values are [R, T].
"""

from __future__ import annotations

import numpy as np

from mtbench.metrics.blocks import Block, blocks, mean_of_defined, ratio
from mtbench.metrics.regression import means, relative_squares_of, training_labels
from mtbench.metrics.values import losses
from mtbench.tasks import Array, Part, Problem, TaskKind


def relative_loss(problem: Problem, part: Part, predictions: Array) -> Array:
    """Each task's loss over that of the constant that fits its training labels best: 1 for that constant, 0 at best.

    Regression tasks: squared error over that of the training labels' mean, mean over columns. Classifications: log loss
    over that of the training labels' frequencies. A label column whose training labels are all alike does not count,
    since the constant's log odds are infinite there. No value where the constant's loss is 0, or infinite because a
    class has no training label. Where labels are weighted, so are both losses and the constant.
    """
    values = []
    for block, (trained, weights) in zip(blocks(problem, part, predictions), training_labels(problem), strict=True):
        if not len(block.labels) or not len(trained):
            values.append(np.full(len(predictions), np.nan))
        elif block.task.kind is TaskKind.REGRESSION:
            values.append(mean_of_defined(relative_squares_of(block, trained, weights)))
        else:
            values.append(_relative_log_loss(block, trained, weights))
    return np.stack(values, 1)


def _relative_log_loss(block: Block, trained: Array, weights: Array | None) -> Array:
    """Of a classification: [R]."""
    of_kind = _log_frequencies if block.task.kind is TaskKind.MULTICLASS else _log_odds
    constant = of_kind(block, trained, weights)
    # Through the same operations as predictions, so that to predict the constant is exactly 1.
    outputs = np.broadcast_to(constant, (1, len(block.labels), len(constant)))
    below = block.column_sums(losses(Block(block.task, outputs, block.labels, block.known, block.weights)))
    above = block.column_sums(losses(block))
    counted = ~np.isnan(below[0])
    total = below[:, counted].sum(1)
    return ratio(above[:, counted].sum(1), np.where(np.isfinite(total), total, 0.0))


def _log_frequencies(block: Block, trained: Array, weights: Array | None) -> Array:
    """Log frequencies of the classes among training labels [N_t, 1]: [C_t], -inf for a class without any."""
    counts = np.bincount(trained[:, 0].astype(int), weights, minlength=block.task.n_outputs)
    total = len(trained) if weights is None else weights.sum()
    return np.log(counts / total, out=np.full(len(counts), -np.inf), where=counts > 0)


def _log_odds(block: Block, trained: Array, weights: Array | None) -> Array:
    """Log odds of training labels [N_t, D_t], by column: [D_t]; NaN where all are alike, or none is there."""
    share = means(trained, weights)
    mixed = (share > 0) & (share < 1)
    share = np.where(mixed, share, 0.5)
    return np.where(mixed, np.log(share) - np.log1p(-share), np.nan)
