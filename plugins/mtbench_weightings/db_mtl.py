"""DB-MTL: gradients of the logarithms of the losses, averaged over steps and made equally long.

Paper: Lin, Jiang, Ye, Zhang, Chen, Chen, Liu and Kwok, Dual-Balancing for Multi-Task Learning, arXiv 2023.

Shapes: T tasks, P shared parameters, J [T, P] the gradients of the losses L, A [T, P] their moving averages.

    A_t <- beta A_t + (1 - beta) J_t / (L_t + 1e-8)
    the update is sum_t (max_s |A_s| / |A_t|) A_t

The first average of a task is its first gradient. Weights are 1 or more: the update is about T times as long as the
longest average. A task that is absent from a batch keeps its average, and takes no part in the update or its maximum.

Departures: beta is the same in every step. Heads get the gradient of their own loss, not of its logarithm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtbench import JacobianWeighting, Reference, TaskStep, Weighting, hookimpl, tunable
from mtbench.contracts.weighting import State

_EPSILON = 1e-8  # added to losses


@dataclass(frozen=True, kw_only=True)
class DBMTLParams:
    """Hyperparameters of DB-MTL.

    Attributes:
        beta: Share of an average that a step keeps.
    """

    beta: float = tunable(
        0.9, grid=(0.1, 0.5, 0.9), low=0.0, high=0.95, log=False, maximum=0.999, help="share of averages that is kept"
    )


class DBMTL(JacobianWeighting):
    """Balances losses by logarithms and gradients by their length."""

    name = "db_mtl"
    reference = Reference("Dual-Balancing for Multi-Task Learning", "arXiv 2023", arxiv="2308.12029")
    Params = DBMTLParams

    def start(self, n_tasks: int, n_shared: int, params: Any) -> State:
        """No averages yet."""
        return {"averages": torch.zeros(n_tasks, n_shared), "seen": torch.zeros(n_tasks)}

    def combine(self, step: TaskStep, params: DBMTLParams) -> tuple[Tensor, State]:
        """sum_t (max_s |A_s| / |A_t|) A_t."""
        here = step.present[:, None] > 0
        new = step.jacobian / (step.losses.to(step.jacobian.dtype) + _EPSILON)[:, None]
        beta = params.beta.to(new.dtype) * step.state["seen"][:, None].to(new.dtype)
        old = step.state["averages"]
        averages = torch.where(here, beta * old + (1 - beta) * new, old).to(old.dtype)
        seen = torch.maximum(step.state["seen"], step.present.to(old.dtype))
        norms = averages.norm(dim=1) * step.present.to(old.dtype)
        weights = torch.where(norms > 0, norms.amax() / torch.where(norms > 0, norms, 1.0), 0.0)
        return (weights @ averages).to(step.jacobian.dtype), {"averages": averages, "seen": seen}


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [DBMTL]
