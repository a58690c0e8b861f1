"""Stacked optimisers: every trial has its own learning rate. torch.optim takes one number for all.

Shapes: R trials, P parameters of one model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from mtbench.recipe import Recipe


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


class StackedAdam(StackedOptimiser):
    """Adam (Kingma and Ba 2015, algorithm 1), with the constants of the paper."""

    def __init__(self, theta: Tensor, learning_rate: Tensor) -> None:
        self._rate = learning_rate[:, None]
        self._mean = torch.zeros_like(theta)
        self._square = torch.zeros_like(theta)
        self._steps = 0

    def step(self, theta: Tensor, gradient: Tensor, scale: float = 1.0) -> None:
        """One step."""
        self._steps += 1
        self._mean.lerp_(gradient, 0.1)
        self._square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        root = torch.sqrt(self._square).mul_((1 - 0.999**self._steps) ** -0.5).add_(1e-8)
        theta.sub_(self._mean.div(root).mul_(self._rate / ((1 - 0.9**self._steps) / scale)))

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


class StackedSGD(StackedOptimiser):
    """Stochastic gradient descent with momentum 0.9 (as torch.optim.SGD defines it)."""

    def __init__(self, theta: Tensor, learning_rate: Tensor) -> None:
        self._rate = learning_rate[:, None]
        self._velocity = torch.zeros_like(theta)

    def step(self, theta: Tensor, gradient: Tensor, scale: float = 1.0) -> None:
        """One step."""
        self._velocity.mul_(0.9).add_(gradient)
        theta.sub_(self._velocity * (self._rate * scale))

    def state(self) -> dict[str, Tensor]:
        """Rates and velocities."""
        return {"rate": self._rate, "velocity": self._velocity}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from a `state`."""
        self._rate, self._velocity = state["rate"], state["velocity"]

    def select(self, keep: Tensor) -> None:
        """Keeps some trials."""
        self._rate, self._velocity = self._rate[keep], self._velocity[keep]


def optimiser_for(recipe: Recipe, theta: Tensor, learning_rate: Tensor) -> StackedOptimiser:
    """The recipe's optimiser for R trials, with their learning rates [R]."""
    return {"adam": StackedAdam, "sgd": StackedSGD}[recipe.optimiser](theta, learning_rate)


def clip_(gradient: Tensor, largest: float) -> None:
    """Scales each trial's gradient [R, P] in place so that its norm is at most `largest`; 0 leaves all as they are."""
    if largest > 0:
        norm = gradient.norm(dim=1, keepdim=True)
        gradient.mul_((largest / (norm + 1e-6)).clamp(max=1.0))
