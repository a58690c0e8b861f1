"""A learned matrix made ready to be shown: its numbers, its axes, and how strongly each cell is drawn.

Shapes: T tasks; a matrix has M rows and N columns, which may be tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mtbench.tasks import Array

TRANSFER = "transfer"
"""The matrix [T, T] of which row gives to column."""

_CAN_BE_TASKS = {
    "alpha": (True, False),
    "bases": (False, False),
    "coefficients": (False, True),
    "feedback": (True, False),
    "gates": (True, False),
    "head": (False, True),
    "layer_weights": (False, False),
    "weights": (False, True),
}
"""Which axes of a matrix can be tasks, where a layer as wide as there are tasks would mislead."""


@dataclass(frozen=True)
class Axis:
    """The rows or the columns of a matrix.

    Attributes:
        labels: A name for each, or its number.
        tasks: Whether they are tasks.
    """

    labels: tuple[str, ...]
    tasks: bool


def axes_of(name: str, shape: Sequence[int], tasks: tuple[str, ...]) -> tuple[Axis, Axis]:
    """The rows and the columns of a matrix, told by its name and shape.

    Args:
        name: The matrix's; of three axes, with the number of the first behind a dot.
        shape: (M, N).
        tasks: The tasks' names, [T].
    """
    can_be = _CAN_BE_TASKS.get(name.partition(".")[0], (True, True))
    rows, columns = (
        Axis(tasks, True) if can and size == len(tasks) else Axis(tuple(map(str, range(size))), False)
        for can, size in zip(can_be, shape, strict=True)
    )
    return rows, columns


@dataclass(frozen=True, eq=False)
class LearnedMatrix:
    """A matrix that the selected trials of a cell learned: the mean over splits of the mean over seeds.

    Attributes:
        method: Label of the method.
        dataset: Label of the data set.
        name: Name of the matrix.
        values: float64 [M, N], of absolute values unless `signed`.
        rows: The M rows.
        columns: The N columns.
        signed: Whether signs were kept in the mean.
        splits: Splits in the mean.
        n_trials: Trials in the mean.
        refit: Whether they are refits.
        selection: Name of the selection rule.
        directions: Of a transfer, mean absolute value above the diagonal (from tasks to later ones) and below it (from
            tasks to earlier ones); None for other matrices, and for a single task.
        warnings: What to know before believing it.
    """

    method: str
    dataset: str
    name: str
    values: Array
    rows: Axis
    columns: Axis
    signed: bool
    splits: tuple[int, ...]
    n_trials: int
    refit: bool
    selection: str
    directions: tuple[float, float] | None
    warnings: tuple[str, ...]

    @property
    def between_tasks(self) -> bool:
        """Whether rows and columns are the same tasks."""
        return self.rows.tasks and self.columns.tasks

    @property
    def axis_titles(self) -> tuple[str, str]:
        """What rows and columns are, in words; "" where nothing is known of them."""
        if self.name == TRANSFER and self.between_tasks:
            return "from task", "to task"
        return ("task" if self.rows.tasks else ""), ("task" if self.columns.tasks else "")

    @cached_property
    def drawn(self) -> Array:
        """The values [M, N]; NaN on a diagonal that is zero, as that of a transfer without self-transfer."""
        if not self.between_tasks or self.values.diagonal().any():
            return self.values
        return np.where(np.eye(len(self.values), dtype=bool), np.nan, self.values)

    @cached_property
    def scale(self) -> float:
        """The absolute value that is drawn strongest: the largest, off the diagonal of a matrix between tasks."""
        sizes = np.abs(self.drawn)
        off = sizes[~np.eye(len(sizes), dtype=bool)] if self.between_tasks else sizes
        for some in (off, sizes):
            largest = float(np.max(some, where=np.isfinite(some), initial=0.0))
            if largest > 0:
                return largest
        return 1.0

    @property
    def exceeds_scale(self) -> bool:
        """Whether some cell, on the diagonal, is larger than what is drawn strongest."""
        return bool(np.nanmax(np.abs(self.drawn), initial=0.0) > self.scale)

    @property
    def title(self) -> tuple[str, str]:
        """Where it was learned, and what its values are."""
        n = len(self.splits)
        of = f"mean over {n} splits" if n > 1 else f"split {self.splits[0]}"
        trials = f" ({self.n_trials} trials)" if self.n_trials > n else ""
        what = self.name if self.signed else f"|{self.name}|"
        return f"{self.method} on {self.dataset}", f"{what}, {of}{trials}{', refits' if self.refit else ''}"

    @property
    def direction_line(self) -> str:
        """Which way a transfer goes, in one line; "" for other matrices."""
        if self.directions is None:
            return ""
        return "early to late tasks: {:.4g}, late to early: {:.4g}".format(*self.directions)


def transfer_directions(transfer: Array) -> tuple[float, float]:
    """Mean size of a transfer [T, T], T > 1, above and below its diagonal: from tasks to later ones, and back."""
    sizes = np.abs(transfer)
    later = np.triu(np.ones(sizes.shape, bool), 1)
    return float(sizes[later].mean()), float(sizes[later.T].mean())
