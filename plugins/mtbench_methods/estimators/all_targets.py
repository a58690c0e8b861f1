"""Estimators that learn all label columns at once, from rows that have all labels.

Shapes: n rows, d features, D label columns, O outputs of all tasks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtbench import Examples, FitMethod, Layout, PluginError, Predictor, Problem, Recipe, Target, Task, TaskKind
from mtbench_methods.estimators.per_target import Array, flat, too_wide


class AllTargets(FitMethod):
    """A method that learns all label columns at once.

    Attributes:
        together: Sets of kinds of task that it can learn together.
    """

    together: tuple[frozenset[TaskKind], ...] = (frozenset({TaskKind.REGRESSION}),)

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Shared rows with labels of all tasks, of kinds that go together."""
        if problem.layout is not Layout.SHARED:
            return "it learns all tasks from the same rows, and here each row belongs to one task"
        if not any({task.kind for task in problem.tasks} <= kinds for kinds in self.together):
            known = ", or all ".join(" or ".join(sorted(kinds)) for kinds in self.together)
            return f"one estimator learns all tasks, and they must be all {known}"
        for name in ("train", "validation"):
            gaps = np.isnan(problem.parts[name].labels)
            if (gaps & ~gaps.all(0)).any():
                return "it learns all tasks from the same rows, and some of their labels are missing"
        return too_wide(problem)

    def fit(self, train: Examples, validation: Examples | None, params: Any, seed: int) -> Predictor:
        """Learns the targets that have labels."""
        there = ~np.isnan(train.labels).all(0)
        labels = np.ascontiguousarray(train.labels[:, there])
        if np.isnan(labels).any():
            raise PluginError(f"'{self.name}' needs rows with labels of all tasks; found rows without some.")
        targets = [target for target, known in zip(train.targets, there, strict=True) if known]
        return self.learn(train, targets, labels, params, seed)

    @abstractmethod
    def learn(self, train: Examples, targets: Sequence[Target], labels: Array, params: Any, seed: int) -> Predictor:
        """Learns targets.

        Args:
            train: Training rows.
            targets: The targets with labels, at least one.
            labels: Their labels, [n, len(targets)], none missing.
            params: The hyperparameters.
            seed: For `random_state`.
        """


@dataclass(frozen=True, eq=False)
class Scaled:
    """Values [n, D] with mean 0 and spread 1 in each column of the training rows, and the way back.

    Attributes:
        mean: [D].
        spread: [D], the standard deviation; 1 where all values are alike.
    """

    mean: Array
    spread: Array

    @classmethod
    def of(cls, values: Array) -> Scaled:
        """The scale of training rows [n, D]."""
        spread = values.std(0)
        # What rounding leaves of a constant is no spread.
        constant = spread <= 1e-12 * np.abs(values).max(0)
        return cls(values.mean(0), np.where(constant, 1.0, spread))

    def to(self, values: Array) -> Array:
        """Values on the scale of the training rows."""
        scaled: Array = (values - self.mean) / self.spread
        return scaled

    def back(self, scaled: Array) -> Array:
        """The values of which these are `to`."""
        return self.mean + self.spread * scaled


class Outputs(Predictor):
    """The outputs of some targets, put into the columns of all.

    Args:
        tasks: The T tasks.
        targets: What is predicted.
        function: From inputs [n, d] to an array or a list of arrays, the outputs of each target.
        n_parameters: Numbers learned, where that is known.
    """

    def __init__(
        self, tasks: Sequence[Task], targets: Sequence[Target], function: Any, n_parameters: int | None = None
    ):
        self._n_outputs, self._targets = sum(task.n_outputs for task in tasks), targets
        self._function, self._n_parameters = function, n_parameters

    @property
    def n_parameters(self) -> int | None:
        """As given."""
        return self._n_parameters

    def predict(self, inputs: Array, task: Array | None) -> Array:
        """Outputs [n, O]; 0 for targets that were not learned."""
        outputs = np.zeros((len(inputs), self._n_outputs))
        for target, own in zip(self._targets, self._function(flat(inputs)), strict=True):
            outputs[:, target.outputs] = np.reshape(own, (len(inputs), target.n_outputs))
        return outputs
