"""Random numbers that follow from a key alone: equal keys, equal numbers, whatever else is computed beside them.

Numbers are hashes of a key and of their places. Two kinds of numbers in one step take keys that differ.

Shapes: leading axes "..." of the keys.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Multipliers of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), as
# signed 64-bit numbers: torch has no unsigned ones.
_GOLDEN, _FIRST, _SECOND = (n - 2**64 for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_BITS = 53  # of a float64


def uniform(key: Tensor, *shape: int) -> Tensor:
    """Evenly distributed between 0 and 1, neither included: float64 [..., *shape].

    Args:
        key: int64 [...].
        *shape: Of the numbers of one key.
    """
    whole: Tensor = _hashes(key, *shape) >> (64 - _BITS) & 2**_BITS - 1
    numbers: Tensor = (whole.double() + 0.5) / 2**_BITS
    return numbers


def exponential(key: Tensor, *shape: int) -> Tensor:
    """Exponentially distributed with mean 1: float64 [..., *shape]. Arguments as in `uniform`."""
    return -uniform(key, *shape).log()


def normal(key: Tensor, *shape: int) -> Tensor:
    """Of the standard normal distribution: float64 [..., *shape]. Arguments as in `uniform`."""
    return math.sqrt(2) * torch.erfinv(2 * uniform(key, *shape) - 1)


def permutations(key: Tensor, n_rows: int, n: int) -> Tensor:
    """Independent random orders of 0 to n - 1: int64 [..., n_rows, n].

    Args:
        key: int64 [...].
        n_rows: How many.
        n: Of how many numbers.
    """
    return _hashes(key, n_rows, n).argsort(-1)


def _hashes(key: Tensor, *shape: int) -> Tensor:
    place = torch.arange(1, math.prod(shape) + 1, device=key.device) * _GOLDEN
    hashes: Tensor = _mixed(_mixed(key)[..., None] + place)
    return hashes.reshape(*key.shape, *shape)


def _mixed(x: Tensor) -> Tensor:
    """The finaliser of splitmix64; shifts of signed numbers bring in their sign, which is masked away."""
    x = (x ^ (x >> 30 & 0x3FFFFFFFF)) * _FIRST
    x = (x ^ (x >> 27 & 0x1FFFFFFFFF)) * _SECOND
    return x ^ (x >> 31 & 0x1FFFFFFFF)
