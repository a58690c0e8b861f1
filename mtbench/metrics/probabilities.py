"""Metrics of probabilities: outputs are logits, or log probabilities in multiclass tasks. None is clipped.

Shapes: R trials, n_t labelled rows of task t, C_t its outputs, T tasks. Predictions are [R, n, O] in the shared layout
and [R, n, C] in the own layout; values are [R, T].
"""

from __future__ import annotations

import numpy as np

from mtbench.metrics.blocks import Block, task_by_task
from mtbench.tasks import Array, Part, Problem, TaskKind


def brier(problem: Problem, part: Part, predictions: Array) -> Array:
    """Brier score: the squared difference of probabilities and labels.

    Binary and multilabel tasks: mean over labels of (p - y)^2, from 0 to 1. Multiclass tasks: mean over rows of the sum
    over classes, from 0 to 2.
    """
    return task_by_task(problem, part, predictions, _brier)


def _brier(block: Block) -> Array:
    if block.task.kind is not TaskKind.MULTICLASS:
        chance = np.exp(-np.logaddexp(0.0, -block.outputs.astype(np.float64)))
        return block.mean(np.square(chance - block.labels))
    true = block.labels == np.arange(block.task.n_outputs)
    # One trial at a time: probabilities in float64 take several times the memory of the outputs.
    scores = (np.square(np.exp(log_softmax(outputs)) - true).sum(1) for outputs in block.outputs)
    return np.array([np.average(each, weights=block.weights) for each in scores])


def log_softmax(outputs: Array) -> Array:
    """Log probabilities [n, C] of outputs [n, C], float64.

    Rows that differ in the order of their outputs, or by a constant, have the same bits: ties stay ties.
    """
    shifted = outputs.astype(np.float64) - outputs.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(np.sort(shifted, 1)).sum(1, keepdims=True)))
