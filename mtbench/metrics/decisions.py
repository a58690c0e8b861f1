"""Metrics of decisions: which class, or which labels.

The sign decides on binary and multilabel outputs, the arg max on multiclass outputs, as for `error`.

Shapes: R trials, n_t labelled rows of task t, T tasks; K the classes that are counted of a task: class 1 of a binary
task, all of a multiclass task, the label columns of a multilabel task. Predictions are [R, n, O] in the shared layout
and [R, n, C] in the own layout; values are [R, T].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtbench.metrics.blocks import Block, mean_of_defined, ratio, task_by_task
from mtbench.tasks import Array, Part, Problem, TaskKind


@dataclass(frozen=True, eq=False)
class Counts:
    """How often classes are decided on; weights, not numbers, of rows where they are weighted.

    Attributes:
        hits: Decisions for a class that are right, [R, K].
        decided: Decisions for it, [R, K].
        true: Labels of it, [K].
        others: Labels of another, [K].
    """

    hits: Array
    decided: Array
    true: Array
    others: Array

    @classmethod
    def of(cls, block: Block) -> Counts:
        """Of the labelled rows of a task."""
        if block.task.kind is TaskKind.MULTICLASS:
            labels = block.labels[:, 0].astype(int)
            return cls._of_classes(block.outputs.argmax(2), labels, block.task.n_outputs, block.weights)
        decided, true, others = block.outputs > 0, block.labels > 0.5, block.labels <= 0.5
        if block.known is not None:
            decided = decided & block.known
        counted = (decided & true, decided, true, others)
        if block.weights is None:
            return cls(*(some.sum(-2) for some in counted))
        return cls(*((block.weights[:, None] * some).sum(-2) for some in counted))

    @classmethod
    def _of_classes(cls, decided: Array, labels: Array, n_classes: int, weights: Array | None) -> Counts:
        def counts(classes: Array, rows: Array | slice = slice(None)) -> Array:
            return np.bincount(classes[rows], None if weights is None else weights[rows], n_classes)

        # One trial at a time: decisions for each class would take as much memory as the outputs.
        hits = [counts(labels, one == labels) for one in decided]
        true = counts(labels)
        return cls(np.stack(hits), np.stack([counts(one) for one in decided]), true, true.sum() - true)


def balanced_error(problem: Problem, part: Part, predictions: Array) -> Array:
    """In percent, the share of wrong decisions in each class, mean over the classes that have labels.

    Multilabel tasks: of each column's two classes, then the mean over columns. A task, or column, whose labels are all
    of one class has no value.
    """
    return task_by_task(problem, part, predictions, _balanced_error)


def _balanced_error(block: Block) -> Array:
    counts = Counts.of(block)
    missed = 1 - ratio(counts.hits, counts.true)  # NaN for a class without labels
    if block.task.kind is TaskKind.MULTICLASS:
        return 100 * mean_of_defined(missed if (counts.true > 0).sum() > 1 else np.full_like(missed, np.nan))
    false_alarms = ratio(counts.decided - counts.hits, counts.others)
    return 100 * mean_of_defined((missed + false_alarms) / 2)


def macro_f1(problem: Problem, part: Part, predictions: Array) -> Array:
    """F1 = 2 hits / (decisions + labels) of each class, mean over the classes, or label columns, that have labels.

    Binary tasks: of class 1. A class without labels has no F1, whatever is decided: all trials have the mean over the
    same classes. A task without any class with labels has no value.
    """
    return task_by_task(problem, part, predictions, lambda b: mean_of_defined(_f1(Counts.of(b))))


def _f1(counts: Counts) -> Array:
    return np.where(counts.true > 0, ratio(2 * counts.hits, counts.decided + counts.true), np.nan)


def micro_f1(problem: Problem, part: Part, predictions: Array) -> Array:
    """F1 of the sums over a task's classes, or label columns: 2 hits / (decisions + labels).

    Binary tasks: of class 1, as `macro_f1`. Multiclass tasks: the share of right decisions. A binary or multilabel task
    without a label of 1 has no value.
    """
    return task_by_task(problem, part, predictions, _micro_f1)


def _micro_f1(block: Block) -> Array:
    counts = Counts.of(block)
    summed = Counts(
        counts.hits.sum(1, keepdims=True),
        counts.decided.sum(1, keepdims=True),
        counts.true.sum(keepdims=True),
        counts.others.sum(keepdims=True),
    )
    return np.asarray(_f1(summed)[:, 0])
