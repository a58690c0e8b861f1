"""Dropout that trials can share a stack with: what is dropped depends on the trial and the step alone.

`torch.nn.Dropout` draws from one generator for all trials, so that a trial would depend on its stack; here a mask is a
hash of the batch's key and of each number's place. Trials of equal data set, split and seed drop alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench.contracts.batch import Batch
from mtbench.contracts.key_hash import hashes

_BITS = 16


def dropout(x: Tensor, p: Tensor | float, batch: Batch, salt: int = 0) -> Tensor:
    """Zeroes each number with probability p and divides the others by 1 - p; outside of training x as it is.

    Args:
        x: Any shape.
        p: From 0 to below 1, of which 16 binary places count; a tensor where it is a hyperparameter.
        batch: Gives the key; it has none outside of training.
        salt: A number for each place in a model that drops units, so that they do not drop alike.

    Returns:
        As x.
    """
    if batch.key is None:
        return x
    kept = uniform_16(x.shape, batch.key + salt * 0x632BE59BD9B4E019 % 2**62) >= p * 2**_BITS
    dropped: Tensor = x * kept / (1 - p)
    return dropped


def uniform_16(shape: torch.Size, key: Tensor) -> Tensor:
    """Pseudorandom whole numbers from 0 to 65,535 that depend on a key and on their places alone.

    Args:
        shape: Of the result.
        key: int64 scalar, such as `batch.key`.

    Returns:
        int64 of that shape.
    """
    # Four to a hash: hashing takes longer than all else.
    n = shape.numel()
    mixed = hashes(key, -(-n // 4))
    quarters: Tensor = torch.stack([mixed >> shift for shift in range(0, 64, _BITS)], 1) & 2**_BITS - 1
    return quarters.flatten()[:n].view(shape)
