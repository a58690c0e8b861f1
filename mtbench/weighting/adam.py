"""Adam on a weighting's own numbers, which it keeps in its state.

Paper: Kingma and Ba, Adam: A Method for Stochastic Optimization, ICLR 2015, algorithm 1.

Shapes: T tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench.contracts.weighting import State

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


def adam_start(n_tasks: int) -> dict[str, Tensor]:
    """What Adam remembers of T numbers, float64 [T] each."""
    return {name: torch.zeros(n_tasks, dtype=torch.float64) for name in ("adam_mean", "adam_square", "adam_steps")}


def adam_step(
    values: Tensor, gradient: Tensor, moved: Tensor, state: State, rate: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """One step of Adam on the numbers that have a gradient; the others wait, and count no step.

    Args:
        values: [T].
        gradient: [T].
        moved: [T], 1 where there is a gradient, else 0.
        state: Holds what `adam_start` gave.
        rate: Learning rate.

    Returns:
        New values, and what Adam remembers now.
    """
    steps = state["adam_steps"] + moved
    mean = torch.where(moved > 0, _BETAS[0] * state["adam_mean"] + (1 - _BETAS[0]) * gradient, state["adam_mean"])
    square = torch.where(
        moved > 0, _BETAS[1] * state["adam_square"] + (1 - _BETAS[1]) * gradient**2, state["adam_square"]
    )
    count = steps.clamp(min=1.0)
    unbiased = mean / (1 - _BETAS[0] ** count), square / (1 - _BETAS[1] ** count)
    change = rate * unbiased[0] / (unbiased[1].sqrt() + _EPSILON) * moved
    return values - change, {"adam_mean": mean, "adam_square": square, "adam_steps": steps}
