"""Losses in numpy, in float64.

Shapes: any leading axes; C_t outputs and D_t label columns of a task.
"""

from __future__ import annotations

import numpy as np

from mtbench.tasks import Array, TaskKind


def label_losses(kind: TaskKind, outputs: Array, labels: Array) -> Array:
    """The loss of each label of a task of one kind.

    Args:
        kind: Of the task.
        outputs: [..., C_t], values or logits.
        labels: [..., D_t], with fewer leading axes where several outputs have the same labels.

    Returns:
        float64 [..., D_t]; anything where a label is missing.
    """
    p = outputs.astype(np.float64)
    if kind is TaskKind.MULTICLASS:
        picked = np.take_along_axis(p, np.broadcast_to(labels[..., :1].astype(int), (*p.shape[:-1], 1)), -1)
        from scipy.special import logsumexp  # takes as long to import as a small network to train

        return np.asarray(logsumexp(p, axis=-1, keepdims=True) - picked)
    if kind is TaskKind.REGRESSION:
        return np.asarray((p - labels) ** 2)
    return np.asarray(np.logaddexp(0.0, p) - p * labels)
