"""Nash-MTL: the update that tasks would agree on in a bargaining game.

Paper: Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik and Fetaya, Multi-Task Learning as a Bargaining Game, ICML
2022, algorithm 1.

Shapes: T tasks, G [T, T] the inner products of their gradients. Weights w > 0 solve

    G w = 1 / w     (number by number)

The update has length sqrt(T) whatever the scale of losses and gradients, and weights are large where gradients are
small. Heads get their own gradient times their task's weight. A task that is absent from a batch takes no part, and T
counts those that are present. A task whose gradient is exactly 0 has weight 1, so that its head goes on learning.

Departures: solved exactly in every step, by Newton's method, where the paper solves a sequence of convex problems that
approximate it, starting from the last step's weights, and may do so in every nth step only. Where some sum of the
gradients with positive weights is 0 the game has no solution; weights are then up to about 1e6 over the gradients'
norms, and the update stays about as long as in other steps. The released software shortens updates of shared
parameters to length 1; this does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench import GramWeighting, Reference, TaskStep, Weighting, hookimpl
from mtbench.contracts.method import NoParams
from mtbench.contracts.weighting import State
from mtbench.weighting.gram import cosines
from mtbench.weighting.one_operation import on_gram
from mtbench.weighting.proportional import proportional_weights


@on_gram
def bargained_weights(gram: Tensor, present: Tensor) -> Tensor:
    """The weights with w * (G w) = 1: [..., T].

    Args:
        gram: [..., T, T].
        present: [..., T].
    """
    of = cosines(gram, present)
    largest = torch.where(of.active > 0, of.norms, 0.0).amax(-1, keepdim=True)
    alpha = torch.ones_like(gram[..., 0, 0])
    return torch.where(of.active > 0, proportional_weights(of, alpha) / largest, 1.0)


class NashMTL(GramWeighting):
    """The Nash bargaining solution: no other update of its length gains some tasks relatively more than others lose."""

    name = "nash_mtl"
    reference = Reference("Multi-Task Learning as a Bargaining Game", "ICML 2022", arxiv="2202.01017")
    heads = "weighted"

    def combine(self, step: TaskStep, params: NoParams) -> tuple[Tensor, State]:
        """G w = 1 / w."""
        return bargained_weights(step.gram, step.present), step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [NashMTL]
