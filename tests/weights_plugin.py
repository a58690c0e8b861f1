"""A plugin of tests: weightings of each kind whose weights a test can tell beforehand, for any method with terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtbench import Reference, hookimpl, tunable
from mtbench.contracts.weighting import GramWeighting, JacobianWeighting, LossWeighting, State, TaskStep, Weighting


@dataclass(frozen=True, kw_only=True)
class RampParams:
    slope: float = tunable(0.1, grid=(0.1, 0.2), low=0.05, high=0.5)


class Ramp(LossWeighting):
    """The weight of task t grows by t times the slope with every epoch, from 1."""

    name = "ramp"
    reference = Reference("A test", "here")
    Params = RampParams

    def start(self, n_tasks: int, n_shared: int, params: Any) -> State:
        return {"weights": torch.ones(n_tasks)}

    def combine(self, step: TaskStep, params: Any) -> tuple[Tensor, State]:
        return (step.state["weights"] * step.losses).sum(), step.state

    def after_epoch(self, losses: Tensor, state: State, params: Any) -> State:
        return {"weights": state["weights"] + params.slope * torch.arange(len(losses))}


class Halved(GramWeighting):
    """Every task's gradient, halved."""

    name = "halved"
    reference = Reference("A test", "here")

    def combine(self, step: TaskStep, params: Any) -> tuple[Tensor, State]:
        return 0.5 * torch.ones_like(step.gram[0]), step.state


class Summed(JacobianWeighting):
    """The sum of the gradients."""

    name = "summed"
    reference = Reference("A test", "here")

    def combine(self, step: TaskStep, params: Any) -> tuple[Tensor, State]:
        return step.jacobian.sum(0), step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    return [Ramp, Halved, Summed]
