"""ExcessMTL: tasks that are still far from the best they can do get more weight, noisy tasks do not.

Paper: He, Zhou, Zhang, Yun, Xu, Zeng, Chilimbi and Zhao, Robust Multi-Task Learning with Excess Risks, ICML 2024.

Shapes: T tasks, P shared parameters, J [T, P] their gradients, H [T, P] the sums of their squares over steps.

    H <- H + J^2,  E_t = sum_p J_tp^2 / sqrt(H_tp)      what a task could still gain
    w_t <- w_t exp(eta E_t / E_t(0)), scaled to sum 1;  the update is sum_t w_t J_t

E(0) is that of the first step in which a task is present. Weights start at 1/T and sum to 1 over all tasks. A task that
is absent from a batch contributes nothing and its weight is as before, but for the common scale.

Departures: heads get their own loss's gradient, unweighted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtbench import JacobianWeighting, Reference, TaskStep, Weighting, hookimpl, tunable
from mtbench.contracts.weighting import State


@dataclass(frozen=True, kw_only=True)
class ExcessMTLParams:
    """Hyperparameters of ExcessMTL.

    Attributes:
        eta: Step size of the weights.
    """

    eta: float = tunable(1e-2, grid=(1e-3, 1e-2, 1e-1), low=1e-4, high=1.0, help="step size of the weights")


class ExcessMTL(JacobianWeighting):
    """Weights by excess risk."""

    name = "excess_mtl"
    reference = Reference("Robust Multi-Task Learning with Excess Risks", "ICML 2024", arxiv="2402.02009")
    Params = ExcessMTLParams

    def start(self, n_tasks: int, n_shared: int, params: Any) -> State:
        """Equal weights; no squares and no first excess risks yet, which is told by 0."""
        weights = torch.full((n_tasks,), 1 / n_tasks, dtype=torch.float64)
        return {"weights": weights, "first": torch.zeros_like(weights), "squares": torch.zeros(n_tasks, n_shared)}

    def combine(self, step: TaskStep, params: ExcessMTLParams) -> tuple[Tensor, State]:
        """sum_t w_t J_t, with the weights after their step."""
        J, here = step.jacobian, step.present > 0
        J = torch.where(here[:, None], J, 0.0)
        old = step.state["squares"]
        squares = (old + J**2).to(old.dtype)
        root = torch.where(squares > 0, squares, 1.0).sqrt()
        excess = (J**2 / root).sum(1).double()
        first = torch.where((step.state["first"] > 0) | ~here, step.state["first"], excess)
        # A first excess risk of 0 is that of a gradient of 0: it is told by none yet.
        exponents = params.eta * torch.where(here & (first > 0), excess / torch.where(first > 0, first, 1.0), 0.0)
        weights = torch.softmax(step.state["weights"].log() + exponents, 0)
        return weights.to(J.dtype) @ J, {"weights": weights, "first": first, "squares": squares}


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [ExcessMTL]
