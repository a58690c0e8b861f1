"""Tasks and problems: what a data set hands to a method. Plain numpy data types, no I/O.

Shapes: T tasks, n rows, C_t outputs of task t, O = sum of C_t, D label columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtbench.errors import DataError

Array = NDArray[Any]


class TaskKind(StrEnum):
    """What a task predicts; fixes its loss, its outputs and its label columns."""

    BINARY = "binary"  # one output (a logit), one label column (0 or 1)
    MULTICLASS = "multiclass"  # C_t outputs (logits), one label column (the class index)
    MULTILABEL = "multilabel"  # C_t outputs (logits), C_t label columns (0 or 1)
    REGRESSION = "regression"  # C_t outputs, C_t label columns


class Layout(StrEnum):
    """How rows and tasks meet."""

    SHARED = "shared"  # every row has a label for every task, or NaN for "no label"
    OWN = "own"  # every row belongs to one task


@dataclass(frozen=True)
class Task:
    """One supervised problem.

    Attributes:
        name: Unique within its problem.
        kind: What it predicts.
        n_outputs: C_t, the number of output columns (1 for binary tasks).
    """

    name: str
    kind: TaskKind
    n_outputs: int = 1

    def __post_init__(self) -> None:
        if self.n_outputs < 1 or (self.kind is TaskKind.BINARY and self.n_outputs != 1):
            raise DataError(
                f"Task '{self.name}': a {self.kind} task cannot have {self.n_outputs} outputs; binary tasks have one, "
                "others at least one."
            )

    @property
    def n_labels(self) -> int:
        """Label columns: one, but C_t for multilabel and regression tasks."""
        return self.n_outputs if self.kind in (TaskKind.MULTILABEL, TaskKind.REGRESSION) else 1


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a larger array, such as a memory-mapped image cache, that parts and splits share without a copy.

    Attributes:
        base: [N, ...].
        index: int64 [n], the rows of it that are meant, in order.
    """

    base: Array
    index: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, ...), as if the rows were an array of their own."""
        return (len(self.index), *self.base.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the base."""
        return self.base.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: Any) -> Array:
        return np.asarray(self.base[self.index[key]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)


@dataclass(frozen=True)
class Part:
    """Rows of a problem that serve one purpose: training, validation or test.

    Attributes:
        inputs: [n, ...], float32, or uint8 for images ([n, H, W] or [n, C, H, W], taken as values / 255). `Rows` of an
            array that all parts and splits share are read once, and copied only batch by batch.
        labels: float32. Shared layout: [n, D], the label columns of all tasks side by side, NaN for "no label".
            Own layout: [n, max of the tasks' label columns], each row the labels of its own task, NaN beyond.
        task: int64 [n], the task of each row; None in the shared layout.
    """

    inputs: Array | Rows
    labels: Array
    task: Array | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows n."""
        return len(self.inputs)

    def joined(self, other: Part) -> Part:
        """Both parts' rows, this part's first."""
        task = None if self.task is None or other.task is None else np.concatenate([self.task, other.task])
        return Part(_joined(self.inputs, other.inputs), np.concatenate([self.labels, other.labels]), task)


REQUIRED_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Problem:
    """One data set, one split.

    Attributes:
        dataset: Name of the data set.
        split: Which of its splits.
        tasks: The T tasks, in the order of the output columns.
        parts: "train", "validation", "test", and any further test parts by name (e.g. a larger test set).
        truth: Known generating parameters of synthetic data, by name (e.g. "W" [d, T], "L" [d, k]).

    Raises:
        DataError: A part is missing or does not fit the tasks.
    """

    dataset: str
    split: int
    tasks: tuple[Task, ...]
    parts: Mapping[str, Part]
    truth: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [name for name in REQUIRED_PARTS if name not in self.parts]
        if missing:
            raise DataError(f"{self.dataset}: a problem needs the parts {REQUIRED_PARTS}, but {missing} are missing.")
        if len({task.name for task in self.tasks}) != len(self.tasks):
            raise DataError(f"{self.dataset}: task names must be unique.")
        for name, part in self.parts.items():
            self._check_part(name, part)

    def _check_part(self, name: str, part: Part) -> None:
        where = f"{self.dataset}, part '{name}'"
        if (part.task is None) != (self.parts["train"].task is None):
            raise DataError(f"{where}: all parts must have the same layout; give `task` in all of them or in none.")
        widths = [task.n_labels for task in self.tasks]
        columns = sum(widths) if part.task is None else max(widths)
        if part.labels.shape != (part.n_rows, columns):
            raise DataError(
                f"{where}: labels must have shape {(part.n_rows, columns)} for these tasks, found {part.labels.shape}."
            )
        if part.inputs.shape[1:] != self.parts["train"].inputs.shape[1:]:
            raise DataError(f"{where}: rows of shape {part.inputs.shape[1:]} differ from the training part's.")
        if part.task is not None:
            if part.task.shape != (part.n_rows,):
                raise DataError(f"{where}: `task` must have shape {(part.n_rows,)}, found {part.task.shape}.")
            if part.n_rows and not 0 <= part.task.min() <= part.task.max() < self.n_tasks:
                raise DataError(f"{where}: `task` must lie in 0 to {self.n_tasks - 1}.")
        if part.inputs.dtype.kind == "f" and not np.isfinite(np.asarray(part.inputs)).all():
            raise DataError(f"{where}: inputs hold values that are not finite.")

    @property
    def n_tasks(self) -> int:
        """T."""
        return len(self.tasks)

    @cached_property
    def n_outputs(self) -> int:
        """O, the output columns of all tasks together."""
        return sum(task.n_outputs for task in self.tasks)

    @cached_property
    def output_slices(self) -> tuple[slice, ...]:
        """Columns of the outputs [n, O] that belong to each task."""
        return _slices([task.n_outputs for task in self.tasks])

    @cached_property
    def label_slices(self) -> tuple[slice, ...]:
        """Columns of shared labels [n, D] that belong to each task."""
        return _slices([task.n_labels for task in self.tasks])

    @property
    def layout(self) -> Layout:
        """Shared or own inputs."""
        return Layout.SHARED if self.parts["train"].task is None else Layout.OWN

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(self.parts["train"].inputs.shape[1:])

    @property
    def n_features(self) -> int:
        """d, the length of one row laid flat."""
        return int(np.prod(self.input_shape))

    def only(self, *kinds: TaskKind) -> bool:
        """Whether all tasks are of these kinds."""
        return all(task.kind in kinds for task in self.tasks)

    def task_sizes(self, part: str = "train") -> Array:
        """N_t, the labelled rows of each task in a part, int64 [T]."""
        rows = self.parts[part]
        if rows.task is not None:
            return np.bincount(rows.task, minlength=self.n_tasks)
        return np.array([(~np.isnan(rows.labels[:, s.start])).sum() for s in self.label_slices])

    def task_examples(self, part: str = "train") -> Array:
        """Examples of what each task is about, int64 [T]: its labelled rows; of a binary task those labelled 1."""
        sizes = self.task_sizes(part)
        rows = self.parts[part]
        for t, task in enumerate(self.tasks):
            if task.kind is TaskKind.BINARY:
                labels = (
                    rows.labels[:, self.label_slices[t].start] if rows.task is None else rows.labels[rows.task == t, 0]
                )
                sizes[t] = int((labels > 0.5).sum())
        return sizes

    def refit(self) -> Problem:
        """The same problem with training and validation rows together as the training part."""
        joined = self.parts["train"].joined(self.parts["validation"])
        return replace(self, parts={**self.parts, "train": joined})


def _joined(one: Array | Rows, other: Array | Rows) -> Array | Rows:
    if isinstance(one, Rows) and isinstance(other, Rows) and one.base is other.base:
        return Rows(one.base, np.concatenate([one.index, other.index]))
    return np.concatenate([np.asarray(one), np.asarray(other)])


def _slices(widths: list[int]) -> tuple[slice, ...]:
    ends = np.cumsum([0, *widths]).tolist()
    return tuple(slice(a, b) for a, b in pairwise(ends))
