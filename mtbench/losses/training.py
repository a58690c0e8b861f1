"""Losses in torch, with gradients.

Shapes: any leading axes; C_t outputs and D_t label columns of a task.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from mtbench.tasks import TaskKind


def label_losses(kind: TaskKind, outputs: Tensor, labels: Tensor) -> Tensor:
    """The loss of each label of a task of one kind.

    Args:
        kind: Of the task.
        outputs: [..., C_t], values or logits.
        labels: [..., D_t], of the same type; any number that is none of a multiclass task's classes gives any loss.

    Returns:
        [..., D_t].
    """
    if kind is TaskKind.MULTICLASS:
        # Clamped for the rows of other kinds, whose losses are not used: a problem's own classes are in range.
        picked = F.log_softmax(outputs, -1).gather(-1, labels[..., :1].long().clamp(0, outputs.shape[-1] - 1))
        return -picked
    if kind is TaskKind.REGRESSION:
        return (outputs - labels) ** 2
    return F.binary_cross_entropy_with_logits(outputs, labels, reduction="none")
