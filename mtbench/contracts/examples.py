"""What a fit method is handed and what it gives back: rows in numpy, and predictors. No torch.

Shapes: T tasks, n rows, n_t labelled rows of task t, C_t outputs of task t, O = sum of C_t, D label columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import numpy as np

from mtbench.tasks import Array, Part, Task, TaskKind

_LEAST = float(np.finfo(np.float64).eps)  # probability that a class keeps, as in scikit-learn's log_loss


@dataclass(frozen=True)
class Target:
    """A label column, and the outputs that predict it: what an estimator of one target learns.

    Attributes:
        task: t, the task that it belongs to.
        column: Which of the task's label columns it is, from 0.
        kind: Of its task; BINARY for each label of a multilabel task.
        start: The first of its columns of the outputs [n, O].
        n_outputs: How many those are: C_t for a multiclass task, else one.
    """

    task: int
    column: int
    kind: TaskKind
    start: int
    n_outputs: int = 1

    @property
    def outputs(self) -> slice:
        """Its columns of the outputs [n, O]."""
        return slice(self.start, self.start + self.n_outputs)

    def logits(self, probabilities: Array, classes: Array) -> Array:
        """Outputs from class probabilities, such as scikit-learn's `predict_proba` and `classes_`.

        A binary output is the log odds of class 1, log p_1 - log p_0; those of a multiclass task are log p_c. Each
        probability is kept within [2.2e-16, 1 - 2.2e-16] before, as in scikit-learn's `log_loss`, so that a class given
        no probability costs 36 and not infinity. Classes that are not among `classes` have none.

        Args:
            probabilities: [n, len(classes)], rows that sum to 1.
            classes: The class of each column: 0 or 1 of a binary target, else 0 to C_t - 1.

        Returns:
            [n, 1] of a binary target, else [n, C_t].
        """
        found = np.zeros((len(probabilities), 2 if self.kind is TaskKind.BINARY else self.n_outputs))
        found[:, np.asarray(classes).astype(np.int64)] = probabilities
        logs: Array = np.log(found.clip(_LEAST, 1 - _LEAST))
        return logs[:, 1:] - logs[:, :1] if self.kind is TaskKind.BINARY else logs


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows with their labels, in numpy. The arrays are this trial's own, and cannot be written to.

    Attributes:
        part: The rows as the harness holds them.
        labels: float64, NaN where there is no label. Shared layout: [n, D], the label columns of all tasks side by
            side. Own layout: [n, max D_t], each row the labels of its own task.
        task: int64 [n], the task of each row; None in the shared layout.
        tasks: The T tasks.
        sample_weight: float64 [n], what each row counts for, as the data set declares it; None where all count the
            same. With the weights of classes: `weights_of`.
    """

    part: Part = field(repr=False)
    labels: Array
    task: Array | None
    tasks: tuple[Task, ...]
    sample_weight: Array | None = None

    @classmethod
    def of(cls, part: Part, tasks: tuple[Task, ...]) -> Examples:
        """Those of a part of a problem."""
        task = None if part.task is None else _closed(part.task.copy())
        weight = None if part.sample_weight is None else _closed(part.sample_weight.copy())
        return cls(part, _closed(part.labels.astype(np.float64)), task, tasks, weight)

    @cached_property
    def inputs(self) -> Array:
        """float64 [n, ...], finite; images as fractions of 255. Made when it is first asked for."""
        return _closed(self.part.numbers().astype(np.float64))

    @property
    def n_rows(self) -> int:
        """Number of rows n."""
        return self.part.n_rows

    @property
    def flat(self) -> Array:
        """Inputs with each row laid flat: [n, d]."""
        return self.inputs.reshape(self.n_rows, -1)

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The targets of all tasks, in the order of the label columns of the shared layout."""
        found = []
        for t, (task, end) in enumerate(
            zip(self.tasks, accumulate(task.n_outputs for task in self.tasks), strict=True)
        ):
            start = end - task.n_outputs
            if task.kind is TaskKind.MULTICLASS:
                found.append(Target(t, 0, task.kind, start, task.n_outputs))
                continue
            kind = TaskKind.BINARY if task.kind is TaskKind.MULTILABEL else task.kind
            found += [Target(t, j, kind, start + j) for j in range(task.n_labels)]
        return tuple(found)

    @cached_property
    def _columns(self) -> dict[Target, int]:
        """The label column of each target in the shared layout."""
        return {target: column for column, target in enumerate(self.targets)}

    def by_task(self) -> Iterator[tuple[int, Array, Array]]:
        """Each task with the rows in which it has a label; tasks without any are left out.

        Yields:
            t, inputs [n_t, ...] and labels [n_t, D_t], NaN for those missing of a task with several.
        """
        ends = list(accumulate(task.n_labels for task in self.tasks))
        for t, (task, end) in enumerate(zip(self.tasks, ends, strict=True)):
            columns = slice(end - task.n_labels, end) if self.task is None else slice(task.n_labels)
            rows = self._rows(t, columns)
            if len(rows):
                yield t, self._inputs(rows), _closed(self.labels[rows, columns])

    def by_target(self) -> Iterator[tuple[Target, Array, Array]]:
        """Each target with the rows in which its label is known; targets without any are left out.

        Yields:
            The target, inputs [n_t, ...] and labels [n_t]: 0 or 1, classes from 0, or values.
        """
        for target, rows, labels in self._by_target():
            yield target, self._inputs(rows), labels

    def weights_of(self, target: Target) -> Array | None:
        """What each row counts for that `by_target` gives of a target: what estimators take as `sample_weight`.

        The row's sample weight times the weight of its class, scaled to a mean of 1 over the rows that do not weigh 0.

        Args:
            target: A target that `by_target` gives.

        Returns:
            float64 [n_t]; None where all count the same.
        """
        of_classes = self.tasks[target.task].class_weights
        if self.sample_weight is None and of_classes is None:
            return None
        rows, labels = self._known(target)
        weights = np.ones(len(rows)) if self.sample_weight is None else self.sample_weight[rows]
        if of_classes is not None:
            weights = weights * np.array(of_classes)[labels.astype(np.int64)]
        return _closed(weights / weights[weights > 0].mean()) if weights.any() else _closed(weights)

    def known_labels(self) -> Iterator[tuple[Target, Array]]:
        """As `by_target`, without inputs, which may be large: each target with labels [n_t]."""
        for target, _, labels in self._by_target():
            yield target, labels

    def _by_target(self) -> Iterator[tuple[Target, Array, Array]]:
        """The target, its rows int64 [n_t] and their labels [n_t]."""
        for target in self.targets:
            rows, labels = self._known(target)
            if len(rows):
                yield target, rows, labels

    def _known(self, target: Target) -> tuple[Array, Array]:
        """The rows in which a target's label is known, int64 [n_t], and the labels [n_t]."""
        place = self._columns[target] if self.task is None else target.column
        rows = self._rows(target.task, slice(place, place + 1))
        return rows, _closed(self.labels[rows, place])

    def _rows(self, t: int, columns: slice) -> Array:
        """Rows of task t with a label in some columns, int64 [n_t]."""
        known = ~np.isnan(self.labels[:, columns]).all(1)
        return np.flatnonzero(known if self.task is None else known & (self.task == t))

    def _inputs(self, rows: Array) -> Array:
        return self.inputs if len(rows) == self.n_rows else _closed(self.inputs[rows])


