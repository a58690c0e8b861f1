"""Stacked optimisers: every trial has its own learning rate. torch.optim takes one number for all.

Shapes: R trials, P parameters of one model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam

from mtbench.contracts.recipe import Recipe

_LARGE = 2**18  # parameters of one model from which on memory bounds a step of Adam, and passes over it count


class StackedOptimiser(ABC):
    """Updates theta [R, P] in place from gradients [R, P]; trial r's update depends on row r alone."""

    @abstractmethod
    def step(self, theta: Tensor, gradient: Tensor, scale: float = 1.0) -> None:
        """One step. `gradient` may be overwritten; `scale` multiplies the learning rates."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """All that it remembers, by name; numbers as scalars."""

    @abstractmethod
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from a `state`."""

    @abstractmethod
    def select(self, keep: Tensor) -> None:
        """Keeps some trials: int64 positions."""

    @abstractmethod
    def restart(self) -> None:
        """Forgets all steps."""


class StackedAdam(StackedOptimiser):
    """Adam (Kingma and Ba 2015, algorithm 1), with the constants of the paper."""

    def __init__(self, theta: Tensor, learning_rate: Tensor, factors: Tensor | None = None) -> None:
        self._rate, self._factors = learning_rate[:, None], factors
        self._mean = torch.zeros_like(theta)
        self._square = torch.zeros_like(theta)
        self._steps = 0
        # Decided by P alone, so that a trial does not depend on its stack.
        self._spans = _spans(factors, theta.shape[1]) if theta.shape[1] >= _LARGE and theta.device.type == "cpu" else []

    def step(self, theta: Tensor, gradient: Tensor, scale: float = 1.0) -> None:
        """One step."""
        self._steps += 1
        if self._spans:
            self._step_in_one_pass(theta, gradient, scale)
            return
        self._mean.lerp_(gradient, 0.1)
        self._square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        root = torch.sqrt(self._square).mul_((1 - 0.999**self._steps) ** -0.5).add_(1e-8)
        update = self._mean.div(root).mul_(self._rate / ((1 - 0.9**self._steps) / scale))
        theta.sub_(update if self._factors is None else update.mul_(self._factors))

    def _step_in_one_pass(self, theta: Tensor, gradient: Tensor, scale: float) -> None:
        """The same by torch's fused kernel, which reads and writes each number once."""
        for r, rate in enumerate((scale * self._rate[:, 0]).tolist()):
            for span, factor in self._spans:
                here, slope, mean, square = ([x[r, span]] for x in (theta, gradient, self._mean, self._square))
                before = [torch.tensor(float(self._steps - 1))]
                adam(here, slope, mean, square, [], before, fused=True, amsgrad=False, beta1=0.9, beta2=0.999,
                     lr=rate * factor, weight_decay=0.0, eps=1e-8, maximize=False)  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        """Rates, moments, and the number of steps."""
        return {"rate": self._rate, "mean": self._mean, "square": self._square, "steps": torch.tensor(self._steps)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from a `state`."""
        self._rate, self._mean, self._square = state["rate"], state["mean"], state["square"]
        self._steps = int(state["steps"])

    def select(self, keep: Tensor) -> None:
        """Keeps some trials."""
        self._rate, self._mean, self._square = self._rate[keep], self._mean[keep], self._square[keep]

    def restart(self) -> None:
        """Forgets moments and steps."""
        self._mean.zero_()
        self._square.zero_()
        self._steps = 0


class StackedSGD(StackedOptimiser):
    """Stochastic gradient descent with momentum 0.9 (as torch.optim.SGD defines it)."""

    def __init__(self, theta: Tensor, learning_rate: Tensor, factors: Tensor | None = None) -> None:
        self._rate, self._factors = learning_rate[:, None], factors
        self._velocity = torch.zeros_like(theta)

    def step(self, theta: Tensor, gradient: Tensor, scale: float = 1.0) -> None:
        """One step."""
        self._velocity.mul_(0.9).add_(gradient)
        update = self._velocity * (self._rate * scale)
        theta.sub_(update if self._factors is None else update.mul_(self._factors))

    def state(self) -> dict[str, Tensor]:
        """Rates and velocities."""
        return {"rate": self._rate, "velocity": self._velocity}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from a `state`."""
        self._rate, self._velocity = state["rate"], state["velocity"]

    def select(self, keep: Tensor) -> None:
        """Keeps some trials."""
        self._rate, self._velocity = self._rate[keep], self._velocity[keep]

    def restart(self) -> None:
        """Forgets velocities."""
        self._velocity.zero_()


def _spans(factors: Tensor | None, n: int) -> list[tuple[slice, float]]:
    """Neighbouring parameters of equal factor, and the factor; all n of them where there are none."""
    if factors is None:
        return [(slice(0, n), 1.0)]
    values, lengths = torch.unique_consecutive(factors, return_counts=True)
    ends = lengths.cumsum(0).tolist()
    starts = [0, *ends[:-1]]
    return [(slice(a, b), value) for a, b, value in zip(starts, ends, values.tolist(), strict=True)]


def optimiser_for(
    recipe: Recipe, theta: Tensor, learning_rate: Tensor, factors: Tensor | None = None
) -> StackedOptimiser:
    """The recipe's optimiser for R trials.

    Args:
        recipe: Names it.
        theta: Parameters, [R, P].
        learning_rate: Of each trial, [R].
        factors: What each parameter's learning rate is multiplied by, [P]; None leaves all as they are.
    """
    return {"adam": StackedAdam, "sgd": StackedSGD}[recipe.optimiser](theta, learning_rate, factors)


def clip_(gradient: Tensor, largest: float) -> None:
    """Scales each trial's gradient [R, P] in place so that its norm is at most `largest`; 0 leaves all as they are."""
    if largest > 0:
        norm = gradient.norm(dim=1, keepdim=True)
        gradient.mul_((largest / (norm + 1e-6)).clamp(max=1.0))
