"""Curvature of linear tasks' losses, for the R trials of a stack that share U training sets.

Shapes: R trials, U streams (distinct training sets), T tasks, p rows of the weights. Where all tasks of a stream have
the same inputs they have the same curvature, and one matrix stands for all of them: [U, 1, p, p].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

Streams = tuple[tuple[int, Tensor], ...]
"""The streams in use, each with the positions of its trials: int64 [R_u]."""


def streams_of(stream: Tensor) -> Streams:
    """Groups trials by training set: int64 [R] -> pairs of a stream and its trials' positions."""
    return tuple((int(u), torch.nonzero(stream == u)[:, 0]) for u in torch.unique(stream).tolist())


def per_stream(streams: Streams, function: Callable[..., Tensor], *trials_first: Tensor) -> Tensor:
    """Calls `function(u, *tensors of the trials of stream u)` for each stream and puts the trials' results in order.

    Working stream by stream turns R small products with one matrix each into one large product per stream.
    """
    if len(streams) == 1:
        return function(streams[0][0], *trials_first)
    parts = [function(u, *(tensor[members] for tensor in trials_first)) for u, members in streams]
    out = parts[0].new_empty(len(trials_first[0]), *parts[0].shape[1:])
    for (_, members), part in zip(streams, parts, strict=True):
        out[members] = part
    return out


def task_product(vectors: Tensor, matrices: Tensor) -> Tensor:
    """Row vectors times their task's matrix: [R, T, p] and [T or 1, p, q] -> [R, T, q]."""
    if len(matrices) == 1:
        return vectors @ matrices[0]
    return torch.bmm(vectors.transpose(0, 1), matrices).transpose(0, 1)


class Curvature:
    """Positive semi-definite matrices H_t of every stream and task, and products and systems with them.

    Attributes:
        matrices: float64 [U, T or 1, p, p].
        n_features: d: the rows that are no intercept, the first.
    """

    def __init__(self, matrices: Tensor, n_features: int) -> None:
        self.matrices = matrices
        self.n_features = n_features

    def turned(self, axes: Tensor) -> Curvature:
        """A'H_t A of every stream's axes A, [U, p, p]."""
        # Stream by stream: a batched product may round differently with the number of streams.
        return Curvature(torch.stack([a.mT @ h @ a for a, h in zip(axes, self.matrices, strict=True)]), self.n_features)

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues [U, T or 1, p], not negative, and eigenvectors [U, T or 1, p, p] of every H_t."""
        values, vectors = torch.linalg.eigh(self.matrices)
        return values.clamp(min=0.0), vectors

    @cached_property
    def largest(self) -> Tensor:
        """The largest eigenvalue of every H_t: [U, T or 1]."""
        return self._eigen[0][..., -1]

    @cached_property
    def mean_eigen(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues [U, d] and eigenvectors [U, d, d] of the tasks' mean curvature of the features."""
        d = self.n_features
        values, vectors = torch.linalg.eigh(self.matrices[..., :d, :d].mean(1))
        return values.clamp(min=0.0), vectors

    def product(self, streams: Streams, weights: Tensor) -> Tensor:
        """H_t w_t: weights [R, p, T] -> [R, p, T]."""

        def of(u: int, w: Tensor) -> Tensor:
            return task_product(w.mT, self.matrices[u]).mT

        return per_stream(streams, of, weights)

    def sum(self, streams: Streams, coefficients: Tensor) -> Tensor:
        """Sums of s_t H_t over tasks: several sets of coefficients s [R, m, T] -> [R, m, p, p]."""

        def of(u: int, s: Tensor) -> Tensor:
            h = self.matrices[u]
            total = s if len(h) > 1 else s.sum(-1, keepdim=True)
            return (total.flatten(0, 1) @ h.flatten(1)).view(*s.shape[:2], *h.shape[1:])

        return per_stream(streams, of, coefficients)

    def within(self, streams: Streams, bases: Tensor) -> Tensor:
        """V'H_t V, the curvature inside the span of each trial's bases V: [R, p, k] -> [R, T or 1, k, k]."""

        def of(u: int, v: Tensor) -> Tensor:
            n, p, k = v.shape
            h = self.matrices[u]
            hv = (h.reshape(-1, p) @ v.transpose(0, 1).reshape(p, n * k)).view(len(h), p, n, k)
            stacked = hv.permute(2, 1, 0, 3).reshape(n, p, len(h) * k)
            return (v.mT @ stacked).view(n, k, len(h), k).transpose(1, 2)

        return per_stream(streams, of, bases)

    def solve(self, streams: Streams, scale: Tensor, shift: Tensor, right: Tensor) -> Tensor:
        """x_t of (scale_t H_t + shift_t I) x_t = b_t, of least norm where that is singular.

        Args:
            streams: The trials.
            scale: Not negative, [R, T].
            shift: Not negative, [R, T].
            right: The b_t, [R, p, T].

        Returns:
            [R, p, T].
        """
        values, vectors = self._eigen

        def of(u: int, a: Tensor, c: Tensor, b: Tensor) -> Tensor:
            spectrum = a[..., None] * values[u] + c[..., None]
            kept = spectrum > 1e-12 * spectrum[..., -1:]
            inverse = torch.where(kept, 1.0 / torch.where(kept, spectrum, 1.0), 0.0)
            return task_product(inverse * task_product(b.mT, vectors[u]), vectors[u].mT).mT

        return per_stream(streams, of, scale, shift, right)
