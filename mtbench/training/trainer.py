"""What all kinds of method have in common while a stack of their trials is trained, whatever trains them.

Shapes: K trials of the stack, U splits among them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from mtbench.contracts.dataset import Dataset
from mtbench.contracts.method import Method
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.trials import Trial
from mtbench.tasks import Array, Problem
from mtbench.training.checkpoints import Checkpoint
from mtbench.training.evaluate import Evaluator
from mtbench.training.prepared import prepared
from mtbench.training.progress import EpochListener, Progress
from mtbench.training.stacked import PretrainedWeights


@dataclass(frozen=True, eq=False)
class TrainingInputs:
    """What is to be trained: trials of one cell and one phase, and all that they need.

    Attributes:
        method: The method.
        problems: Problems by split.
        trials: The K trials.
        dataset: Gives the metrics.
        device: Where to train.
        pretrained: Backbones to start from, where the recipe names a base.
    """

    method: Method
    problems: Mapping[int, Problem]
    trials: Sequence[Trial]
    dataset: Dataset
    device: torch.device
    pretrained: PretrainedWeights | None = None

    @property
    def recipe(self) -> Recipe:
        """That of the cell."""
        return self.trials[0].cell.recipe

    @property
    def refit(self) -> bool:
        """Whether training and validation rows are trained on."""
        return self.trials[0].phase == "refit"

    @property
    def rung(self) -> bool:
        """Whether the trials only show whether they are worth going on with."""
        return self.trials[0].phase == "rung"

    def first(self, n: int) -> TrainingInputs:
        """The same for the first n trials."""
        return replace(self, trials=self.trials[:n])

    def prepared(self) -> TrainingInputs:
        """The same with the problems of the trials' splits as they are trained on: see `mtbench.training.prepared`."""
        splits = sorted({trial.split for trial in self.trials})
        found = {s: prepared(self.problems[s], self.refit, self.recipe.rows_per_task) for s in splits}
        return replace(self, problems=found)


class StackTraining(ABC):
    """A stack in training, and what came of it.

    Attributes:
        progress: How each trial fares: best epoch, divergence, seconds, history.
        evaluator: Reads metrics off predictions.
    """

    progress: Progress
    evaluator: Evaluator

    @abstractmethod
    def run(self, on_epoch: EpochListener | None = None) -> None:
        """Trains until every trial has stopped."""

    @property
    @abstractmethod
    def n_parameters(self) -> int | Array | None:
        """Numbers learned: one for all trials, or [K]; None where that is not known."""

    @abstractmethod
    def predictions(self, part: str, trials: Array) -> Array:
        """Predictions of some trials on a part: [len(trials), n, O], or [len(trials), n, C] in the own layout."""

    def learned(self) -> dict[str, Array]:
        """Matrices that the method learned, each [K, ...]; as it stands, none."""
        return {}

    def backbone(self) -> dict[str, Array]:
        """The backbone for others to start from, each [K, ...], by its own names; as it stands, none."""
        return {}

    @property
    def residual(self) -> Array | None:
        """How far from optimal each trial ended, [K]; None, as it stands, where that is not known."""
        return None

    @property
    def facts(self) -> dict[str, Any]:
        """What else goes on record with the result; as it stands, nothing."""
        return {}


class Memory(ABC):
    """Predicts what stacks will need of memory."""

    @abstractmethod
    def fits(self, n_trials: int) -> bool:
        """Whether a stack of the first so many trials is likely to fit in the memory that is available."""

    @abstractmethod
    def of(self, n_trials: int) -> int | None:
        """The most bytes that will live at once in a stack of the first so many trials; None where not known."""


class UnknownMemory(Memory):
    """Of methods whose stacks cannot be looked into before they train: whatever fits is found out by trying."""

    def fits(self, n_trials: int) -> bool:
        """Nothing speaks against it."""
        return True

    def of(self, n_trials: int) -> int | None:
        """Not known."""
        return None


class Trainer(ABC):
    """Trains stacks of one kind of method. Stateless.

    Attributes:
        measures_all: Whether `seconds` trains to the end, or a piece that a trial repeats.
    """

    measures_all: bool = False

    @abstractmethod
    def start(self, inputs: TrainingInputs, checkpoint: Checkpoint | None = None) -> StackTraining:
        """A stack that is ready to run.

        Args:
            inputs: What is trained, `prepared`.
            checkpoint: Kept up to date while the stack trains, and gone on from where there is one; None keeps none.
        """

    @abstractmethod
    def seconds(self, inputs: TrainingInputs) -> float:
        """What a piece of training of the whole stack takes, measured."""

    def pieces(self, inputs: TrainingInputs) -> float:
        """How often at most a trial does what is measured of it; as it stands, once."""
        return 1.0

    def memory(self, inputs: TrainingInputs) -> Memory:
        """Predicts the memory of stacks of the first of the trials; as it stands, nothing is known."""
        return UnknownMemory()
