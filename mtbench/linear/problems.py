"""From problems to the losses of linear predictors on their training rows.

Shapes as in `mtbench.linear.losses`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mtbench.linear.data import LinearData
from mtbench.linear.losses import LogisticLosses, SquaredLosses
from mtbench.tasks import Array, Part, Problem, TaskKind
from mtbench.tasks.weights import row_weights

Weighted = tuple[Part, Array | None]
"""A part, and what each row counts for in each task: [n, T] or [n], see `mtbench.tasks.weights.row_weights`."""

MOST_FEATURES = 4096
"""Of a row, for linear solvers: a task's matrix of features by features then takes 134 MB, and its factors hours."""


def linear_support(problem: Problem) -> str | None:
    """Why linear solvers cannot train on a problem, or None where they can; for a solver method's `supports`.

    Args:
        problem: Its tasks and the shape of its rows.
    """
    single = problem.only(TaskKind.REGRESSION) and problem.n_outputs == problem.n_tasks
    if not (problem.only(TaskKind.BINARY) or single):
        return "its linear solver needs tasks that are all binary, or all regressions with one output"
    if problem.n_features > MOST_FEATURES:
        return (
            f"its linear solver works with matrices of features by features, of at most {MOST_FEATURES:,}; rows of "
            f"{problem.dataset} have {problem.n_features:,}"
        )
    return None


def linear_data(problems: Sequence[Problem], stream: ArrayLike, intercept: bool, device: torch.device) -> LinearData:
    """The losses of R trials on the training parts of U problems.

    Args:
        problems: The U distinct problems, alike but for their rows; see `linear_support` for what they must be.
        stream: Which of them each trial trains on, int [R].
        intercept: Whether predictors have an intercept, which no regulariser touches.
        device: Where to compute.
    """
    given = [(problem.parts["train"], row_weights(problem, problem.parts["train"])) for problem in problems]
    pairs = [_sparsely_labelled(*pair) for pair in given]
    n_tasks = problems[0].n_tasks
    if any(part.task is None for part, _ in pairs):
        inputs, labels, weights = _shared_rows(given)
    else:
        width = max(int(np.bincount(part.task).max()) for part, _ in pairs if part.task is not None)
        inputs, labels, weights = _own_rows(pairs, n_tasks, width)
    n_labelled = np.stack([problem.task_sizes() for problem in problems]).astype(np.float64)
    weights /= np.maximum(n_labelled, 1.0)[:, :, None]
    losses = LogisticLosses if problems[0].only(TaskKind.BINARY) else SquaredLosses

    def there(array: Array) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float64, device=device)

    streams = torch.as_tensor(np.asarray(stream), dtype=torch.int64, device=device)
    of_tasks = None if problems[0].task_weights is None else there(problems[0].task_weights)
    return losses(there(inputs), there(labels), there(weights), there(n_labelled), streams, intercept, of_tasks)


def _sparsely_labelled(part: Part, weight: Array | None) -> Weighted:
    """Rows of its own for each task, where the tasks share rows of which each has labels for few; else the part.

    A product with shared rows goes over all of them for every task. Rows of their own are taken where that makes it a
    quarter of the work or less, and no more than four times as many rows.
    """
    if part.task is not None:
        return part, weight
    known = ~np.isnan(part.labels)
    largest, n_tasks = int(known.sum(0).max(initial=0)), known.shape[1]
    if largest == 0 or 4 * largest > part.n_rows or n_tasks * largest > 4 * part.n_rows:
        return part, weight
    task, row = np.nonzero(known.T)
    own = Part(np.asarray(part.inputs)[row], part.labels[row, task][:, None], task)
    return own, None if weight is None else weight[row, task]


def _flat(part: Part) -> Array:
    """Inputs as float64 [n, d]; the bytes of images become fractions of 255, as everywhere in the harness."""
    flat = np.asarray(part.inputs).reshape(part.n_rows, -1).astype(np.float64)
    return flat / 255.0 if part.is_image else flat


def _width(part: Part) -> int:
    """d, the numbers of a row."""
    return math.prod(part.inputs.shape[1:])


def _shared_rows(pairs: Sequence[Weighted]) -> tuple[Array, Array, Array]:
    """Inputs [U, 1, N, d], labels and their weights, 0 where none is, [U, T, N].

    Short streams are padded with empty rows.
    """
    first = pairs[0][0]
    n_rows, n_tasks, d = max(part.n_rows for part, _ in pairs), first.labels.shape[1], _width(first)
    inputs = np.zeros((len(pairs), 1, n_rows, d))
    labels, there = np.zeros((2, len(pairs), n_tasks, n_rows))
    for u, (part, weight) in enumerate(pairs):
        known = ~np.isnan(part.labels.T)
        inputs[u, 0, : part.n_rows] = _flat(part)
        labels[u, :, : part.n_rows] = np.where(known, part.labels.T, 0.0)
        there[u, :, : part.n_rows] = known if weight is None else known * weight.T
    return inputs, labels, there


def _own_rows(pairs: Sequence[Weighted], n_tasks: int, width: int) -> tuple[Array, Array, Array]:
    """Inputs [U, T, N, d], labels and their weights, 0 where none is, [U, T, N], N the rows of the largest task."""
    inputs = np.zeros((len(pairs), n_tasks, width, _width(pairs[0][0])))
    labels, there = np.zeros((2, len(pairs), n_tasks, width))
    for u, (part, weight) in enumerate(pairs):
        assert part.task is not None
        order = np.argsort(part.task, kind="stable")
        task = part.task[order]
        place = np.arange(len(task)) - np.searchsorted(task, task)
        inputs[u, task, place] = _flat(part)[order]
        known = ~np.isnan(part.labels[order, 0])
        labels[u, task, place] = np.where(known, part.labels[order, 0], 0.0)
        there[u, task, place] = known if weight is None else known * weight[order]
    return inputs, labels, there
