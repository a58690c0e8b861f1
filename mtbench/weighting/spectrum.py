"""Powers of positive semidefinite matrices that may be singular, many small ones at once.

Shapes: leading axes "...", T tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench.weighting.gram import times

TOLERANCE = 1e-12
"""Eigenvalues below this share of the largest count as 0: gradients in float32 make some of about 1e-14."""


def eigenvalues(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues, eigenvectors and which eigenvalues count.

    Args:
        matrix: [..., T, T], symmetric and of finite numbers.

    Returns:
        Ascending eigenvalues [..., T], of which those that count as 0 are 1; eigenvectors [..., T, T] in columns; and
        [..., T], 1 for those that count, else 0.
    """
    values, vectors = torch.linalg.eigh(matrix)
    counts = values > TOLERANCE * values[..., -1:].clamp(min=torch.finfo(values.dtype).tiny)
    return torch.where(counts, values, 1.0), vectors, counts.to(values.dtype)


def pseudo_solve(matrix: Tensor, right: Tensor) -> Tensor:
    """The pseudo-inverse of a matrix [..., T, T] times [..., T]."""
    values, vectors, counts = eigenvalues(matrix)
    return times(vectors, times(vectors.mT, right) * counts / values)
