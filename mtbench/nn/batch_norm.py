"""Batch norm on whatever batch comes: of one row, with or without running statistics, alone or mapped over trials.

torch refuses to train on a batch with one value per channel, which the last batch of an epoch may be; and it reads the
momentum of a cumulative average as a Python number, which cannot be mapped.

Shapes: B rows, C channels; x [B, C], [B, C, L], [B, C, H, W] or [B, C, D, H, W].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

Operation = Callable[..., Tensor]
"""Batch norm of (x, weight, bias, running mean, running variance, training, momentum, eps); any but x may be None."""


def take_any_batch(model: nn.Module) -> None:
    """Lets torch's batch norm layers in a model train on a batch with one value per channel.

    Args:
        model: Changed in place; layers of subclasses with a `forward` of their own stay as they are.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm) and type(module).forward is _BatchNorm.forward:
            module.forward = partial(_checked, module)  # type: ignore[method-assign]


def normalised(norm: _BatchNorm, x: Tensor, operation: Operation) -> Tensor:
    """Applies a batch norm layer: as torch does, and also where every channel has one value only.

    The variance of one value is unknown. The layer then uses its running statistics and does not update them; without
    any, the value is its own mean and the result is the layer's bias.

    Args:
        norm: The layer.
        x: Rows, of a shape that the layer takes.
        operation: Computes batch norm, such as `mtbench.nn.vmap_operations.batch_norm`.

    Returns:
        As x.
    """
    tracked = norm.running_mean is not None and norm.running_var is not None
    affine: tuple[Any, Any] = norm.weight, norm.bias
    if x.numel() == x.shape[1]:
        return _of_one_value(norm, x, operation) if tracked else _shift(norm, x)
    kept: tuple[Any, Any] = (norm.running_mean, norm.running_var)
    if norm.training and not norm.track_running_stats:
        kept = (None, None)
    elif norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:
            _take_into_average(norm, x.detach())
            kept = (None, None)
    training = norm.training or not tracked
    return operation(x, *affine, *kept, training, norm.momentum or 0.0, norm.eps)


def _checked(norm: _BatchNorm, x: Tensor) -> Tensor:
    norm._check_input_dim(x)  # type: ignore[no-untyped-call]
    return normalised(norm, x, _torch)


def _torch(
    x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float
) -> Tensor:
    wide = next((t.dtype for t in (weight, bias, mean, var) if t is not None), x.dtype)
    # Under autocast torch mixes types where nothing is mapped, and only there.
    rows = x.to(wide) if torch._C._are_functorch_transforms_active() else x
    return F.batch_norm(rows, mean, var, weight, bias, training, momentum, eps).to(x.dtype)


def _of_one_value(norm: _BatchNorm, x: Tensor, operation: Operation) -> Tensor:
    return operation(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, False, 0.0, norm.eps)


def _shift(norm: _BatchNorm, x: Tensor) -> Tensor:
    nothing = torch.zeros_like(x)
    return nothing if norm.bias is None else nothing + norm.bias.view(-1, *[1] * (x.ndim - 2)).to(x.dtype)


def _take_into_average(norm: _BatchNorm, x: Tensor) -> None:
    """Running statistics as the mean over all batches so far, this one included (momentum None)."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    var, mean = torch.var_mean(x.to(norm.running_mean.dtype), [0, *range(2, x.ndim)])
    share = 1 / norm.num_batches_tracked.to(mean.dtype)  # type: ignore[union-attr]
    norm.running_mean.add_(share * (mean - norm.running_mean))
    norm.running_var.add_(share * (var - norm.running_var))
