"""The Weighting contract: how the losses of T tasks, or their gradients, become one update.

The harness maps a weighting over the R trials of a stack like everything else; its author never sees R, and never calls
autograd. So a weighting is tensor operations of fixed length: no `if` on values, no `.item()`, no boolean masks, no
loops that end when something has converged (`torch.where` and a fixed number of rounds instead; but inside of
`mtbench.weighting.one_operation` see `mtbench.weighting.gram.settled`). What is random follows from `TaskStep.key`, see
`mtbench.weighting.random`.

Shapes: T tasks, P shared parameters (those that more than one task's loss depends on).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from mtbench.contracts.hyperparameters import NoParams
from mtbench.contracts.reference import Reference

State = Mapping[str, Tensor]
"""What a weighting remembers from step to step, by name; of the same names, shapes and dtypes in every step."""


@dataclass(frozen=True, eq=False)
class TaskStep:
    """What a weighting sees of one step.

    Attributes:
        losses: [T], the mean loss of each task over its labels in this batch, 0 for a task without any. Only a
            `LossWeighting` may take gradients of it.
        present: [T], 1 for a task with labels in this batch, else 0; of the dtype of `losses`. A task that is absent
            has no loss and no gradient, which is not the same as a loss or a gradient of 0.
        gram: float64 [T, T], inner products of the tasks' gradients on the shared parameters, rows and columns of
            absent tasks 0; None for a `LossWeighting`.
        jacobian: [T, P], the gradients themselves; None but for a `JacobianWeighting`.
        learned: The weighting's own learned numbers, see `LossWeighting.learned`.
        state: What it remembers.
        key: int64 scalar that no two steps share, equal for trials of the same data set, split and seed.
    """

    losses: Tensor
    present: Tensor
    key: Tensor
    gram: Tensor | None = None
    jacobian: Tensor | None = None
    learned: Mapping[str, Tensor] = field(default_factory=dict)
    state: State = field(default_factory=dict)


class Weighting(ABC):
    """A rule that takes the place of the sum of the task losses in a method's objective.

    Subclass `LossWeighting`, `GramWeighting` or `JacobianWeighting`, not this class. A method's penalty is not
    weighted: its gradient is added as it is.

    Attributes:
        name: Unique among all plugins; words joined by underscores.
        reference: The paper it follows.
        version: Raised by the author when results change; part of every trial's identity.
        Params: Frozen dataclass of its hyperparameters; `tunable(...)` marks those a search varies.
    """

    name: ClassVar[str]
    reference: ClassVar[Reference]
    version: ClassVar[str] = "1"
    Params: ClassVar[type] = NoParams

    def start(self, n_tasks: int, n_shared: int, params: Any) -> State:
        """What it remembers before the first step; as it stands, nothing.

        Args:
            n_tasks: T.
            n_shared: P.
            params: An instance of `Params` whose floats are scalar tensors.
        """
        return {}

    @abstractmethod
    def combine(self, step: TaskStep, params: Any) -> tuple[Tensor, State]:
        """What takes the place of the sum, and what it remembers from now on: see the kinds of weighting."""

    def after_epoch(self, losses: Tensor, state: State, params: Any) -> State:
        """What it remembers after an epoch; as it stands, what it did.

        Args:
            losses: [T], the mean of each task's losses over those of the epoch's steps in which it was present.
            state: What it remembers.
            params: As in `start`.
        """
        return state


class LossWeighting(Weighting):
    """Makes one scalar of the task losses, whose gradient all parameters get, heads included.

    Attributes:
        sees_losses_after: Whether `after_step` is called, which costs a second forward pass of the batch in every step.
    """

    sees_losses_after: ClassVar[bool] = False

    def learned(self, n_tasks: int, params: Any) -> Mapping[str, Tensor]:
        """Numbers that it learns together with the model, by name, at their start; as it stands, none.

        The recipe's optimiser minimises `combine` over them as over the model's parameters, at the same learning rate.
        No decay, and no penalty of a method, touches them.
        """
        return {}

    @abstractmethod
    def combine(self, step: TaskStep, params: Any) -> tuple[Tensor, State]:
        """The scalar that is minimised in place of the sum of the losses, and what it remembers from now on.

        Args:
            step: Losses, of which gradients are taken, and the like.
            params: An instance of `Params` whose floats are scalar tensors.

        Returns:
            A scalar, and a state whose values carry no gradient (`step.state` where nothing changes).
        """

    def after_step(self, before: Tensor, after: Tensor, state: State, params: Any) -> State:
        """What it remembers once the parameters have changed, where it is `sees_losses_after`.

        Args:
            before: [T], losses of the batch before the step.
            after: [T], losses of the same batch after it. Running statistics of batch norm are as after the first pass,
                and dropout drops the same.
            state: What it remembers.
            params: As in `combine`.
        """
        return state


class GramWeighting(Weighting):
    """Weighs the tasks' gradients by numbers that follow from their inner products.

    Attributes:
        heads: What parameters get that belong to one task: "own", the gradient of its own loss, or "weighted", that
            gradient times the task's weight.
    """

    heads: ClassVar[Literal["own", "weighted"]] = "own"

    @abstractmethod
    def combine(self, step: TaskStep, params: Any) -> tuple[Tensor, State]:
        """The weights of the gradients, and what it remembers from now on.

        Args:
            step: With `gram`; nothing of it carries a gradient.
            params: An instance of `Params` whose floats are scalar tensors.

        Returns:
            [T] in float64, of which those of absent tasks do not count; shared parameters get the sum over tasks of
            weight times gradient. And a state.
        """


class JacobianWeighting(Weighting):
    """Makes one gradient of the tasks' gradients, number by number. Heads get the gradient of their own task's loss."""

    @abstractmethod
    def combine(self, step: TaskStep, params: Any) -> tuple[Tensor, State]:
        """The gradient of the shared parameters, and what it remembers from now on.

        Args:
            step: With `gram` and `jacobian`; nothing of it carries a gradient.
            params: An instance of `Params` whose floats are scalar tensors.

        Returns:
            [P], of the dtype of `jacobian`, and a state.
        """
