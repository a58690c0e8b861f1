"""IMTL-G: the weights with which the update has equal projections on all unit gradients.

Paper: Liu, Li, Kuang, Xue, Chen, Yang, Liao and Zhang, Towards Impartial Multi-task Learning, ICLR 2021.

Shapes: T tasks, G [T, T] the inner products of their gradients, n [T] their norms.

    v = G^+ n,  w = v / sum v

which is the paper's closed form wherever that exists.

Weights sum to 1 and may be negative: they are for a third of random gradients of three tasks. A task that is absent
from a batch takes no part, nor does a task whose gradient is exactly 0. Where all are, weights are equal.

Departures: a pseudo-inverse, of cosines, stands for the inverse where gradients are linearly dependent. Heads get their
own loss's gradient, unweighted, as in the paper without IMTL-L.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench import GramWeighting, Reference, TaskStep, Weighting, hookimpl
from mtbench.contracts.method import NoParams
from mtbench.contracts.weighting import State
from mtbench.weighting.gram import cosines, share
from mtbench.weighting.one_operation import on_gram
from mtbench.weighting.spectrum import pseudo_solve


@on_gram
def impartial_weights(gram: Tensor, present: Tensor) -> Tensor:
    """The weights of equal projections: [..., T], of sum 1.

    Args:
        gram: [..., T, T].
        present: [..., T].
    """
    of = cosines(gram, present)
    smallest = torch.where(of.active > 0, of.norms, torch.inf).amin(-1, keepdim=True)
    v = pseudo_solve(of.matrix, of.active) * torch.where(of.active > 0, smallest * of.inverse, 0.0)
    total = v.sum(-1, keepdim=True)
    return torch.where(total != 0, v / total, share(present.to(gram.dtype)))


class IMTLG(GramWeighting):
    """No task's gradient counts for more than another's in the direction of the update."""

    name = "imtl_g"
    reference = Reference("Towards Impartial Multi-task Learning", "ICLR 2021")

    def combine(self, step: TaskStep, params: NoParams) -> tuple[Tensor, State]:
        """Weights w proportional to G^+ n."""
        return impartial_weights(step.gram, step.present), step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [IMTLG]
