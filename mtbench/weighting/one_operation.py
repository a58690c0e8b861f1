"""Functions of tensors with leading axes that `torch.func.vmap` calls once, for all that it maps over.

Mapped, each small tensor operation costs tens of microseconds more, and a solver consists of hundreds of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def one_operation(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function of tensors one operation under `vmap`; nothing of it has a gradient.

    Args:
        function: Takes tensors with the same leading axes, and returns a tensor or a tuple of tensors with these axes.
            Numbers of one leading index must not depend on another's.
    """
    return functools.wraps(function)(functools.partial(_called, function))


def on_gram(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same for a function of Gram matrices [..., T, T] and other tensors that returns weights [..., T].

    A matrix with a number that is not finite gives weights that are NaN: the function gets zeros in its place, since
    some decompositions raise for all matrices when one is bad.
    """

    def guarded(gram: Tensor, *others: Tensor) -> Tensor:
        finite = (0 * gram).sum((-2, -1))[..., None] == 0
        found = function(torch.where(finite[..., None], gram, 0.0), *others)
        return torch.where(finite, found, torch.nan)

    return functools.wraps(function)(one_operation(guarded))


def _called(function: Callable[..., Any], *tensors: Tensor) -> Any:
    """A function of tensors: one operation where something is mapped, else as it is, which costs less."""
    if torch._C._are_functorch_transforms_active():
        return _OneOperation.apply(function, *tensors)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return function(*tensors)


class _OneOperation(torch.autograd.Function):
    """A function of tensors, as it is."""

    @staticmethod
    def forward(function: Callable[..., Any], *tensors: Tensor) -> Any:
        return function(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.mark_non_differentiable(*(output if isinstance(output, tuple) else (output,)))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError("Weights of gradients have no gradient of their own.")

    @staticmethod
    def vmap(info: Any, in_dims: Any, function: Callable[..., Any], *tensors: Tensor) -> tuple[Any, Any]:
        n = info.batch_size
        front = [
            value.expand(n, *value.shape) if dim is None else value.movedim(dim, 0)
            for value, dim in zip(tensors, in_dims[1:], strict=True)
        ]
        found = _called(function, *front)
        return found, (0,) * len(found) if isinstance(found, tuple) else 0
