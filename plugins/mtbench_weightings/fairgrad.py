"""FairGrad: the update that is alpha-fair to the tasks, gains being shared as bandwidth is in networks.

Paper: Ban and Ji, Fair Resource Allocation in Multi-Task Learning, ICML 2024.

Shapes: T tasks, G [T, T] the inner products of their gradients. Weights w > 0 solve

    G w = w^(-1 / alpha)     (number by number)

alpha -> 0 gives equal weights, 1 is Nash-MTL's, and the larger alpha, the more equal are all tasks' gains.

Weights have no fixed sum: with gradients c times as long they are c^(-2 alpha / (alpha + 1)) times as large. A task
that is absent from a batch takes no part. A task whose gradient is exactly 0 has no influence.

Departures: solved exactly, by Newton's method, where the paper asks a least-squares solver of general use. Where some
sum of the gradients with positive weights is 0 there is no solution; weights are then large, and finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtbench import GramWeighting, Reference, TaskStep, Weighting, hookimpl, tunable
from mtbench.contracts.weighting import State
from mtbench.weighting.gram import cosines
from mtbench.weighting.one_operation import on_gram
from mtbench.weighting.proportional import proportional_weights


@dataclass(frozen=True, kw_only=True)
class FairGradParams:
    """Hyperparameters of FairGrad.

    Attributes:
        alpha: How equal gains are to be.
    """

    alpha: float = tunable(
        1.0, grid=(0.5, 1.0, 2.0, 5.0), low=0.2, high=5.0, minimum=0.1, maximum=10.0, help="how equal gains are to be"
    )


@on_gram
def fair_weights(gram: Tensor, present: Tensor, alpha: Tensor) -> Tensor:
    """The weights with G w = w^(-1 / alpha): [..., T].

    Args:
        gram: [..., T, T].
        present: [..., T].
        alpha: [...].
    """
    of = cosines(gram, present)
    alpha = alpha.to(gram.dtype)
    largest = of.norms.amax(-1, keepdim=True)
    largest = torch.where(largest > 0, largest, 1.0)
    power = (2 * alpha / (alpha + 1))[..., None]
    return torch.where(of.active > 0, proportional_weights(of, alpha) * largest**-power, 1.0)


class FairGrad(GramWeighting):
    """The update that maximises the sum of the tasks' alpha-fair utilities of what they gain."""

    name = "fairgrad"
    reference = Reference("Fair Resource Allocation in Multi-Task Learning", "ICML 2024", arxiv="2402.15638")
    Params = FairGradParams

    def combine(self, step: TaskStep, params: FairGradParams) -> tuple[Tensor, State]:
        """G w = w^(-1 / alpha)."""
        return fair_weights(step.gram, step.present, params.alpha), step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [FairGrad]
