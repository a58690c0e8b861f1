"""Operations that lose no speed when they are mapped over copies of a network or over trials.

`torch.func.vmap` has rules of its own for them, but these pool copies as if they were rows, multiply by batch norm's
scale in a step of its own, leave images in the order that grouped convolutions are slowest in, and give gradients of
dense weights transposed. Here G copies of images become G times as many channels, side by side in memory throughout a
network. Unmapped, these are torch's own operations.

Shapes: G copies, B rows, C channels, H x W pixels, d inputs and k outputs of a dense layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_aten = torch.ops.aten
Pair = tuple[int, ...]


def dense(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`torch.nn.functional.linear`.

    Args:
        x: [B, d].
        weight: [k, d].
        bias: [k].

    Returns:
        [B, k].
    """
    return F.linear(x, weight, bias) if _unmapped() else _dense(x, weight, bias)


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair | str, groups: int
) -> Tensor:
    """`torch.nn.functional.conv2d`.

    Args:
        x: [B, C, H, W].
        weight: [C', C / groups, h, w].
        bias: [C'].
        stride: As there.
        padding: As there.
        groups: As there.

    Returns:
        [B, C', H', W'].
    """
    if _unmapped():
        return torch.conv2d(x, weight, bias, stride, padding, 1, groups)
    out: Tensor = _Convolution.apply(x, weight, bias, stride, padding, groups)  # type: ignore[no-untyped-call]
    return out


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """`torch.nn.functional.batch_norm`.

    Args:
        x: [B, C, H, W].
        weight: Scale, [C], or none.
        bias: Shift, [C], or none.
        mean: Running mean, [C]; updated in place in training. None where there are no running statistics.
        var: Running variance, likewise.
        training: Whether rows are scaled by their own statistics.
        momentum: Of the running statistics.
        eps: Added to variances.

    Returns:
        As x.
    """
    options = (training, momentum, eps)
    out: Tensor = _BatchNorm.apply(x, weight, bias, mean, var, *options)[0]  # type: ignore[no-untyped-call]
    return out


def max_pool(x: Tensor, size: Pair, stride: Pair, padding: Pair, ceil: bool) -> Tensor:
    """`torch.nn.functional.max_pool2d`, [B, C, H, W] -> [B, C, H', W']."""
    out: Tensor = _MaxPool.apply(x, size, stride, padding, ceil)[0]  # type: ignore[no-untyped-call]
    return out


def _unmapped() -> bool:
    """Whether nothing is mapped here: torch's own operations then cost less than a Function of ours."""
    return not torch._C._are_functorch_transforms_active()


