"""CAGrad: near the mean gradient, the update with which the task that gains least gains most.

Paper: Liu, Liu, Jin, Stone and Liu, Conflict-Averse Gradient Descent for Multi-task Learning, NeurIPS 2021,
algorithm 1.

Shapes: T tasks, g_t their gradients, g_0 their mean, g_w = sum_t w_t g_t for weights w on the simplex.

    max over d of min_t g_t'd,  |d - g_0| <= c |g_0|     solved by  d = g_0 + c |g_0| g_w / |g_w|,
    w = argmin of g_w'g_0 + c |g_0| |g_w|

Solved exactly, by following the shortest step x(v) from g_0 that gives every task a gain of at least v, as v grows and
until that step is c |g_0| long. Its weights on the gradients are linear in v between points where a task joins those
that gain exactly v, or leaves them, and there are about as many points as tasks.

Weights are at least 1/T: c = 0 gives the mean gradient. A task that is absent from a batch takes no part, and T counts
those that are present. A task whose gradient is exactly 0 counts in the mean but not in the minimum.

Departures: c is below 1, as the paper's convergence to a minimum of the mean loss needs. The released software divides
the update by 1 + c^2; this does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtbench import GramWeighting, Reference, TaskStep, Weighting, hookimpl, tunable
from mtbench.contracts.weighting import State
from mtbench.weighting.gram import cosines, dot, settled, share, times
from mtbench.weighting.one_operation import on_gram

_RIDGE = 1e-13  # keeps factors of singular matrices finite


@dataclass(frozen=True, kw_only=True)
class CAGradParams:
    """Hyperparameters of CAGrad.

    Attributes:
        c: How far from the mean gradient the update may be, relative to that gradient's length.
    """

    c: float = tunable(
        0.5, grid=(0.1, 0.3, 0.5, 0.7, 0.9), low=0.1, high=0.9, log=False, maximum=0.99, help="distance from the mean"
    )


@on_gram
def conflict_averse_weights(gram: Tensor, present: Tensor, c: Tensor) -> Tensor:
    """The weights of the update: [..., T].

    Args:
        gram: [..., T, T].
        present: [..., T].
        c: [...].
    """
    of = cosines(gram, present)
    tiny = torch.finfo(gram.dtype).tiny
    u = share(present.to(gram.dtype))
    largest = of.norms.amax(-1, keepdim=True).clamp(min=tiny)
    mean = u * of.norms / largest  # g_0 in unit gradients, over the largest norm
    gains = times(of.matrix, mean)
    length = dot(mean, gains).clamp(min=0.0).sqrt()  # of g_0
    smallest = torch.where(of.active > 0, of.norms, torch.inf).amin(-1, keepdim=True)
    d = torch.where(of.active > 0, smallest * of.inverse, 0.0)  # gains of equal size along unit gradients
    gains = gains / torch.where(length > 0, length, 1.0)
    x = _fair_step(of.matrix, gains, d, of.active, c.to(gram.dtype)[..., None])
    return u + of.inverse * largest * length * x


def _fair_step(C: Tensor, b: Tensor, d: Tensor, active: Tensor, radius: Tensor) -> Tensor:
    """The shortest step x of unit gradients with b + Cx >= v d, for the v at which it is as long as `radius`.

    Args:
        C: [..., T, T], inner products of unit gradients.
        b: [..., T], gains without the step.
        d: [..., T], what gains are measured in.
        active: [..., T], 1 for tasks that count.
        radius: [..., 1].

    Returns:
        [..., T].
    """
    n_tasks = C.shape[-1]
    tasks = torch.arange(n_tasks, device=C.device)
    tight = torch.zeros_like(b)  # 1 for tasks that gain exactly v
    v = torch.full_like(radius, -torch.inf)
    sides = torch.stack([-b, d], -1)
    for _ in range(3 * n_tasks // 2 + 4):
        # On the tight tasks x = X[0] + v X[1]; on the others, what they gain more than v is also linear in v.
        block = C * tight[..., None] * tight[..., None, :] + torch.diag_embed(1 - tight + _RIDGE)
        X = torch.cholesky_solve(sides * tight[..., None], torch.linalg.cholesky_ex(block).L)
        CX = C @ X
        is_tight = tight[..., None] > 0
        value, rate = torch.where(is_tight, X, CX - sides).unbind(-1)
        falls = (rate < 0) & (active > 0)
        event, first = torch.where(falls, -value / rate, torch.inf).clamp(min=v).min(-1, keepdim=True)
        end = _reached(X.mT @ CX, radius)
        going_on = event < end
        tight = torch.where((tasks == first) & going_on, 1 - tight, tight)
        v = torch.where(going_on, event, v)
        if settled(~going_on):
            break
    return torch.where(end.isfinite(), X[..., 0] + end * X[..., 1], 0.0)


def _reached(q: Tensor, radius: Tensor) -> Tensor:
    """The largest v with q_00 + 2 v q_01 + v^2 q_11 = radius^2: [..., 1]; infinite where q_11 is 0."""
    q_00, q_01, q_11 = q[..., 0, 0, None], q[..., 0, 1, None], q[..., 1, 1, None]
    left = radius**2 - q_00
    root = (q_01**2 + left * q_11).clamp(min=0.0).sqrt()
    found = torch.where(q_01 > 0, left / (q_01 + root), (root - q_01) / q_11)
    return torch.where(q_11 > 0, found, torch.inf)


class CAGrad(GramWeighting):
    """Descends the mean loss while looking after the task that is worst off."""

    name = "cagrad"
    reference = Reference(
        "Conflict-Averse Gradient Descent for Multi-task Learning", "NeurIPS 2021", arxiv="2110.14048"
    )
    Params = CAGradParams

    def combine(self, step: TaskStep, params: CAGradParams) -> tuple[Tensor, State]:
        """The update d = g_0 + c |g_0| g_w / |g_w|."""
        return conflict_averse_weights(step.gram, step.present, params.c), step.state


@hookimpl
def mtbench_weightings() -> list[type[Weighting]]:
    """The weighting of this file."""
    return [CAGrad]
