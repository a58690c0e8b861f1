"""Weight decay over many weights in one pass forward and one backward.

Written in torch's operations it takes several, which is much of a step where every task has a network of its own: the
weights are many then, and the rows few.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_RUN = 4096  # numbers whose squares are summed one after the other, which costs precision; the rest in pairs


def half_squares(*of: nn.Module | Tensor) -> Tensor:
    """Half the sum of squares of tensors, and of all parameters of modules: a scalar."""
    tensors = [t for one in of for t in ([one] if isinstance(one, Tensor) else one.parameters())]
    return torch.cat([_squares(t.reshape(1, -1)) for t in tensors]).sum() / 2


def _squares(rows: Tensor) -> Tensor:
    """Sums of squares: [n, m] -> [n]."""
    found: Tensor = _Squares.apply(rows)  # type: ignore[no-untyped-call]
    return found


class _Squares(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        whole = x.shape[1] // _RUN * _RUN
        runs: Tensor = torch.linalg.vector_norm(x[:, :whole].reshape(len(x), whole // _RUN, _RUN), dim=2)
        return runs.square().sum(1) + x[:, whole:].square().sum(1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        return x * (2 * gradients[0][:, None])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
        return _squares(x.movedim(in_dims[0], 0).flatten(0, 1)).view(info.batch_size, -1), 0
