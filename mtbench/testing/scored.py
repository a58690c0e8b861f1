"""Random rows that metrics are tried on: every kind of task, both layouts, missing labels.

Shapes: R trials, n rows, O outputs of all tasks, C the widest task's outputs, D_t label columns of task t. Predictions
are [R, n, O] in the shared layout and [R, n, C] in the own layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np

from mtbench.metrics import prediction_width
from mtbench.tasks import Array, Part, Problem, Task, TaskKind

GAPS = 0.25  # the share of labels that are missing where some are
_N_ROWS = 80
_SURE = 20.0  # the logit of what is certain: a loss of 2e-9
_WIDTHS = {
    TaskKind.BINARY: (1, 1),
    TaskKind.MULTICLASS: (3, 4),
    TaskKind.MULTILABEL: (3, 2),
    TaskKind.REGRESSION: (1, 2),
}


@dataclass(frozen=True, eq=False)
class Scored:
    """A problem whose test part is scored.

    Attributes:
        name: What is special about it.
        problem: The problem.
    """

    name: str
    problem: Problem

    @property
    def part(self) -> Part:
        """The part that is scored."""
        return self.problem.parts["test"]

    def random(self, n_trials: int) -> Array:
        """Predictions that have nothing to do with the labels, some of them equal: [R, n, O or C]."""
        rng = np.random.default_rng(n_trials)
        shape = (n_trials, self.part.n_rows, prediction_width(self.problem, self.part))
        return np.asarray(np.round(4 * rng.normal(size=shape)) / 2)

    def perfect(self) -> Array:
        """Predictions of the labels as they are, [1, n, O or C]; 0 where there is none."""
        found = np.zeros((1, self.part.n_rows, prediction_width(self.problem, self.part)))
        for t, task in enumerate(self.problem.tasks):
            rows, labels = self.problem.labelled(self.part, t)
            found[0, rows[:, None], np.arange(self._columns(t).start, self._columns(t).stop)] = _outputs(task, labels)
        return found

    @cached_property
    def read(self) -> Array:
        """Outputs of which a label is there: bool [n, O or C]."""
        found = np.zeros((self.part.n_rows, prediction_width(self.problem, self.part)), bool)
        for t, task in enumerate(self.problem.tasks):
            rows, labels = self.problem.labelled(self.part, t)
            columns = np.arange(self._columns(t).start, self._columns(t).stop)
            known = ~np.isnan(labels)
            found[rows[:, None], columns] = known if labels.shape[1] == task.n_outputs else known[:, :1]
        return found

    def of_task(self, t: int) -> Array:
        """Outputs of a task: bool [n, O or C]."""
        found = np.zeros((self.part.n_rows, prediction_width(self.problem, self.part)), bool)
        rows = slice(None) if self.part.task is None else self.part.task == t
        found[rows, self._columns(t)] = True
        return found

    def shuffled(self) -> tuple[Scored, Array]:
        """The same rows in another order, and which row each of them was, int64 [n]."""
        order = np.random.default_rng(1).permutation(self.part.n_rows)
        task = None if self.part.task is None else self.part.task[order]
        return self._with(Part(self.part.inputs[order], self.part.labels[order], task)), order

    def without_labels(self, tasks: Iterable[int]) -> Scored:
        """The same where some tasks have no label in the scored part."""
        labels = np.array(self.part.labels)
        for t in tasks:
            if self.part.task is None:
                labels[:, self.problem.label_slices[t]] = np.nan
            else:
                labels[self.part.task == t] = np.nan
        return self._with(Part(self.part.inputs, labels, self.part.task))

    def weighted(self, weights: Array) -> Scored:
        """The same with weights of the scored rows, [n]."""
        return self._with(replace(self.part, sample_weight=weights))

    def _with(self, part: Part) -> Scored:
        return replace(self, problem=replace(self.problem, parts={**self.problem.parts, "test": part}))

    def _columns(self, t: int) -> slice:
        return self.problem.output_slices[t] if self.part.task is None else slice(0, self.problem.tasks[t].n_outputs)


@cache
def of_kinds(kinds: tuple[TaskKind, ...], own: bool, missing: float) -> Scored:
    """Two tasks of each kind, mixed.

    Args:
        kinds: The kinds.
        own: Whether each row belongs to one task.
        missing: The share of labels that are missing.
    """
    tasks = tuple(Task(f"{kind}_{width}_{i}", kind, width) for kind in kinds for i, width in enumerate(_WIDTHS[kind]))
    rng = np.random.default_rng(len(tasks) + 100 * own)
    parts = {name: _part(rng, tasks, own, missing) for name in ("train", "validation", "test")}
    name = f"{'own' if own else 'shared'} rows, {'some' if missing else 'no'} labels missing"
    return Scored(name, Problem("scored", 0, tasks, parts))


@cache
def one_class_each() -> Scored:
    """Three binary tasks on shared rows, each row of one class or without any label."""
    tasks = tuple(Task(f"is_{c}", TaskKind.BINARY) for c in "abc")
    labels = np.eye(3)[np.arange(_N_ROWS) % 3]
    labels[::7] = np.nan
    part = Part(np.zeros((_N_ROWS, 1), np.float32), labels)
    return Scored(
        "rows of one class each", Problem("scored", 0, tasks, dict.fromkeys(("train", "validation", "test"), part))
    )


def _part(rng: np.random.Generator, tasks: Sequence[Task], own: bool, missing: float) -> Part:
    columns = [_labels(rng, task) for task in tasks]
    inputs = np.zeros((_N_ROWS, 1), np.float32)
    if own:
        task = np.arange(_N_ROWS) % len(tasks)
        labels = np.full((_N_ROWS, max(values.shape[1] for values in columns)), np.nan)
        for t, values in enumerate(columns):
            labels[task == t, : values.shape[1]] = values[task == t]
    else:
        task, labels = None, np.concatenate(columns, 1)
    labels[rng.random(labels.shape) < missing] = np.nan
    return Part(inputs, labels, task)


def _labels(rng: np.random.Generator, task: Task) -> Array:
    """Labels of all rows, [n, D_t]; every class comes up."""
    if task.kind is TaskKind.REGRESSION:
        return 3 + 10.0 ** np.arange(task.n_outputs) * rng.normal(size=(_N_ROWS, task.n_outputs))
    if task.kind is TaskKind.MULTICLASS:
        return rng.integers(task.n_outputs, size=(_N_ROWS, 1)).astype(float)
    return (rng.random((_N_ROWS, task.n_labels)) < 0.4).astype(float)


def _outputs(task: Task, labels: Array) -> Array:
    """Outputs that give a task's labels [n_t, D_t]: [n_t, C_t]."""
    if task.kind is TaskKind.REGRESSION:
        return np.nan_to_num(labels)
    if task.kind is TaskKind.MULTICLASS:
        return np.asarray(_SURE * np.eye(task.n_outputs)[labels[:, 0].astype(int)])
    return np.asarray(_SURE * np.nan_to_num(2 * labels - 1))
