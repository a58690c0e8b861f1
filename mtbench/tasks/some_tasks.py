"""A problem with some of its tasks only: what a metric of one kind of task is computed on.

Shapes: n rows of a part, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mtbench.tasks.kinds import Array
from mtbench.tasks.parts import Part, Rows
from mtbench.tasks.problem import Problem


def with_tasks(problem: Problem, chosen: Sequence[int]) -> Problem:
    """The problem with some of its tasks, and in the own layout with their rows only; inputs are not copied.

    Args:
        problem: The problem.
        chosen: Indices of the tasks to keep, ascending.
    """
    tasks = tuple(problem.tasks[t] for t in chosen)
    parts = {}
    for name, part in problem.parts.items():
        kept = _kept(problem, part, chosen)
        # Its problem has checked it; in the own layout it may have no rows, which a data set's part must not.
        object.__setattr__(kept, "checked_for", tasks)
        parts[name] = kept
    return replace(problem, tasks=tasks, parts=parts)


def rows_of_tasks(part: Part, chosen: Sequence[int]) -> Array | slice:
    """Which rows of a part `with_tasks` keeps: row numbers, or all in the shared layout."""
    return slice(None) if part.task is None else np.flatnonzero(np.isin(part.task, chosen))


def _kept(problem: Problem, part: Part, chosen: Sequence[int]) -> Part:
    """The part as the chosen tasks have it."""
    rows = rows_of_tasks(part, chosen)
    if part.task is None or isinstance(rows, slice):
        columns = np.concatenate([np.arange(s.start, s.stop) for s in (problem.label_slices[t] for t in chosen)])
        return replace(part, labels=part.labels[:, columns])
    inputs = part.inputs
    index = inputs.index[rows] if isinstance(inputs, Rows) else rows
    base = inputs.base if isinstance(inputs, Rows) else inputs
    width = max(problem.tasks[t].n_labels for t in chosen)
    place = np.searchsorted(chosen, part.task[rows])
    weights = None if part.sample_weight is None else part.sample_weight[rows]
    return replace(part, inputs=Rows(base, index), labels=part.labels[rows, :width], task=place, sample_weight=weights)
