"""A weighting at work on a stack: from the trials' task losses, or the gradients of these, to one gradient each.

Shapes: R held trials, T tasks, P parameters of one model, of which tasks share P' (`GradientMethod.task_axes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mtbench.contracts.method import GradientMethod
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.weighting import GramWeighting, JacobianWeighting, LossWeighting
from mtbench.tasks import Array, Problem
from mtbench.training.checkpoints import prefixed, without
from mtbench.training.learned_numbers import LearnedNumbers
from mtbench.training.over_trials import Named
from mtbench.training.stacked import StackedModels, StackState
from mtbench.training.task_gradients import ByRows, TaskGradients, gradients, gram_of
from mtbench.training.weighting_history import WeightingHistory
from mtbench.training.weighting_state import WeightingState


@dataclass(frozen=True, eq=False)
class Update:
    """What a weighting makes of a step.

    Attributes:
        objective: What is told as the training loss, [R].
        gradient: Of the parameters by name, [R, ...].
        learned: Of what the weighting learns by name, [R, ...].
    """

    objective: Tensor
    gradient: Mapping[str, Tensor]
    learned: Mapping[str, Tensor] = field(default_factory=dict)


class TaskWeighting:
    """The weighting of a method, and all that it remembers and learns of each held trial.

    Args:
        method: With a weighting.
        models: Of the trials.
        state: Their state before the first step.
        problem: Its tasks.
        rates: Learning rates, [R].
        recipe: Names the optimiser of what the weighting learns.

    Attributes:
        weighting: The weighting.
        state: Its hyperparameters, and what it remembers.
        shared_sizes: How many numbers a model has of each parameter that tasks share, by name.
        task_gradients: How gradients of the tasks' losses are taken.
    """

    def __init__(
        self,
        method: GradientMethod,
        models: StackedModels,
        state: StackState,
        problem: Problem,
        rates: Tensor,
        recipe: Recipe,
    ) -> None:
        self.shared_sizes, self._dtype = models.shared_sizes(problem.n_tasks, problem.n_outputs), rates.dtype
        sizes, where = (problem.n_tasks, sum(self.shared_sizes.values())), (rates.device, rates.dtype)
        self.state = WeightingState(method, models.params, state.hyper, len(rates), sizes, where)
        self.weighting = self.state.weighting
        self._learned = LearnedNumbers(self.state.learned, rates, recipe) if self.state.learned else None
        self.task_gradients = TaskGradients()
        self._history = WeightingHistory(len(rates), problem.n_tasks, rates.device)

    @property
    def sees_losses_after(self) -> bool:
        """Whether `after_step` is to be called."""
        return isinstance(self.weighting, LossWeighting) and self.weighting.sees_losses_after

    @property
    def wants_rows(self) -> bool:
        """Whether gradients of the tasks' losses are to be taken row by row where that is possible."""
        return not isinstance(self.weighting, LossWeighting) and self.task_gradients.rows_fit is not False

    def update(
        self,
        leaves: Mapping[str, Tensor],
        terms: Mapping[str, Tensor],
        hyper: Mapping[str, Tensor],
        key: Tensor,
        by_rows: ByRows | None = None,
    ) -> Update:
        """The gradients of a step; moves on what the weighting remembers, not what it learns.

        Args:
            leaves: Parameters by name, [R, ...].
            terms: "tasks" [R, T], "penalty" [R] and "present" [R, T], as functions of the leaves.
            hyper: Hyperparameters by name, [R].
            key: int64 [R], or a scalar that all trials share.
            by_rows: The gradients of all tasks in one pass, where every row belongs to one task.
        """
        if isinstance(self.weighting, LossWeighting):
            return self._of_losses(leaves, terms, hyper, key)
        shared = {name: leaf for name, leaf in leaves.items() if name in self.shared_sizes}
        rows = self.task_gradients.of(terms["tasks"], shared, by_rows)
        return self._of_gradients(leaves, terms, hyper, key, rows)

    def _of_losses(
        self, leaves: Mapping[str, Tensor], terms: Mapping[str, Tensor], hyper: Mapping[str, Tensor], key: Tensor
    ) -> Update:
        """One backward pass from a scalar of the losses."""
        tasks, penalty, present = terms["tasks"], terms["penalty"], terms["present"]
        learned = {} if self._learned is None else self._learned.leaves
        combined = self.state.combine({"losses": tasks, "present": present}, learned, hyper, key)
        self.state.check_shape(combined, "a scalar", ())
        ones = torch.ones_like(penalty)
        of_learned, of_leaves, (weights,) = gradients(
            [(combined, ones), (penalty, ones)], learned.values(), leaves.values(), [tasks]
        )
        self._history.note(tasks, weights, present, None)
        objective = combined.detach() + penalty.detach()
        return Update(objective, _named(leaves, of_leaves), _named(learned, of_learned))

    def _of_gradients(
        self,
        leaves: Mapping[str, Tensor],
        terms: Mapping[str, Tensor],
        hyper: Mapping[str, Tensor],
        key: Tensor,
        rows: Named,
    ) -> Update:
        """From the gradients of the tasks on what they share, and a backward pass through what is each task's own."""
        tasks, penalty, present, ones = terms["tasks"], terms["penalty"], terms["present"], torch.ones_like
        gram = gram_of(rows, tasks)
        seen = {"losses": tasks.detach(), "present": present, "gram": gram}
        weights, of_heads = None, ones(tasks)
        if isinstance(self.weighting, GramWeighting):
            weights = self._weights(seen, hyper, key)
            of_shared = {
                n: torch.bmm(weights[:, None], block.flatten(2)).view_as(leaves[n]) for n, block in rows.items()
            }
            if self.weighting.heads == "weighted":
                of_heads = weights
        else:
            of_shared = self._joint(seen, rows, hyper, key)
        own = {name: leaf for name, leaf in leaves.items() if name not in rows}
        (of_own,) = gradients([(tasks, of_heads), (penalty, ones(penalty))], own.values(), again=True)
        (of_penalty,) = gradients([(penalty, ones(penalty))], [leaves[name] for name in rows])
        found = _named(own, of_own) | {n: of_shared[n] + extra for n, extra in zip(rows, of_penalty, strict=True)}
        self._history.note(tasks, weights, present, gram)
        return Update(tasks.detach().sum(1) + penalty.detach(), found)

    def _weights(self, seen: Named, hyper: Mapping[str, Tensor], key: Tensor) -> Tensor:
        """What a weighting multiplies the gradients by, [R, T] in the dtype of training; 0 for absent tasks."""
        n_tasks = seen["losses"].shape[1]
        weights = self.state.combine(seen, {}, hyper, key)
        self.state.check_shape(weights, f"[T] = [{n_tasks}]", (n_tasks,))
        return torch.where(seen["present"] > 0, weights, 0.0).to(self._dtype)

    def _joint(self, seen: Named, rows: Named, hyper: Mapping[str, Tensor], key: Tensor) -> Named:
        """What a weighting makes of the gradients number by number, by name of a parameter, [R, ...]."""
        # What a stage does not train has gradients of 0: a weighting may remember numbers for each.
        blocks = [
            rows[name].flatten(2) if name in rows else seen["losses"].new_zeros(*seen["losses"].shape, size)
            for name, size in self.shared_sizes.items()
        ]
        J = torch.cat(blocks, 2) if blocks else seen["gram"][:, :, :0]
        combined = self.state.combine({**seen, "jacobian": J}, {}, hyper, key)
        self.state.check_shape(combined, f"[P] = [{J.shape[2]}]", (J.shape[2],))
        parts = torch.split(combined.to(self._dtype), list(self.shared_sizes.values()), 1)
        by_name = zip(self.shared_sizes, parts, strict=True)
        return {n: part.reshape(-1, *rows[n].shape[2:]) for n, part in by_name if n in rows}

    def enter_stage(self) -> None:
        """What is minimised has changed: whether gradients can be taken row by row is not known any more."""
        self.task_gradients.rows_fit = None

    def after_step(self, before: Tensor, after: Tensor, hyper: Mapping[str, Tensor]) -> None:
        """Tells the weighting the losses [R, T] of a batch before and after the parameters changed."""
        self.state.after_step(before, after, hyper)

    def end_epoch(self, hyper: Mapping[str, Tensor]) -> None:
        """Tells the weighting the mean losses of the epoch."""
        if self.state.hears_of_epochs:
            self.state.after_epoch(self._history.epoch_losses().to(self._dtype), hyper)

    def history(self) -> dict[str, Array]:
        """Means over the steps since the last call, of each held trial, by name; starts anew.

        "weights" [R, T]: what each task's loss, or gradient, was multiplied by. Where gradients are formed: the mean
        cosine between those of two tasks, "gradient_cosine" [R], and the share of pairs of tasks whose gradients point
        in opposite directions, "gradient_conflicts" [R].
        """
        found = self._history.means()
        if isinstance(self.weighting, LossWeighting):
            del found["gradient_cosine"], found["gradient_conflicts"]
        if isinstance(self.weighting, JacobianWeighting):
            del found["weights"]
        return {name: value.cpu().numpy() for name, value in found.items()}

    def select(self, keep: Tensor) -> None:
        """Keeps some trials: int64 positions."""
        self.state.select(keep)
        self._history.select(keep)
        if self._learned is not None:
            self._learned.select(keep)

    def tensors(self) -> Named:
        """All that it remembers and learns, under one name each."""
        learned = {} if self._learned is None else self._learned.tensors()
        return prefixed("state/", self.state.tensors()) | prefixed("sums/", self._history.tensors()) | learned

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from `tensors`."""
        self.state.restore(without("state/", tensors))
        self._history.restore(without("sums/", tensors))
        if self._learned is not None:
            self._learned.restore(tensors)

    def learn(self, gradient: Mapping[str, Tensor], scale: float) -> None:
        """A step of the recipe's optimiser on what the weighting learns."""
        if self._learned is not None:
            self._learned.step(gradient, scale)


def _named(names: Iterable[str], values: Iterable[Tensor]) -> Named:
    return dict(zip(names, values, strict=True))
