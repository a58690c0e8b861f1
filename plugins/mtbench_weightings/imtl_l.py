"""IMTL-L: losses scaled to the same size by factors that are learned with the model.

Paper: Liu, Li, Kuang, Xue, Chen, Yang, Liao and Zhang, Towards Impartial Multi-task Learning, ICLR 2021.

Shapes: T tasks, s [T] the logarithms of their factors.

    sum_t e^(s_t) L_t - s_t

s starts at 0, where all tasks have weight 1, and is learned by the recipe's optimiser without decay. At its best,
e^s L = 1 for every task. With the sign of s turned it is twice UW. A task that is absent from a batch contributes
nothing, and its s does not move.

Departures: none; the paper's base of the powers is e.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtbench import LossWeighting, Reference, TaskStep, Weighting, hookimpl
from mtbench.contracts.method import NoParams
from mtbench.contracts.weighting import State


class IMTLL(LossWeighting):
    """All scaled losses are alike."""

    name = "imtl_l"
    reference = Reference("Towards Impartial Multi-task Learning", "ICLR 2021")

    def learned(self, n_tasks: int, params: Any) -> Mapping[str, Tensor]:
        """All of s at 0."""
        return {"s": torch.zeros(n_tasks)}

    def combine(self, step: TaskStep, params: NoParams) -> tuple[Tensor, State]:
        """sum_t e^(s_t) L_t - s_t."""
        s = step.learned["s"]
        return step.present @ (torch.exp(s) * step.losses - s), step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [IMTLL]
