"""MGDA: the shortest vector among all weighted means of the task gradients.

Papers: Désidéri, Multiple-gradient descent algorithm (MGDA) for multiobjective optimization, Comptes Rendus
Mathématique 2012; for networks Sener and Koltun, Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018.

Shapes: T tasks, G [T, T] the inner products of their gradients.

    min over a >= 0, sum a = 1 of a'Ga

Solved exactly rather than by Frank-Wolfe steps: the same weights, up to their sum, minimise
a'Ga / 2 + (1'a - 1)^2 / 2 over a >= 0.

Weights sum to 1. The vector is drawn to the task of the smallest gradient, so that gradients may be normalised before:
their weights are then those of normalised gradients, and multiply the gradients as they are. Tasks with a gradient of
exactly 0 share all the weight, and nothing shared moves. A task that is absent from a batch takes no part.

Departures: heads get their own loss's gradient, unweighted. "l2" divides by norms, "loss" by losses and "loss_l2" by
both, which come with the second paper's released software and not with its text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtbench import GramWeighting, Reference, TaskStep, Weighting, hookimpl, tunable
from mtbench.contracts.weighting import State
from mtbench.weighting.gram import cosines, share
from mtbench.weighting.one_operation import on_gram
from mtbench.weighting.quadratic import nonnegative_minimum


@dataclass(frozen=True, kw_only=True)
class MGDAParams:
    """Hyperparameters of MGDA.

    Attributes:
        normalisation: What gradients are divided by before the weights are found.
    """

    normalisation: str = tunable(
        "none", choices=("none", "l2", "loss", "loss_l2"), help="what gradients are divided by: norms, losses or both"
    )


@on_gram
def min_norm_weights(gram: Tensor, present: Tensor, divisors: Tensor) -> Tensor:
    """The weights of the shortest mean of gradients that are divided by `divisors`: [..., T], of sum 1.

    Args:
        gram: [..., T, T].
        present: [..., T].
        divisors: [..., T].
    """
    of = cosines(gram, present)
    present = present.to(gram.dtype)
    # In y = a times norm, and with the constraint's normal d scaled to length 1, problems of any scale look alike.
    d = torch.where(divisors > 0, divisors, 1.0) * of.inverse
    d = d / d.amax(-1, keepdim=True).clamp(min=torch.finfo(d.dtype).tiny)
    d = d / d.norm(dim=-1, keepdim=True).clamp(min=1.0)
    y = nonnegative_minimum(of.matrix + d[..., None] * d[..., None, :], -d, of.active)
    zero = present * (1 - of.active)
    return torch.where(zero.sum(-1, keepdim=True) > 0, share(zero), share_of(y * d))


def share_of(weights: Tensor) -> Tensor:
    """Weights [..., T] divided by their sum; 0 where all are."""
    return weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)


class MGDA(GramWeighting):
    """The update in which the smallest of the tasks' gains is largest, among updates of its own length."""

    name = "mgda"
    reference = Reference("Multi-Task Learning as Multi-Objective Optimization", "NeurIPS 2018", arxiv="1810.04650")
    Params = MGDAParams

    def combine(self, step: TaskStep, params: MGDAParams) -> tuple[Tensor, State]:
        """The argmin over a >= 0, sum a = 1 of a'Ga."""
        norms = step.gram.diagonal().sqrt()
        losses = step.losses.to(step.gram.dtype)
        divisors = {"none": torch.ones_like(norms), "l2": norms, "loss": losses, "loss_l2": losses * norms}
        return min_norm_weights(step.gram, step.present, divisors[params.normalisation]), step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [MGDA]
