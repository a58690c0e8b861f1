"""Squared errors, wrong decisions and losses, task by task.

Shapes: R trials, n rows, O outputs of all tasks, C the widest task's outputs, T tasks. Predictions are [R, n, O] in the
shared layout and [R, n, C] (each row the outputs of its own task) in the own layout.
"""

from __future__ import annotations

import numpy as np

from mtbench.losses.scoring import label_losses
from mtbench.metrics.blocks import Block, blocks
from mtbench.tasks import Array, Part, Problem, TaskKind

_LOST = 1e-7  # of all squared errors: what is less has lost more than 1e-8 of itself to rounding


def _squared_error_sums(problem: Problem, part: Part, predictions: Array) -> tuple[Array, Array]:
    """Sum of squared errors [R, T] and number of labelled values [T], or their weights."""
    if part.task is not None and predictions.shape[2] == 1 and part.sample_weight is None:
        return _single_squares(predictions[:, :, 0], part.labels[:, 0], part.task, problem.n_tasks)
    sums, counts = [], []
    for block in blocks(problem, part, predictions):
        squared = (block.outputs.astype(np.float64) - block.labels) ** 2
        if block.weights is not None:
            squared = squared * block.weights[:, None]
        sums.append((squared if block.known is None else np.where(block.known, squared, 0.0)).sum((1, 2)))
        counts.append(block.counts.sum())
    return np.stack(sums, 1), np.array(counts)


def _single_squares(outputs: Array, labels: Array, task: Array, n_tasks: int) -> tuple[Array, Array]:
    """The same where every row has one output: one pass over the rows, not one per task."""
    known = ~np.isnan(labels)
    if not known.all():
        outputs, labels, task = outputs[:, known], labels[known], task[known]
    squared = (outputs.astype(np.float64) - labels) ** 2
    order = np.argsort(task, kind="stable")
    counts = np.bincount(task, minlength=n_tasks)
    cumulative = np.concatenate([np.zeros((len(squared), 1)), np.cumsum(squared[:, order], 1)], 1)
    ends = np.cumsum(counts)
    sums = cumulative[:, ends] - cumulative[:, ends - counts]
    # A difference of large sums says nothing of a task whose errors are far smaller than others'.
    for r, t in np.argwhere(~(sums > _LOST * cumulative[:, -1:])):
        sums[r, t] = squared[r, order[ends[t] - counts[t] : ends[t]]].sum()
    return sums, counts


def rmse(problem: Problem, part: Part, predictions: Array) -> Array:
    """The root mean squared error over each task's labels: [R, T]."""
    sums, counts = _squared_error_sums(problem, part, predictions)
    mean = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return np.asarray(np.sqrt(mean))


def pooled_rmse(problem: Problem, part: Part, predictions: Array) -> Array:
    """The same over the labels of all tasks together, each times the weight of its task: [R]."""
    sums, counts = _squared_error_sums(problem, part, predictions)
    if problem.task_weights is not None:
        sums, counts = sums * problem.task_weights, counts * problem.task_weights
    return np.asarray(np.sqrt(sums.sum(1) / counts.sum())) if counts.any() else np.full(len(sums), np.nan)


def error(problem: Problem, part: Part, predictions: Array) -> Array:
    """Share of wrong decisions in percent: sign for binary and multilabel outputs, arg max for multiclass."""
    return np.stack([100.0 * _wrong(block) for block in blocks(problem, part, predictions)], 1)


def _wrong(block: Block) -> Array:
    """The share of a task's labels that are predicted wrongly: [R]."""
    outputs, labels = block.outputs, block.labels
    if block.task.kind is TaskKind.MULTICLASS:
        return block.mean((outputs.argmax(2) != labels[:, 0])[:, :, None])
    wrong = (outputs > 0) != (labels > 0.5)
    if block.known is None and block.weights is None and labels.size:
        return np.asarray(wrong.mean(2).mean(1))
    return block.mean(wrong)


def loss(problem: Problem, part: Part, predictions: Array) -> Array:
    """Mean loss of each task: logistic, cross-entropy or squared, as in `Batch.task_losses`."""
    return np.stack([block.mean(losses(block)) for block in blocks(problem, part, predictions)], 1)


def losses(block: Block) -> Array:
    """Of each label: [R, n_t, D_t]; anything where a label is missing."""
    return label_losses(block.task.kind, block.outputs, block.labels)
