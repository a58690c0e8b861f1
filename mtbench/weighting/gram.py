"""Gram matrices of task gradients, and their scale.

Shapes: leading axes "...", T tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Cosines:
    """A Gram matrix as cosines and norms, in which problems of any scale look alike.

    Attributes:
        matrix: [..., T, T], inner products of the unit gradients; rows and columns of inactive tasks are 0.
        norms: [..., T], 0 for inactive tasks.
        inverse: [..., T], 1 / norms; 0 for inactive tasks.
        active: [..., T], 1 for a task that is present with a gradient that is not exactly 0, else 0.
    """

    matrix: Tensor
    norms: Tensor
    inverse: Tensor
    active: Tensor


def cosines(gram: Tensor, present: Tensor) -> Cosines:
    """Cosines and norms of the gradients of tasks that are present.

    Args:
        gram: [..., T, T].
        present: [..., T].
    """
    squares = gram.diagonal(dim1=-2, dim2=-1)
    active = (squares > 0) & (present > 0)
    inverse = torch.where(active, squares, 1.0).rsqrt() * active
    # One after the other: the product of two inverses of small norms is infinite.
    matrix = gram * inverse[..., None] * inverse[..., None, :]
    return Cosines(matrix, squares * inverse, inverse, active.to(gram.dtype))


def share(mask: Tensor) -> Tensor:
    """A mask [..., T] of 0 and 1 divided by the number of its ones; 0 where it has none."""
    return mask / mask.sum(-1, keepdim=True).clamp(min=1.0)


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """[..., T, T] times [..., T]."""
    product: Tensor = (matrix @ vector[..., None])[..., 0]
    return product


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products over the last axis, which stays: [..., 1]."""
    return (a * b).sum(-1, keepdim=True)


def rows_in_turn(matrix: Tensor, orders: Tensor) -> Iterator[Tensor]:
    """Rows of matrices [..., T, T], taken in a different order for each of T places: T times [..., T, T].

    Args:
        matrix: [..., T, T].
        orders: int64 [..., T, T]; the k-th result has in row t the row of number orders[..., t, k].
    """
    n_tasks = matrix.shape[-1]
    flat = matrix.reshape(-1, n_tasks)
    starts = torch.arange(0, len(flat), n_tasks, device=matrix.device)[:, None, None]
    for numbers in (orders.reshape(-1, n_tasks, n_tasks) + starts).movedim(-1, 0):
        # Whole rows: to gather number by number takes several times as long.
        yield flat.index_select(0, numbers.reshape(-1)).view(matrix.shape)


def settled(done: Tensor) -> bool:
    """Whether rounds of an iteration can end because all problems are done; a GPU is not waited for, and goes on.

    To be asked within `one_operation` alone; what is done must stay as it is, so that no problem depends on others.

    Args:
        done: bool [...].
    """
    return done.device.type == "cpu" and bool(done.all())