def _dense(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    out: Tensor = _Dense.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


class _Dense(torch.autograd.Function):
    """x [B, d], weight [k, d] and bias [k] -> [B, k]; or all of them with a leading axis of copies."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(x, weight, bias) if x.ndim == 2 else torch.baddbmm(bias[:, None], x, weight.mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        into_x = gradients[0] @ weight if ctx.needs_input_grad[0] else None
        return into_x, gradients[0].mT @ x, gradients[0].sum(-2)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *tensors: Tensor) -> tuple[Tensor, int]:
        n = info.batch_size
        if in_dims[0] is None and tensors[0].ndim == 2:
            # The same rows for all: all their weights are one layer's.
            weight, bias = (_front(t, d, n).flatten(0, 1) for t, d in zip(tensors[1:], in_dims[1:], strict=True))
            return _unfolded(_dense(tensors[0], weight, bias), 1, n), 1
        x, weight, bias = (_front(t, dim, n) for t, dim in zip(tensors, in_dims, strict=True))
        if x.ndim == 3:
            return _dense(x, weight, bias), 0
        return _unfolded(_dense(x.flatten(0, 1), weight.flatten(0, 1), bias.flatten(0, 1)), 0, n), 0


class _Convolution(torch.autograd.Function):
    """x [B, C, H, W], weight [C', C / groups, h, w] and bias [C'] or None -> [B, C', H', W']."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, groups: int) -> Tensor:
        return torch.conv2d(x, weight, bias, stride, padding, 1, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, *ctx.options = inputs
        ctx.save_for_backward(x, weight)
        ctx.bias_sizes = None if bias is None else list(bias.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, groups = ctx.options
        options = (ctx.bias_sizes, stride, padding, (1, 1), False, (0, 0), groups, list(ctx.needs_input_grad[:3]))
        return (*_aten.convolution_backward(gradients[0], x, weight, *options), None, None, None)

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, groups: int
    ) -> tuple[Tensor, int]:
        n = info.batch_size
        if in_dims[1] is None and in_dims[2] is None:
            # One network for all: more rows.
            out = convolution(x.movedim(in_dims[0], 0).flatten(0, 1), weight, bias, stride, padding, groups)
            return _unfolded(out, 0, n), 0
        if in_dims[0] is None and groups == 1:
            x = _channels_last(x[:, None])  # the same rows for all: all their filters are one convolution's
        else:
            x, groups = _channels_last(_beside(x, in_dims[0], n)), n * groups
        weight = _front(weight, in_dims[1], n).flatten(0, 1)
        bias = None if bias is None else _front(bias, in_dims[2], n).flatten(0, 1)
        return _unfolded(convolution(x, weight, bias, stride, padding, groups), 1, n), 1


class _BatchNorm(torch.autograd.Function):
    """x [B, C, H, W] and four tensors [C] or None -> as x, and what backward needs; updates running statistics."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, *rest: Any) -> tuple[Any, ...]:
        tensors = (x, *(None if t is None else aligned(t) for t in (weight, bias)))
        found: tuple[Any, ...] = _aten._batch_norm_impl_index(*tensors, *rest, torch.backends.cudnn.enabled)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        x, weight, _, mean, var, ctx.training, _, ctx.eps = inputs
        _, *saved, ctx.implementation = output
        ctx.mark_non_differentiable(*saved)
        ctx.save_for_backward(x, weight, mean, var, *saved)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, saved_mean, saved_var, reserve = ctx.saved_tensors
        tensors = (x, gradients[0], None if weight is None else aligned(weight), mean, var, saved_mean, saved_var)
        options = (ctx.training, ctx.eps, list(ctx.needs_input_grad[:3]), reserve)
        found = _aten._batch_norm_impl_index_backward(ctx.implementation, *tensors, *options)
        return (*found, None, None, None, None, None)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, *rest: Any) -> Any:
        n, options = info.batch_size, rest[4:]
        # Flat views where the axis is in front: running statistics are updated in place through them.
        flat = [
            None if t is None else _front(t, dim, n).flatten(0, 1)
            for t, dim in zip(rest[:4], in_dims[1:5], strict=True)
        ]
        out, *saved = _BatchNorm.apply(_beside(x, in_dims[0], n).flatten(1, 2), *flat, *options)  # type: ignore[no-untyped-call]
        return (_unfolded(out, 1, n), *saved), (1, None, None, None, None)


class _MaxPool(torch.autograd.Function):
    """x [B, C, H, W] -> maxima [B, C, H', W'], and where they were."""

    @staticmethod
    def forward(x: Tensor, size: Any, stride: Any, padding: Any, ceil: bool) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = _aten.max_pool2d_with_indices(x, size, stride, padding, (1, 1), ceil)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, *ctx.options = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # no zeros for it
        ctx.shape, ctx.strides = x.shape, x.stride()
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        size, stride, padding, ceil = ctx.options
        # Only its shape and the order of its numbers are looked at, so that x itself need not be kept.
        like = gradients[0].new_empty_strided(ctx.shape, ctx.strides)
        options = (size, stride, padding, (1, 1), ceil, *ctx.saved_tensors)
        return _aten.max_pool2d_with_indices_backward(gradients[0], like, *options), None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, *options: Any) -> Any:
        n = info.batch_size
        found = _MaxPool.apply(_beside(x, in_dims[0], n).flatten(1, 2), *options)  # type: ignore[no-untyped-call]
        return tuple(_unfolded(one, 1, n) for one in found), (1, 1)


def aligned(value: Tensor) -> Tensor:
    """The same numbers where a GPU's vector instructions can read them: at an address that is a multiple of 16 bytes.

    Parameters are parts of one long row, and cuDNN's batch norm of images channels last reads scale and shift four
    numbers at a time without asking: "misaligned address" (torch 2.11, cuDNN 9.19).
    """
    return value.clone() if value.device.type == "cuda" and value.data_ptr() % 16 else value


def _front(value: Tensor, dim: int | None, n: int) -> Tensor:
    """With the mapped axis first; n times the same where there is none."""
    return value.expand(n, *value.shape) if dim is None else value.movedim(dim, 0)


def _beside(x: Tensor, dim: int | None, n: int) -> Tensor:
    """Images of n copies side by side: [B, n, C, H, W]."""
    return x[:, None].expand(-1, n, *x.shape[1:]) if dim is None else x.movedim(dim, 1)


def _channels_last(x: Tensor) -> Tensor:
    """Copies [B, n, C, H, W] as channels [B, n C, H, W], in the order that CPUs convolve and pool them fastest in."""
    if x.device.type != "cpu":
        return x.flatten(1, 2)
    # By hand: `contiguous(memory_format=...)` leaves images of one channel in an order that passes for either.
    return x.permute(0, 3, 4, 1, 2).contiguous().flatten(3, 4).permute(0, 3, 1, 2)


def _unfolded(x: Tensor, dim: int, n: int) -> Tensor:
    """An axis of n copies and something else as two axes."""
    return x.reshape(*x.shape[:dim], n, x.shape[dim] // n, *x.shape[dim + 1 :])
