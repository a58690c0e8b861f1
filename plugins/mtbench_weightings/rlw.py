"""RLW: loss weights that are drawn anew in every step.

Paper: Lin, Ye, Zhang and Tsang, Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning,
TMLR 2022.

Shapes: T tasks.

    sum_t w_t L_t,  w = softmax(z),  z ~ N(0, I)

Weights sum to 1, where equal weights sum to T: with plain gradient descent that is another learning rate. Where tasks
are absent from a batch, the softmax is over those that are present. Draws follow from the step's key, so that trials of
one data set, split and seed draw alike.

Departures: none; of the paper's distributions this is the one that it uses most.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench import LossWeighting, Reference, TaskStep, Weighting, hookimpl
from mtbench.contracts.method import NoParams
from mtbench.contracts.weighting import State
from mtbench.weighting.random import normal


class RLW(LossWeighting):
    """Random weights."""

    name = "rlw"
    reference = Reference(
        "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning",
        "TMLR 2022",
        arxiv="2111.10603",
    )

    def combine(self, step: TaskStep, params: NoParams) -> tuple[Tensor, State]:
        """sum_t softmax(z)_t L_t."""
        z = normal(step.key, len(step.losses)).to(step.losses.dtype)
        # Draws lie within 9 of 0: absent tasks get exactly 0, and no NaN where all are absent.
        weights = torch.softmax(torch.where(step.present > 0, z, -1e3), 0)
        return weights @ step.losses, step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [RLW]
