"""ConFIG: the update that has the same cosine with every task's gradient, as long as these gradients say together.

Paper: Liu, Chu and Thuerey, ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks, ICLR 2025.

Shapes: T tasks, g_t their gradients, U [T, P] the unit gradients, 1 [T].

    u = U^+ 1 / |U^+ 1|,   the update is (sum_t g_t'u) u

U^+ 1 = U'(UU')^+ 1 is a weighted sum of gradients whose weights follow from inner products alone.

Weights have no fixed sum: without conflict, for equal gradients, they sum to T. A task that is absent from a batch
takes no part, nor does a task whose gradient is exactly 0.

Departures: the pseudo-inverse is taken of UU' rather than of U, with eigenvalues below 1e-12 of the largest as 0; that
is singular values below 1e-6.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench import GramWeighting, Reference, TaskStep, Weighting, hookimpl
from mtbench.contracts.method import NoParams
from mtbench.contracts.weighting import State
from mtbench.weighting.gram import cosines, dot, times
from mtbench.weighting.one_operation import on_gram
from mtbench.weighting.spectrum import pseudo_solve


@on_gram
def conflict_free_weights(gram: Tensor, present: Tensor) -> Tensor:
    """The weights of the update: [..., T].

    Args:
        gram: [..., T, T].
        present: [..., T].
    """
    of = cosines(gram, present)
    z = pseudo_solve(of.matrix, of.active)
    gains = times(of.matrix, z)
    square = dot(z, gains)
    length = dot(of.norms, gains) / torch.where(square > 0, square, 1.0)
    return torch.where(of.active > 0, length * of.inverse * z, 1.0)


class ConFIG(GramWeighting):
    """The one direction in which all tasks gain alike."""

    name = "config"
    reference = Reference(
        "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks", "ICLR 2025", arxiv="2408.11104"
    )

    def combine(self, step: TaskStep, params: NoParams) -> tuple[Tensor, State]:
        """(sum_t g_t'u) u with u along U^+ 1."""
        return conflict_free_weights(step.gram, step.present), step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [ConFIG]
