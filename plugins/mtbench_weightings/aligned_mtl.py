"""Aligned-MTL: task gradients are replaced by the nearest ones that are orthogonal and of equal length.

Paper: Senushkin, Patakin, Kuznetsov and Konushin, Independent Component Alignment for Multi-Task Learning, CVPR 2023.

Shapes: T tasks, G = V diag(lambda) V' [T, T] the inner products of their gradients, u = 1/T [T].

    w = sqrt(lambda_min) V diag(lambda)^(-1/2) V' u

with lambda_min the smallest eigenvalue that is not 0. The update then has a condition number of 1.

Weights have no fixed sum; they are 1/T where gradients are orthogonal and of equal length. A task that is absent from a
batch takes no part, nor does one with a gradient of exactly 0, but T counts it where it is present.

Departures: eigenvalues below 1e-12 of the largest count as 0. Just above, the update is as short as the paper's formula
says: two tasks whose gradients nearly agree make lambda_min small.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench import GramWeighting, Reference, TaskStep, Weighting, hookimpl
from mtbench.contracts.method import NoParams
from mtbench.contracts.weighting import State
from mtbench.weighting.gram import share, times
from mtbench.weighting.one_operation import on_gram
from mtbench.weighting.spectrum import eigenvalues


@on_gram
def aligned_weights(gram: Tensor, present: Tensor) -> Tensor:
    """The weights of the mean of the aligned gradients: [..., T].

    Args:
        gram: [..., T, T].
        present: [..., T].
    """
    present = present.to(gram.dtype)
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    gram = gram * present[..., None] * present[..., None, :] / torch.where(trace > 0, trace, 1.0)
    values, vectors, counts = eigenvalues(gram)
    smallest = torch.where(counts > 0, values, 1.0).amin(-1, keepdim=True)
    return times(vectors, times(vectors.mT, share(present)) * counts * (smallest / values).sqrt())


class AlignedMTL(GramWeighting):
    """Neither conflict nor dominance: the mean of gradients made orthogonal and equally long."""

    name = "aligned_mtl"
    reference = Reference("Independent Component Alignment for Multi-Task Learning", "CVPR 2023", arxiv="2305.19000")

    def combine(self, step: TaskStep, params: NoParams) -> tuple[Tensor, State]:
        """The weights sqrt(lambda_min) V diag(lambda)^(-1/2) V' u."""
        return aligned_weights(step.gram, step.present), step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [AlignedMTL]
