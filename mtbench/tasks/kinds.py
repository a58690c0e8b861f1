"""Kinds of tasks, and tasks."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Task:
    """One of the predictions that a problem asks for: its name, its kind and how many outputs it has.

    Attributes:
        name: Unique within its problem.
        kind: What it predicts; its name, such as "binary", will do.
        n_outputs: C_t, the number of output columns (1 for binary tasks).

    Raises:
        DataError: One of them is not what it must be.
    """

    name: str
    kind: TaskKind
    n_outputs: int = 1

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


def _whole(name: str, n: object) -> int:
    try:
        return operator.index(n)  # type: ignore[arg-type]
    except TypeError:
        raise DataError(f"Task {name!r}: n_outputs must be a whole number; found {n!r}.") from None
