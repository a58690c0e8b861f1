"""Numbers that a weighting learns beside the model, with the optimiser of the recipe.

Shapes: R held trials, L numbers of one trial.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtbench.contracts.recipe import Recipe
from mtbench.training.checkpoints import prefixed, without
from mtbench.training.optimisers import optimiser_for
from mtbench.training.over_trials import Named


class LearnedNumbers:
    """Named tensors [R, ...], kept as the rows of one matrix [R, L] for the optimiser.

    Args:
        start: By name, [R, ...]; one or more.
        rates: Learning rates, [R].
        recipe: Names the optimiser.
    """

    def __init__(self, start: Mapping[str, Tensor], rates: Tensor, recipe: Recipe) -> None:
        self._shapes = {name: value.shape[1:] for name, value in start.items()}
        self._theta = _flat(list(start.values()))
        self._optimiser = optimiser_for(recipe, self._theta, rates)

    @property
    def leaves(self) -> Named:
        """By name, [R, ...], each a leaf that gradients are taken by."""
        blocks = torch.split(self._theta.detach(), [math.prod(shape) for shape in self._shapes.values()], 1)
        return {
            name: block.view(-1, *shape).requires_grad_()
            for (name, shape), block in zip(self._shapes.items(), blocks, strict=True)
        }

    def step(self, gradient: Mapping[str, Tensor], scale: float) -> None:
        """A step of the optimiser; `scale` multiplies the learning rates."""
        self._optimiser.step(self._theta, _flat([gradient[name] for name in self._shapes]), scale)

    def select(self, keep: Tensor) -> None:
        """Keeps some trials: int64 positions."""
        self._theta = self._theta[keep]
        self._optimiser.select(keep)

    def tensors(self) -> Named:
        """All that it remembers, by name."""
        return {"learned/theta": self._theta, **prefixed("optimiser/", self._optimiser.state())}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from `tensors`."""
        self._theta = tensors["learned/theta"]
        self._optimiser.restore(without("optimiser/", tensors))


def _flat(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([value.detach().reshape(len(value), -1) for value in values], 1)
