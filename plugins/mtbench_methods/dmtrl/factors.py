"""Equally shaped weights of T tasks as products of factors, most of which the tasks share.

Factors have a place for every rank that there may be. They begin as a product that is the given weights, with nothing
shared: all of it lies in one factor, and the others are identities. Truncated singular value decompositions then find
the smallest ranks that keep the relative error (Frobenius) within a tolerance. Columns and rows beyond a rank are 0,
and so are the gradients of what they are multiplied by: they stay 0 whatever is learned, so that trials of different
ranks are of one shape. The rank of the axis of tasks may be kept below T whatever that loses, since tasks of rank T
share nothing; then the error can be larger.

Shapes: T tasks, n_1 .. n_a the axes of one task's weights; tensors to be factorised have the axis of tasks last.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtbench.contracts.terms import PerTask

Named = dict[str, Tensor]


class Factors(PerTask, ABC):
    """Weights of T tasks as a product.

    Args:
        weights: Of the tasks, [T, n_1, .., n_a].

    Attributes:
        task_rank: K, the rank along the axis of tasks; T before it is truncated.
        relative_error: Of the truncation, as a share of the norm of the weights before.
        n_core: Numbers of the factors within their ranks.
    """

    task_rank: Tensor
    relative_error: Tensor
    n_core: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self._shape = weights.shape
        self.register_buffer("task_rank", torch.tensor(len(weights)))
        self.register_buffer("relative_error", torch.tensor(0.0))
        self.register_buffer("n_core", torch.tensor(weights.numel()))

    @property
    @abstractmethod
    def apart(self) -> nn.Parameter:
        """The factor that holds all weights while nothing is shared."""

    @abstractmethod
    def apart_weights(self) -> Tensor:
        """The weights that this factor holds, [T, n_1, .., n_a]."""

    @abstractmethod
    def hold_apart(self, weights: Tensor) -> Tensor:
        """What this factor is, for it to hold given weights [T, n_1, .., n_a]."""

    @abstractmethod
    def product(self, factors: Named) -> Tensor:
        """The product of factors of the names that they have here, [T, n_1, .., n_a]."""

    def weights(self) -> Tensor:
        """The product of its own factors, [T, n_1, .., n_a]."""
        return self.product(dict(self.named_parameters()))

    @abstractmethod
    def decomposed(self, weights: Tensor, tolerance: float, most: int) -> tuple[Named, Tensor]:
        """Factors of least rank, by the names that they have here and smaller than those.

        The factor of the tasks has entries around 1, so that the others are in scale with one task's weights.

        Args:
            weights: [T, n_1, .., n_a].
            tolerance: Relative error.
            most: The most that the rank of the axis of tasks may be.

        Returns:
            The factors, and the rank of the axis of tasks.
        """

    def truncated(self, tolerance: float, capped: bool = True) -> Named:
        """The factors of least rank of the weights that are held apart, by name, with the buffers that describe them.

        Args:
            tolerance: Relative error.
            capped: Whether the rank of the axis of tasks stays below T, whatever that loses.
        """
        weights, n_tasks = self.apart_weights().double(), self._shape[0]
        found, rank = self.decomposed(weights, tolerance, max(1, n_tasks - 1) if capped else n_tasks)
        held = dict(self.named_parameters())
        full = {name: _padded(value, held[name]) for name, value in found.items()}
        error = (self.product(full) - weights).norm() / weights.norm().clamp(min=torch.finfo(weights.dtype).tiny)
        size = torch.tensor(sum(value.numel() for value in found.values()))
        return {**full, "task_rank": rank, "relative_error": error, "n_core": size}


class LAF(Factors):
    """Last axis flattening: weights laid flat are L S, the tasks' coefficients the columns of S.

    Attributes:
        L: [n_1 .. n_a, T].
        S: [T, T].
    """

    task_axes: Mapping[str, int] = {"S": 1}

    def __init__(self, weights: Tensor) -> None:
        super().__init__(weights)
        self.L, self.S = nn.Parameter(self.hold_apart(weights)), nn.Parameter(torch.eye(len(weights)))

    @property
    def apart(self) -> nn.Parameter:
        """L."""
        return self.L

    def apart_weights(self) -> Tensor:
        """L', unfolded."""
        return self.L.mT.reshape(self._shape)

    def hold_apart(self, weights: Tensor) -> Tensor:
        """Laid flat."""
        return weights.flatten(1).mT.contiguous()

    def decomposed(self, weights: Tensor, tolerance: float, most: int) -> tuple[Named, Tensor]:
        """By one singular value decomposition."""
        n_tasks = len(weights)
        flat = weights.flatten(1).mT
        left, right = _truncated(flat, tolerance * flat.norm().item(), most)
        found = {"L": left / math.sqrt(n_tasks), "S": right * math.sqrt(n_tasks)}
        return found, torch.tensor(len(right))

    def product(self, factors: Named) -> Tensor:
        """(L S)', unfolded."""
        return (factors["L"] @ factors["S"]).mT.reshape(self._shape)


