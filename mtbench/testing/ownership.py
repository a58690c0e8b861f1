"""Which tasks' losses reach which parameters, held against what a method says belongs to one task alone.

Shapes: T tasks, O outputs of all tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mtbench.contracts.batch import Batch
from mtbench.contracts.method import GradientMethod
from mtbench.contracts.terms import Terms
from mtbench.tasks import Problem

Gradients = Mapping[str, Tensor]
"""By name of a parameter, the gradient of each task's loss: [T, ...]."""


def moved(model: nn.Module) -> nn.Module:
    """A model away from its start, where a weight of 0 may hide what it multiplies; in place."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.1 * noise.to(parameter))
    return model


def task_gradients(
    method: GradientMethod,
    model: nn.Module,
    batch: Batch,
    params: Any,
    terms: Callable[[Any, Batch, Any], Terms] | None = None,
) -> Gradients:
    """The gradient of each of the method's task losses, or of a stage's `terms`, by plain autograd."""
    held = dict(model.named_parameters())
    losses = (terms or method.terms)(model, batch, params).tasks
    rows = [
        torch.autograd.grad(loss, list(held.values()), retain_graph=True, materialize_grads=True) for loss in losses
    ]
    return {name: torch.stack(of_tasks) for name, of_tasks in zip(held, zip(*rows, strict=True), strict=True)}


def parameter_axes(method: GradientMethod, model: nn.Module) -> dict[str, int]:
    """`task_axes` by name of parameters; those of a module spelled out.

    Raises:
        AssertionError: A name is of nothing that has parameters.
    """
    found: dict[str, int] = {}
    for name, axis in method.task_axes(model).items():
        below = [
            full for full, _ in model.named_parameters() if not name or full == name or full.startswith(name + ".")
        ]
        assert below, f"task_axes must name parameters, or modules that have some; found {name!r}"
        found |= dict.fromkeys(below, axis)
    return found


def trespasses(gradients: Gradients, axes: Mapping[str, int], problem: Problem) -> list[str]:
    """What is wrong with parameters that are said to belong to one task alone: a sentence for each."""
    wrong = []
    for name, axis in axes.items():
        rows = _along(gradients[name], axis)
        owners = task_of_each(rows.shape[1], problem)
        if owners is None:
            wrong.append(
                f"axis {axis} of {name!r} must have a place for each of {problem.n_tasks} tasks or "
                f"{problem.n_outputs} outputs; found {rows.shape[1]}"
            )
            continue
        for t in range(problem.n_tasks):
            others = (rows[t] != 0).any(1) & (owners != t)
            if others.any():
                whose = int(owners[others][0])
                wrong.append(f"the loss of task {t} reaches the part of {name!r} that is said to be task {whose}'s own")
    return wrong


def wrongly_shared(gradients: Gradients, axes: Mapping[str, int], problem: Problem) -> list[str]:
    """What is wrong with parameters that are not said to belong to one task: a sentence for each.

    One that only one task's loss reaches is that task's; so are the places along an axis where each is reached by its
    own task alone.
    """
    wrong = []
    for name, rows in gradients.items():
        if name in axes:
            continue
        reached = (rows.flatten(1) != 0).any(1)
        if reached.sum() == 1:
            wrong.append(f"{name!r} is reached by the loss of task {int(reached.int().argmax())} alone")
        for axis in range(rows.ndim - 1):
            owners = task_of_each(rows.shape[axis + 1], problem)
            if owners is None:
                continue
            at = (_along(rows, axis) != 0).any(2)  # [T, places]
            own = owners == torch.arange(problem.n_tasks)[:, None]
            if at.any() and not (at & ~own).any():
                wrong.append(f"each task reaches its own part of {name!r} alone, along axis {axis}")
    return wrong


def task_of_each(n: int, problem: Problem) -> Tensor | None:
    """The task of each place on an axis of tasks or of output columns, int64 [n]; None where it is neither."""
    if n == problem.n_tasks:
        return torch.arange(n)
    if n == problem.n_outputs:
        widths = torch.tensor([task.n_outputs for task in problem.tasks])
        return torch.arange(problem.n_tasks).repeat_interleave(widths)
    return None


def _along(rows: Tensor, axis: int) -> Tensor:
    """Gradients [T, ...] as [T, n, rest], with n places along an axis of the parameter."""
    return rows.movedim(axis + 1, 1).flatten(2) if rows.ndim > 2 else rows[:, :, None]
