"""What a method's objective is made of, where task losses can be told from the rest, and what a task has of its own.

Shapes: T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Terms:
    """An objective in two parts, of which a weighting may change how the first is summed.

    Attributes:
        tasks: [T], one loss for each task (`Batch.task_losses`).
        penalty: A scalar, all else that is minimised.
    """

    tasks: Tensor
    penalty: Tensor

    @property
    def sum(self) -> Tensor:
        """The objective with all tasks counting the same: a scalar."""
        return self.tasks.sum() + self.penalty


class PerTask(nn.Module):
    """A module that knows which parameters one task alone has.

    Attributes:
        task_axes: By name of a parameter, or of a module within and then of all that it holds: the axis of tasks, T
            long, or of output columns, O long. "" is the module itself; as it stands, it shares nothing, and tasks are
            on the first axis of all its parameters.
    """

    task_axes: Mapping[str, int] = {"": 0}
