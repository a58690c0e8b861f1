"""Estimators that learn each label column alone, from the rows in which it is known.

Shapes: n rows, n_t of them with a label of the target at hand, d features, O outputs of all tasks.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtbench import Examples, FitMethod, Predictor, Problem, Recipe, Target, TargetPredictors, TaskKind

Array = NDArray[Any]

MOST_FEATURES = 20_000
"""Of a row: raw images of a side of 224 have 150,528, of which a tree would look at one after the other."""


def too_wide(problem: Problem) -> str | None:
    """None, or that rows hold too many numbers."""
    if problem.n_features <= MOST_FEATURES:
        return None
    return f"it takes each number of a row as a feature, at most {MOST_FEATURES:,}; rows have {problem.n_features:,}"


class PerTarget(FitMethod):
    """A method whose tasks share nothing: one estimator for each label column.

    Rows that weigh 0 are left out. Weights of tasks change nothing where each is learned alone.
    """

    honours_weights = ("sample", "class", "task")

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Any problem whose rows are not too wide."""
        return too_wide(problem)

    @abstractmethod
    def estimator(self, target: Target, params: Any, seed: int, n_rows: int) -> Any:
        """An estimator of scikit-learn's kind that is not fitted yet.

        Args:
            target: What it is to learn: a classifier's classes, or a regressor's values.
            params: The hyperparameters.
            seed: For its `random_state`.
            n_rows: Rows that it will be fitted on, at least 2.
        """

    def size(self, estimator: Any) -> int | None:
        """Numbers that a fitted estimator has learned; None, as it stands, where nobody can say."""
        return None

    def fit(self, train: Examples, validation: Examples | None, params: Any, seed: int) -> Predictor:
        """Fits one estimator after the other. A target without two different labels is predicted as its label."""
        functions, sizes = {}, []
        for target, inputs, labels in train.by_target():
            weights = train.weights_of(target)
            if weights is not None:
                there = weights > 0
                inputs, labels, weights = inputs[there], labels[there], weights[there]
            if not len(labels):
                continue
            if (labels == labels[0]).all():
                functions[target], size = constant(target, labels), 1
            else:
                fitted = fit(self.estimator(target, params, seed, len(labels)), flat(inputs), labels, weights)
                functions[target], size = function_of(target, fitted), self.size(fitted)
            sizes.append(size)
        return TargetPredictors(train.tasks, functions, None if None in sizes else sum(sizes))


def fit(estimator: Any, inputs: Array, labels: Array, weights: Array | None) -> Any:
    """The estimator, fitted; of a pipeline every step that takes `sample_weight` is given the weights [n_t]."""
    if weights is None:
        return estimator.fit(inputs, labels)
    steps = [name for name, _ in getattr(estimator, "steps", ())]
    names = [f"{name}__sample_weight" for name in steps] or ["sample_weight"]
    return estimator.fit(inputs, labels, **dict.fromkeys(names, weights))


def function_of(target: Target, estimator: Any) -> Any:
    """What a fitted estimator predicts: [n, ...] -> [n], or logits [n, 1] or [n, C_t] of a classifier."""
    if target.kind is TaskKind.REGRESSION:
        return lambda inputs: estimator.predict(flat(inputs))
    return lambda inputs: target.logits(estimator.predict_proba(flat(inputs)), estimator.classes_)


def constant(target: Target, labels: Array, weights: Array | None = None) -> Any:
    """The best constant prediction: the mean of the labels [n_t], or the share of each class, weighted [n_t]."""
    if target.kind is TaskKind.REGRESSION:
        outputs = np.full((1, 1), np.average(labels, weights=weights))
    else:
        classes, found = np.unique(labels, return_inverse=True)
        counts = np.bincount(found, weights)
        outputs = target.logits(counts[None] / counts.sum(), classes)
    return lambda inputs: np.repeat(outputs, len(inputs), 0)


def flat(inputs: Array) -> Array:
    """Rows laid flat: [n, ...] -> [n, d]."""
    return inputs.reshape(len(inputs), -1)
