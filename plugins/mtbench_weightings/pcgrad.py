"""PCGrad: what in a task's gradient points against another task's gradient is projected away.

Paper: Yu, Kumar, Gupta, Levine, Hausman and Finn, Gradient Surgery for Multi-Task Learning, NeurIPS 2020, algorithm 1.

Shapes: T tasks, g_t their gradients. Each gradient starts as h_t = g_t and meets the other tasks in a random order of
its own:

    h_t <- h_t - min(0, h_t'g_j) / |g_j|^2 g_j     for j != t;   the update is sum_t h_t

All h_t are weighted sums of gradients whose weights follow from inner products alone.

Weights sum to T or more, so that without conflict the update is the sum of the gradients. A task that is absent from a
batch takes no part. Orders are drawn anew in every step, from its key.

Departures: none. The released software forgets its random order and projects gradients on themselves; this does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench import GramWeighting, Reference, TaskStep, Weighting, hookimpl
from mtbench.contracts.method import NoParams
from mtbench.contracts.weighting import State
from mtbench.weighting.gram import cosines, rows_in_turn
from mtbench.weighting.one_operation import on_gram
from mtbench.weighting.random import permutations


@on_gram
def surgery_weights(gram: Tensor, present: Tensor, orders: Tensor) -> Tensor:
    """The weights of the sum of the projected gradients: [..., T].

    Args:
        gram: [..., T, T].
        present: [..., T].
        orders: int64 [..., T, T], row t the order in which the gradient of t meets all tasks, of which it skips t.
    """
    of = cosines(gram, present)
    n_tasks = gram.shape[-1]
    own = torch.eye(n_tasks, dtype=gram.dtype, device=gram.device).expand_as(gram)
    # Row t: h_t / norm_t in unit gradients, and its inner products with them.
    products, others = of.matrix.clone(), (1 - own).gather(-1, orders)
    changes = torch.empty_like(products)  # in the order of the meetings
    for k, rows in enumerate(rows_in_turn(of.matrix, orders)):
        met = products.gather(-1, orders[..., k, None])
        change = torch.mul(met.clamp_(max=0.0), others[..., k, None], out=changes[..., k, None])
        products.addcmul_(change, rows, value=-1)
    parts = own.clone().scatter_add_(-1, orders, -changes)
    weights = of.inverse * (of.norms[..., None, :] @ parts)[..., 0, :]
    return torch.where(of.active > 0, weights, 1.0)


class PCGrad(GramWeighting):
    """Conflicts between gradients are resolved pair by pair."""

    name = "pcgrad"
    reference = Reference("Gradient Surgery for Multi-Task Learning", "NeurIPS 2020", arxiv="2001.06782")

    def combine(self, step: TaskStep, params: NoParams) -> tuple[Tensor, State]:
        """Algorithm 1, on the weights of the gradients."""
        n_tasks = len(step.losses)
        orders = permutations(step.key, n_tasks, n_tasks)
        return surgery_weights(step.gram, step.present, orders), step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [PCGrad]
