"""The courses of task weights over the epochs of a training, made ready to be shown.

Shapes: E epochs at which there was a look at the validation part, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mtbench.tasks import Array

_STEPS = 4  # losses of trials that are told one by one


@dataclass(frozen=True, eq=False)
class WeightCourses:
    """What the losses or gradients of tasks were multiplied by: the mean over splits of the mean over seeds.

    At each epoch the mean is over the trials that still trained. NaN stands for what is not known.

    Attributes:
        method: Label of the method, with its weighting.
        dataset: Label of the data set.
        weighting: Name of the weighting.
        tasks: Names of the tasks, [T].
        epochs: int64 [E], ascending.
        weights: float64 [E, T], each the mean over the steps since the epoch before; None for a weighting that makes
            one gradient of the tasks' and has no weights.
        cosine: float64 [E], the mean cosine between the gradients of two tasks; None where none were formed.
        conflicts: float64 [E], the share of pairs of tasks whose gradients point in opposite directions; likewise.
        n_trials: int64 [E], trials that still trained.
        best_epochs: Of each trial the epoch whose parameters its test results belong to, ascending.
        splits: Splits in the mean.
        refit: Whether the trials are refits.
        selection: Name of the selection rule.
        warnings: What to know before believing it.
    """

    method: str
    dataset: str
    weighting: str
    tasks: tuple[str, ...]
    epochs: Array
    weights: Array | None
    cosine: Array | None
    conflicts: Array | None
    n_trials: Array
    best_epochs: tuple[int, ...]
    splits: tuple[int, ...]
    refit: bool
    selection: str
    warnings: tuple[str, ...]

    @property
    def title(self) -> tuple[str, str]:
        """Where tasks were weighted, and over what the mean is."""
        n = len(self.splits)
        of = f"mean over {n} splits" if n > 1 else f"split {self.splits[0]}"
        trials = f" ({len(self.best_epochs)} trials)" if len(self.best_epochs) > n else ""
        what = "gradients of tasks" if self.weights is None else "weights of tasks"
        return f"{self.method} on {self.dataset}", f"{what}, {of}{trials}{', refits' if self.refit else ''}"

    @property
    def best_epoch(self) -> int:
        """The median over trials of their best epochs; of an even number the earlier one."""
        return self.best_epochs[(len(self.best_epochs) - 1) // 2]

    @property
    def best_line(self) -> str:
        """The best epochs in words."""
        first, last = self.best_epochs[0], self.best_epochs[-1]
        if first == last:
            return f"best epoch {first}"
        return f"best epochs {first} to {last}, median {self.best_epoch}"

    @property
    def trials_line(self) -> str:
        """How many trials trained to which epoch, where not all did to the last; else ""."""
        ends = [(int(n), self._last_with(int(n))) for n in sorted(set(self.n_trials.tolist()), reverse=True)]
        if len(ends) < 2:
            return ""
        if len(ends) > _STEPS:
            half = max((end for end in ends if 2 * end[0] <= ends[0][0]), default=ends[-1])
            ends = list(dict.fromkeys([ends[0], half, ends[-1]]))
        (n, epoch), *rest = ends
        return f"{n} trials to epoch {epoch}, " + ", ".join(f"{m} to {last}" for m, last in rest)

    @cached_property
    def moves(self) -> Array:
        """How far each task's weight moved: its largest less its least, [T]."""
        assert self.weights is not None
        return np.array([high - low for low, high in map(bounds, self.weights.T)])

    def moving_most(self, n: int) -> list[int]:
        """The n tasks whose weights moved most, in the order of tasks."""
        return sorted(np.argsort(-np.nan_to_num(self.moves), kind="stable")[:n].tolist())

    def _last_with(self, n: int) -> int:
        """The last epoch to which so many trials trained."""
        return int(self.epochs[self.n_trials >= n][-1])


def bounds(values: Array | Sequence[float]) -> tuple[float, float]:
    """The least and the largest of those values that are finite; NaN where none is."""
    known = np.asarray(values)[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (np.nan, np.nan)


def mean_of_known(values: Array) -> Array:
    """The mean over the first axis of those values that are finite; NaN where none is."""
    known = np.isfinite(values)
    n = known.sum(0)
    means: Array = np.where(n > 0, np.where(known, values, 0.0).sum(0) / np.maximum(n, 1), np.nan)
    return means
