"""GLS: the geometric mean of the losses.

Paper: Chennupati, Sistu, Yogamani and Rawashdeh, MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss
Strategy for Multi-Task Learning, CVPR Workshops 2019.

Shapes: T tasks.

    (product_t L_t)^(1/T) = exp(1/T sum_t log L_t)

The second form, because products of many losses underflow. The weight of a task is the mean over T L_t: it has no fixed
sum, and is 1/T where losses are equal. The mean is over tasks that are present in a batch.

Departures: losses below 1e-30 count as 1e-30.
"""

from __future__ import annotations

from torch import Tensor

from mtbench import LossWeighting, Reference, TaskStep, Weighting, hookimpl
from mtbench.contracts.method import NoParams
from mtbench.contracts.weighting import State

_SMALLEST = 1e-30


class GLS(LossWeighting):
    """The geometric mean."""

    name = "gls"
    reference = Reference(
        "MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy for Multi-Task Learning",
        "CVPR Workshops 2019",
        arxiv="1904.08492",
    )

    def combine(self, step: TaskStep, params: NoParams) -> tuple[Tensor, State]:
        """The mean exp(1/T sum_t log L_t)."""
        n_present = step.present.sum()
        mean = step.present @ step.losses.clamp(min=_SMALLEST).log() / n_present.clamp(min=1.0)
        # Absent tasks alone make a batch without losses: 0, and not the exponential of 0.
        return mean.exp() * n_present.clamp(max=1.0), step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [GLS]
