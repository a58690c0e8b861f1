"""Weight decay over many weights in one pass forward and one backward.

Written in torch's operations it takes several, which is much of a step where every task has a network of its own: the
weights are many then, and the rows few.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

_RUN = 4096  # numbers whose squares are summed one after the other, which costs precision; the rest in pairs


def half_squares(*of: nn.Module | Tensor) -> Tensor:
    """Half the sum of squares of tensors and of all parameters of modules, as weight decay takes it.

    Args:
        *of: Tensors of any shape, and modules.

    Returns:
        A scalar.
    """
    tensors = [t for one in of for t in ([one] if isinstance(one, Tensor) else one.parameters())]
    if not torch._C._are_functorch_transforms_active():
        found: Tensor = _HalfSquares.apply(*tensors)  # type: ignore[no-untyped-call]
        return found
    return torch.stack([_squares(t, 0) for t in tensors]).sum() / 2


def _squares(x: Tensor, n_leading: int) -> Tensor:
    """Sums of squares over all axes but so many leading ones."""
    found: Tensor = _Squares.apply(x, n_leading)  # type: ignore[no-untyped-call]
    return found


class _HalfSquares(torch.autograd.Function):
    # Where nothing is mapped: one Function for all, since each costs as much as several operations.
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        return torch.stack([_Squares.forward(t, 0) for t in tensors]).sum() / 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(x * gradients[0] for x in ctx.saved_tensors)


class _Squares(torch.autograd.Function):
    # Takes tensors as they are, not laid flat: autograd adds in place to gradients that are no views.
    @staticmethod
    def forward(x: Tensor, n_leading: int) -> Tensor:
        leading = x.shape[:n_leading]
        flat = x.reshape(math.prod(leading), -1)
        whole = flat.shape[1] // _RUN * _RUN
        if not whole:
            return flat.square().sum(1).view(leading)
        runs: Tensor = torch.linalg.vector_norm(flat[:, :whole].reshape(len(flat), whole // _RUN, _RUN), dim=2)
        return (runs.square().sum(1) + flat[:, whole:].square().sum(1)).view(leading)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x: Tensor = ctx.saved_tensors[0]
        twice = 2 * gradients[0]
        return x * twice.view(*twice.shape, *[1] * (x.ndim - twice.ndim)), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None], x: Tensor, n_leading: int) -> tuple[Tensor, int]:
        return _squares(x if in_dims[0] == 0 else x.movedim(in_dims[0], 0), n_leading + 1), 0