class Predictor(ABC):
    """What a fit method has learned.

    Guarantees that the harness relies on: what a row is given depends on that row and its task alone, not on the rows
    that come with it, and is the same whenever it is asked.
    """

    @abstractmethod
    def predict(self, inputs: Array, task: Array | None) -> Array:
        """Outputs of all tasks, side by side in the order of the tasks, in both layouts.

        Args:
            inputs: float64 [n, ...], n at least 1, as in `Examples`; read-only.
            task: int64 [n], the task of each row, in the own layout; None in the shared one.

        Returns:
            [n, O], finite: values of regressions, logits of all else (`Target.logits` makes them of probabilities). In
            the own layout only the columns of each row's own task are read; the others may hold anything.
        """

    @property
    def n_parameters(self) -> int | None:
        """Numbers learned, without intercepts; None, as it stands, where nobody can say."""
        return None


TargetFunction = Callable[[Array], Array]
"""From inputs [n, ...] to the outputs of one target: [n], or [n, C_t] for a multiclass task."""


class TargetPredictors(Predictor):
    """A predictor made of functions for one target each; targets without one are given 0.

    Args:
        tasks: The T tasks.
        functions: By target. In the own layout each is asked for rows of its own task only, and never for none.
        n_parameters: Numbers learned, where that is known.
    """

    def __init__(
        self, tasks: Sequence[Task], functions: Mapping[Target, TargetFunction], n_parameters: int | None = None
    ) -> None:
        self._n_outputs = sum(task.n_outputs for task in tasks)
        self._functions, self._n_parameters = dict(functions), n_parameters

    @property
    def n_parameters(self) -> int | None:
        """As given."""
        return self._n_parameters

    def predict(self, inputs: Array, task: Array | None) -> Array:
        """Outputs [n, O]."""
        outputs = np.zeros((len(inputs), self._n_outputs))
        for target, function in self._functions.items():
            rows = slice(None) if task is None else np.flatnonzero(task == target.task)
            own = inputs[rows]
            if len(own):
                outputs[rows, target.outputs] = np.reshape(function(own), (len(own), target.n_outputs))
        return outputs


def _closed(array: Array) -> Array:
    """The array itself, not to be written to any more."""
    array.flags.writeable = False
    return array
