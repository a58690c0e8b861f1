"""Constant: what a task's labels are on average, whatever the inputs."""

from __future__ import annotations

from typing import Any

from mtbench import Examples, FitMethod, Predictor, Reference, TargetPredictors
from mtbench_methods.estimators.per_target import constant


class Constant(FitMethod):
    """The mean of each regression's training labels, and the share of each class."""

    name = "constant"
    reference = Reference("The mean of the training labels", "the constant predictor")
    honours_weights = ("sample", "class", "task")

    def fit(self, train: Examples, validation: Examples | None, params: Any, seed: int) -> Predictor:
        """One constant for each output."""
        functions = {}
        for target, labels in train.known_labels():
            weights = train.weights_of(target)
            if weights is None or weights.any():
                functions[target] = constant(target, labels, weights)
        return TargetPredictors(train.tasks, functions, sum(target.n_outputs for target in functions))