class Tucker(Factors):
    """A core times a matrix along each axis.

    The truncation is the sequentially truncated higher-order SVD (Vannieuwenhoven, Vandebril and Meerbergen 2012).

    Attributes:
        core: [n_1, .., n_a, T].
        matrices: [n_i, n_i] for each axis, [T, T] last.
    """

    def __init__(self, weights: Tensor) -> None:
        super().__init__(weights)
        self.core = nn.Parameter(self.hold_apart(weights))
        self.matrices = nn.ParameterList(nn.Parameter(torch.eye(n)) for n in self.core.shape)
        self.task_axes = {f"matrices.{len(self.matrices) - 1}": 0}

    @property
    def apart(self) -> nn.Parameter:
        """The core."""
        return self.core

    def apart_weights(self) -> Tensor:
        """The core, tasks first."""
        return self.core.movedim(-1, 0)

    def hold_apart(self, weights: Tensor) -> Tensor:
        """Tasks last."""
        return weights.movedim(0, -1).contiguous()

    def decomposed(self, weights: Tensor, tolerance: float, most: int) -> tuple[Named, Tensor]:
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
        matrices[-1] = matrices[-1] * math.sqrt(n_tasks)
        found = {"core": core / math.sqrt(n_tasks)}
        return {**found, **{f"matrices.{i}": m for i, m in enumerate(matrices)}}, torch.tensor(core.shape[-1])

    def product(self, factors: Named) -> Tensor:
        """The core, multiplied along every axis."""
        found = factors["core"]
        for i in range(found.ndim):
            found = torch.tensordot(factors[f"matrices.{i}"], found.movedim(i, 0), 1).movedim(0, i)
        return found.movedim(-1, 0)


class TensorTrain(Factors):
    """A chain of cores, each joined to its neighbours.

    The truncation is the TT-SVD (Oseledets 2011). What a chain can express depends on the order of its cores, which is
    that of the axes given.

    Attributes:
        cores: [1, n_1, r_1], [r_1, n_2, r_2], .., [r_a, T, 1], with r_i = min(n_1 .. n_i, n_i+1 .. n_a T).
    """

    def __init__(self, weights: Tensor) -> None:
        super().__init__(weights)
        sizes = [*weights.shape[1:], len(weights)]
        self._left = [math.prod(sizes[:i]) for i in range(len(sizes) + 1)]
        self._right = [math.prod(sizes[i:]) for i in range(len(sizes) + 1)]
        # Identities on its left widen the chain, those on its right narrow it.
        self._middle = next(i for i in range(len(sizes)) if self._right[i + 1] <= self._left[i + 1])
        self.cores = nn.ParameterList(
            nn.Parameter(self.hold_apart(weights) if i == self._middle else self._identity(i, n))
            for i, n in enumerate(sizes)
        )
        self.task_axes = {f"cores.{len(sizes) - 1}": 1}

    def _identity(self, i: int, n: int) -> Tensor:
        """A core that is an identity: from the left bond and its axis to the right bond, or the other way."""
        if i < self._middle:
            return torch.eye(self._left[i + 1]).reshape(self._left[i], n, -1)
        return torch.eye(self._right[i]).reshape(-1, n, self._right[i + 1])

    @property
    def apart(self) -> nn.Parameter:
        """The core in the middle, between identities."""
        held: nn.Parameter = self.cores[self._middle]
        return held

    def apart_weights(self) -> Tensor:
        """That core, unfolded."""
        return self.apart.reshape(*self._shape[1:], self._shape[0]).movedim(-1, 0)

    def hold_apart(self, weights: Tensor) -> Tensor:
        """Folded around the axis in the middle, tasks last."""
        i = self._middle
        return weights.movedim(0, -1).reshape(self._left[i], -1, self._right[i + 1]).contiguous()

    def decomposed(self, weights: Tensor, tolerance: float, most: int) -> tuple[Named, Tensor]:
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
        cores[-1] = cores[-1] / math.sqrt(n_tasks)
        cores.append(rest[:, :, None] * math.sqrt(n_tasks))
        return {f"cores.{i}": core for i, core in enumerate(cores)}, torch.tensor(rank)

    def product(self, factors: Named) -> Tensor:
        """The chain, contracted from its first core on."""
        found = factors["cores.0"][0]
        for i in range(1, len(factors)):
            found = torch.tensordot(found, factors[f"cores.{i}"], 1)
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


def _padded(value: Tensor, held: Tensor) -> Tensor:
    """A factor with zeros beyond its ranks, of the shape of the one that is held."""
    full = value.new_zeros(held.shape)
    full[tuple(slice(0, n) for n in value.shape)] = value
    return full
