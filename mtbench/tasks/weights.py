"""What labels, classes and tasks count for, where a data set declares weights.

A label weighs its row's sample weight times its class's weight. Only ratios matter: training scales the weights of a
task's labels to a mean of 1 over the part, and those of tasks to a mean of 1 over the tasks, so that losses keep their
size beside penalties and learning rates.

Shapes: T tasks, n rows, n_t labelled rows of task t, C_t outputs of task t.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from mtbench.errors import DataError
from mtbench.tasks.kinds import Array, Weight
from mtbench.tasks.parts import Part

if TYPE_CHECKING:
    from mtbench.tasks.problem import Problem


def declared_weights(problem: Problem) -> tuple[Weight, ...]:
    """Which weights a problem has; weights of tasks that are all alike are none."""
    found = {
        Weight.SAMPLE: any(part.sample_weight is not None for part in problem.parts.values()),
        Weight.CLASS: any(task.class_weights is not None for task in problem.tasks),
        Weight.TASK: task_weights(problem) is not None,
    }
    return tuple(weight for weight, there in found.items() if there)


def in_words(weights: Iterable[str]) -> str:
    """Names of weights in a sentence: "sample, class and task"."""
    *first, last = weights
    return f"{', '.join(first)} and {last}" if first else last


def task_weights(problem: Problem) -> Array | None:
    """What each task counts for: float64 [T], of mean 1; None where all count the same."""
    weights = np.array([task.weight for task in problem.tasks])
    return None if (weights == weights[0]).all() else np.asarray(weights / weights.mean())


def label_weights(problem: Problem, part: Part, t: int) -> Array | None:
    """What each row counts for in a task: sample weight times class weight.

    Args:
        problem: The problem.
        part: One of its parts.
        t: Index of the task.

    Returns:
        float64 [n_t], of the rows that `Problem.labelled` gives; None where all count the same.
    """
    of_classes = problem.tasks[t].class_weights
    if part.sample_weight is None and of_classes is None:
        return None
    rows, labels = problem.labelled(part, t)
    weights = np.ones(len(rows)) if part.sample_weight is None else part.sample_weight[rows]
    return weights if of_classes is None else np.asarray(weights * np.array(of_classes)[labels[:, 0].astype(int)])


def row_weights(problem: Problem, part: Part) -> Array | None:
    """What each row's loss is multiplied by, scaled so that a task's labels weigh 1 on average over the part.

    Args:
        problem: The problem.
        part: One of its parts.

    Returns:
        float64 [n, T]; in the own layout [n], each row in its own task; None where all count the same. 0 where a row
        has no label.
    """
    if part.sample_weight is None and all(task.class_weights is None for task in problem.tasks):
        return None
    found = np.zeros((part.n_rows, problem.n_tasks) if part.task is None else part.n_rows)
    for t in range(problem.n_tasks):
        rows, labels = problem.labelled(part, t)
        weights = label_weights(problem, part, t)
        weights = np.ones(len(rows)) if weights is None else weights
        counts = (~np.isnan(labels)).sum(1)
        total = (weights * counts).sum()
        scaled = weights * (counts.sum() / total) if total > 0 else weights
        found[(rows, t) if part.task is None else rows] = scaled
    return found


def check_some_weight(problem: Problem, where: str) -> None:
    """Refuses a task whose training labels all weigh 0.

    Raises:
        DataError: There is one.
    """
    for t, task in enumerate(problem.tasks):
        weights = label_weights(problem, problem.parts["train"], t)
        if weights is not None and len(weights) and not weights.any():
            raise DataError(
                f"{where}, part 'train', task {task.name!r}: its labels must not all weigh 0. Give some rows or "
                "classes a weight, or NaN for its labels."
            )
