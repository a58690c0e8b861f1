"""When the trials of a stack stop early, and which epoch a task takes that is judged by itself.

Shapes: K trials of the stack, R of them still held, P parameters, T tasks.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mtbench.contracts.recipe import Recipe
from mtbench.metrics import Metric, metric
from mtbench.tasks import Array
from mtbench.training.evaluate import Evaluator


def out_of_patience(recipe: Recipe, epoch: int, best_epoch: Array) -> Array:
    """Which trials stop after an epoch, bool [R]: those whose best one lies `patience` epochs back.

    Args:
        recipe: With a patience of 0 none stops.
        epoch: The present one, from 1.
        best_epoch: Of each trial, [R]; or a later one, from which its patience counts.
    """
    return np.asarray(epoch - best_epoch >= (recipe.patience or np.inf))


class OwnStopping:
    """For tasks that share nothing: each keeps its own best epoch.

    What is watched is a task's own metric where that depends on the task alone, else its validation loss. A task
    without validation labels has nothing to watch, and takes the trial's best epoch over the others.

    Attributes:
        best: The best so far, [K, T].
        owner: The task of each parameter, int64 [P].
    """

    def __init__(self, monitor: Metric, n_tasks: int, n_trials: int, owner: Tensor) -> None:
        self._metric = monitor if monitor.per_task and monitor.by_task else metric("loss")
        self.best = np.full((n_trials, n_tasks), np.nan)
        self.owner = owner

    def better(self, evaluator: Evaluator, predictions: Array, held: Array, eligible: Array, overall: Array) -> Array:
        """Which tasks of the held trials are better than ever: bool [R, T]; notes their values.

        Args:
            evaluator: Of the stack.
            predictions: On the validation part.
            held: The held trials, int64 [R].
            eligible: Which of them are still in training and finite, bool [R].
            overall: Which of them are better than ever over all tasks that can be judged, bool [R].
        """
        values = evaluator.metrics([self._metric], "validation", predictions, held)[self._metric.name]
        better = eligible[:, None] & np.isfinite(values) & self._metric.improves(values, self.best[held])
        self.best[held] = np.where(better, values, self.best[held])
        return np.asarray(better | ((eligible & overall)[:, None] & np.isnan(self.best[held])))
