"""DualProj: the mean of the task gradients, changed as little as it takes to harm no task.

Paper: Lopez-Paz and Ranzato, Gradient Episodic Memory for Continual Learning, NIPS 2017, whose projection of one
gradient Quinton and Rey, Jacobian Descent for Multi-Objective Optimization, arXiv 2024, apply to the mean.

Shapes: T tasks, J [T, P] their gradients, G = JJ' [T, T].

    J'v,  v = argmin over v >= 1/T of v'Gv

Weights are at least 1/T, so that without conflict the update is the mean of the gradients. A task that is absent from a
batch takes no part, and T counts those that are present.

Departures: none from the second paper; the first projects the gradient of the current task alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench import GramWeighting, Reference, TaskStep, Weighting, hookimpl
from mtbench.contracts.method import NoParams
from mtbench.contracts.weighting import State
from mtbench.weighting.gram import cosines, share, times
from mtbench.weighting.one_operation import on_gram
from mtbench.weighting.quadratic import nonnegative_minimum


@on_gram
def dual_weights(gram: Tensor, present: Tensor) -> Tensor:
    """The weights of the projection of the mean gradient: [..., T].

    Args:
        gram: [..., T, T].
        present: [..., T].
    """
    of = cosines(gram, present)
    u = share(present.to(gram.dtype))
    # v = u + scale y / norms, for unit gradients and a mean of size about 1.
    pull = u * of.norms
    scale = pull.amax(-1, keepdim=True).clamp(min=torch.finfo(gram.dtype).tiny)
    y = nonnegative_minimum(of.matrix, times(of.matrix, pull / scale), of.active)
    return u + scale * of.inverse * y


class DualProj(GramWeighting):
    """No task's loss rises, to first order; otherwise as close to the mean gradient as possible."""

    name = "dualproj"
    reference = Reference("Gradient Episodic Memory for Continual Learning", "NIPS 2017", arxiv="1706.08840")

    def combine(self, step: TaskStep, params: NoParams) -> tuple[Tensor, State]:
        """The argmin over v >= 1/T of v'Gv."""
        return dual_weights(step.gram, step.present), step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [DualProj]
