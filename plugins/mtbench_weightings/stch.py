"""STCH: a smooth maximum of the losses, which finds any Pareto-optimal model and not only those of weighted sums.

Paper: Lin, Zhang, Yang, Liu, Wang and Zhang, Smooth Tchebycheff Scalarization for Multi-Objective Optimization, ICML
2024.

Shapes: T tasks, f_t what is compared of them, lambda = 1/T their preferences, z* [T] the ideal values.

    mu log sum_t exp(lambda_t (f_t - z*_t) / mu)

f_t is the logarithm of a task's loss over its mean in the last epoch of the warm-up, z* = 0, and the whole is taken T
times. During the warm-up, losses are summed as they are.

The weight of a task is the softmax of log(L_t / L_t(0)) / (T mu), divided by L_t; without the division they sum to 1.
Where tasks are absent from a batch, the sum is over those that are present, and T counts them.

Departures: the paper compares losses as they are, from the first step on; that losses are compared on the logarithmic
scale after a warm-up of four epochs follows its released software for multi-task learning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtbench import LossWeighting, Reference, TaskStep, Weighting, hookimpl, tunable
from mtbench.contracts.weighting import State

_SMALLEST = 1e-30  # of a loss
_ABSENT = -1e30  # a logarithm in a smooth maximum that it does not feel


@dataclass(frozen=True, kw_only=True)
class STCHParams:
    """Hyperparameters of STCH.

    Attributes:
        mu: Smoothness: towards 0 only the worst task counts.
        warmup: Epochs before tasks are compared, 1 at least.
    """

    mu: float = tunable(0.1, grid=(0.01, 0.03, 0.1, 0.3, 1.0), low=0.01, high=1.0, minimum=1e-4, help="smoothness")
    warmup: int = tunable(4, choices=(1, 2, 4, 8), help="epochs of equal weights, which set the scale")


class STCH(LossWeighting):
    """The worst task counts most, smoothly."""

    name = "stch"
    reference = Reference(
        "Smooth Tchebycheff Scalarization for Multi-Objective Optimization", "ICML 2024", arxiv="2402.19078"
    )
    Params = STCHParams

    def start(self, n_tasks: int, n_shared: int, params: Any) -> State:
        """No epoch yet, and no losses to compare with."""
        return {"epochs": torch.zeros((), dtype=torch.float64), "scale": torch.ones(n_tasks, dtype=torch.float64)}

    def combine(self, step: TaskStep, params: STCHParams) -> tuple[Tensor, State]:
        """The smooth maximum, or in the warm-up the sum."""
        n_present = step.present.sum()
        f = (step.losses.clamp(min=_SMALLEST) / step.state["scale"].to(step.losses.dtype)).log()
        mu = n_present.clamp(min=1.0) * params.mu
        # Not minus infinity: without any task, log sum exp and its gradient would not be finite.
        smooth = mu * torch.logsumexp(torch.where(step.present > 0, f / mu, _ABSENT), 0) * n_present.clamp(max=1.0)
        warm = step.state["epochs"] >= params.warmup
        return torch.where(warm, smooth, step.losses.sum()), step.state

    def after_epoch(self, losses: Tensor, state: State, params: STCHParams) -> State:
        """Counts epochs, and keeps the losses of the last one of the warm-up."""
        epochs = state["epochs"] + 1
        losses = losses.double()
        seen = (epochs <= params.warmup) & losses.isfinite() & (losses > 0)
        return {"epochs": epochs, "scale": torch.where(seen, losses, state["scale"])}


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [STCH]
