"""Problems: tasks with the rows they are learned and judged on.

Shapes: T tasks, n rows, C_t outputs of task t, O = sum of C_t, D label columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

import numpy as np

from mtbench.errors import DataError
from mtbench.tasks import weights
from mtbench.tasks.checks import Known, checked_inputs, checked_labels, checked_sample_weight, checked_task
from mtbench.tasks.conversion import frozen
from mtbench.tasks.kinds import Array, Layout, Task, TaskKind, Weight
from mtbench.tasks.parts import Part, Parts

REQUIRED_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Problem:
    """One split of a data set: tasks, and the rows they are learned and judged on.

    It checks itself where it is made, and its arrays cannot be written to.

    Attributes:
        dataset: Name of the data set.
        split: Which of its splits.
        tasks: The T tasks, in the order of the output columns.
        parts: "train", "validation", "test", and any further test parts by name (e.g. a larger test set).
        truth: Known generating parameters of synthetic data, by name (e.g. "W" [d, T], "L" [d, k]).

    Raises:
        DataError: A part is missing, does not fit the tasks, or holds what its tasks cannot be trained or scored on.
    """

    dataset: str
    split: int
    tasks: tuple[Task, ...]
    parts: Mapping[str, Part]
    truth: Mapping[str, Array] = field(default_factory=dict)
    required: ClassVar[tuple[str, ...]] = REQUIRED_PARTS

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self.tasks))
        missing = [name for name in self.required if name not in self.parts]
        if missing:
            raise DataError(f"{self._where}: a problem needs the parts {self.required}, but {missing} are missing.")
        if not self.tasks:
            raise DataError(f"{self._where}: a problem needs at least one task.")
        names = [task.name for task in self.tasks]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{self._where}: task names must be unique; {twice!r} occurs {names.count(twice)} times.")
        known: Known = {}
        parts = {name: self._checked(name, part, known) for name, part in self.parts.items()}
        self._check_likeness(parts)
        object.__setattr__(self, "parts", Parts(parts, withheld=self.required != REQUIRED_PARTS))
        weights.check_some_weight(self, self._where)
        object.__setattr__(self, "truth", {name: frozen(np.asarray(array)) for name, array in self.truth.items()})

    @property
    def _where(self) -> str:
        return f"{self.dataset}, split {self.split}"

    def _checked(self, name: str, part: Part, known: Known) -> Part:
        """The part with the arrays that it must have."""
        if part.checked_for == self.tasks:
            return part
        where = f"{self._where}, part {name!r}"
        inputs = checked_inputs(part.inputs, where, known)
        task = None if part.task is None else checked_task(part.task, len(inputs), self.n_tasks, where)
        labels = checked_labels(part.labels, self.tasks, task, len(inputs), where)
        given = part.sample_weight
        sample_weight = None if given is None else checked_sample_weight(given, len(inputs), where)
        checked = Part(inputs, labels, task, sample_weight)
        object.__setattr__(checked, "checked_for", self.tasks)
        object.__setattr__(checked, "content", checked.fingerprint())
        return checked

    def _check_likeness(self, parts: Mapping[str, Part]) -> None:
        """Refuses parts whose rows differ in shape, layout or meaning from the training part's."""
        train = parts["train"]
        for name, part in parts.items():
            where = f"{self._where}, part {name!r}"
            if (part.task is None) != (train.task is None):
                raise DataError(f"{where}: all parts must have the same layout; give `task` in all of them or in none.")
            if part.inputs.shape[1:] != train.inputs.shape[1:]:
                raise DataError(
                    f"{where}: rows must have the shape of the training part's, {train.inputs.shape[1:]}; found "
                    f"{part.inputs.shape[1:]}."
                )
            if part.is_image != train.is_image:
                raise DataError(
                    f"{where}: inputs must be bytes of images, taken as values / 255, in all parts or in none; found "
                    f"{part.inputs.dtype} here and {train.inputs.dtype} in 'train'."
                )

    @property
    def n_tasks(self) -> int:
        """T, the number of tasks."""
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
        """Whether tasks share their rows or have rows of their own."""
        return Layout.SHARED if self.parts["train"].task is None else Layout.OWN

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one row of the inputs, such as (d,), (H, W) or (C, H, W)."""
        return tuple(self.parts["train"].inputs.shape[1:])

    @property
    def n_features(self) -> int:
        """d, the length of one row laid flat."""
        return int(np.prod(self.input_shape))

    def only(self, *kinds: TaskKind) -> bool:
        """Whether every task is of one of these kinds."""
        return all(task.kind in kinds for task in self.tasks)

    def missing(self, part: Part) -> Array | None:
        """Which labels are missing that a task asks for.

        Args:
            part: A part of this problem.

        Returns:
            bool, of the shape of `part.labels`; None where no label is missing.
        """
        gaps = np.isnan(part.labels)
        if part.task is not None and gaps.any():
            widths = np.array([task.n_labels for task in self.tasks])
            gaps &= np.arange(gaps.shape[1]) < widths[part.task, None]
        return gaps if gaps.any() else None

    def labelled(self, part: Part, t: int) -> tuple[Array, Array]:
        """The rows of task t that have at least one label, and these labels.

        Args:
            part: A part of this problem.
            t: Index of the task.

        Returns:
            Row numbers, int64 [n_t], and labels [n_t, D_t], NaN for those missing.
        """
        if part.task is None:
            rows, labels = np.arange(part.n_rows), part.labels[:, self.label_slices[t]]
        else:
            rows = np.flatnonzero(part.task == t)
            labels = part.labels[rows, : self.tasks[t].n_labels]
        known = ~np.isnan(labels).all(1)
        return (rows, labels) if known.all() else (rows[known], labels[known])

    @cached_property
    def weights(self) -> tuple[Weight, ...]:
        """Which weights it declares; weights of tasks that are all alike are none."""
        return weights.declared_weights(self)

    @cached_property
    def task_weights(self) -> Array | None:
        """What each task counts for: float64 [T], of mean 1; None where all count the same."""
        return weights.task_weights(self)

    def label_weights(self, part: Part, t: int) -> Array | None:
        """What each labelled row of task t counts for: its sample weight times the weight of its class.

        Args:
            part: A part of this problem.
            t: Index of the task.

        Returns:
            float64 [n_t], of the rows that `labelled` gives; None where all count the same.
        """
        return weights.label_weights(self, part, t)

    def task_sizes(self, part: str = "train") -> Array:
        """N_t: how many rows of a part have at least one label of each task.

        Args:
            part: Name of the part.

        Returns:
            int64 [T].
        """
        rows = self.parts[part]
        known = ~np.isnan(rows.labels)
        if rows.task is not None:
            return np.bincount(rows.task[known.any(1)], minlength=self.n_tasks)
        return np.array([known[:, s].any(1).sum() for s in self.label_slices])

    def task_examples(self, part: str = "train") -> Array:
        """As `task_sizes`, but of a binary task only the rows labelled 1.

        Args:
            part: Name of the part.

        Returns:
            int64 [T].
        """
        sizes = self.task_sizes(part)
        rows = self.parts[part]
        for t, task in enumerate(self.tasks):
            if task.kind is TaskKind.BINARY:
                labels = (
                    rows.labels[:, self.label_slices[t].start] if rows.task is None else rows.labels[rows.task == t, 0]
                )
                sizes[t] = int((labels > 0.5).sum())
        return sizes

    def changed(self) -> str | None:
        """The name of a part whose arrays have changed since they were checked, or None.

        Arrays cannot be written to, but torch tensors that share their memory can.
        """
        return next((name for name, part in self.parts.items() if part.fingerprint() != part.content), None)

    def refit(self) -> Problem:
        """The same problem with training and validation rows together as the training part."""
        joined = self.parts["train"].joined(self.parts["validation"])
        return replace(self, parts={**self.parts, "train": joined})

    def without_test(self) -> Problem:
        """The problem as a method receives it: training and validation part, no test rows, no `truth`."""
        return HandedProblem(self.dataset, self.split, self.tasks, {n: self.parts[n] for n in HandedProblem.required})


@dataclass(frozen=True)
class HandedProblem(Problem):
    """A problem without its test parts."""

    required: ClassVar[tuple[str, ...]] = ("train", "validation")


def _slices(widths: list[int]) -> tuple[slice, ...]:
    ends = np.cumsum([0, *widths]).tolist()
    return tuple(slice(a, b) for a, b in pairwise(ends))
