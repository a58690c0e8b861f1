"""GradDrop: every number of the gradient keeps the sign that a draw decides on, and drops what has the other.

Paper: Chen, Ngiam, Huang, Luong, Kretzschmar, Chai and Anguelov, Just Pick a Sign: Optimizing Deep Multitask Models
with Gradient Sign Dropout, NeurIPS 2020.

Shapes: T tasks, P shared parameters, J [T, P] the tasks' gradients.

    p = (1 + sum_t J_t / sum_t |J_t|) / 2,  U ~ uniform [P]
    the update is sum_t (leak + (1 - leak) M_t) J_t,  M_t = [p > U] [J_t > 0] + [p < U] [J_t < 0]

Without conflict, and with leak = 1, the update is the sum of the gradients. A task that is absent from a batch
contributes nothing. Draws follow from the step's key, so that trials of one data set, split and seed draw alike.

Departures: it is applied to the gradients of parameters, where the paper applies it to those of an activation of each
row, whose signs then also count. All tasks leak alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtbench import JacobianWeighting, Reference, TaskStep, Weighting, hookimpl, tunable
from mtbench.contracts.weighting import State
from mtbench.weighting.random import uniform


@dataclass(frozen=True, kw_only=True)
class GradDropParams:
    """Hyperparameters of GradDrop.

    Attributes:
        leak: Share of what is dropped that passes all the same.
    """

    leak: float = tunable(
        0.0, grid=(0.0, 0.25, 0.5, 0.75), low=0.0, high=0.9, log=False, maximum=1.0, help="share that is never dropped"
    )


class GradDrop(JacobianWeighting):
    """Gradients agree in sign, number by number."""

    name = "graddrop"
    reference = Reference(
        "Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout",
        "NeurIPS 2020",
        arxiv="2010.06808",
    )
    Params = GradDropParams

    def combine(self, step: TaskStep, params: GradDropParams) -> tuple[Tensor, State]:
        """sum_t (leak + (1 - leak) M_t) J_t."""
        J = step.jacobian * step.present[:, None].to(step.jacobian.dtype)
        total, size = J.sum(0), J.abs().sum(0)
        p = (1 + total / torch.where(size > 0, size, 1.0)) / 2
        kept = torch.where(p > uniform(step.key, J.shape[1]), J.clamp(min=0.0), J.clamp(max=0.0)).sum(0)
        leak = params.leak.to(J.dtype)
        return leak * total + (1 - leak) * kept, step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [GradDrop]
