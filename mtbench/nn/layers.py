"""The layers of backbones: torch's, but as fast where they are mapped over copies or trials as they are alone.

Parameters, buffers and their names are those of the torch modules that these derive from; so are results, to the last
bit where nothing is mapped. `mtbench.nn.vmap_operations` says what mapping changes.

Shapes: B rows, C channels, H x W pixels, d inputs and k outputs of a dense layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtbench.nn.batch_norm import normalised
from mtbench.nn.vmap_operations import batch_norm, convolution, dense, max_pool


class Linear(nn.Linear):
    """`torch.nn.Linear` on rows [B, d], with a bias."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, d] -> [B, k]."""
        return dense(*_cast(x, self.weight, self.bias))


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d`, padding with zeros and without dilation."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        x, weight = _cast(x, self.weight)
        bias = None if self.bias is None else _cast(self.bias)[0]
        return convolution(x, weight, bias, self.stride, self.padding, self.groups)


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d`, which also trains on a batch of one value per channel (`mtbench.nn.batch_norm`)."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same."""
        return normalised(self, x, batch_norm)


class MaxPool2d(nn.MaxPool2d):
    """`torch.nn.MaxPool2d`, without dilation."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H', W']."""
        return max_pool(x, _pair(self.kernel_size), _pair(self.stride), _pair(self.padding), self.ceil_mode)


def _cast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """As torch's own layers do under autocast."""
    device = tensors[0].device.type
    if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(t if t.dtype == torch.float64 else t.to(dtype) for t in tensors)


def _pair(n: int | tuple[int, ...]) -> tuple[int, ...]:
    return n if isinstance(n, tuple) else (n, n)
