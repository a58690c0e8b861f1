"""What a metric is: from predictions of many trials at once to values per task.

Shapes: R trials, n rows, O outputs of all tasks, C the widest task's outputs, T tasks. Predictions are [R, n, O] in the
shared layout and [R, n, C] (each row the outputs of its own task) in the own layout.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np

from mtbench.errors import DataError
from mtbench.tasks import Array, Part, Problem, TaskKind, Weight
from mtbench.tasks.some_tasks import rows_of_tasks, with_tasks

CLASSES = (TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.MULTILABEL)
"""Kinds of tasks that are classifications."""

_NAMED = {frozenset(CLASSES): "classification tasks", frozenset({TaskKind.REGRESSION}): "regression tasks only"}


def _any_problem(problem: Problem) -> str | None:
    return None


@dataclass(frozen=True)
class Metric:
    """How good predictions are.

    Attributes:
        name: As in reports and stores.
        title: In words, with the unit.
        higher_is_better: Its direction.
        per_task: Whether it gives [R, T] (its headline is the mean over tasks) or one number a trial, [R].
        values: (problem, part, predictions) -> [R, T] or [R], float64; NaN for a task without labels, and where the
            metric is undefined. Read it by `compute`.
        by_task: Whether a task's value depends on that task's predictions alone.
        needs: (problem) -> None, or what it needs and the problem's tasks do not have.
        needs_of_rows: (problem, part) -> None, or what it needs and a part's labels do not have.
        kinds: The kinds of tasks that it is a metric of: it is refused where a task is of another kind.
        honours_weights: Whether its values count each label by `Problem.label_weights`, and those of a joint metric
            each task by `Problem.task_weights`. Otherwise it is refused where a data set declares weights that it would
            have to honour. (Means over tasks are weighted by `headline`.)
    """

    name: str
    title: str
    higher_is_better: bool
    per_task: bool
    values: Callable[[Problem, Part, Array], Array]
    by_task: bool = True
    needs: Callable[[Problem], str | None] = _any_problem
    needs_of_rows: Callable[[Problem, Part], str | None] = lambda problem, part: None
    kinds: tuple[TaskKind, ...] = tuple(TaskKind)
    honours_weights: bool = False

    def check(self, problem: Problem, part: Part) -> None:
        """Makes sure that it means something on a part of a problem.

        Raises:
            DataError: It needs other tasks or labels.
        """
        lack = self.lack(problem, part)
        if lack is not None:
            raise DataError(f"{problem.dataset}: metric '{self.name}' needs {lack}")

    def lack(self, problem: Problem, part: Part) -> str | None:
        """None, or what it needs and a part of a problem does not have."""
        return (
            self.needs(problem)
            or self._other_kind(problem)
            or self._unweighted(problem)
            or self.needs_of_rows(problem, part)
        )

    def among(self, kinds: Collection[TaskKind]) -> Metric:
        """The same metric of the tasks of some kinds among others, which have no value (NaN). It must be `per_task`.

        Args:
            kinds: Kinds of tasks that it is a metric of.
        """

        def chosen(problem: Problem) -> list[int]:
            return [t for t, task in enumerate(problem.tasks) if task.kind in kinds]

        def lack(problem: Problem, part: Part) -> str | None:
            tasks, name = chosen(problem), next(n for n, one in problem.parts.items() if one is part)
            some = with_tasks(problem, tasks) if tasks else None
            return None if some is None else self.lack(some, some.parts[name])

        def values(problem: Problem, part: Part, predictions: Array) -> Array:
            tasks, name = chosen(problem), next(n for n, one in problem.parts.items() if one is part)
            found = np.full((len(predictions), problem.n_tasks), np.nan)
            rows = rows_of_tasks(part, tasks)
            if tasks and len(part.labels[rows]):
                some = with_tasks(problem, tasks)
                own = np.concatenate([np.arange(s.start, s.stop) for s in (problem.output_slices[t] for t in tasks)])
                columns = own if part.task is None else np.arange(max(problem.tasks[t].n_outputs for t in tasks))
                found[:, tasks] = self.compute(some, some.parts[name], predictions[:, rows][:, :, columns])
            return found

        return replace(self, values=values, needs=_any_problem, needs_of_rows=lack, kinds=tuple(TaskKind))

    def compute(self, problem: Problem, part: Part, predictions: Array) -> Array:
        """The values of R trials: [R, T], or [R] for a joint metric; float64, NaN where there is none.

        Args:
            problem: The problem.
            part: One of its parts.
            predictions: [R, n, O], or [R, n, C] in the own layout.

        Raises:
            DataError: It needs other tasks or labels, or the predictions have another shape.
        """
        self.check(problem, part)
        expected = (part.n_rows, prediction_width(problem, part))
        if predictions.ndim != 3 or predictions.shape[1:] != expected:
            raise DataError(
                f"{problem.dataset}: predictions must have shape [R, {expected[0]}, {expected[1]}]: trials, rows, "
                f"outputs; found {list(predictions.shape)}."
            )
        # Predictions that are not finite are the caller's to judge; here they give what they give, without a warning.
        with np.errstate(over="ignore", invalid="ignore"):
            return self.values(problem, part, predictions)

    def _other_kind(self, problem: Problem) -> str | None:
        """None, or that a task is of a kind that it is no metric of."""
        other = next((task for task in problem.tasks if task.kind not in self.kinds), None)
        if other is None:
            return None
        wanted = _NAMED.get(frozenset(self.kinds), f"{' or '.join(self.kinds)} tasks")
        return f"{wanted}; {other.name!r} is not one (its kind is {other.kind}). Name another, such as 'relative_loss'."

    def _unweighted(self, problem: Problem) -> str | None:
        """None, or that a problem declares weights that it does not honour."""
        ignored = [w for w in problem.weights if not (self.per_task and w is Weight.TASK)]
        if self.honours_weights or not ignored:
            return None
        return (
            f"a problem without {ignored[0]} weights, for it has no weighted form (`honours_weights` of the metric). "
            "Name another."
        )

    def improves(self, values: Array, best: Array) -> Array:
        """Whether values are better than the best so far, elementwise; any number is better than none (NaN)."""
        sign = 1.0 if self.higher_is_better else -1.0
        return np.asarray(np.isnan(best) | (sign * values > sign * best))

    def headline(self, values: Array, task_weights: Array | None = None) -> Array:
        """One number per trial, [R]: the mean over the tasks that have a value, or the values as they are.

        Args:
            values: [R, T], or [R].
            task_weights: What each task counts for, [T] (`Problem.task_weights`); None where all count the same.
        """
        return mean_over_tasks(values, task_weights) if self.per_task else values


def prediction_width(problem: Problem, part: Part) -> int:
    """The last axis of predictions on a part: O, or in the own layout C."""
    return problem.n_outputs if part.task is None else max(task.n_outputs for task in problem.tasks)


def mean_over_tasks(values: Array, weights: Array | None = None) -> Array:
    """The mean over the tasks that have a value, weighted [T]: [R, T] -> [R]; NaN where none has."""
    each = 1 if weights is None else weights
    counted = (each * ~np.isnan(values)).sum(-1)
    total = np.nansum(each * values, -1)
    return np.asarray(np.divide(total, counted, out=np.full(total.shape, np.nan), where=counted > 0))
