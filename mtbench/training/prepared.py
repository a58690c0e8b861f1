"""A problem as a stack trains on it: tasks without training labels are left out, whatever a method does with them.

Shapes: T tasks, n rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mtbench.tasks import Array, Part, Problem, Rows


def prepared(problem: Problem, refit: bool, rows_per_task: int) -> Problem:
    """The problem that trials train on.

    A task without a training label is not learned, so what is predicted for it means nothing: its labels are NaN in
    every part, and it has no value by any metric.

    Args:
        problem: As its data set gives it.
        refit: Whether the validation rows are trained on too.
        rows_per_task: The recipe's. Where it is not 0 every task has a row in every batch, and a task without training
            rows is given one without labels.
    """
    found = problem.refit() if refit else problem
    untrained = np.flatnonzero(found.task_sizes() == 0)
    if not len(untrained):
        return found
    parts = {name: replace(part, labels=_without(found, part, untrained)) for name, part in found.parts.items()}
    if rows_per_task and parts["train"].task is not None:
        parts["train"] = _with_a_row_of_each(parts["train"], found.n_tasks)
    return replace(found, parts=parts)


def untrained_tasks(problem: Problem) -> list[str]:
    """Names of the tasks without a training label."""
    return [task.name for task, size in zip(problem.tasks, problem.task_sizes(), strict=True) if not size]


def _without(problem: Problem, part: Part, tasks: Array) -> Array:
    """Labels without those of some tasks."""
    labels = part.labels.copy()
    for t in tasks:
        if part.task is None:
            labels[:, problem.label_slices[t]] = np.nan
        else:
            labels[part.task == t] = np.nan
    return labels


def _with_a_row_of_each(part: Part, n_tasks: int) -> Part:
    """The part, with its first row once more, without labels, for every task that has none."""
    assert part.task is not None
    absent = np.setdiff1d(np.arange(n_tasks), part.task)
    rows = np.concatenate([np.arange(part.n_rows), np.zeros(len(absent), np.int64)])
    inputs = Rows(part.inputs.base, part.inputs.index[rows]) if isinstance(part.inputs, Rows) else part.inputs[rows]
    labels = np.concatenate([part.labels, np.full((len(absent), part.labels.shape[1]), np.nan, np.float32)])
    weights = None if part.sample_weight is None else np.concatenate([part.sample_weight, np.zeros(len(absent))])
    return Part(inputs, labels, np.concatenate([part.task, absent]), weights)
