"""Powers of positive semidefinite matrices that may be singular, many small ones at once.

Shapes: leading axes "...", T tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench.weighting.gram import settled, times

TOLERANCE = 1e-12
"""Eigenvalues below this share of the largest count as 0: gradients in float32 make some of about 1e-14."""

_PIVOT = 1e-3  # pivots of Cholesky's factor above this tell that no eigenvalue counts as 0


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
    """The pseudo-inverse of matrices times vectors.

    To be called within `one_operation` alone.

    Args:
        matrix: [..., T, T], cosines: of diagonal 1, but for rows and columns of 0.
        right: [..., T].

    Returns:
        [..., T].
    """
    if matrix.device.type != "cpu":  # a GPU would have to be waited for
        return _by_eigenvalues(matrix, right)
    there = (matrix.diagonal(dim1=-2, dim2=-1) > 0).to(matrix.dtype)
    factor = torch.linalg.cholesky_ex(matrix + torch.diag_embed(1 - there)).L
    solved = torch.cholesky_solve((right * there)[..., None], factor)[..., 0] * there
    regular = factor.diagonal(dim1=-2, dim2=-1).amin(-1, keepdim=True) > _PIVOT
    # Eigenvalues take ten times as long, and differ from this only where some count as 0.
    return solved if settled(regular) else torch.where(regular, solved, _by_eigenvalues(matrix, right))


def _by_eigenvalues(matrix: Tensor, right: Tensor) -> Tensor:
    values, vectors, counts = eigenvalues(matrix)
    return times(vectors, times(vectors.mT, right) * counts / values)
