"""Stages: what a method trains one after the other, within the one budget that all methods have."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mtbench.contracts.batch import Batch
from mtbench.contracts.terms import Terms


@dataclass(frozen=True)
class Stage:
    """A part of a method's training, with a share of its epochs.

    Attributes:
        name: Words joined by underscores; unique among the stages of a method.
        share: Of the recipe's epochs, from 0 to 1; those of all stages sum to 1.
        terms: What it minimises, as `GradientMethod.terms`: a weighting, where there is one, takes the sum's place.
        objective: What it minimises, as `GradientMethod.objective`: a scalar, which no weighting changes. A stage gives
            one of the two at most; one that gives neither minimises what the method does.
        trains: Names of the parameters that it trains, or of modules, meaning all that they hold; all others stay as
            they are. Empty for all.
    """

    name: str
    share: float
    terms: Callable[[Any, Batch, Any], Terms] | None = None
    objective: Callable[[Any, Batch, Any], Tensor] | None = None
    trains: tuple[str, ...] = ()


def stage_ends(stages: Sequence[Stage], n_epochs: int) -> tuple[int, ...]:
    """The last epoch of each stage, out of so many epochs; equal to the one before it for a stage that has none.

    Sums of shares are rounded to whole epochs. The last stage has one epoch at least.
    """
    sums = itertools.accumulate(stage.share for stage in stages[:-1])
    return (*(min(round(total * n_epochs), n_epochs - 1) for total in sums), n_epochs)
