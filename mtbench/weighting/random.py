"""Random numbers that follow from a key alone: equal keys, equal numbers, whatever else is computed beside them.

Numbers are hashes of a key and of their places. Two kinds of numbers in one step take keys that differ.

Shapes: leading axes "..." of the keys.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mtbench.contracts.key_hash import hashes

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
    return hashes(key, math.prod(shape)).reshape(*key.shape, *shape)
