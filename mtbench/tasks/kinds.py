"""Kinds of tasks, and tasks."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from numpy.typing import NDArray

from mtbench.errors import DataError

Array = NDArray[Any]


class TaskKind(StrEnum):
    """What a task predicts. It fixes the task's outputs, label columns and loss.

    Attributes:
        BINARY: One output (a logit), one label column (0 or 1), logistic loss.
        MULTICLASS: C_t outputs (logits), one label column (the class, 0 to C_t - 1), cross-entropy.
        MULTILABEL: C_t outputs (logits), C_t label columns (0 or 1), logistic loss.
        REGRESSION: C_t outputs, C_t label columns (any finite number), squared loss.
    """

    BINARY = "binary"
    MULTICLASS = "multiclass"
    MULTILABEL = "multilabel"
    REGRESSION = "regression"


class Layout(StrEnum):
    """Whether tasks share their rows or each has rows of its own.

    Attributes:
        SHARED: Every row has a label for every task, or NaN for "no label".
        OWN: Every row belongs to one task.
    """

    SHARED = "shared"
    OWN = "own"


class Weight(StrEnum):
    """What a data set may declare weights of; losses and metrics honour them, or refuse.

    Attributes:
        SAMPLE: Rows: `Part.sample_weight`.
        CLASS: The classes of a task: `Task.class_weights`.
        TASK: Tasks: `Task.weight`.
    """

    SAMPLE = "sample"
    CLASS = "class"
    TASK = "task"


@dataclass(frozen=True)
class Task:
    """One of the predictions that a problem asks for: its name, its kind and how many outputs it has.

    Attributes:
        name: Unique within its problem.
        kind: What it predicts; its name, such as "binary", will do.
        n_outputs: C_t, the number of output columns (1 for binary tasks).
        class_weights: What a label of each class counts for, from 0: of 0 and of 1 for a binary task, of each of the
            C_t classes for a multiclass task; None where all count the same. Kept as a tuple.
        weight: What the task counts for beside others, above 0: a method that compares the losses of tasks would take
            one that weighs nothing for one that is solved.

    Raises:
        DataError: One of them is not what it must be.
    """

    name: str
    kind: TaskKind
    n_outputs: int = 1
    class_weights: tuple[float, ...] | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise DataError(f"A task's name must be a text that is not empty; found {self.name!r}.")
        # Kinds are told apart by identity: a plain text would pass for none of them.
        object.__setattr__(self, "kind", _kind(self.name, self.kind))
        object.__setattr__(self, "n_outputs", _whole(self.name, self.n_outputs))
        if self.n_outputs < 1 or (self.kind is TaskKind.BINARY and self.n_outputs != 1):
            raise DataError(
                f"Task {self.name!r}: a {self.kind} task cannot have {self.n_outputs} outputs; binary tasks have one, "
                "others at least one."
            )
        object.__setattr__(self, "class_weights", self._checked_class_weights())
        object.__setattr__(self, "weight", _number(self.weight))
        if not 0 < self.weight < math.inf:
            raise DataError(
                f"Task {self.name!r}: its weight must be a finite number above 0; found {self.weight}. Leave out a "
                "task that must not count."
            )

    def _checked_class_weights(self) -> tuple[float, ...] | None:
        """The weights of its classes as numbers, one for each."""
        if self.class_weights is None:
            return None
        if self.kind not in (TaskKind.BINARY, TaskKind.MULTICLASS):
            raise DataError(
                f"Task {self.name!r}: binary and multiclass tasks have class weights; its kind is {self.kind}."
            )
        n = 2 if self.kind is TaskKind.BINARY else self.n_outputs
        found = tuple(_number(weight) for weight in self.class_weights)
        if len(found) != n or not all(0 <= weight < math.inf for weight in found) or not any(found):
            raise DataError(
                f"Task {self.name!r}: class_weights must be {n} finite numbers from 0, one for each class, not all 0; "
                f"found {list(self.class_weights)}."
            )
        return found

    @property
    def n_labels(self) -> int:
        """D_t, the number of label columns: C_t for multilabel and regression tasks, else 1."""
        return self.n_outputs if self.kind in (TaskKind.MULTILABEL, TaskKind.REGRESSION) else 1


def _kind(name: str, kind: object) -> TaskKind:
    try:
        return TaskKind(str(kind))
    except ValueError:
        kinds = ", ".join(f"'{known}'" for known in TaskKind)
        raise DataError(f"Task {name!r}: its kind must be one of {kinds}; found {kind!r}.") from None


def _number(value: object) -> float:
    """The value as a float; NaN, which is refused, where it is no number."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def _whole(name: str, n: object) -> int:
    try:
        return operator.index(n)  # type: ignore[arg-type]
    except TypeError:
        raise DataError(f"Task {name!r}: n_outputs must be a whole number; found {n!r}.") from None
