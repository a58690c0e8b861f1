"""Static weights: the weighted sum of losses that every other weighting has to beat, with weights found by search.

Papers: Xin, Ghorbani, Gilmer, Garg and Firat, Do Current Multi-Task Optimization Methods in Deep Learning Even Help?,
NeurIPS 2022; Kurin, De Palma, Kostrikov, Whiteson and Kumar, In Defense of the Unitary Scalarization for Deep
Multi-Task Learning, NeurIPS 2022.

Shapes: T tasks.

    sum_t w_t L_t

Weights are the same in every step and sum to T: all 1, or T times a draw from the flat Dirichlet distribution, which is
that of T exponential numbers divided by their sum. So a random search goes through all scalarisations, with equal
weights as draw 0. A task that is absent from a batch contributes nothing; the weights of the others stay.

Departures: the papers search a grid of weights, which T tasks make too large.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtbench import LossWeighting, Reference, TaskStep, Weighting, hookimpl, tunable
from mtbench.contracts.weighting import State
from mtbench.weighting.random import exponential

_PARTS = 1024  # of 1, that tell mixtures from each other


@dataclass(frozen=True, kw_only=True)
class StaticParams:
    """Hyperparameters of static weights.

    Attributes:
        mixture: Number of the weights: 0 for equal ones, any other for a draw of its own.
    """

    mixture: float = tunable(
        0.0,
        grid=(0, 1, 2, 3, 4, 5, 6, 7),
        low=0.0,
        high=float(2**20),
        log=False,
        help="number of the weights; 0: all equal",
    )


def drawn_weights(mixture: Tensor, n_tasks: int) -> Tensor:
    """Weights of a number, float64 [T] of sum T."""
    drawn = exponential((mixture.double() * _PARTS).round().long(), n_tasks)
    return torch.where(mixture == 0, 1.0, n_tasks * drawn / drawn.sum())


class Static(LossWeighting):
    """Fixed weights."""

    name = "static"
    reference = Reference(
        "Do Current Multi-Task Optimization Methods in Deep Learning Even Help?", "NeurIPS 2022", arxiv="2209.11379"
    )
    Params = StaticParams

    def start(self, n_tasks: int, n_shared: int, params: StaticParams) -> State:
        """The weights."""
        return {"weights": drawn_weights(params.mixture, n_tasks)}

    def combine(self, step: TaskStep, params: StaticParams) -> tuple[Tensor, State]:
        """sum_t w_t L_t."""
        return step.state["weights"].to(step.losses.dtype) @ step.losses, step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [Static]
