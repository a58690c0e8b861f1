"""The steps of a stack: from a batch to objectives, gradients, and parameters that have moved.

Shapes: R trials that are held, P parameters, T tasks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from mtbench.contracts.method import GradientMethod
from mtbench.contracts.recipe import Recipe
from mtbench.errors import PluginError
from mtbench.tasks import Array, Problem
from mtbench.training.author_checks import check_graph
from mtbench.training.checkpoints import prefixed, without
from mtbench.training.data import Columns
from mtbench.training.memory import is_out_of_memory
from mtbench.training.optimisers import clip_, optimiser_for
from mtbench.training.row_gradients import RowTaps
from mtbench.training.stacked import StackedModels, StackState
from mtbench.training.stages import StageCourse
from mtbench.training.task_gradients import ByRows
from mtbench.training.weighting import TaskWeighting

_ROWS_FROM = 32  # tasks from which gradients are taken row by row where that is possible
_ROWS_UP_TO = 2**22  # numbers that the gradients of a batch's rows, taken one by one, may have in a trial


class Steps:
    """What makes the steps of a stack, and remembers something from one to the next.

    Args:
        method: The method.
        models: Its models.
        course: Its stages.
        state: Of the trials, as they start.
        problem: One of the trials' problems.
        recipe: Optimiser, and how much gradients are clipped.
        rates: Learning rates, [R].
        per_task: Rows of each task in a batch; 0 where batches are not made by task.

    Attributes:
        optimiser: Of the models' parameters.
        n_taken: Steps so far.
    """

    def __init__(
        self,
        method: GradientMethod,
        models: StackedModels,
        course: StageCourse,
        state: StackState,
        problem: Problem,
        recipe: Recipe,
        rates: Tensor,
        per_task: int,
    ) -> None:
        self._method, self._models, self._course, self._recipe = method, models, course, recipe
        self._n_tasks, self._per_task = problem.n_tasks, per_task
        self._n_trials = len(state.theta)
        self._gradient = torch.empty_like(state.theta)
        self.optimiser = optimiser_for(recipe, state.theta, rates, models.rate_factors)
        self._weighting: TaskWeighting | None = None
        if method.weighting is not None:
            self._weighting = TaskWeighting(method, models, state, problem, rates, recipe)
        self.n_taken = 0
        self._tried = False  # whether the present stage has made a step

    @property
    def weighting(self) -> TaskWeighting | None:
        """The weighting, in stages whose objective it may change."""
        return self._weighting if self._course.stage.objective is None else None

    def enter_stage(self) -> None:
        """Looks anew at what is trained."""
        self._tried = False
        if self._weighting is not None:
            self._weighting.enter_stage()

    def restart(self) -> None:
        """Forgets what the optimiser remembers."""
        self.optimiser.restart()

    def end_epoch(self, hyper: Mapping[str, Tensor]) -> None:
        """Tells the weighting that an epoch is over."""
        if self.weighting is not None:
            self.weighting.end_epoch(hyper)

    def history(self) -> dict[str, Array]:
        """What is worth noting of the epochs since the last call, by name, [R]; NaN in stages without the weighting."""
        if self._weighting is None:
            return {}
        found = self._weighting.history()
        return found if self.weighting is not None else {name: np.full_like(v, np.nan) for name, v in found.items()}

    def select(self, keep: Tensor) -> None:
        """Keeps the trials at some places."""
        self.optimiser.select(keep)
        if self._weighting is not None:
            self._weighting.select(keep)

    def tensors(self) -> dict[str, Tensor]:
        """All that further steps depend on, but for `n_taken`."""
        found = prefixed("optimiser/", self.optimiser.state())
        if self._weighting is not None:
            found |= prefixed("weighting/", self._weighting.tensors())
        return found

    def restore(self, tensors: Mapping[str, Tensor], n_taken: int) -> None:
        """Goes on from `tensors`."""
        self.n_taken = n_taken
        self.optimiser.restore(without("optimiser/", tensors))
        if self._weighting is not None:
            self._weighting.restore(without("weighting/", tensors))

    def take(self, state: StackState, columns: Columns, shared: bool, scale: float) -> Tensor:
        """One step: parameters change in place.

        Args:
            state: Of the held trials, with their hyperparameters at the present epoch.
            columns: A batch of each trial.
            shared: Whether all trials see the same rows.
            scale: Factor of the learning rates.

        Returns:
            The objectives before the step, [R].
        """
        self._n_trials = len(state.theta)
        leaves = self._models.leaves(state.theta)
        trained = {name: leaves[name] for name in self._models.trained}
        weighting, update = self.weighting, None
        if weighting is None:
            objective = self._objective(leaves, state, columns, shared)
            found = torch.autograd.grad(objective.sum(), list(trained.values()), materialize_grads=True)
            gradients: Mapping[str, Tensor] = dict(zip(trained, found, strict=True))
        else:
            taps = self.row_taps(columns, weighting)
            terms = self._terms(leaves, state, columns, shared, taps)
            by_rows = self._by_rows(state, columns, shared, terms["tasks"], taps)
            update = weighting.update(trained, terms, state.hyper, columns["key"], by_rows)
            objective, gradients = update.objective, update.gradient
        gradient = self._flat(gradients, leaves)
        clip_(gradient, self._recipe.clip_norm)
        self.optimiser.step(state.theta, gradient, scale)
        if weighting is not None and update is not None:
            weighting.learn(update.learned, scale)
            if weighting.sees_losses_after:
                self._tell_losses_after(terms["tasks"].detach(), state, columns, shared)
        self.n_taken += 1
        self._tried = True
        own = self._course.stage.terms is None and self._course.stage.objective is None
        if own and self._method.update_every and self.n_taken % self._method.update_every == 0:
            self._models.after_step(state, columns, shared, self._per_task)
        return objective.detach()

    def _flat(self, gradients: Mapping[str, Tensor], leaves: Mapping[str, Tensor]) -> Tensor:
        """The gradients as one matrix [R, P], 0 for parameters that have none."""
        n = self._n_trials
        if len(self._gradient) != n:
            self._gradient = self._gradient.new_empty(n, self._models.n_parameters)
        none = self._gradient.new_zeros(1, 1)
        blocks = [
            gradients[name].reshape(n, -1) if name in gradients else none.expand(n, leaf[0].numel())
            for name, leaf in leaves.items()
        ]
        # Into the same memory in every step: where parameters are many, new memory takes longer than the copy.
        return torch.cat(blocks, 1, out=self._gradient)

    def _terms(
        self, leaves: Mapping[str, Tensor], state: StackState, columns: Columns, shared: bool, taps: RowTaps | None
    ) -> dict[str, Tensor]:
        """The objectives in parts; in the first step with the errors an author needs."""
        with self._telling_what_does_not_map():
            terms = self._models.terms(leaves, state, columns, shared, self._per_task, taps)
        if not self._tried:
            check_graph(self._method, terms["tasks"])
        return terms

    def row_taps(self, columns: Columns, weighting: TaskWeighting) -> RowTaps | None:
        """Taps on the layers that tasks share, where gradients can be taken row by row and all these are dense."""
        if not (weighting.wants_rows and self._rows_belong(columns)):
            return None
        names = [name for name in weighting.shared_sizes if name in self._models.trained]
        return self._models.row_taps(names, self._n_trials, columns["task"].shape[-1])

    def _by_rows(
        self, state: StackState, columns: Columns, shared: bool, tasks: Tensor, taps: RowTaps | None
    ) -> ByRows | None:
        """Gradients of all tasks in one pass, where rows belong to tasks: by taps, else by a network for each row."""
        if taps is not None and taps.complete:
            return lambda names: taps.gradients(names, tasks, columns)
        if not self._rows_belong(columns):
            return None
        return lambda names: self._models.row_gradients(names, state, columns, shared)

    def _rows_belong(self, columns: Columns) -> bool:
        """Whether rows belong to tasks, of which there are many, and a gradient for each row has room."""
        many = self._n_tasks >= _ROWS_FROM
        return "task" in columns and many and columns["task"].shape[-1] * self._models.n_parameters <= _ROWS_UP_TO

    def _tell_losses_after(self, before: Tensor, state: StackState, columns: Columns, shared: bool) -> None:
        """Tells the weighting the losses of a batch before and after a step."""
        assert self._weighting is not None
        # Running statistics see a batch once: copies of them are moved on here, and left.
        spare = StackState(state.theta, {name: b.clone() for name, b in state.buffers.items()}, state.hyper)
        with torch.no_grad():
            terms = self._models.terms(self._models.leaves(state.theta), spare, columns, shared, self._per_task)
        self._weighting.after_step(before, terms["tasks"], state.hyper)

    @contextlib.contextmanager
    def _telling_what_does_not_map(self) -> Iterator[None]:
        """Says so where an operation of a method cannot be mapped over trials: in the first step of several."""
        try:
            yield
        except (RuntimeError, NotImplementedError, ValueError) as error:
            if self._tried or self._n_trials == 1 or is_out_of_memory(error):
                raise
            raise PluginError(
                f"The objective of method '{self._method.name}' must map over trials, but an operation in it does not: "
                f"{str(error).splitlines()[0]} Use tensor operations throughout, or set `stackable = False`."
            ) from error

    def _objective(self, leaves: Mapping[str, Tensor], state: StackState, columns: Columns, shared: bool) -> Tensor:
        """The objectives [R]; in the first step with the errors an author needs."""
        with self._telling_what_does_not_map():
            objective = self._models.objective(leaves, state, columns, shared, self._per_task)
        if objective.shape != (self._n_trials,):
            raise PluginError(
                f"The objective of method '{self._method.name}' must be a scalar; found shape "
                f"{tuple(objective.shape[1:])}."
            )
        if not self._tried:
            check_graph(self._method, objective)
        return objective
