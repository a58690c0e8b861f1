"""GradNorm: loss weights that learn to give tasks gradients of like size, larger for tasks that learn more slowly.

Paper: Chen, Badrinarayanan, Lee and Rabinovich, GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep
Multitask Networks, ICML 2018, algorithm 1.

Shapes: T tasks, n [T] the norms of their gradients, L [T] their losses, L(0) those of the first step, w [T] weights.

    r_t = (L_t / L_t(0)) / mean over tasks of it
    w minimises  sum_t | w_t n_t - mean(w n) r_t^alpha |,  the second term taken as constant, by a step of Adam
    and is then scaled to sum T

Weights start at 1 and sum to T. Heads get their own gradient times their task's weight. A task that is absent from a
batch is left out of means, and its weight is as before, but for the common scale; its L(0) is that of the first step in
which it is present.

Departures: norms are those of gradients on all shared parameters, where the paper takes those on the last shared layer.
Weights are kept at 1e-3 or more, which the paper leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtbench import GramWeighting, Reference, TaskStep, Weighting, hookimpl, tunable
from mtbench.contracts.weighting import State
from mtbench.weighting.adam import adam_start, adam_step
from mtbench.weighting.gram import share

_SMALLEST = 1e-3


@dataclass(frozen=True, kw_only=True)
class GradNormParams:
    """Hyperparameters of GradNorm.

    Attributes:
        alpha: How much larger the gradients of slow tasks are to be.
        rate: Learning rate of the weights.
    """

    alpha: float = tunable(
        1.5, grid=(0.0, 0.5, 1.0, 1.5, 3.0), low=0.0, high=3.0, log=False, help="how much slow tasks are favoured"
    )
    rate: float = tunable(0.025, grid=(0.0025, 0.025), low=1e-3, high=1e-1, help="learning rate of the weights")


class GradNorm(GramWeighting):
    """All tasks learn at like rates."""

    name = "gradnorm"
    reference = Reference(
        "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks",
        "ICML 2018",
        arxiv="1711.02257",
    )
    Params = GradNormParams
    heads = "weighted"

    def start(self, n_tasks: int, n_shared: int, params: Any) -> State:
        """Weights of 1; no first losses yet, which is told by 0."""
        first = torch.zeros(n_tasks, dtype=torch.float64)
        return {"weights": torch.ones(n_tasks, dtype=torch.float64), "first": first, **adam_start(n_tasks)}

    def combine(self, step: TaskStep, params: GradNormParams) -> tuple[Tensor, State]:
        """The weights as they are, and as they are after a step on the distance from the desired norms."""
        weights, present, losses = step.state["weights"], step.present.double(), step.losses.double()
        first = torch.where((step.state["first"] > 0) | (present == 0), step.state["first"], losses)
        norms, mean = step.gram.diagonal().sqrt(), share(present)
        ratios = losses / torch.where(first > 0, first, 1.0) * present
        slowness = ratios / (mean * ratios).sum().clamp(min=torch.finfo(ratios.dtype).tiny)
        wanted = (mean * weights * norms).sum() * slowness**params.alpha
        gradient = (weights * norms - wanted).sign() * norms
        values, adam = adam_step(weights, gradient, present, step.state, params.rate)
        values = values.clamp(min=_SMALLEST)
        return weights, {"weights": values / values.mean(), "first": first, **adam}


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [GradNorm]
