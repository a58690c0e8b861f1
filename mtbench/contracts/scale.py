"""The scale of a problem: what search ranges are multiples of, so that they fit labels and inputs of any size.

Shapes: T tasks, n rows, d features, D label columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mtbench.tasks import Array, Part, Problem, Task, TaskKind

UNITS: Mapping[str, str] = {
    "loss": "loss of the constant predictor, summed over tasks",
    "slope": "that loss for each unit of a weight that predicts, summed over tasks",
    "curvature": "that loss for each squared unit of a weight that predicts, summed over tasks",
    "task_loss": "loss of the constant predictor, mean over tasks",
    "task_slope": "that loss for each unit of a weight that predicts, mean over tasks",
    "task_curvature": "that loss for each squared unit of a weight that predicts, mean over tasks",
    "weight": "size of a weight that predicts: spread of what is predicted over spread of the features",
}
"""What `tunable(per=...)` may name, in words."""

COUNTS: Mapping[str, str] = {
    "tasks": "number of tasks",
    "rank": "number of tasks or of features, whichever is less",
}
"""What `tunable(up_to=...)` may name, in words."""

_MOST_ROWS = 4096


@dataclass(frozen=True)
class Scale:
    """How large the numbers of a problem are.

    Attributes:
        units: By the words of `UNITS`, each above 0 and rounded to one digit.
        counts: By the words of `COUNTS`, each at least 1.
    """

    units: Mapping[str, float]
    counts: Mapping[str, int]


PLAIN = Scale(dict.fromkeys(UNITS, 1.0), {})
"""All units 1, no limits: ranges as they are declared."""


def scale_of(problem: Problem) -> Scale:
    """The scale of a problem's training part.

    A linear predictor whose outputs vary as much as what they predict has weights of about out / sigma: out is the
    standard deviation of a regression's labels, and 1 for the log odds of a classification; sigma^2 is the mean
    variance of a feature. A penalty of w on a squared weight then weighs as much as the loss L_0 of the constant
    predictor where w = L_0 sigma^2 / out^2, and one on an absolute weight where w = L_0 sigma / out.

    One digit is kept: ranges are read by people, and values drawn from them are part of a trial's identity, which the
    last bits of a sum must not change.
    """
    part = problem.parts["train"]
    measured = [_loss_and_spread(task, _labels(problem, part, t)) for t, task in enumerate(problem.tasks)]
    loss, out = np.array([pair for pair in measured if pair[0] > 0] or [(1.0, 1.0)]).T
    sigma = _feature_spread(part)
    each = {
        "loss": loss.mean(),
        "slope": (loss / out).mean() * sigma,
        "curvature": (loss / out**2).mean() * sigma**2,
    }
    n_tasks = problem.n_tasks
    units = {name: n_tasks * value for name, value in each.items()}
    units |= {f"task_{name}": value for name, value in each.items()}
    units["weight"] = float(np.sqrt((out**2).mean())) / sigma
    counts = {"tasks": n_tasks, "rank": min(n_tasks, problem.n_features)}
    return Scale({name: float(f"{value:.0e}") for name, value in units.items()}, counts)


def _labels(problem: Problem, part: Part, t: int) -> Array:
    """Labels of task t, float64 [its rows, its label columns]; NaN where there is none."""
    if part.task is None:
        return np.asarray(part.labels[:, problem.label_slices[t]], np.float64)
    return np.asarray(part.labels[part.task == t, : problem.tasks[t].n_labels], np.float64)


def _loss_and_spread(task: Task, labels: Array) -> tuple[float, float]:
    """The loss of a task's best constant prediction, and how far its outputs must vary."""
    known = [column[~np.isnan(column)] for column in labels.T]
    known = [column for column in known if len(column)]
    if not known:
        return 0.0, 1.0
    if task.kind is TaskKind.REGRESSION:
        variance = float(np.mean([column.var() for column in known]))
        # What rounding leaves of a constant is no variance.
        if variance <= 1e-12 * max(float(np.square(column).mean()) for column in known):
            return 0.0, 1.0
        return variance, float(np.sqrt(variance))
    if task.kind is TaskKind.MULTICLASS:
        return _entropy(np.unique(known[0], return_counts=True)[1] / len(known[0])), 1.0
    shares = [column.mean() for column in known]
    return float(np.mean([_entropy(np.array([p, 1 - p])) for p in shares])), 1.0


def _entropy(shares: Array) -> float:
    """In nats, of shares that add up to 1."""
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum())


def _feature_spread(part: Part) -> float:
    """sigma, of rows evenly spread over a part; 1 where all are alike."""
    rows = np.unique(np.linspace(0, part.n_rows - 1, min(part.n_rows, _MOST_ROWS)).astype(np.int64))
    inputs = np.asarray(part.inputs[rows])
    values = inputs.reshape(len(rows), -1).astype(np.float64)
    # Bytes are fractions of 255 where rows are images, as everywhere in the harness.
    variance = values.var(0).mean() / (255.0**2 if inputs.dtype == np.uint8 and inputs.ndim > 2 else 1.0)
    return float(np.sqrt(variance)) if variance > 0 else 1.0
