"""Squared and logistic losses of linear predictors, from the training rows of U streams.

Shapes as in `mtbench.linear.data`. Rows come as inputs [U, G, N, d]: G = T where every task has its own rows
(padded to the N of the largest task), G = 1 where the tasks share them; labels and row weights are [U, T, N]. A row
weighs 1 / N_t for a task it has a label for, times what a data set declares (of mean 1 over the task's labels), else 0,
so that a weighted sum is the task's mean.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mtbench.linear.curvature import per_stream, task_product
from mtbench.linear.data import LinearData
from mtbench.losses.training import label_losses
from mtbench.tasks import TaskKind


class SquaredLosses(LinearData):
    """L_t = mean (y - x w_t - b_t)^2, the intercept b_t solved for: all that is kept of the rows are their moments."""

    quadratic = True

    def __init__(
        self,
        inputs: Tensor,
        labels: Tensor,
        row_weights: Tensor,
        n_labelled: Tensor,
        stream: Tensor,
        intercept: bool,
        task_weights: Tensor | None = None,
    ) -> None:
        """Takes the moments of the rows.

        Args:
            inputs: [U, G, N, d].
            labels: [U, T, N], 0 where there is none.
            row_weights: [U, T, N].
            n_labelled: [U, T].
            stream: int64 [R].
            intercept: Whether predictors have one.
            task_weights: What the loss of each task is multiplied by, [T]; None for 1.
        """
        self._intercept = intercept
        weights = _distinct_weights(inputs, row_weights)
        self._input_mean = _weighted_sum(weights, inputs)
        self._label_mean = (row_weights * labels).sum(-1)
        if intercept:
            # Rows are centred before moments are taken: the difference of two large moments would cancel.
            labels = labels - self._label_mean[..., None]
            shift = self._input_mean if inputs.shape[1] > 1 else self._input_mean.mean(1, keepdim=True)
            inputs = inputs - shift[:, :, None]
        second = _second_moments(inputs, weights)
        if intercept:
            # Tasks that share rows but not labels are centred about a common point; this is what is left.
            rest = _weighted_sum(weights, inputs)
            second = second - rest[..., :, None] * rest[..., None, :]
        self._cross = _weighted_sum(row_weights * labels, inputs)
        self._power = (row_weights * labels.square()).sum(-1)
        if task_weights is not None:
            second = second * task_weights[:, None, None]
            self._cross = self._cross * task_weights[:, None]
            self._power = self._power * task_weights
        super().__init__(stream, inputs.shape[-1], n_labelled, 2.0 * second)

    def _turn(self, axes: Tensor) -> None:
        self._cross = _turned(self._cross, axes)
        self._input_mean = _turned(self._input_mean, axes)

    def losses(self, weights: Tensor) -> Tensor:
        """L_t = w'Gw - 2 c'w + mean y^2."""
        return self.losses_and_gradient(weights)[0]

    def losses_and_gradient(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The losses, and 2 (G w - c)."""
        bent = self.curvature_product(weights)
        linear = self.linear_term()[self.stream].mT
        losses = (weights * (0.5 * bent - linear)).sum(1) + self._power[self.stream]
        # Rounding must not make a perfect fit's loss negative: it weighs a penalty in some methods.
        return losses.clamp(min=0.0), bent - linear

    def hessian(self, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """H_t, the same everywhere."""
        return self.curvature_product

    def hessian_matrices(self, weights: Tensor) -> Tensor:
        """H_t, the same everywhere."""
        return self.curvature()[self.stream]

    def linear_term(self) -> Tensor:
        """2 c_t."""
        return 2.0 * self._cross

    def with_intercept(self, weights: Tensor) -> Tensor:
        """Adds b_t = mean y - mean x w_t."""
        if not self._intercept:
            return weights
        offset = self._label_mean[self.stream] - (self._input_mean[self.stream] * weights.mT).sum(-1)
        return torch.cat([weights, offset[:, None]], 1)


def _distinct_weights(inputs: Tensor, row_weights: Tensor) -> Tensor:
    """Row weights [U, T, N], or [U, 1, N]: tasks that share all their rows share all moments of the inputs."""
    same = inputs.shape[1] == 1 and bool((row_weights == row_weights[:, :1]).all())
    return row_weights[:, :1] if same else row_weights


def _weighted_sum(row_weights: Tensor, inputs: Tensor) -> Tensor:
    """Sum of r_n x_n: [U, T or 1, N] and [U, G, N, d] -> [U, T or 1, d]."""
    if inputs.shape[1] == 1:
        return row_weights @ inputs[:, 0]
    return (row_weights[:, :, None] @ inputs)[:, :, 0]


def _turned(rows: Tensor, axes: Tensor) -> Tensor:
    """Rows times their stream's axes, [U, ..., p] and [U, p, p], stream by stream as in `Curvature.turned`."""
    return torch.stack([x @ a for x, a in zip(rows, axes, strict=True)])


def _second_moments(inputs: Tensor, row_weights: Tensor) -> Tensor:
    """Sum of r_n x_n x_n': [U, G, N, d] and [U, T or 1, N] -> [U, T or 1, d, d], task by task to bound memory."""

    def of(u: int, t: int) -> Tensor:
        x = inputs[u, t if inputs.shape[1] > 1 else 0]
        return x.mT @ (row_weights[u, t, :, None] * x)

    n_streams, n_tasks = row_weights.shape[:2]
    return torch.stack([torch.stack([of(u, t) for t in range(n_tasks)]) for u in range(n_streams)])


class LogisticLosses(LinearData):
    """L_t = mean of log(1 + exp z) - y z over labelled rows, z = x w_t, the intercept's constant column among the x."""

    quadratic = False

    def __init__(
        self,
        inputs: Tensor,
        labels: Tensor,
        row_weights: Tensor,
        n_labelled: Tensor,
        stream: Tensor,
        intercept: bool,
        task_weights: Tensor | None = None,
    ) -> None:
        """Keeps the rows.

        Args:
            inputs: [U, G, N, d].
            labels: [U, T, N], 0 where there is none.
            row_weights: [U, T, N].
            n_labelled: [U, T].
            stream: int64 [R].
            intercept: Whether predictors have one.
            task_weights: What the loss of each task is multiplied by, [T]; None for 1.
        """
        d = inputs.shape[-1]
        self._inputs = torch.cat([inputs, torch.ones_like(inputs[..., :1])], -1) if intercept else inputs
        row_weights = row_weights if task_weights is None else row_weights * task_weights[:, None]
        self._labels, self._row_weights = labels, row_weights
        second = _second_moments(self._inputs, _distinct_weights(inputs, row_weights))
        super().__init__(stream, d, n_labelled, 0.25 * second)

    def _turn(self, axes: Tensor) -> None:
        self._inputs = _turned(self._inputs, axes)

    def losses(self, weights: Tensor) -> Tensor:
        """The mean logistic losses."""

        def of(u: int, w: Tensor) -> Tensor:
            return self._sum(u, self._scores(u, w))

        return per_stream(self._streams, of, weights)

    def losses_and_gradient(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The losses, and the mean of (sigmoid(z) - y) x."""

        def of(u: int, w: Tensor) -> Tensor:
            scores = self._scores(u, w)
            residual = self._row_weights[u] * (torch.sigmoid(scores) - self._labels[u])
            gradient = task_product(residual, self._inputs[u])
            return torch.cat([self._sum(u, scores)[..., None], gradient], -1)

        both = per_stream(self._streams, of, weights)
        return both[..., 0], both[..., 1:].mT

    def hessian(self, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """Multiplies by the mean of s (1 - s) x x', with s = sigmoid(z)."""

        def spread(u: int, w: Tensor) -> Tensor:
            s = torch.sigmoid(self._scores(u, w))
            return self._row_weights[u] * s * (1.0 - s)

        spreads = per_stream(self._streams, spread, weights)

        def of(u: int, at: Tensor, v: Tensor) -> Tensor:
            return task_product(at * self._scores(u, v), self._inputs[u]).mT

        return lambda v: per_stream(self._streams, of, spreads, v)

    def hessian_matrices(self, weights: Tensor) -> Tensor:
        """The mean of s (1 - s) x x', with s = sigmoid(z)."""

        def of(u: int, w: Tensor) -> Tensor:
            s = torch.sigmoid(self._scores(u, w))
            spread = self._row_weights[u] * s * (1.0 - s)
            x = self._inputs[u]
            return torch.stack([x.mT @ (each[:, :, None] * x) for each in spread])

        return per_stream(self._streams, of, weights)

    def linear_term(self) -> Tensor:
        """The mean of (y - 1/2) x."""
        return _weighted_sum(self._row_weights * (self._labels - 0.5), self._inputs)

    def with_intercept(self, weights: Tensor) -> Tensor:
        """The weights themselves: their last row is the intercept, where there is one."""
        return weights

    def _scores(self, u: int, weights: Tensor) -> Tensor:
        """z: weights [R_u, p, T] -> [R_u, T, N]."""
        return task_product(weights.mT, self._inputs[u].mT)

    def _sum(self, u: int, scores: Tensor) -> Tensor:
        """Scores [R_u, T, N] -> [R_u, T]."""
        losses = label_losses(TaskKind.BINARY, scores, self._labels[u].expand_as(scores))
        return (self._row_weights[u] * losses).sum(-1)
