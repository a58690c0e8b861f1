"""What a GPU's libraries may do to numbers: nothing that the same command would not do again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """While it lasts, cuDNN repeats itself to the last bit, and float32 means float32.

    Left to itself, cuDNN picks convolutions that add in whatever order the device comes to, and rounds their inputs to
    TF32's ten bits. Matrix products do neither unless asked to. The price is small where steps are short; a recipe that
    wants speed for precision says so by `autocast`.

    Args:
        device: Where training happens; on the CPU nothing changes.
    """
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
