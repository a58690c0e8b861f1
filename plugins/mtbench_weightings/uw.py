"""UW: losses weighted by noise levels that are learned with the model.

Paper: Kendall, Gal and Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics,
CVPR 2018.

Shapes: T tasks, s [T] the logarithms of their noise variances.

    sum_t e^(-s_t) L_t / 2 + s_t / 2

s starts at 0, where all tasks have weight 1/2, and is learned by the recipe's optimiser without decay. At its best,
e^s = L. A task that is absent from a batch contributes nothing, and its s does not move.

Departures: the same formula for all kinds of tasks; for classification the paper has e^(-s) L + s / 2, which is its
own approximation of a likelihood.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtbench import LossWeighting, Reference, TaskStep, Weighting, hookimpl
from mtbench.contracts.method import NoParams
from mtbench.contracts.weighting import State


class UW(LossWeighting):
    """Weights by uncertainty."""

    name = "uw"
    reference = Reference(
        "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics",
        "CVPR 2018",
        arxiv="1705.07115",
    )

    def learned(self, n_tasks: int, params: Any) -> Mapping[str, Tensor]:
        """All of s at 0."""
        return {"s": torch.zeros(n_tasks)}

    def combine(self, step: TaskStep, params: NoParams) -> tuple[Tensor, State]:
        """sum_t e^(-s_t) L_t / 2 + s_t / 2."""
        s = step.learned["s"]
        return step.present @ torch.addcmul(s, torch.exp(-s), step.losses) / 2, step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [UW]
