"""Log losses: the sum of the logarithms of the losses, to which no loss's scale matters.

Paper: Lin, Jiang, Ye, Zhang, Chen, Chen, Liu and Kwok, Dual-Balancing for Multi-Task Learning, arXiv 2023, the half of
DB-MTL that balances losses.

Shapes: T tasks.

    sum_t log(L_t + 1e-8)

The weight of a task is 1 / L_t, without a fixed sum. A task that is absent from a batch contributes nothing.

Departures: 1e-8 bounds the weight of a task whose loss is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench import LossWeighting, Reference, TaskStep, Weighting, hookimpl
from mtbench.contracts.method import NoParams
from mtbench.contracts.weighting import State

_EPSILON = 1e-8


class LogLosses(LossWeighting):
    """Losses on the logarithmic scale."""

    name = "log_losses"
    reference = Reference("Dual-Balancing for Multi-Task Learning", "arXiv 2023", arxiv="2308.12029")

    def combine(self, step: TaskStep, params: NoParams) -> tuple[Tensor, State]:
        """sum_t log(L_t + 1e-8)."""
        return step.present @ torch.log(step.losses + _EPSILON), step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [LogLosses]
