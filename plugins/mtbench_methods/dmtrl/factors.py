"""Equally shaped weights of T tasks as products of factors, most of which the tasks share.

Factors start from truncated singular value decompositions of given weights: ranks are the smallest that keep the
relative error (Frobenius) within a tolerance. The rank of the axis of tasks may be kept below T whatever that loses,
since tasks of rank T share nothing; then the error can be larger.

Shapes: T tasks, n_1 .. n_a the axes of one task's weights; tensors to be factorised have the axis of tasks last.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtbench.contracts.terms import PerTask


class Factors(PerTask, ABC):
    """Weights of T tasks as a product.

    The factor of the tasks starts with entries around 1, so that the others are in scale with one task's weights.

    Args:
        weights: Of the tasks, [T, n_1, .., n_a].
        tolerance: Relative error.
        capped: Whether the rank of the axis of tasks stays below T, whatever that loses.

    Attributes:
        task_rank: K, the rank along the axis of tasks.
        relative_error: Of the start, as a share of the norm of the given weights.
    """

    task_rank: int
    relative_error: float

    def __init__(self, weights: Tensor, tolerance: float, capped: bool = True) -> None:
        super().__init__()
        n_tasks = len(weights)
        self.decompose(weights.double(), tolerance, max(1, n_tasks - 1) if capped else n_tasks)
        with torch.no_grad():
            error = (self.weights() - weights).norm() / weights.norm().clamp(min=torch.finfo(weights.dtype).tiny)
        self.relative_error = float(error)

    @abstractmethod
    def decompose(self, weights: Tensor, tolerance: float, most: int) -> None:
        """Makes the factors, with a rank of the axis of tasks of at most `most`."""

    @abstractmethod
    def weights(self) -> Tensor:
        """The product, [T, n_1, .., n_a]."""


class LAF(Factors):
    """Last axis flattening: weights laid flat are L S, the tasks' coefficients the columns of S.

    Attributes:
        L: [n_1 .. n_a, K].
        S: [K, T].
    """

    task_axes: Mapping[str, int] = {"S": 1}

    def decompose(self, weights: Tensor, tolerance: float, most: int) -> None:
        """By one singular value decomposition."""
        n_tasks = len(weights)
        self._shape = weights.shape[1:]
        flat = weights.flatten(1).T
        left, right = _truncated(flat, tolerance * flat.norm().item(), most)
        self.L, self.S = _parameter(left / math.sqrt(n_tasks)), _parameter(right * math.sqrt(n_tasks))
        self.task_rank = len(right)

    def weights(self) -> Tensor:
        """(L S)', unfolded."""
        return (self.L @ self.S).mT.reshape(-1, *self._shape)


class Tucker(Factors):
    """A core times a matrix along each axis.

    The start is the sequentially truncated higher-order SVD (Vannieuwenhoven, Vandebril and Meerbergen 2012).

    Attributes:
        core: [K_1, .., K_a, K].
        matrices: [n_i, K_i] for each axis, [T, K] last.
    """

    def decompose(self, weights: Tensor, tolerance: float, most: int) -> None:
        """Axis by axis, each from what is left of the core."""
        n_tasks = len(weights)
        core = weights.movedim(0, -1)
        allowed = tolerance * core.norm().item() / math.sqrt(core.ndim)
        matrices = []
        for i, n in enumerate(core.shape):
            unfolded = core.movedim(i, 0).flatten(1)
            along, _ = _truncated(unfolded, allowed, most if i == core.ndim - 1 else n, scaled=False)
            core = torch.tensordot(along.T, core.movedim(i, 0), 1).movedim(0, i)
            matrices.append(along)
        self.task_rank = core.shape[-1]
        matrices[-1] = matrices[-1] * math.sqrt(n_tasks)
        self.core = _parameter(core / math.sqrt(n_tasks))
        self.matrices = nn.ParameterList(_parameter(matrix) for matrix in matrices)
        self.task_axes = {f"matrices.{len(matrices) - 1}": 0}

    def weights(self) -> Tensor:
        """The core, multiplied along every axis."""
        found: Tensor = self.core
        for i, matrix in enumerate(self.matrices):
            found = torch.tensordot(matrix, found.movedim(i, 0), 1).movedim(0, i)
        return found.movedim(-1, 0)


class TensorTrain(Factors):
    """A chain of cores, each joined to its neighbours.

    The start is the TT-SVD (Oseledets 2011). What a chain can express depends on the order of its cores, which is that
    of the axes given.

    Attributes:
        cores: [1, n_1, r_1], [r_1, n_2, r_2], .., [K, T, 1].
    """

    def decompose(self, weights: Tensor, tolerance: float, most: int) -> None:
        """By the TT-SVD, from the first axis on."""
        n_tasks, sizes = len(weights), weights.shape[1:]
        rest = weights.movedim(0, -1)
        allowed = tolerance * rest.norm().item() / math.sqrt(len(sizes))
        cores, rank = [], 1
        for i, n in enumerate(sizes):
            last = i == len(sizes) - 1
            rest = rest.reshape(rank * n, -1)
            left, rest = _truncated(rest, allowed, most if last else min(rest.shape), scaled=last)
            cores.append(left.reshape(rank, n, -1))
            rank = len(rest)
        self.task_rank = rank
        cores[-1] = cores[-1] / math.sqrt(n_tasks)
        cores.append(rest[:, :, None] * math.sqrt(n_tasks))
        self.cores = nn.ParameterList(_parameter(core) for core in cores)
        self.task_axes = {f"cores.{len(cores) - 1}": 1}

    def weights(self) -> Tensor:
        """The chain, contracted from its first core on."""
        first, *others = self.cores
        found: Tensor = first[0]
        for core in others:
            found = torch.tensordot(found, core, 1)
        return found[..., 0].movedim(-1, 0)


def _truncated(matrix: Tensor, allowed: float, most: int, scaled: bool = True) -> tuple[Tensor, Tensor]:
    """A product of two matrices that differs from a matrix by at most `allowed`, of the least rank.

    Args:
        matrix: [m, n].
        allowed: Largest Frobenius norm of the difference; the limit of the rank goes before it.
        most: Limit of the rank.
        scaled: Whether the singular values go to the left factor, else to the right.

    Returns:
        [m, r] and [r, n].
    """
    # By the Gram matrix of the shorter side: weights are long and thin, and what is kept is far above rounding.
    wide = matrix.shape[0] <= matrix.shape[1]
    squares, vectors = torch.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix)
    squares, vectors = squares.flip(0).clamp(min=0.0), vectors.flip(1)
    lost = squares.flip(0).cumsum(0).flip(0).sqrt()  # by keeping no more than the singular values before
    rank = min(max(1, int((lost > allowed).sum())), most)
    s, vectors = squares[:rank].sqrt().clamp(min=torch.finfo(matrix.dtype).tiny), vectors[:, :rank]
    if wide:
        right = vectors.T @ matrix
        return (vectors * s, right / s[:, None]) if scaled else (vectors, right)
    left = matrix @ vectors
    return (left, vectors.T) if scaled else (left / s, s[:, None] * vectors.T)


def _parameter(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.float().contiguous())
