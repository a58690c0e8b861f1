"""GradVac: gradients of two tasks are turned towards each other until they are as similar as they usually are.

Paper: Wang, Tsvetkov, Firat and Cao, Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively
Multilingual Models, ICLR 2021.

Shapes: T tasks, g_t their gradients, p [T, T] the usual cosine of each pair, which starts at 0. Each gradient starts as
h_t = g_t and meets the other tasks in a random order of its own: with q = cos(h_t, g_j),

    if q < p_tj:  h_t <- h_t + |h_t| (p_tj sqrt(1 - q^2) - q sqrt(1 - p_tj^2)) / (|g_j| sqrt(1 - p_tj^2)) g_j
    p_tj <- (1 - beta) p_tj + beta q

and the update is sum_t h_t. With p = 0 this is PCGrad. All h_t are weighted sums of gradients whose weights follow from
inner products alone.

Weights sum to T or more as long as no p is negative. A task that is absent from a batch takes no part, nor does a task
whose gradient is exactly 0; its cosines stay as they are. Orders are drawn anew in every step, from its key.

Departures: one group of all shared parameters, where the paper also has a group for each layer. sqrt(1 - p^2) is taken
as 1e-4 at least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtbench import GramWeighting, Reference, TaskStep, Weighting, hookimpl, tunable
from mtbench.contracts.weighting import State
from mtbench.weighting.gram import cosines, rows_in_turn
from mtbench.weighting.one_operation import one_operation
from mtbench.weighting.random import permutations

_SMALLEST = 1e-8  # of 1 - p^2


@dataclass(frozen=True, kw_only=True)
class GradVacParams:
    """Hyperparameters of GradVac.

    Attributes:
        beta: How fast the usual cosines follow those of a step.
    """

    beta: float = tunable(
        1e-2, grid=(1e-3, 1e-2, 1e-1, 0.5), low=1e-3, high=0.5, maximum=1.0, help="how fast usual cosines change"
    )


@one_operation
def vaccinated_weights(
    gram: Tensor, present: Tensor, orders: Tensor, usual: Tensor, beta: Tensor
) -> tuple[Tensor, Tensor]:
    """The weights of the sum of the turned gradients, and the usual cosines from now on.

    Args:
        gram: [..., T, T].
        present: [..., T].
        orders: int64 [..., T, T], row t the order in which the gradient of t meets all tasks, of which it skips t.
        usual: [..., T, T].
        beta: [...].

    Returns:
        [..., T] and [..., T, T].
    """
    of = cosines(gram, present)
    beta = beta.to(gram.dtype)[..., None, None]
    own = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device).expand_as(gram)
    pairs = (of.active[..., :, None] * of.active[..., None, :] * (1 - own)).gather(-1, orders)
    # Of each task's k-th meeting in column k: whether it counts, the usual cosine, sqrt(1 - p^2).
    p = usual.gather(-1, orders)
    rest = (1 - p**2).clamp(min=_SMALLEST).sqrt()
    changes, cosine = torch.empty_like(p), torch.empty_like(p)
    # Row t: inner products of h_t / norm_t with unit gradients, and its square.
    products, squares = of.matrix.clone(), of.active[..., None].clone()
    for k, rows in enumerate(rows_in_turn(of.matrix, orders)):
        now = (..., slice(k, k + 1))
        product, norm = products.gather(-1, orders[now]), torch.where(squares > 0, squares, 1.0).sqrt()
        q = (product / norm).clamp(-1.0, 1.0)
        turns = pairs[now] * (q < p[now])
        change = turns * norm * (p[now] * (1 - q**2).sqrt() / rest[now] - q)
        products.addcmul_(change, rows)
        squares = (squares + change * (2 * product + change)).clamp(min=0.0)
        changes[now], cosine[now] = change, q
    parts = own.clone().scatter_add_(-1, orders, changes)
    usual = usual.scatter(-1, orders, p + pairs * beta * (cosine - p))
    weights = of.inverse * (of.norms[..., None, :] @ parts)[..., 0, :]
    return torch.where(of.active > 0, weights, 1.0), usual


class GradVac(GramWeighting):
    """Gradients of related tasks are kept as similar as they have been."""

    name = "gradvac"
    reference = Reference(
        "Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively Multilingual Models",
        "ICLR 2021",
        arxiv="2010.05874",
    )
    Params = GradVacParams

    def start(self, n_tasks: int, n_shared: int, params: Any) -> State:
        """Usual cosines of 0."""
        return {"usual": torch.zeros(n_tasks, n_tasks, dtype=torch.float64)}

    def combine(self, step: TaskStep, params: GradVacParams) -> tuple[Tensor, State]:
        """The update sum_t h_t, on the weights of the gradients."""
        n_tasks = len(step.losses)
        orders = permutations(step.key, n_tasks, n_tasks)
        weights, usual = vaccinated_weights(step.gram, step.present, orders, step.state["usual"], params.beta)
        return weights, {"usual": usual}


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [GradVac]
