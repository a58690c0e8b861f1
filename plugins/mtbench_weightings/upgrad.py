"""UPGrad: the mean of the task gradients, each of them changed as little as it takes to harm no task.

Paper: Quinton and Rey, Jacobian Descent for Multi-Objective Optimization, arXiv 2024.

Shapes: T tasks, J [T, P] their gradients, G = JJ' [T, T].

    1/T sum_t J'v_t,  v_t = argmin over v >= e_t of v'Gv

J'v_t is the projection of the gradient of t onto the vectors that have no negative inner product with any gradient.

Weights are at least 1/T, so that without conflict the update is the mean of the gradients. A task that is absent from a
batch takes no part, and T counts those that are present.

The T problems of T numbers each are solved together (`mtbench.weighting.pivoting`): with 139 tasks that takes some ten
times as long as DualProj's one.

Departures: none.
"""

from __future__ import annotations

from torch import Tensor

from mtbench import GramWeighting, Reference, TaskStep, Weighting, hookimpl
from mtbench.contracts.method import NoParams
from mtbench.contracts.weighting import State
from mtbench.weighting.gram import cosines, share
from mtbench.weighting.one_operation import on_gram
from mtbench.weighting.pivoting import nonnegative_minima


@on_gram
def projected_weights(gram: Tensor, present: Tensor) -> Tensor:
    """The weights of the mean of the projected gradients: [..., T].

    Args:
        gram: [..., T, T].
        present: [..., T].
    """
    of = cosines(gram, present)
    # v_t = e_t + norm_t y_t / norms for unit gradients, whose problems look alike at any scale.
    y = nonnegative_minima(of.matrix, of.matrix, of.active)
    u = share(present.to(gram.dtype))
    return u + of.inverse * ((u * of.norms)[..., None, :] @ y)[..., 0, :]


class UPGrad(GramWeighting):
    """No task's loss rises, to first order, and every task has a say in proportion to its gradient."""

    name = "upgrad"
    reference = Reference("Jacobian Descent for Multi-Objective Optimization", "arXiv 2024", arxiv="2406.16232")

    def combine(self, step: TaskStep, params: NoParams) -> tuple[Tensor, State]:
        """1/T sum_t argmin over v >= e_t of v'Gv."""
        return projected_weights(step.gram, step.present), step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [UPGrad]
