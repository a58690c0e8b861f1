"""Task losses of linear predictors, for R trials at once, in float64: what solver methods work from.

Shapes: R trials, U streams (distinct training sets among them, one per split), T tasks, n rows, d features, p = d, or
d + 1 where an intercept row is carried as the last row of the weights.

Squared losses never touch the rows again once the Gram matrices are made; an intercept there is solved for by centring,
so p = d. Logistic losses go over the rows and carry the intercept as a constant last column of the inputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class LinearData(ABC):
    """Mean losses L_t of linear predictors w_t on the training rows, for R trials.

    Guarantees: all tensors are float64 on one device; results of trial r depend on trial r's weights alone.

    Attributes:
        n_trials: R.
        n_tasks: T.
        n_features: d: rows of the weights that regularisers may touch.
        n_rows: p: rows of the weights, d or d + 1.
        stream: int64 [R], the training set of each trial.
        n_train: float64 [R, T], N_t.
        quadratic: Whether the losses are squared losses, so that `curvature` is their exact Hessian everywhere.
    """

    n_trials: int
    n_tasks: int
    n_features: int
    n_rows: int
    stream: Tensor
    n_train: Tensor
    quadratic: bool

    @abstractmethod
    def losses(self, weights: Tensor) -> Tensor:
        """L_t: weights [R, p, T] -> [R, T]."""

    @abstractmethod
    def losses_and_gradient(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """L_t [R, T] and the gradient of each L_t by its own w_t, [R, p, T], at weights [R, p, T]."""

    @abstractmethod
    def curvature(self) -> Tensor:
        """An upper bound H_t of each loss's Hessian, [U, T, p, p]; index with `stream` for [R, T, p, p].

        Squared loss: 2 X_t'X_t / N_t, exact. Logistic loss: X_t'X_t / (4 N_t), the bound of Boehning and Lindsay (1988).
        """

    @abstractmethod
    def linear_term(self) -> Tensor:
        """Minus the gradient of each loss at weights 0: [U, T, p] (2 X_t'y_t / N_t for the squared loss)."""
