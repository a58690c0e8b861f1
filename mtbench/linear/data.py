"""Task losses of linear predictors, for R trials at once, in float64: what solver methods work from.

Shapes: R trials, U streams (distinct training sets among them, one per split), T tasks, n rows, d features, p = d, or
d + 1 where an intercept row is carried as the last row of the weights.

Squared losses never touch the rows again once the Gram matrices are made; an intercept there is solved for by centring,
so p = d. Logistic losses go over the rows and carry the intercept as a constant last column of the inputs.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from mtbench.linear.curvature import Curvature, streams_of


class LinearData(ABC):
    """Training data as a solver sees them: the mean loss L_t of a linear predictor w_t, its gradient and its curvature.

    L_t is the squared loss of a regression task or the logistic loss of a binary task, for each of R trials; where a
    data set declares weights, the weighted mean sum w l / sum w, times the weight of the task.

    Guarantees: all tensors are float64 on one device; results of trial r depend on trial r's weights alone.

    A solver that has a majorising quadratic of L_t at weights w, with Hessian `curvature()` and the gradient at w, has
    one code for both kinds of loss: for squared losses the quadratic is the loss itself (`quadratic`).

    Attributes:
        n_tasks: T, the number of tasks.
        n_features: d, the first rows of the weights, which regularisers may touch.
        n_rows: p, the rows of the weights: d, or d + 1 with an intercept row.
        stream: int64 [R], index of each trial's training set among the U distinct ones.
        n_train: float64 [R, T], N_t.
        quadratic: Whether the losses are squared losses, so that `curvature` is their exact Hessian everywhere.
    """

    quadratic: bool

    def __init__(self, stream: Tensor, n_features: int, n_labelled: Tensor, curvature: Tensor) -> None:
        """Sets what all losses share.

        Args:
            stream: int64 [R].
            n_features: d.
            n_labelled: N_t of every stream, [U, T].
            curvature: H_t, [U, T, p, p], or [U, 1, p, p] where all tasks have the same.
        """
        self.n_tasks = n_labelled.shape[1]
        self.n_features = n_features
        self.n_rows = curvature.shape[-1]
        self._n_labelled = n_labelled
        self._curvature = Curvature(curvature, n_features)
        self._hold(stream)

    def _hold(self, stream: Tensor) -> None:
        self.stream = stream
        self.n_train = self._n_labelled[stream]
        self._streams = streams_of(stream)

    @property
    def n_trials(self) -> int:
        """R, the number of trials."""
        return len(self.stream)

    def select(self, trials: Tensor) -> Self:
        """The same data for some of the trials; nothing but `stream` and `n_train` is copied.

        Args:
            trials: Positions, int64 [R'].
        """
        chosen = copy.copy(self)
        chosen._hold(self.stream[trials])
        return chosen

    def in_mean_axes(self) -> tuple[Self, Tensor]:
        """The same losses with the features turned into the axes of the tasks' mean curvature.

        There a sum over tasks rounds in proportion to the curvature of each direction, not to the largest of all, and
        directions in which no row extends are flat to the last bit. In the features' own axes the rounding of flat
        directions, which a weak penalty alone holds, is most of what a solution owes to rounding.

        Returns:
            The losses, and the axes of each trial [R, p, p], 0 in place of flat ones: predictors are axes @ weights.
        """
        values, vectors = self._curvature.mean_eigen
        axes = torch.eye(self.n_rows, dtype=vectors.dtype, device=vectors.device).repeat(len(vectors), 1, 1)
        axes[:, : self.n_features, : self.n_features] = vectors * (values > 1e-14 * values[:, -1:])[:, None]
        turned = copy.copy(self)
        turned._curvature = self._curvature.turned(axes)
        turned._turn(axes)
        return turned, axes[self.stream]

    @abstractmethod
    def _turn(self, axes: Tensor) -> None:
        """Turns what is kept of the inputs besides their curvature: axes [U, p, p]."""

    @abstractmethod
    def losses(self, weights: Tensor) -> Tensor:
        """The loss L_t of each trial and task.

        Args:
            weights: [R, p, T].

        Returns:
            [R, T].
        """

    @abstractmethod
    def losses_and_gradient(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The loss L_t of each trial and task, and its gradient by w_t.

        Args:
            weights: [R, p, T].

        Returns:
            Losses [R, T] and gradients [R, p, T].
        """

    @abstractmethod
    def hessian(self, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """A function that multiplies by the exact Hessian of each L_t.

        Args:
            weights: Where the Hessians are taken, [R, p, T].

        Returns:
            A function of v [R, p, T] that gives [R, p, T].
        """

    @abstractmethod
    def hessian_matrices(self, weights: Tensor) -> Tensor:
        """The exact Hessian of each L_t as a matrix, which is large: for few features and tasks.

        Args:
            weights: Where the Hessians are taken, [R, p, T].

        Returns:
            [R, T, p, p].
        """

    @abstractmethod
    def linear_term(self) -> Tensor:
        """Minus the gradient of each loss at weights 0: [U, T, p] (2 X_t'y_t / N_t for the squared loss)."""

    def gradient_at_zero(self) -> Tensor:
        """The gradient of each L_t at weights 0, [R, p, T]: what residuals are relative to."""
        return -self.linear_term()[self.stream].mT

    @abstractmethod
    def with_intercept(self, weights: Tensor) -> Tensor:
        """Weights with the intercept that the data carry: what `LinearSolution` takes.

        Args:
            weights: [R, p, T], as a solver found them.

        Returns:
            [R, d + 1, T] with the intercepts as last row, or [R, d, T] where the data have none.
        """

    def curvature(self) -> Tensor:
        """An upper bound H_t of each loss's Hessian, [U, T, p, p]; index with `stream` for [R, T, p, p].

        Squared loss: 2 X_t'X_t / N_t, exact. Logistic loss: X_t'X_t / (4 N_t), Boehning and Lindsay's bound (1988).
        """
        return self._curvature.matrices.expand(-1, self.n_tasks, -1, -1)

    def largest_curvature(self) -> Tensor:
        """The largest eigenvalue of every H_t: [R, T]."""
        return self._curvature.largest.expand(-1, self.n_tasks)[self.stream]

    @property
    def n_curvatures(self) -> int:
        """Number of distinct H: T, or 1 where all tasks have the same."""
        return self._curvature.matrices.shape[1]

    def curvature_sum(self, coefficients: Tensor) -> Tensor:
        """Sums of s_t H_t over tasks: several sets of coefficients s [R, m, T] -> [R, m, p, p]."""
        return self._curvature.sum(self._streams, coefficients)

    def mean_curvature_eigen(self) -> tuple[Tensor, Tensor]:
        """The tasks' mean curvature of the features: eigenvalues [R, d], ascending, and eigenvectors [R, d, d]."""
        values, vectors = self._curvature.mean_eigen
        return values[self.stream], vectors[self.stream]

    def curvature_product(self, weights: Tensor) -> Tensor:
        """H_t w_t: weights [R, p, T] -> [R, p, T]."""
        return self._curvature.product(self._streams, weights)

    def curvature_within(self, bases: Tensor) -> Tensor:
        """V'H_t V: each trial's bases V [R, p, k] -> [R, T, k, k], or [R, 1, k, k] where all tasks have the same H."""
        return self._curvature.within(self._streams, bases)

    def curvature_solve(self, scale: Tensor, shift: Tensor, right: Tensor) -> Tensor:
        """x_t of (scale_t H_t + shift_t I) x_t = b_t, of least norm where that is singular.

        Args:
            scale: Not negative, [R, T].
            shift: Not negative, [R, T].
            right: The b_t, [R, p, T].

        Returns:
            [R, p, T].
        """
        return self._curvature.solve(self._streams, scale, shift, right)
