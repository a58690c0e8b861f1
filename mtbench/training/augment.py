"""Varying images: on the device, batch by batch, before bytes become numbers.

Shapes: B images, C channels, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench.errors import DataError

SHIFT = 8  # images move by up to a side / SHIFT


def varied(images: Tensor, draws: Tensor, flip: bool) -> Tensor:
    """Shifts images, the pixels at the edge repeated, and mirrors half of them.

    Args:
        images: [..., B, H, W] or [..., B, C, H, W].
        draws: Uniform on [0, 1): [..., B, 3], for the vertical and horizontal shift, and the mirroring.
        flip: Whether to mirror.

    Returns:
        As `images`.

    Raises:
        DataError: The rows are no images.
    """
    inner = images.ndim - (draws.ndim - 1)
    if inner not in (2, 3):
        raise DataError(f"Only images can be augmented, rows [H, W] or [C, H, W]; found rows of {inner} dimensions.")
    flat = images.reshape(-1, 1, *images.shape[-2:]) if inner == 2 else images.reshape(-1, *images.shape[-3:])
    height, width = flat.shape[-2:]
    draws = draws.reshape(-1, 3)
    y = _shifted(draws[:, 0], height)
    x = _shifted(draws[:, 1], width)
    if flip:
        x = torch.where(draws[:, 2:] < 0.5, x.flip(1), x)
    rows = torch.arange(len(flat), device=flat.device)[:, None, None, None]
    channels = torch.arange(flat.shape[1], device=flat.device)[None, :, None, None]
    return flat[rows, channels, y[:, None, :, None], x[:, None, None, :]].view(images.shape)


def _shifted(draw: Tensor, side: int) -> Tensor:
    """For each image the pixels it takes along one side: int64 [B, side]."""
    largest = side // SHIFT
    shift = (draw * (2 * largest + 1)).long() - largest
    return (torch.arange(side, device=draw.device) + shift[:, None]).clamp(0, side - 1)
