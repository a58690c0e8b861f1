"""Gradients of the tasks' losses, each by itself, on the parameters that tasks share.

Shapes: R held trials, T tasks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from mtbench.training.memory import is_out_of_memory
from mtbench.training.over_trials import Named

_IMAGES = 4  # axes of a convolution's filters, whose gradients torch does not map over tasks without loss of speed

ByRows = Callable[[Sequence[str]], Named]
"""Gradients of the tasks' losses on named parameters, [R, T, ...] each."""


class TaskGradients:
    """Takes them row by row where that is possible, else one pass for each task.

    Attributes:
        rows_fit: Whether they can be taken row by row; None before the first step.
    """

    def __init__(self) -> None:
        self.rows_fit: bool | None = None

    def of(self, tasks: Tensor, leaves: Mapping[str, Tensor], by_rows: ByRows | None) -> Named:
        """The gradient of every task's loss by name of a parameter, [R, T, ...].

        Args:
            tasks: Losses [R, T], as functions of the leaves.
            leaves: Parameters by name, [R, ...].
            by_rows: The gradients of all tasks in one pass, where every row belongs to one task.
        """
        if not leaves:
            return {}
        if by_rows is None or self.rows_fit is False:
            return jacobian(tasks, leaves)
        if self.rows_fit:
            return by_rows(list(leaves))
        # Once, in the first step: by rows the same must come out, which it does not where rows of a batch depend on
        # each other (batch norm), and where it cannot be mapped over rows.
        known = jacobian(tasks, leaves)
        try:
            self.rows_fit = _alike(by_rows(list(leaves)), known)
        except (RuntimeError, ValueError, NotImplementedError) as error:
            if is_out_of_memory(error):
                raise
            self.rows_fit = False
        return known


def jacobian(tasks: Tensor, leaves: Mapping[str, Tensor]) -> Named:
    """The gradient of every task's loss by name of a parameter, [R, T, ...], from losses [R, T]."""
    wanted, n_tasks = list(leaves.values()), tasks.shape[1]
    if max(leaf.ndim for leaf in wanted) > _IMAGES:  # with the axis of trials
        rows = [
            torch.autograd.grad(tasks[:, t].sum(), wanted, retain_graph=True, materialize_grads=True)
            for t in range(n_tasks)
        ]
        return {name: torch.stack(of_tasks, 1) for name, of_tasks in zip(leaves, zip(*rows, strict=True), strict=True)}
    each = torch.eye(n_tasks, device=tasks.device, dtype=tasks.dtype)[:, None].expand(-1, len(tasks), -1)
    found = torch.autograd.grad(
        tasks, wanted, grad_outputs=each, is_grads_batched=True, retain_graph=True, materialize_grads=True
    )
    return {name: block.transpose(0, 1) for name, block in zip(leaves, found, strict=True)}


def gradients(
    roots: Iterable[tuple[Tensor, Tensor]], *leaves: Collection[Tensor], again: bool = False
) -> tuple[tuple[Tensor, ...], ...]:
    """Gradients of a weighted sum of tensors by groups of leaves, 0 where there is no way to a leaf.

    Args:
        roots: Tensors and what their numbers are multiplied by, of the same shapes.
        *leaves: The groups.
        again: Whether more gradients will be taken of the same roots; else what they were computed from is let go.
    """
    ends = [(root, weight) for root, weight in roots if root.requires_grad]
    wanted = [leaf for group in leaves for leaf in group]
    if not ends or not wanted:
        return tuple(tuple(torch.zeros_like(leaf) for leaf in group) for group in leaves)
    found = iter(
        torch.autograd.grad(
            [root for root, _ in ends],
            wanted,
            [weight for _, weight in ends],
            retain_graph=again,
            materialize_grads=True,
        )
    )
    return tuple(tuple(itertools.islice(found, len(group))) for group in leaves)


def gram_of(gradients: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """Inner products of the tasks' gradients, float64 [R, T, T].

    Args:
        gradients: By name, [R, T, ...].
        like: [R, T], on the same device.
    """
    gram = torch.zeros(*like.shape, like.shape[1], device=like.device, dtype=torch.float64)
    for block in gradients.values():
        rows = block.flatten(2).double()
        gram.baddbmm_(rows, rows.mT)
    return gram


def _alike(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    """Whether gradients are the same but for rounding."""
    error, size = (
        torch.stack([value.double().square().sum() for value in values]).sum().sqrt()
        for values in ([some[name] - other for name, other in others.items()], list(others.values()))
    )
    eps = torch.finfo(next(iter(others.values())).dtype).eps
    return bool(error <= eps**0.5 * size)
