"""FAMO: loss weights with which the logarithms of all losses fall at the same rate, at the cost of one gradient.

Paper: Liu, Feng, Stone and Liu, FAMO: Fast Adaptive Multitask Optimization, NeurIPS 2023, algorithm 1.

Shapes: T tasks, xi [T] logits, z = softmax(xi).

    c sum_t z_t log L_t,  c = 1 / sum_t (z_t / L_t) taken as constant: weights c z / L, of sum 1
    xi <- xi - beta (d + gamma xi),  d = (dz / dxi)' (log L before the step - log L after it)

Losses after a step are those of the same batch. Weights start equal. Where tasks are absent from a batch, the softmax
is over those that are present, and the logits of the others do not move.

Departures: logits take steps of Adam of learning rate beta, as in the released software, with gamma xi added to the
gradient. Losses below 1e-8 count as 1e-8. The least values that losses can have are taken as 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtbench import LossWeighting, Reference, TaskStep, Weighting, hookimpl, tunable
from mtbench.contracts.weighting import State
from mtbench.weighting.adam import adam_start, adam_step

_SMALLEST = 1e-8  # of a loss


@dataclass(frozen=True, kw_only=True)
class FAMOParams:
    """Hyperparameters of FAMO.

    Attributes:
        beta: Learning rate of the logits.
        gamma: Decay of the logits.
    """

    beta: float = tunable(0.025, grid=(0.0025, 0.025), low=1e-3, high=1e-1, help="learning rate of the logits")
    gamma: float = tunable(1e-3, grid=(1e-4, 1e-3, 1e-2), low=1e-5, high=1e-2, help="decay of the logits")


class FAMO(LossWeighting):
    """All tasks improve at the same relative rate."""

    name = "famo"
    reference = Reference("FAMO: Fast Adaptive Multitask Optimization", "NeurIPS 2023", arxiv="2306.03792")
    Params = FAMOParams
    sees_losses_after = True

    def start(self, n_tasks: int, n_shared: int, params: Any) -> State:
        """Logits of 0."""
        xi = torch.zeros(n_tasks, dtype=torch.float64)
        return {"xi": xi, "present": torch.ones(n_tasks, dtype=torch.float64), **adam_start(n_tasks)}

    def combine(self, step: TaskStep, params: FAMOParams) -> tuple[Tensor, State]:
        """The loss c sum_t z_t log L_t."""
        present = step.present.double()
        z = _softmax(step.state["xi"], present).to(step.losses.dtype)
        losses = torch.where(step.present > 0, step.losses, 1.0).clamp(min=_SMALLEST)
        c = 1 / (z / losses.detach()).sum().clamp(min=torch.finfo(z.dtype).tiny)
        return c * (z * losses.log()).sum() * step.present.amax(), {**step.state, "present": present}

    def after_step(self, before: Tensor, after: Tensor, state: State, params: FAMOParams) -> State:
        """A step of the logits towards equal rates."""
        z, present = _softmax(state["xi"], state["present"]), state["present"]
        rates = (before.double().clamp(min=_SMALLEST).log() - after.double().clamp(min=_SMALLEST).log()) * present
        gradient = z * (rates - (z * rates).sum()) + params.gamma * state["xi"]
        xi, adam = adam_step(state["xi"], gradient, present, state, params.beta)
        return {"xi": xi, "present": present, **adam}


def _softmax(xi: Tensor, present: Tensor) -> Tensor:
    """Over those that are present, the others 0; all 0 where none is."""
    return torch.softmax(torch.where(present > 0, xi, -torch.finfo(xi.dtype).max), 0) * present


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [FAMO]
