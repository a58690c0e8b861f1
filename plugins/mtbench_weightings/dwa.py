"""DWA: loss weights that favour tasks whose losses have lately fallen least.

Paper: Liu, Johns and Davison, End-to-End Multi-Task Learning with Attention, CVPR 2019.

Shapes: T tasks, L_t(e) the mean loss of task t in epoch e.

    sum_t w_t L_t,  w = T softmax(r / tau),  r_t = L_t(e - 1) / L_t(e - 2)

Weights sum to T, and are all 1 in the first two epochs. A task that is absent from a batch contributes nothing; the
weights of the others stay. A task that is absent from a whole epoch keeps the losses of the epochs before.

Departures: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtbench import LossWeighting, Reference, TaskStep, Weighting, hookimpl, tunable
from mtbench.contracts.weighting import State


@dataclass(frozen=True, kw_only=True)
class DWAParams:
    """Hyperparameters of DWA.

    Attributes:
        tau: Temperature: the larger, the more equal are weights.
    """

    tau: float = tunable(2.0, grid=(0.5, 1.0, 2.0, 5.0), low=0.2, high=10.0, minimum=1e-3, help="temperature")


class DWA(LossWeighting):
    """Weights by the rate at which losses fall."""

    name = "dwa"
    reference = Reference("End-to-End Multi-Task Learning with Attention", "CVPR 2019", arxiv="1803.10704")
    Params = DWAParams

    def start(self, n_tasks: int, n_shared: int, params: Any) -> State:
        """Equal weights; no losses of the last two epochs yet, which is told by 0."""
        none = torch.zeros(n_tasks, dtype=torch.float64)
        return {"last": none, "before": none, "weights": torch.ones_like(none)}

    def combine(self, step: TaskStep, params: DWAParams) -> tuple[Tensor, State]:
        """sum_t w_t L_t."""
        return step.state["weights"].to(step.losses.dtype) @ step.losses, step.state

    def after_epoch(self, losses: Tensor, state: State, params: DWAParams) -> State:
        """The epoch's losses become the last ones, and the weights are those of the coming epoch."""
        seen = losses.isfinite() & (losses > 0)
        last = torch.where(seen, losses.double(), state["last"])
        before = torch.where(seen, state["last"], state["before"])
        ratios = torch.where((before > 0) & (last > 0), last / torch.where(before > 0, before, 1.0), 1.0)
        return {"last": last, "before": before, "weights": len(ratios) * torch.softmax(ratios / params.tau, 0)}


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [DWA]
