"""Whole numbers that look random and follow from a key and a place alone: what draws that trials share are made of.

The finaliser and the stride of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014).
"""

from __future__ import annotations

import torch
from torch import Tensor

# As signed 64-bit numbers: torch has no unsigned ones.
_GOLDEN, _FIRST, _SECOND = (n - 2**64 for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def hashes(key: Tensor, n: int) -> Tensor:
    """Hashes of a key and of the places 1 to n: int64 [..., n], all 64 bits of them random.

    Args:
        key: int64 [...].
        n: How many.
    """
    place = torch.arange(1, n + 1, device=key.device) * _GOLDEN
    return _mixed(_mixed(key)[..., None] + place)


def _mixed(x: Tensor) -> Tensor:
    """The finaliser; shifts of signed numbers bring in their sign, which is masked away."""
    x = (x ^ (x >> 30 & 0x3FFFFFFFF)) * _FIRST
    x = (x ^ (x >> 27 & 0x1FFFFFFFFF)) * _SECOND
    return x ^ (x >> 31 & 0x1FFFFFFFF)
